//! A trainer's state: named tensors of f32, i64, u64 or u8, and one JSON text, in one safetensors file, bit for bit.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dtype::StoredDtype;
use crate::error::WeightsError;
use crate::mapped::{MappedFile, StoredTensor};
use crate::names::nearest;
use crate::publish::{beside, rename_into_place};
use crate::tensor_file::{TensorFile, TensorSpec};

/// Where the JSON text stands in the header's metadata.
const JSON_KEY: &str = "percept_state";

/// What a tensor of the state counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    F32,
    I64,
    U64,
    U8,
}

/// A tensor of the state to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTensor {
    pub name: String,
    pub kind: StateKind,
    pub shape: Vec<usize>,
}

impl StateTensor {
    pub fn new(name: impl Into<String>, kind: StateKind, shape: impl Into<Vec<usize>>) -> StateTensor {
        StateTensor { name: name.into(), kind, shape: shape.into() }
    }
}

impl StateKind {
    fn stored(self) -> StoredDtype {
        match self {
            StateKind::F32 => StoredDtype::F32,
            StateKind::I64 => StoredDtype::I64,
            StateKind::U64 => StoredDtype::U64,
            StateKind::U8 => StoredDtype::U8,
        }
    }

    fn words(self) -> &'static str {
        match self {
            StateKind::F32 => "F32",
            StateKind::I64 => "I64",
            StateKind::U64 => "U64",
            StateKind::U8 => "U8",
        }
    }
}

/// A state being written, tensor by tensor; `path` is replaced in one step by [`StateWriter::finish`], and dropped
/// before, the writer leaves it as it was.
pub struct StateWriter {
    path: PathBuf,
    partial: PathBuf,
    tensors: Vec<StateTensor>,
    /// Taken by `finish`.
    file: Option<TensorFile>,
}

impl StateWriter {
    /// Starts a state with these tensors and this JSON text, which is kept as it is. Equal content gives equal bytes.
    ///
    /// # Errors
    /// When a name is listed twice, or the file beside `path` cannot be made.
    pub fn create(path: impl AsRef<Path>, tensors: &[StateTensor], json: &str) -> Result<StateWriter, WeightsError> {
        let path = path.as_ref().to_owned();
        let partial = beside(&path, "partial");
        let specs = tensors.iter().map(|tensor| TensorSpec {
            name: tensor.name.clone(),
            dtype: tensor.kind.stored(),
            shape: tensor.shape.clone(),
        });
        let file = TensorFile::create(&partial, &[(JSON_KEY, json)], specs.collect())?;
        Ok(StateWriter { path, partial, tensors: tensors.to_vec(), file: Some(file) })
    }

    /// Writes one tensor of kind F32, row-major.
    pub fn add_f32(&mut self, name: &str, values: &[f32]) -> Result<(), WeightsError> {
        self.add(name, StateKind::F32, values, |value| value.to_le_bytes())
    }

    /// Writes one tensor of kind I64, row-major.
    pub fn add_i64(&mut self, name: &str, values: &[i64]) -> Result<(), WeightsError> {
        self.add(name, StateKind::I64, values, |value| value.to_le_bytes())
    }

    /// Writes one tensor of kind U64, row-major.
    pub fn add_u64(&mut self, name: &str, values: &[u64]) -> Result<(), WeightsError> {
        self.add(name, StateKind::U64, values, |value| value.to_le_bytes())
    }

    /// Writes one tensor of kind U8, row-major.
    pub fn add_u8(&mut self, name: &str, values: &[u8]) -> Result<(), WeightsError> {
        self.add(name, StateKind::U8, values, |value| [value])
    }

    /// Brings the state to the disk and puts it in the place of what was at the path.
    ///
    /// # Errors
    /// When a listed tensor has not come, or the disk refuses.
    pub fn finish(mut self) -> Result<(), WeightsError> {
        if let Some(file) = self.file.take() {
            if let Err(error) = file.finish() {
                let _ = fs::remove_file(&self.partial);
                return Err(error);
            }
            rename_into_place(&self.partial, &self.path)?;
        }
        Ok(())
    }

