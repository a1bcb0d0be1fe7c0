//! Making files and folders appear whole or not at all: write aside, bring to the disk, rename.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::WeightsError;

/// Writes a file through `write` and puts it in the place of what was at `path`, which stays whole until then.
///
/// The data and the rename are on the disk when this returns. One writer at a time: the unfinished file stands beside
/// `path` under a fixed hidden name, so that a later attempt replaces what a killed one left.
///
/// # Errors
/// When `write` or the disk refuses; `path` is then as it was.
pub fn write_atomically(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), WeightsError> {
    let path = path.as_ref();
    let partial = beside(path, "partial");
    let written = File::create(&partial).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()
    });
    if let Err(error) = written {
        let _ = fs::remove_file(&partial);
        return Err(WeightsError::io("write", path)(error));
    }
    rename_into_place(&partial, path)
}

/// Renames a finished file over `path` and brings the rename to the disk.
pub(crate) fn rename_into_place(finished: &Path, path: &Path) -> Result<(), WeightsError> {
    fs::rename(finished, path).map_err(WeightsError::io("replace", path))?;
    sync_folder(parent(path))
}

/// Renames folder `from` to `to`, in the place of what was there, and brings the rename to the disk.
///
/// Both must be on one file system. An older `to` is first set aside and removed last: a crash in between leaves it
/// beside `to` as `.NAME.old`, whole.
///
/// # Errors
/// When the operating system refuses; `to` is then as it was.
pub fn replace_folder(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), WeightsError> {
    let (from, to) = (from.as_ref(), to.as_ref());
    if !from.is_dir() {
        let absent = io::Error::new(io::ErrorKind::NotFound, "expected a folder to rename");
        return Err(WeightsError::io("replace from", from)(absent));
    }
    let old = beside(to, "old");
    let had_old = to.exists();
    if had_old {
        remove_folder(&old)?;
        fs::rename(to, &old).map_err(WeightsError::io("set aside", to))?;
    }
    if let Err(error) = fs::rename(from, to) {
        if had_old {
            fs::rename(&old, to).map_err(WeightsError::io("put back", to))?;
        }
        return Err(WeightsError::io("replace", to)(error));
    }
    sync_folder(parent(to))?;
    if parent(from) != parent(to) {
        sync_folder(parent(from))?;
    }
    if had_old { remove_folder(&old) } else { Ok(()) }
}

/// A folder under construction, beside its destination; dropped before [`StagedFolder::publish`], it is removed.
///
/// What a killed program left at the same place is removed at the next attempt.
#[derive(Debug)]
pub struct StagedFolder {
    staging: PathBuf,
    destination: PathBuf,
    published: bool,
}

impl StagedFolder {
    /// # Errors
    /// When the folder beside `destination` cannot be made.
    pub fn create(destination: impl AsRef<Path>) -> Result<StagedFolder, WeightsError> {
        let destination = destination.as_ref().to_owned();
        let staging = beside(&destination, "partial");
        remove_folder(&staging)?;
        fs::create_dir_all(&staging).map_err(WeightsError::io("create", &staging))?;
        Ok(StagedFolder { staging, destination, published: false })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.staging
    }

    /// Brings every file to the disk and renames the folder to its destination, in the place of what was there.
    pub fn publish(mut self) -> Result<(), WeightsError> {
        sync_tree(&self.staging)?;
        replace_folder(&self.staging, &self.destination)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.published {
            // Nothing more can be done about a failure here; the next attempt removes the rest.
            let _ = fs::remove_dir_all(&self.staging);
        }
    }
}

/// Brings the entries of a folder (names, not contents) to the disk.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), WeightsError> {
    // Elsewhere a folder cannot be opened as a file, and a rename needs no second step.
    if cfg!(unix) {
        File::open(folder).and_then(|file| file.sync_all()).map_err(WeightsError::io("sync", folder))?;
    }
    Ok(())
}

fn sync_tree(folder: &Path) -> Result<(), WeightsError> {
    for entry in fs::read_dir(folder).map_err(WeightsError::io("list", folder))? {
        let path = entry.map_err(WeightsError::io("list", folder))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            let file = File::options().append(true).open(&path);
            file.and_then(|file| file.sync_all()).map_err(WeightsError::io("sync", &path))?;
        }
    }
    sync_folder(folder)
}

fn remove_folder(folder: &Path) -> Result<(), WeightsError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(WeightsError::io("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// `folder/.NAME.ending` for `folder/NAME`: hidden, and on the same file system.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("lists");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("utf-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("latest");
        write_atomically(&path, |file| file.write_all(b"first")).expect("writes");
        let error = write_atomically(&path, |file| {
            file.write_all(b"sec")?;
            Err(io::Error::other("the sensor fell off"))
        })
        .expect_err("refused");
        assert!(error.to_string().contains("latest: the sensor fell off"), "{error}");
        assert_eq!(fs::read(&path).expect("reads"), b"first");
        assert_eq!(names(folder.path()), ["latest"]);
        fs::write(beside(&path, "partial"), "left by a killed program, longer").expect("writes");
        write_atomically(&path, |file| file.write_all(b"second")).expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"second");
        assert_eq!(names(folder.path()), ["latest"]);
    }

    #[test]
    fn a_folder_replaces_another_with_all_its_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (from, to) = (folder.path().join("new"), folder.path().join("step-5"));
        for (place, name) in [(&from, "b"), (&to, "a")] {
            fs::create_dir(place).expect("creates");
            fs::write(place.join(name), name).expect("writes");
        }
        fs::create_dir(beside(&to, "old")).expect("creates what a crash left");
        replace_folder(&from, &to).expect("replaces");
        assert_eq!((names(&to), names(folder.path())), (vec!["b".to_owned()], vec!["step-5".to_owned()]));
        let error = replace_folder(&from, &to).expect_err("nothing to rename");
        assert!(error.to_string().contains("new: expected a folder"), "{error}");
        assert_eq!(names(&to), ["b"]);
    }

    #[test]
    fn a_staged_folder_appears_when_published_and_vanishes_when_dropped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let destination = folder.path().join("checkpoints").join("step-5");
        let staged = StagedFolder::create(&destination).expect("creates");
        fs::create_dir(staged.path().join("inner")).expect("creates");
        fs::write(staged.path().join("inner").join("a"), "a").expect("writes");
        assert!(!destination.exists());
        staged.publish().expect("publishes");
        assert_eq!(fs::read(destination.join("inner").join("a")).expect("reads"), b"a");

        let staged = StagedFolder::create(&destination).expect("creates");
        fs::write(staged.path().join("b"), "b").expect("writes");
        drop(staged);
        assert_eq!(names(&folder.path().join("checkpoints")), ["step-5"]);
        assert_eq!(names(&destination), ["inner"]);

        std::mem::forget(StagedFolder::create(&destination).expect("creates"));
        let staged = StagedFolder::create(&destination).expect("a killed program's folder does not hinder");
        assert!(names(staged.path()).is_empty());
    }
}
