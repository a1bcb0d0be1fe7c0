//! Writing one safetensors file a tensor at a time: the header first, then each tensor's bytes at their place.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::ser::SerializeMap;

use crate::dtype::StoredDtype;
use crate::error::WeightsError;
use crate::names::nearest;

/// A tensor to come.
#[derive(Clone, Debug)]
pub(crate) struct TensorSpec {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
}

impl TensorSpec {
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn num_bytes(&self) -> usize {
        self.num_elements() * self.dtype.bitsize() / 8
    }
}

/// A file being written. Tensors may come in any order, each once.
pub(crate) struct TensorFile {
    path: PathBuf,
    file: BufWriter<File>,
    /// Name -> where its bytes start and end.
    ranges: HashMap<String, (u64, u64)>,
    written: HashSet<String>,
}

/// Takes a tensor's bytes in pieces.
pub(crate) struct Sink<'a> {
    path: &'a Path,
    file: &'a mut BufWriter<File>,
    left: u64,
}

impl Sink<'_> {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        assert!(bytes.len() as u64 <= self.left, "{} bytes for a tensor with {} left", bytes.len(), self.left);
        self.left -= bytes.len() as u64;
        self.file.write_all(bytes).map_err(WeightsError::io("write", self.path))
    }
}

impl TensorFile {
    /// Writes the header. `metadata` stands in it in the given order, so that equal content gives equal bytes.
    ///
    /// Tensors are laid out as the reference's writer does it: by format (wide ones first), then by name.
    pub fn create(
        path: &Path,
        metadata: &[(&str, &str)],
        mut specs: Vec<TensorSpec>,
    ) -> Result<TensorFile, WeightsError> {
        specs.sort_by(|left, right| right.dtype.cmp(&left.dtype).then_with(|| left.name.cmp(&right.name)));
        let header = header_text(metadata, &specs);
        let mut start = 8 + header.len() as u64;
        let mut ranges = HashMap::with_capacity(specs.len());
        for spec in specs {
            let end = start + spec.num_bytes() as u64;
            if ranges.contains_key(&spec.name) {
                return Err(WeightsError::ListedTwice { path: path.to_owned(), name: spec.name });
            }
            ranges.insert(spec.name, (start, end));
            start = end;
        }
        let file = File::create(path).map_err(WeightsError::io("create", path))?;
        // The full length at once: what was never written would read as zeros, and `finish` refuses that.
        file.set_len(start).map_err(WeightsError::io("extend", path))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let prefix = (header.len() as u64).to_le_bytes();
        file.write_all(&prefix)
            .and_then(|()| file.write_all(header.as_bytes()))
            .map_err(WeightsError::io("write", path))?;
        Ok(TensorFile { path: path.to_owned(), file, ranges, written: HashSet::new() })
    }

    /// Lets `fill` write the bytes of a tensor, all of them.
    pub fn write(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut Sink) -> Result<(), WeightsError>,
    ) -> Result<(), WeightsError> {
        let Some((start, end)) = self.ranges.get(name).copied() else {
            return Err(WeightsError::NotListed {
                path: self.path.clone(),
                name: name.to_owned(),
                suggestion: nearest(name, self.ranges.keys().map(String::as_str)).map(str::to_owned),
            });
        };
        if self.written.contains(name) {
            return Err(WeightsError::WrittenTwice { path: self.path.clone(), name: name.to_owned() });
        }
        self.file.seek(SeekFrom::Start(start)).map_err(WeightsError::io("seek in", &self.path))?;
        let mut sink = Sink { path: &self.path, file: &mut self.file, left: end - start };
        fill(&mut sink)?;
        assert_eq!(sink.left, 0, "bytes of tensor '{name}' that were not written");
        self.written.insert(name.to_owned());
        Ok(())
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// When a tensor has not come.
    pub fn finish(mut self) -> Result<(), WeightsError> {
        let mut absent: Vec<String> =
            self.ranges.keys().filter(|name| !self.written.contains(*name)).cloned().collect();
        if !absent.is_empty() {
            absent.sort();
            return Err(WeightsError::NeverWritten { path: self.path, names: absent });
        }
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(WeightsError::io("write", &self.path))
    }
}

