//! A folder of weights, read: one file or shards, memory-mapped, under canonical names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::convert::{ConvertError, decode};
use crate::dtype::{Dtype, StoredDtype};
use crate::error::WeightsError;
use crate::index::{INDEX_FILE, Index, SINGLE_FILE};
use crate::mapped::{MappedFile, StoredTensor};
use crate::names::{NamingScheme, nearest};

/// An open checkpoint. Numbers are read from disk when a tensor is asked for, so that opening costs only the headers.
///
/// Any number of threads may read. The mapped files count as resident memory while they are open and read: drop the
/// checkpoint once the model is filled.
pub struct Checkpoint {
    folder: PathBuf,
    scheme: NamingScheme,
    files: Vec<MappedFile>,
    /// Canonical name -> (file, tensor in it).
    places: BTreeMap<String, (usize, usize)>,
}

/// One tensor as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The canonical name.
    pub name: &'a str,
    pub shape: &'a [usize],
    pub dtype: StoredDtype,
    /// Row-major, little-endian, of any alignment.
    pub bytes: &'a [u8],
}

impl Checkpoint {
    /// Opens `model.safetensors`, or else the shards of `model.safetensors.index.json`: the order of transformers.
    ///
    /// # Errors
    /// When there are no weights, a file is truncated or corrupt, a shard is missing, the index disagrees with the
    /// shards, or two tensors have one canonical name.
    pub fn open(folder: impl AsRef<Path>, scheme: NamingScheme) -> Result<Checkpoint, WeightsError> {
        let folder = folder.as_ref().to_owned();
        let (single, index) = (folder.join(SINGLE_FILE), folder.join(INDEX_FILE));
        let files = if single.is_file() {
            vec![MappedFile::open(&single)?]
        } else if index.is_file() {
            Index::read(&index)?.open_shards(&index)?
        } else {
            return Err(WeightsError::NoWeights { hint: what_is_there(&folder), folder });
        };
        let places = canonical_places(&folder, &scheme, &files)?;
        Ok(Checkpoint { folder, scheme, files, places })
    }

    /// Opens one file of weights, whatever its name.
    ///
    /// # Errors
    /// When it cannot be read, is truncated or corrupt, or two tensors have one canonical name.
    pub fn open_file(path: impl AsRef<Path>, scheme: NamingScheme) -> Result<Checkpoint, WeightsError> {
        let folder = path.as_ref().to_owned();
        let files = vec![MappedFile::open(&folder)?];
        let places = canonical_places(&folder, &scheme, &files)?;
        Ok(Checkpoint { folder, scheme, files, places })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn scheme(&self) -> &NamingScheme {
        &self.scheme
    }

    /// Canonical names in alphabetical order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The tensor of this canonical name.
    ///
    /// # Errors
    /// When there is none; the nearest name is suggested.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, WeightsError> {
        let (name, file, stored) = self.place(name)?;
        Ok(TensorView { name, shape: &stored.shape, dtype: stored.dtype, bytes: file.bytes(stored) })
    }

    /// The tensor's numbers in f32, row-major. Stored as f32, f16 or bf16 they are exact; f64 is rounded.
    ///
    /// # Errors
    /// When there is no such tensor, its format is not a floating-point one, or an f64 does not fit.
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let (name, file, stored) = self.place(name)?;
        let mut values = Vec::with_capacity(stored.shape.iter().product());
        decode(stored.dtype, file.bytes(stored), &mut values).map_err(|error| {
            let (path, name) = (file.path.clone(), name.to_owned());
            match error {
                ConvertError::NotFloat => {
                    WeightsError::WrongDtype { path, name, found: stored.dtype, expected: "F32, F16, BF16 or F64" }
                }
                ConvertError::Overflow { position, value } => {
                    WeightsError::Overflow { path, name, position, value, dtype: Dtype::F32 }
                }
            }
        })?;
        Ok(values)
    }

    /// The format that holds most of the numbers.
    pub fn dtype(&self) -> Option<StoredDtype> {
        let mut counts: BTreeMap<StoredDtype, usize> = BTreeMap::new();
        for stored in self.files.iter().flat_map(|file| &file.tensors) {
            *counts.entry(stored.dtype).or_default() += stored.shape.iter().product::<usize>();
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(dtype, _)| dtype)
    }

    /// How many numbers all tensors hold together.
    pub fn num_parameters(&self) -> usize {
        self.files.iter().flat_map(|file| &file.tensors).map(|stored| stored.shape.iter().product::<usize>()).sum()
    }

    fn place(&self, name: &str) -> Result<(&str, &MappedFile, &StoredTensor), WeightsError> {
        let Some((name, (file, tensor))) = self.places.get_key_value(name) else {
            return Err(WeightsError::NoSuchTensor {
                path: self.folder.clone(),
                name: name.to_owned(),
                suggestion: nearest(name, self.names()).map(str::to_owned),
            });
        };
        let file = &self.files[*file];
        Ok((name, file, &file.tensors[*tensor]))
    }
}