    fn add<T: Copy, const SIZE: usize>(
        &mut self,
        name: &str,
        kind: StateKind,
        values: &[T],
        bytes: impl Fn(T) -> [u8; SIZE],
    ) -> Result<(), WeightsError> {
        let file = self.file.as_mut().expect("only `finish` takes the file, and it consumes the writer");
        if let Some(tensor) = self.tensors.iter().find(|tensor| tensor.name == name) {
            let (path, name) = (self.path.clone(), name.to_owned());
            if tensor.kind != kind {
                let (found, expected) = (kind.stored(), tensor.kind.words());
                return Err(WeightsError::WrongDtype { path, name, found, expected });
            }
            let (shape, found) = (tensor.shape.clone(), values.len());
            let expected = shape.iter().product();
            if expected != found {
                return Err(WeightsError::WrongLength { path, name, shape, expected, found });
            }
        }
        file.write(name, |sink| {
            let mut block = Vec::with_capacity(4096 * SIZE);
            for values in values.chunks(4096) {
                block.clear();
                block.extend(values.iter().flat_map(|value| bytes(*value)));
                sink.write(&block)?;
            }
            Ok(())
        })
    }
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// A state, open for reading.
pub struct StateFile {
    file: MappedFile,
    json: String,
}

impl StateFile {
    /// # Errors
    /// When the file is truncated, corrupt, or holds weights and no state.
    pub fn open(path: impl AsRef<Path>) -> Result<StateFile, WeightsError> {
        let mut file = MappedFile::open(path.as_ref())?;
        match file.metadata.remove(JSON_KEY) {
            Some(json) => Ok(StateFile { file, json }),
            None => Err(WeightsError::NotState { path: file.path, key: JSON_KEY }),
        }
    }

    /// The JSON text, as it was handed in.
    pub fn json(&self) -> &str {
        &self.json
    }

    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.file.tensors.iter().map(|tensor| tensor.name.as_str())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.names().any(|other| other == name)
    }

    /// # Errors
    /// When there is no such tensor.
    pub fn shape(&self, name: &str) -> Result<&[usize], WeightsError> {
        Ok(&self.stored(name)?.shape)
    }

