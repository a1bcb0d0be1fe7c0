//! A folder of weights, written: the layout of `save_pretrained`, one tensor at a time.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::convert::{ConvertError, encode};
use crate::dtype::Dtype;
use crate::error::WeightsError;
use crate::index::{INDEX_FILE, Index, SINGLE_FILE};
use crate::names::nearest;
use crate::publish::{sync_folder, write_atomically};
use crate::tensor_file::{TensorFile, TensorSpec};

/// Bytes of tensors above which a checkpoint is split: 5 GB, decimal.
pub const DEFAULT_MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// Writes `model.safetensors`, or shards with their index when the tensors exceed `max_shard_bytes` together.
///
/// All names and shapes are given first, since they decide the headers and the shards; then the numbers come tensor by
/// tensor, in any order (or part by part of each), so that memory never holds a second model. A tensor above the limit has a shard of its own.
/// The folder is complete after [`CheckpointWriter::finish`]: write into a [`crate::StagedFolder`].
pub struct CheckpointWriter {
    folder: PathBuf,
    dtype: Dtype,
    files: Vec<TensorFile>,
    shapes: HashMap<String, (usize, Vec<usize>)>,
    /// For more than one file.
    index: Option<Index>,
}

impl CheckpointWriter {
    /// Starts the files in `folder`, which is created when it is not there. `tensors`: canonical names and shapes;
    /// their order decides the shards, as a state dictionary's does.
    ///
    /// # Errors
    /// When a name is listed twice, the folder already holds weights, or it cannot be written.
    pub fn create(
        folder: impl AsRef<Path>,
        dtype: Dtype,
        tensors: &[(String, Vec<usize>)],
        max_shard_bytes: u64,
    ) -> Result<CheckpointWriter, WeightsError> {
        let folder = folder.as_ref().to_owned();
        let specs = tensors.iter().map(|(name, shape)| TensorSpec {
            name: name.clone(),
            dtype: dtype.stored(),
            shape: shape.clone(),
        });
        let shards = split(specs.collect(), max_shard_bytes);
        let num_shards = shards.len();

        let mut shapes = HashMap::with_capacity(tensors.len());
        let mut weight_map = BTreeMap::new();
        let (mut total_parameters, mut total_size) = (0, 0);
        for (number, spec) in shards.iter().enumerate().flat_map(|(n, shard)| shard.iter().map(move |spec| (n, spec))) {
            if shapes.insert(spec.name.clone(), (number, spec.shape.clone())).is_some() {
                return Err(WeightsError::ListedTwice { path: folder, name: spec.name.clone() });
            }
            weight_map.insert(spec.name.clone(), file_name(number, num_shards));
            total_parameters += spec.num_elements() as u64;
            total_size += spec.num_bytes() as u64;
        }

        fs::create_dir_all(&folder).map_err(WeightsError::io("create", &folder))?;
        refuse_old_weights(&folder)?;
        let index = (num_shards > 1).then(|| Index::new(weight_map, total_parameters, total_size));
        let files = shards.into_iter().enumerate();
        let files = files
            .map(|(n, shard)| TensorFile::create(&folder.join(file_name(n, num_shards)), &[("format", "pt")], shard))
            .collect::<Result<_, _>>()?;
        Ok(CheckpointWriter { folder, dtype, files, shapes, index })
    }

    /// Writes one tensor: `values` row-major, as many as its shape holds, rounded to nearest, ties to even.
    ///
    /// # Errors
    /// When the tensor was not listed, came already, has another number of values, or a finite value is too large for
    /// the format; and when the disk refuses.
    pub fn add(&mut self, name: &str, values: &[f32]) -> Result<(), WeightsError> {
        self.add_parts(name, [values])
    }

