//! Files of a run directory.

use crate::ReportError;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Component, Path, PathBuf};

/// A file that every run has.
pub(crate) fn file(run: &Path, name: &'static str) -> Result<PathBuf, ReportError> {
    let path = run.join(name);
    if path.is_file() {
        return Ok(path);
    }
    // a folder of runs is easily taken for a run
    let inside = fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut runs: Vec<PathBuf> = inside.filter(|path| path.join(name).is_file()).collect();
    runs.sort();
    let advice = runs.first().map_or(String::new(), |first| format!("; did you mean {}?", first.display()));
    Err(ReportError::NoRun { folder: run.to_owned(), file: name, advice })
}

/// What runs are called on a page: their folders' names, with as many parents as it takes to tell them apart.
pub(crate) fn names(runs: &[&Path]) -> Vec<String> {
    let parts = |path: &Path| -> Vec<String> {
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let normal = whole.components().filter(|part| matches!(part, Component::Normal(_)));
        normal.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let all: Vec<Vec<String>> = runs.iter().map(|run| parts(run)).collect();
    let tail = |parts: &[String], length: usize| parts[parts.len().saturating_sub(length)..].join("/");
    let longest = all.iter().map(Vec::len).max().unwrap_or(0);
    (1..longest)
        .map(|length| all.iter().map(|parts| tail(parts, length)).collect::<Vec<_>>())
        .find(|names| names.iter().enumerate().all(|(at, name)| !names[..at].contains(name)))
        .unwrap_or_else(|| all.iter().map(|parts| tail(parts, longest)).collect())
}

/// Writes a file so that a reader sees the old one or the new one, never half of it.
pub(crate) fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), ReportError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let partial = path.with_file_name(format!(".{name}.partial"));
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = BufWriter::new(File::create(&partial)?);
        fill(&mut file)?;
        file.flush()?;
        drop(file);
        fs::rename(&partial, path)
    };
    write().map_err(|source| {
        // a half-written file is of no use; the error of the write is the one to tell
        let _ = fs::remove_file(&partial);
        ReportError::Write { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::{file, names, write_whole};
    use std::io::{self, Write};
    use std::path::Path;

    #[test]
    fn names_tell_runs_apart() {
        let path = |text: &'static str| Path::new(text);
        assert_eq!(names(&[path("/x/runs/a"), path("/x/runs/b")]), ["a", "b"]);
        assert_eq!(names(&[path("/x/one/run"), path("/x/two/run")]), ["one/run", "two/run"]);
        assert_eq!(names(&[path("/x/run"), path("/x/run")]), ["x/run", "x/run"]);
    }

    #[test]
    fn a_folder_of_runs_is_pointed_out() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("first")).expect("a folder");
        std::fs::write(folder.path().join("first/metrics.jsonl"), "").expect("written");
        let error = file(folder.path(), "metrics.jsonl").expect_err("no run").to_string();
        assert!(error.ends_with("first?"), "{error}");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("page.html");
        write_whole(&path, |file| file.write_all(b"old")).expect("written");
        let failed = write_whole(&path, |file| {
            file.write_all(b"new")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.expect_err("failed").to_string().contains("page.html: cannot be written: disk full"));
        assert_eq!(std::fs::read(&path).expect("the file"), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1);
    }
}