    /// A tensor of kind F32, row-major.
    ///
    /// # Errors
    /// When there is none of this name and kind; likewise for the others.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        self.values(name, StateKind::F32, f32::from_le_bytes)
    }

    /// A tensor of kind I64, row-major.
    pub fn i64(&self, name: &str) -> Result<Vec<i64>, WeightsError> {
        self.values(name, StateKind::I64, i64::from_le_bytes)
    }

    /// A tensor of kind U64, row-major.
    pub fn u64(&self, name: &str) -> Result<Vec<u64>, WeightsError> {
        self.values(name, StateKind::U64, u64::from_le_bytes)
    }

    /// A tensor of kind U8, row-major.
    pub fn u8(&self, name: &str) -> Result<Vec<u8>, WeightsError> {
        self.values(name, StateKind::U8, u8::from_le_bytes)
    }

    fn values<T, const SIZE: usize>(
        &self,
        name: &str,
        kind: StateKind,
        value: impl Fn([u8; SIZE]) -> T,
    ) -> Result<Vec<T>, WeightsError> {
        let stored = self.stored(name)?;
        if stored.dtype != kind.stored() {
            return Err(WeightsError::WrongDtype {
                path: self.file.path.clone(),
                name: name.to_owned(),
                found: stored.dtype,
                expected: kind.words(),
            });
        }
        Ok(self.file.bytes(stored).as_chunks::<SIZE>().0.iter().map(|bytes| value(*bytes)).collect())
    }

    fn stored(&self, name: &str) -> Result<&StoredTensor, WeightsError> {
        self.file.tensors.iter().find(|tensor| tensor.name == name).ok_or_else(|| WeightsError::NoSuchTensor {
            path: self.file.path.clone(),
            name: name.to_owned(),
            suggestion: nearest(name, self.names()).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::tests::write_file;

    const JSON: &str = "{\"step\": 7, \"note\": \"\\u00e9 \\\"quoted\\\" \u{1f50d}\\n\"}";

    fn tensors() -> [StateTensor; 4] {
        [
            StateTensor::new("moment1.norm", StateKind::F32, [2, 2]),
            StateTensor::new("visits", StateKind::I64, [1]),
            StateTensor::new("keys", StateKind::U64, [2]),
            StateTensor::new("codes", StateKind::U8, [3]),
        ]
    }

    fn write(path: &Path) -> StateWriter {
        let mut writer = StateWriter::create(path, &tensors(), JSON).expect("creates");
        writer.add_u64("keys", &[u64::MAX, 1]).expect("adds");
        writer
            .add_f32("moment1.norm", &[-0.0, f32::MIN_POSITIVE / 2.0, f32::INFINITY, f32::from_bits(0x7f80_0001)])
            .expect("adds");
        writer.add_i64("visits", &[i64::MIN]).expect("adds");
        writer.add_u8("codes", &[0, 128, 255]).expect("adds");
        writer
    }

    #[test]
    fn everything_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("trainer.safetensors");
        write(&path).finish().expect("finishes");
        let state = StateFile::open(&path).expect("opens");
        assert_eq!(state.json(), JSON);
        assert_eq!(state.names().len(), 4);
        assert_eq!(state.u8("codes").expect("there"), [0, 128, 255]);
        assert_eq!(state.shape("moment1.norm").expect("there"), [2, 2]);
        let bits: Vec<u32> = state.f32("moment1.norm").expect("there").into_iter().map(f32::to_bits).collect();
        assert_eq!(bits, [0x8000_0000, 0x0040_0000, 0x7f80_0000, 0x7f80_0001]);
        assert_eq!(state.i64("visits").expect("there"), [i64::MIN]);
        assert_eq!(state.u64("keys").expect("there"), [u64::MAX, 1]);

        let first = fs::read(&path).expect("reads");
        write(&path).finish().expect("finishes");
        assert!(fs::read(&path).expect("reads") == first, "equal content, other bytes");
    }

    #[test]
    fn an_unfinished_state_leaves_the_old_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("trainer.safetensors");
        write(&path).finish().expect("finishes");
        let before = fs::read(&path).expect("reads");
        drop(write(&path));
        let mut half_written = StateWriter::create(&path, &tensors(), "{}").expect("creates");
        half_written.add_i64("visits", &[1]).expect("adds");
        let text = half_written.finish().expect_err("incomplete").to_string();
        assert!(text.contains("3 listed tensors were never written: codes, keys, moment1.norm"), "{text}");
        assert!(fs::read(&path).expect("reads") == before);
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 1);
    }

    #[test]
    fn mistakes_and_foreign_files_are_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("trainer.safetensors");
        let mut writer = StateWriter::create(&path, &tensors(), "{}").expect("creates");
        let text = writer.add_i64("keys", &[1, 2]).expect_err("another kind").to_string();
        assert!(text.contains("'keys'") && text.contains("I64; expected U64"), "{text}");
        let text = writer.add_f32("moment1.norm", &[1.0]).expect_err("too short").to_string();
        assert!(text.contains("shape [2, 2], 4 numbers; found 1"), "{text}");
        assert!(matches!(writer.add_f32("moment2.norm", &[1.0]), Err(WeightsError::NotListed { .. })));
        drop(writer);

        write(&path).finish().expect("finishes");
        let state = StateFile::open(&path).expect("opens");
        assert!(matches!(state.f32("keys"), Err(WeightsError::WrongDtype { found: StoredDtype::U64, .. })));
        let text = state.f32("moment1.nrom").expect_err("unknown").to_string();
        assert!(text.contains("trainer.safetensors") && text.contains("'moment1.norm'?"), "{text}");
        drop(state);

        write_file(&path, &[("a", StoredDtype::F32, &[1], &[0; 4])]);
        assert!(StateFile::open(&path).err().expect("weights").to_string().contains("is it a file of weights?"));
        assert!(matches!(StateFile::open(folder.path().join("nowhere")), Err(WeightsError::Io { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_state_survives(
            floats in proptest::collection::vec(proptest::collection::vec(any::<u32>(), 0..40), 0..6),
            counters in proptest::collection::vec(any::<i64>(), 0..5000),
            json in any::<String>(),
        ) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("state");
            let from_bits = |bits: &Vec<u32>| bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            let floats: Vec<Vec<f32>> = floats.iter().map(from_bits).collect();
            let mut list = vec![StateTensor::new("counters", StateKind::I64, [counters.len(), 1])];
            for (n, values) in floats.iter().enumerate() {
                list.push(StateTensor::new(format!("m{n}"), StateKind::F32, [values.len()]));
            }
            let mut writer = StateWriter::create(&path, &list, &json).expect("creates");
            for (n, values) in floats.iter().enumerate() {
                writer.add_f32(&format!("m{n}"), values).expect("adds");
            }
            writer.add_i64("counters", &counters).expect("adds");
            writer.finish().expect("finishes");

            let state = StateFile::open(&path).expect("opens");
            prop_assert_eq!(state.json(), json);
            prop_assert_eq!(state.i64("counters").expect("there"), counters);
            for (n, values) in floats.iter().enumerate() {
                let read = state.f32(&format!("m{n}")).expect("there");
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&read), bits(values));
            }
        }
    }
}