    /// Writes one tensor that is never whole in memory: its values row-major, part after part, otherwise as
    /// [`CheckpointWriter::add`].
    ///
    /// # Errors
    /// As for [`CheckpointWriter::add`]; the tensor then counts as one that never came.
    pub fn add_parts<Part: AsRef<[f32]>>(
        &mut self,
        name: &str,
        parts: impl IntoIterator<Item = Part>,
    ) -> Result<(), WeightsError> {
        let Some((shard, shape)) = self.shapes.get(name) else {
            return Err(WeightsError::NotListed {
                path: self.folder.clone(),
                name: name.to_owned(),
                suggestion: nearest(name, self.shapes.keys().map(String::as_str)).map(str::to_owned),
            });
        };
        let (folder, dtype) = (&self.folder, self.dtype);
        let expected = shape.iter().product();
        let wrong_length = |found| WeightsError::WrongLength {
            path: folder.clone(),
            name: name.to_owned(),
            shape: shape.clone(),
            expected,
            found,
        };
        self.files[*shard].write(name, |sink| {
            let mut found = 0;
            for part in parts {
                let (start, part) = (found, part.as_ref());
                found += part.len();
                if found > expected {
                    return Err(wrong_length(found));
                }
                let overflow = |error| match error {
                    ConvertError::Overflow { position, value } => {
                        let position = start + position;
                        WeightsError::Overflow { path: folder.clone(), name: name.to_owned(), position, value, dtype }
                    }
                    ConvertError::NotFloat => unreachable!("every format that is written is floating-point"),
                };
                encode(dtype, part, |bytes| sink.write(bytes))?.map_err(overflow)?;
            }
            if found == expected { Ok(()) } else { Err(wrong_length(found)) }
        })
    }

    /// Brings the files to the disk and writes the index.
    ///
    /// # Errors
    /// When a listed tensor has not come, or the disk refuses.
    pub fn finish(self) -> Result<(), WeightsError> {
        for file in self.files {
            file.finish()?;
        }
        if let Some(index) = self.index {
            let text = index.text();
            write_atomically(self.folder.join(INDEX_FILE), |file| std::io::Write::write_all(file, text.as_bytes()))?;
        }
        sync_folder(&self.folder)
    }
}

/// The reference's greedy split: a tensor that would tip the current shard over the limit opens the next one; a tensor
/// above the limit stands alone, and the current shard goes on after it. There is always one shard.
fn split(specs: Vec<TensorSpec>, max_shard_bytes: u64) -> Vec<Vec<TensorSpec>> {
    let mut shards = Vec::new();
    let mut current = Vec::new();
    let mut current_bytes = 0;
    for spec in specs {
        let bytes = spec.num_bytes() as u64;
        if bytes > max_shard_bytes {
            shards.push(vec![spec]);
            continue;
        }
        if current_bytes + bytes > max_shard_bytes {
            shards.push(std::mem::take(&mut current));
            current_bytes = 0;
        }
        current.push(spec);
        current_bytes += bytes;
    }
    if !current.is_empty() || shards.is_empty() {
        shards.push(current);
    }
    shards
}

fn file_name(number: usize, num_shards: usize) -> String {
    match num_shards {
        1 => SINGLE_FILE.to_owned(),
        _ => format!("model-{:05}-of-{num_shards:05}.safetensors", number + 1),
    }
}