fn canonical_places(
    folder: &Path,
    scheme: &NamingScheme,
    files: &[MappedFile],
) -> Result<BTreeMap<String, (usize, usize)>, WeightsError> {
    let mut places = BTreeMap::new();
    for (file, mapped) in files.iter().enumerate() {
        for (tensor, stored) in mapped.tensors.iter().enumerate() {
            let name = scheme.canonical(&stored.name);
            if let Some((file, tensor)) = places.insert(name.clone(), (file, tensor)) {
                let first = files[file].tensors[tensor].name.clone();
                return Err(WeightsError::TwoNames {
                    folder: folder.to_owned(),
                    name,
                    first,
                    second: stored.name.clone(),
                });
            }
        }
    }
    Ok(places)
}

/// A hint for a folder without weights.
fn what_is_there(folder: &Path) -> String {
    if folder.is_file() {
        return "this is a file: name the folder that holds it".into();
    }
    let Ok(entries) = fs::read_dir(folder) else {
        return "there is no such folder".into();
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let named = |test: &dyn Fn(&str) -> bool| names.iter().find(|name| test(name));
    if let Some(name) = named(&|name| name.ends_with(".safetensors")) {
        return format!("{name} is there without an index; download {INDEX_FILE} too, or rename a single file");
    }
    if let Some(name) = named(&|name| name.ends_with(".bin") || name.ends_with(".pth") || name.ends_with(".pt")) {
        return format!("{name} is there; convert it with save_pretrained(..., safe_serialization=True)");
    }
    match names.is_empty() {
        true => "the folder is empty".into(),
        false => "other files are there; is this the checkpoint's own folder?".into(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::tensor_file::{TensorFile, TensorSpec};

    /// (name, format, shape, bytes)
    pub(crate) type Stored<'a> = (&'a str, StoredDtype, &'a [usize], &'a [u8]);

    pub(crate) fn write_file(path: &Path, tensors: &[Stored]) {
        let specs = tensors.iter().map(|(name, dtype, shape, _)| TensorSpec {
            name: (*name).to_owned(),
            dtype: *dtype,
            shape: shape.to_vec(),
        });
        let mut file = TensorFile::create(path, &[("format", "pt")], specs.collect()).expect("creates");
        for (name, _, _, bytes) in tensors {
            file.write(name, |sink| sink.write(bytes)).expect("writes");
        }
        file.finish().expect("finishes");
    }

    pub(crate) fn write_single(folder: &Path, tensors: &[Stored]) {
        write_file(&folder.join(SINGLE_FILE), tensors);
    }

    fn open(folder: &Path) -> Result<Checkpoint, WeightsError> {
        Checkpoint::open(folder, NamingScheme::QWEN2_VL)
    }

    fn refusal(folder: &Path) -> String {
        open(folder).err().expect("refused").to_string()
    }

    #[test]
    fn reads_every_floating_format() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let f64_bytes = 0.1f64.to_le_bytes();
        write_single(
            folder.path(),
            &[
                ("a", StoredDtype::F32, &[1, 1], &1.5f32.to_le_bytes()),
                ("b", StoredDtype::F16, &[2], &[0x01, 0x00, 0x00, 0xc0]),
                ("c", StoredDtype::BF16, &[3], &[0x80, 0x3f, 0xc0, 0x7f, 0x01, 0x80]),
                ("d", StoredDtype::F64, &[], &f64_bytes),
                ("e", StoredDtype::I64, &[1], &7i64.to_le_bytes()),
                ("f", StoredDtype::F32, &[0, 4], &[]),
            ],
        );
        let checkpoint = open(folder.path()).expect("opens");
        assert_eq!(checkpoint.to_f32("a").expect("f32"), [1.5]);
        assert_eq!(checkpoint.to_f32("b").expect("f16"), [2f32.powi(-24), -2.0]);
        let c = checkpoint.to_f32("c").expect("bf16");
        assert!(c[0] == 1.0 && c[1].is_nan() && c[2].to_bits() == 0x8001_0000, "{c:?}");
        assert_eq!(checkpoint.to_f32("d").expect("f64"), [0.1f32]);
        assert_eq!(checkpoint.to_f32("f").expect("empty"), [0f32; 0]);
        let text = checkpoint.to_f32("e").expect_err("integers").to_string();
        assert!(text.contains("'e'") && text.contains("I64") && text.contains("model.safetensors"), "{text}");
        let view = checkpoint.tensor("c").expect("there");
        assert_eq!((view.name, view.shape, view.dtype, view.bytes.len()), ("c", [3].as_slice(), StoredDtype::BF16, 6));
        assert_eq!(checkpoint.dtype(), Some(StoredDtype::BF16));
        assert_eq!((checkpoint.num_parameters(), checkpoint.names().len()), (8, 6));
    }

    #[test]
    fn an_f64_too_large_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bytes: Vec<u8> = [1.0, -1e300f64].into_iter().flat_map(f64::to_le_bytes).collect();
        write_single(folder.path(), &[("norm", StoredDtype::F64, &[2], &bytes)]);
        let text = open(folder.path()).expect("opens").to_f32("norm").expect_err("overflows").to_string();
        assert!(text.contains("'norm'") && text.contains("element 1 is -1e300"), "{text}");
    }

    #[test]
    fn unknown_names_get_a_suggestion() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_single(folder.path(), &[("model.visual.merger.mlp.0.bias", StoredDtype::F32, &[1], &[0; 4])]);
        let checkpoint = open(folder.path()).expect("opens");
        assert!(checkpoint.contains("visual.merger.mlp.0.bias"));
        let text = checkpoint.tensor("visual.merger.mlp.0.bais").expect_err("not there").to_string();
        assert!(text.contains("did you mean 'visual.merger.mlp.0.bias'?"), "{text}");
    }

    #[test]
    fn two_schemes_in_one_folder_must_not_meet() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tensors: [Stored; 2] = [
            ("model.norm.weight", StoredDtype::F32, &[1], &[0; 4]),
            ("model.language_model.norm.weight", StoredDtype::F32, &[1], &[0; 4]),
        ];
        write_single(folder.path(), &tensors);
        let text = refusal(folder.path());
        assert!(text.contains("both mean 'model.norm.weight'"), "{text}");
        assert!(Checkpoint::open(folder.path(), NamingScheme::AS_WRITTEN).is_ok());
    }

    #[test]
    fn a_missing_shard_and_a_wrong_index_are_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shard = folder.path().join("model-00001-of-00002.safetensors");
        write_file(&shard, &[("a", StoredDtype::F32, &[1], &[0; 4])]);
        let index = |text: &str| fs::write(folder.path().join(INDEX_FILE), text).expect("writes");
        let (first, second) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
        index(&format!(r#"{{"weight_map": {{"a": "{first}", "b": "{second}"}}}}"#));
        let text = refusal(folder.path());
        assert!(text.contains("names 2 shards, 1 missing") && text.contains(second), "{text}");
        index(&format!(r#"{{"weight_map": {{"a": "{first}", "b": "{first}"}}}}"#));
        let text = refusal(folder.path());
        assert!(text.contains("b (expected in model-00001-of-00002.safetensors, found in no shard)"), "{text}");
        index(&format!(r#"{{"weight_map": {{"a": "{first}"}}}}"#));
        assert_eq!(open(folder.path()).expect("opens").names().collect::<Vec<_>>(), ["a"]);
        let whole = fs::read(&shard).expect("reads");
        fs::write(&shard, &whole[..whole.len() - 1]).expect("writes");
        let text = refusal(folder.path());
        assert!(text.contains(&format!("{first} is truncated: expected {} bytes", whole.len())), "{text}");
    }

    #[test]
    fn a_folder_without_weights_says_what_is_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(refusal(&folder.path().join("nowhere")).contains("there is no such folder"));
        assert!(refusal(folder.path()).contains("the folder is empty"));
        let file = folder.path().join("pytorch_model.bin");
        fs::write(&file, "").expect("writes");
        assert!(refusal(folder.path()).contains("pytorch_model.bin is there; convert"));
        assert!(refusal(&file).contains("this is a file"));
        fs::write(folder.path().join("model-00001-of-00002.safetensors"), "").expect("writes");
        assert!(refusal(folder.path()).contains("without an index"));
    }
}