/// The JSON header, filled with spaces to a multiple of eight bytes so that the numbers are aligned.
fn header_text(metadata: &[(&str, &str)], specs: &[TensorSpec]) -> String {
    let header = Header { metadata, specs };
    let mut text = serde_json::to_string(&header).expect("strings and numbers are JSON");
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}

struct Header<'a> {
    metadata: &'a [(&'a str, &'a str)],
    specs: &'a [TensorSpec],
}

#[derive(Serialize)]
struct Entry<'a> {
    dtype: StoredDtype,
    shape: &'a [usize],
    data_offsets: (usize, usize),
}

struct Pairs<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl Serialize for Header<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("__metadata__", &Pairs(self.metadata))?;
        let mut start = 0;
        for spec in self.specs {
            let end = start + spec.num_bytes();
            map.serialize_entry(
                &spec.name,
                &Entry { dtype: spec.dtype, shape: &spec.shape, data_offsets: (start, end) },
            )?;
            start = end;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::{SafeTensors, tensor::TensorView};

    fn spec(name: &str, dtype: StoredDtype, shape: &[usize]) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, shape: shape.into() }
    }

    #[test]
    fn the_bytes_are_those_of_the_reference_writer() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.safetensors");
        let specs = vec![
            spec("z \"quoted\"", StoredDtype::F16, &[2]),
            spec("b", StoredDtype::F32, &[1, 2]),
            spec("a", StoredDtype::F32, &[]),
        ];
        let mut file = TensorFile::create(&path, &[("format", "pt")], specs).expect("creates");
        for (name, bytes) in [("z \"quoted\"", &[1u8, 2, 3, 4][..]), ("a", &[5; 4]), ("b", &[6; 8])] {
            file.write(name, |sink| sink.write(&bytes[..1]).and_then(|()| sink.write(&bytes[1..]))).expect("writes");
        }
        file.finish().expect("finishes");
        let written = std::fs::read(&path).expect("reads");

        let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).expect("a view");
        let reference = safetensors::serialize(
            [
                ("b", view(StoredDtype::F32, &[1, 2], &[6; 8])),
                ("z \"quoted\"", view(StoredDtype::F16, &[2], &[1, 2, 3, 4])),
                ("a", view(StoredDtype::F32, &[], &[5; 4])),
            ],
            Some([("format".to_owned(), "pt".to_owned())].into_iter().collect()),
        )
        .expect("serializes");
        assert_eq!(written, reference);
        assert_eq!(SafeTensors::deserialize(&written).expect("reads").tensor("b").expect("there").shape(), [1, 2]);
    }

    #[test]
    fn numbers_start_at_a_multiple_of_eight_whatever_the_names() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.safetensors");
        for length in 1..9 {
            let spec = spec(&"n".repeat(length), StoredDtype::F32, &[0]);
            TensorFile::create(&path, &[], vec![spec]).expect("creates");
            let written = std::fs::read(&path).expect("reads");
            let header = u64::from_le_bytes(*written.first_chunk().expect("a prefix"));
            assert_eq!((header % 8, header + 8), (0, written.len() as u64), "a name of {length} letters");
        }
    }

    #[test]
    fn mistakes_of_the_caller_are_errors() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.safetensors");
        let twice = vec![spec("a", StoredDtype::F32, &[1]), spec("a", StoredDtype::F32, &[2])];
        let error = TensorFile::create(&path, &[], twice).err().expect("twice");
        assert!(matches!(error, WeightsError::ListedTwice { .. }), "{error}");

        let specs = vec![spec("norm.weight", StoredDtype::F32, &[1]), spec("b", StoredDtype::F32, &[1])];
        let mut file = TensorFile::create(&path, &[], specs).expect("creates");
        file.write("b", |sink| sink.write(&[0; 4])).expect("writes");
        let error = file.write("b", |_| Ok(())).expect_err("twice");
        assert!(matches!(error, WeightsError::WrittenTwice { .. }), "{error}");
        let error = file.write("norm.wieght", |_| Ok(())).expect_err("unknown");
        assert!(error.to_string().contains("did you mean 'norm.weight'?"), "{error}");
        let error = file.finish().expect_err("incomplete");
        assert!(error.to_string().contains("1 listed tensors were never written: norm.weight"), "{error}");
    }
}
