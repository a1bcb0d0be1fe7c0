//! What a folder holds, with hashes: whether it is whole can be told later.
//!
//! The hash is XXH64 of a file's bytes: it finds what a disk or a copy did wrong, and is not meant against forgery.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use crate::error::WeightsError;
use crate::publish::write_atomically;

const MANIFEST_FILE: &str = "manifest.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    xxh64: String,
}

/// Lists the files of a folder (not of folders in it) with their sizes and hashes in its `manifest.json`.
///
/// # Errors
/// When a file cannot be read, or the list not written.
pub fn write_manifest(folder: impl AsRef<Path>) -> Result<(), WeightsError> {
    let folder = folder.as_ref();
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(WeightsError::io("list", folder))? {
        let path = entry.map_err(WeightsError::io("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && name != MANIFEST_FILE {
            files.insert(name, measure(&path)?);
        }
    }
    let text = serde_json::to_string_pretty(&Manifest { files }).expect("names and numbers are JSON");
    write_atomically(folder.join(MANIFEST_FILE), |file| writeln!(file, "{text}"))
}

/// Compares a folder with its `manifest.json`; every listed file must be as it was.
///
/// # Errors
/// Names the first file that is missing, shorter, longer or changed.
pub fn check_manifest(folder: impl AsRef<Path>) -> Result<(), WeightsError> {
    let folder = folder.as_ref();
    let path = folder.join(MANIFEST_FILE);
    let text = fs::read_to_string(&path).map_err(WeightsError::io("read", &path))?;
    let not_whole = |file: &str, reason: String| WeightsError::NotWhole { path: folder.join(file), reason };
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| not_whole(MANIFEST_FILE, format!("cannot be read: {error}")))?;
    for (name, expected) in manifest.files {
        // sizes first: they cost nothing
        let found = fs::metadata(folder.join(&name)).map_err(|error| not_whole(&name, error.to_string()))?.len();
        if found != expected.bytes {
            return Err(not_whole(&name, format!("expected {} bytes, found {found}", expected.bytes)));
        }
        let found = measure(&folder.join(&name))?;
        if found != expected {
            return Err(not_whole(&name, format!("expected hash {}, found {}", expected.xxh64, found.xxh64)));
        }
    }
    Ok(())
}

/// Files up to this size are hashed whole for [`fingerprint`].
const WHOLE: u64 = 64 << 20;
/// Pieces of larger ones that are.
const PIECES: u64 = 64;
const PIECE: u64 = 1 << 20;

/// A hash by which a changed file is noticed, as sixteen hexadecimal digits: of all its bytes, or, above 64 MiB, of its size and 64
/// pieces of 1 MiB spread over it, so that large weights cost no time.
///
/// # Errors
/// When the file cannot be read.
pub fn fingerprint(path: impl AsRef<Path>) -> Result<String, WeightsError> {
    let path = path.as_ref();
    let size = fs::metadata(path).map_err(WeightsError::io("read", path))?.len();
    if size <= WHOLE {
        return Ok(measure(path)?.xxh64);
    }
    let sample = |mut file: File| -> io::Result<String> {
        let mut hash = XxHash64::with_seed(0);
        hash.write(&size.to_le_bytes());
        let mut buffer = vec![0; PIECE as usize];
        for piece in 0..PIECES {
            file.seek(SeekFrom::Start((size - PIECE) / (PIECES - 1) * piece))?;
            file.read_exact(&mut buffer)?;
            hash.write(&buffer);
        }
        Ok(format!("{:016x}", hash.finish()))
    };
    File::open(path).and_then(sample).map_err(WeightsError::io("read", path))
}

fn measure(path: &Path) -> Result<Entry, WeightsError> {
    let read = |mut file: File| -> io::Result<Entry> {
        let (mut hash, mut bytes) = (XxHash64::with_seed(0), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Entry { bytes, xxh64: format!("{:016x}", hash.finish()) }),
                Ok(count) => {
                    hash.write(&buffer[..count]);
                    bytes += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    File::open(path).and_then(read).map_err(WeightsError::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_whole_until_a_byte_of_it_changes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str| folder.path().join(name);
        fs::write(file("a"), b"first").expect("writes");
        fs::write(file("b"), vec![7; 3 << 20]).expect("writes");
        assert!(check_manifest(folder.path()).unwrap_err().to_string().contains("manifest.json"));
        write_manifest(folder.path()).expect("lists");
        check_manifest(folder.path()).expect("whole");
        // written again, it does not list itself
        write_manifest(folder.path()).expect("lists");
        check_manifest(folder.path()).expect("whole");
        let damage = |name: &str, bytes: &[u8], words: &str| {
            let kept = fs::read(file(name)).expect("reads");
            fs::write(file(name), bytes).expect("writes");
            let error = check_manifest(folder.path()).expect_err("damaged").to_string();
            assert!(error.contains(words), "{error}");
            fs::write(file(name), kept).expect("writes");
            check_manifest(folder.path()).expect("whole again");
        };
        damage("a", b"firsT", "a is not whole: expected hash ");
        damage("b", &[7; 3], "b is not whole: expected 3145728 bytes, found 3");
        damage("manifest.json", b"{", "manifest.json is not whole: cannot be read");
        fs::remove_file(file("a")).expect("removes");
        assert!(check_manifest(folder.path()).unwrap_err().to_string().contains("a is not whole"));
    }

    #[test]
    fn the_hash_is_xxh64() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("abc"), "abc").expect("writes");
        // from the reference implementation's documentation of test vectors
        assert_eq!(fingerprint(folder.path().join("abc")).expect("reads"), "44bc2cf5ad770999");
    }

    #[test]
    fn a_large_file_is_known_by_its_size_and_pieces() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("large");
        let file = File::create(&path).expect("creates");
        file.set_len(WHOLE + 5).expect("extends");
        let first = fingerprint(&path).expect("reads");
        file.set_len(WHOLE + 6).expect("extends");
        let longer = fingerprint(&path).expect("reads");
        let mut file = File::options().write(true).open(&path).expect("opens");
        file.seek(SeekFrom::Start(WHOLE / 2)).expect("seeks");
        file.write_all(&vec![1; 2 << 20]).expect("writes");
        let changed = fingerprint(&path).expect("reads");
        assert!(first != longer && longer != changed, "{first} {longer} {changed}");
    }
}