/// A loader prefers some files to others, and could read an older checkpoint's; and those may be mapped right now.
fn refuse_old_weights(folder: &Path) -> Result<(), WeightsError> {
    for entry in fs::read_dir(folder).map_err(WeightsError::io("list", folder))? {
        let entry = entry.map_err(WeightsError::io("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_weights = name.starts_with("model") && name.ends_with(".safetensors");
        if is_weights || name == INDEX_FILE {
            return Err(WeightsError::AlreadyThere { folder: folder.to_owned(), existing: name });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::names::NamingScheme;

    fn list(tensors: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
        tensors.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
    }

    fn files(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("lists");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("utf-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn one_file_below_the_limit_shards_and_index_above_it() {
        let tensors = list(&[("a", &[2]), ("b", &[1]), ("c", &[3])]);
        for (limit, expected) in [(24, 1), (23, 2), (11, 3)] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut writer = CheckpointWriter::create(folder.path(), Dtype::F32, &tensors, limit).expect("creates");
            writer.add("c", &[4.0, 5.0, 6.0]).expect("adds");
            writer.add("a", &[1.0, 2.0]).expect("adds");
            writer.add("b", &[3.0]).expect("adds");
            writer.finish().expect("finishes");
            let names = files(folder.path());
            match expected {
                1 => assert_eq!(names, [SINGLE_FILE]),
                _ => assert_eq!(names.len(), expected + 1, "limit {limit}: {names:?}"),
            }
            let checkpoint = Checkpoint::open(folder.path(), NamingScheme::AS_WRITTEN).expect("opens");
            assert_eq!(checkpoint.to_f32("c").expect("reads"), [4.0, 5.0, 6.0]);
            assert_eq!(checkpoint.to_f32("a").expect("reads"), [1.0, 2.0]);
            if expected > 1 {
                let index = fs::read_to_string(folder.path().join(INDEX_FILE)).expect("an index");
                assert!(index.contains("\"total_parameters\": 6,\n    \"total_size\": 24\n"), "{index}");
            }
        }
    }

    #[test]
    fn a_tensor_in_parts_is_the_same_tensor() {
        let tensors = list(&[("a", &[3, 2]), ("b", &[1])]);
        let numbers: Vec<f32> = (0..6).map(|n| n as f32).collect();
        let file = |parts: &[&[f32]]| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut writer = CheckpointWriter::create(folder.path(), Dtype::F16, &tensors, 100).expect("creates");
            writer.add("b", &[7.0]).expect("adds");
            let added = writer.add_parts("a", parts);
            let finished = writer.finish();
            (added, finished, fs::read(folder.path().join(SINGLE_FILE)).expect("reads"))
        };
        let (_, whole, bytes) = file(&[&numbers]);
        whole.expect("whole");
        let (_, whole, others) = file(&[&numbers[..1], &[], &numbers[1..5], &numbers[5..]]);
        whole.expect("whole");
        assert_eq!(bytes, others);
        for (parts, words) in [
            (vec![&numbers[..4], &numbers[4..5]], "6 numbers; found 5"),
            (vec![&numbers[..4], &numbers[3..]], "6 numbers; found 7"),
            (vec![&numbers[..4], &[70000.0, 0.0]], "element 4 is 7e4"),
        ] {
            let (added, finished, _) = file(&parts);
            let text = added.expect_err("refused").to_string();
            assert!(text.contains("'a'") && text.contains(words), "{text}");
            assert!(matches!(finished, Err(WeightsError::NeverWritten { .. })));
        }
    }

    #[test]
    fn the_split_is_greedy_and_large_tensors_stand_alone() {
        let sizes = |limit: u64, counts: &[usize]| -> Vec<Vec<usize>> {
            let specs = counts.iter().enumerate().map(|(n, count)| TensorSpec {
                name: n.to_string(),
                dtype: Dtype::BF16.stored(),
                shape: vec![*count],
            });
            let shards = split(specs.collect(), limit);
            shards.iter().map(|shard| shard.iter().map(TensorSpec::num_elements).collect()).collect()
        };
        assert_eq!(sizes(20, &[5, 5, 1, 9, 1]), [vec![5, 5], vec![1, 9], vec![1]]);
        assert_eq!(sizes(20, &[5, 11, 5, 1]), [vec![11], vec![5, 5], vec![1]]);
        assert_eq!(sizes(20, &[11]), [[11]]);
        assert_eq!(sizes(20, &[]), [[0usize; 0]]);
    }

    #[test]
    fn mistakes_of_the_caller_are_errors() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let create =
            |tensors: &[(String, Vec<usize>)]| CheckpointWriter::create(folder.path(), Dtype::F16, tensors, 100);
        assert!(matches!(create(&list(&[("a", &[1]), ("a", &[1])])), Err(WeightsError::ListedTwice { .. })));
        let mut writer = create(&list(&[("norm.weight", &[2]), ("b", &[1])])).expect("creates");
        let text = writer.add("norm.weight", &[1.0]).expect_err("too short").to_string();
        assert!(text.contains("'norm.weight'") && text.contains("shape [2], 2 numbers; found 1"), "{text}");
        let text = writer.add("norm.weigth", &[1.0]).expect_err("unknown").to_string();
        assert!(text.contains("did you mean 'norm.weight'?"), "{text}");
        let text = writer.add("b", &[70000.0]).expect_err("too large").to_string();
        assert!(text.contains("'b'") && text.contains("element 0 is 7e4") && text.contains("float16"), "{text}");
        assert!(matches!(writer.finish(), Err(WeightsError::NeverWritten { .. })));
        let text = create(&list(&[("a", &[1])])).err().expect("old files").to_string();
        assert!(text.contains("already holds model.safetensors"), "{text}");
    }

    #[derive(Clone, Debug)]
    struct Case {
        dtype: Dtype,
        limit: u64,
        tensors: Vec<(Vec<usize>, u32)>,
    }

    fn case() -> impl Strategy<Value = Case> {
        let dtype = prop_oneof![Just(Dtype::F32), Just(Dtype::F16), Just(Dtype::BF16)];
        let shape = proptest::collection::vec(0usize..6, 0..4);
        let tensors = proptest::collection::vec((shape, any::<u32>()), 0..12);
        (dtype, 1u64..400, tensors).prop_map(|(dtype, limit, tensors)| Case { dtype, limit, tensors })
    }

    /// Quarters from -1024 to 1023.75, scattered by `seed`: within every format's range, not all exact in 16 bits.
    fn numbers(seed: u32, count: usize) -> Vec<f32> {
        let bits = (0..count as u32).map(|n| (n.wrapping_add(seed)).wrapping_mul(0x9e37_79b9));
        bits.map(|bits| (bits >> 19) as f32 / 4.0 - 1024.0).collect()
    }

    fn rounded(dtype: Dtype, value: f32) -> f32 {
        match dtype {
            Dtype::F32 => value,
            Dtype::F16 => half::f16::from_f32(value).to_f32(),
            Dtype::BF16 => half::bf16::from_f32(value).to_f32(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_written_is_read_back(case in case()) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let name = |n: usize| format!("model.layers.{n}.weight");
            let shapes = case.tensors.iter().map(|(shape, _)| shape.clone());
            let tensors: Vec<_> = shapes.enumerate().map(|(n, shape)| (name(n), shape)).collect();
            let mut writer =
                CheckpointWriter::create(folder.path(), case.dtype, &tensors, case.limit).expect("creates");
            for (n, (shape, seed)) in case.tensors.iter().enumerate().rev() {
                writer.add(&name(n), &numbers(*seed, shape.iter().product())).expect("adds");
            }
            writer.finish().expect("finishes");

            let checkpoint = Checkpoint::open(folder.path(), NamingScheme::QWEN2_VL).expect("opens");
            prop_assert_eq!(checkpoint.names().len(), tensors.len());
            for (n, (shape, seed)) in case.tensors.iter().enumerate() {
                let view = checkpoint.tensor(&name(n)).expect("there");
                prop_assert_eq!(view.shape, shape.as_slice());
                prop_assert_eq!(view.dtype, case.dtype.stored());
                let mut expected = numbers(*seed, shape.iter().product());
                expected.iter_mut().for_each(|value| *value = rounded(case.dtype, *value));
                prop_assert_eq!(checkpoint.to_f32(&name(n)).expect("reads"), expected);
            }
            for shard in files(folder.path()).iter().filter(|name| name.ends_with(".safetensors")) {
                let bytes = fs::read(folder.path().join(shard)).expect("reads");
                let header = u64::from_le_bytes(*bytes.first_chunk().expect("a prefix")) as usize;
                let data = bytes.len() - 8 - header;
                let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("the reference reads it");
                prop_assert!(data as u64 <= case.limit || tensors.len() == 1);
            }
        }
    }
}
