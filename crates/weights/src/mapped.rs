//! One safetensors file, memory-mapped: eight bytes of header length, a JSON header, the tensors' bytes.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::Metadata;

use crate::dtype::StoredDtype;
use crate::error::WeightsError;

/// Bytes before the JSON header.
const PREFIX: usize = 8;
/// The reference reader's limit; a larger header length means that the file is something else.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// What stands in a repository instead of a large file that was not fetched.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// A file whose header has been checked: the tensors cover the data without gap or overlap, up to the last byte.
pub(crate) struct MappedFile {
    pub path: PathBuf,
    /// In the order of their bytes.
    pub tensors: Vec<StoredTensor>,
    pub metadata: HashMap<String, String>,
    map: Mmap,
}

pub(crate) struct StoredTensor {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    range: Range<usize>,
}

impl MappedFile {
    pub fn open(path: &Path) -> Result<MappedFile, WeightsError> {
        let file = File::open(path).map_err(WeightsError::io("open", path))?;
        // SAFETY: a mapped file must not change under the map. This crate never writes to a published file in place: it
        // writes aside and renames, and the map keeps the old file alive. No other writer of weight files is known.
        let map = unsafe { Mmap::map(&file) }.map_err(WeightsError::io("map", path))?;
        let (data_start, header) = read_header(path, &map)?;
        let mut tensors = Vec::with_capacity(header.offset_keys().len());
        for name in header.offset_keys() {
            let Some(info) = header.info(&name) else { continue };
            let (start, end) = info.data_offsets;
            let range = data_start + start..data_start + end;
            tensors.push(StoredTensor { name, dtype: info.dtype, shape: info.shape.clone(), range });
        }
        let metadata = header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(MappedFile { path: path.to_owned(), tensors, metadata, map })
    }

    pub fn bytes(&self, tensor: &StoredTensor) -> &[u8] {
        &self.map[tensor.range.clone()]
    }
}

/// Where the data starts, and the header; checks every size against the file's.
fn read_header(path: &Path, bytes: &[u8]) -> Result<(usize, Metadata), WeightsError> {
    let found = bytes.len() as u64;
    let corrupt = |reason: String| WeightsError::Corrupt { file: path.to_owned(), found, reason };
    let truncated = |expected: u64| WeightsError::Truncated { file: path.to_owned(), expected, found };
    if bytes.starts_with(LFS_POINTER) {
        return Err(corrupt("it is a Git LFS pointer; fetch the file itself with `git lfs pull`".into()));
    }
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(truncated(PREFIX as u64));
    };
    let header_bytes = u64::from_le_bytes(*prefix);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(corrupt(format!(
            "it starts with a header length of {header_bytes} bytes, above {MAX_HEADER_BYTES}"
        )));
    }
    let Some(header) = rest.get(..header_bytes as usize) else {
        return Err(truncated(PREFIX as u64 + header_bytes));
    };
    let header: Metadata = serde_json::from_slice(header).map_err(|error| corrupt(format!("its header: {error}")))?;
    let data_start = PREFIX + header_bytes as usize;
    let expected = (data_start as u64)
        .checked_add(header.data_len() as u64)
        .ok_or_else(|| corrupt("its header describes more bytes than can be counted".into()))?;
    match found {
        _ if found < expected => Err(truncated(expected)),
        _ if found > expected => Err(WeightsError::TooLong { file: path.to_owned(), expected, found }),
        _ => Ok((data_start, header)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn open(bytes: &[u8]) -> Result<MappedFile, WeightsError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, bytes).expect("writes");
        MappedFile::open(&path)
    }

    const HEADER: &str = concat!(
        r#"{"b":{"dtype":"I64","shape":[1],"data_offsets":[2,10]},"#,
        r#""a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}"#
    );

    #[test]
    fn reads_tensors_in_the_order_of_their_bytes() {
        // The header's length is no multiple of eight here, so the numbers are unaligned, which old files are.
        let file = open(&file(HEADER, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])).expect("opens");
        let names: Vec<_> = file.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.len())).collect();
        assert_eq!(names, [("a", 0), ("b", 1)]);
        assert_eq!(file.bytes(&file.tensors[0]), [1, 2]);
        assert_eq!(file.bytes(&file.tensors[1]), [3, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn every_truncation_is_named_with_both_sizes() {
        let whole = file(HEADER, &[0; 10]);
        for length in 0..whole.len() {
            let least = if length < 8 { 8 } else { 8 + HEADER.len() };
            let wanted = if length < least { least } else { whole.len() } as u64;
            match open(&whole[..length]).err() {
                Some(WeightsError::Truncated { expected, found, .. }) => {
                    assert_eq!((expected, found), (wanted, length as u64));
                }
                other => panic!("cut to {length} bytes: {other:?}"),
            }
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert!(matches!(open(&longer).err(), Some(WeightsError::TooLong { .. })));
    }

    #[test]
    fn other_files_are_told_apart() {
        let reason = |bytes: &[u8]| open(bytes).err().expect("refused").to_string();
        assert!(reason(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n").contains("git lfs pull"));
        assert!(reason(b"PK\x03\x04 this is a pickle from PyTorch").contains("header length of"));
        assert!(reason(&file("{nonsense}", &[])).contains("its header"));
        let gap = HEADER.replace("[2,10]", "[3,11]");
        assert!(reason(&file(&gap, &[0; 11])).contains("offset"), "{}", reason(&file(&gap, &[0; 11])));
        let wrong_shape = HEADER.replace("[1]", "[2]");
        assert!(reason(&file(&wrong_shape, &[0; 10])).contains("invalid shape"));
        let huge = HEADER.replace("[1]", "[18446744073709551615,2]");
        assert!(reason(&file(&huge, &[0; 10])).contains("overflow"), "{}", reason(&file(&huge, &[0; 10])));
    }
}
