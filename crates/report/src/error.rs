//! What can go wrong between a run directory and what is made of it.

use std::io;
use std::path::{Path, PathBuf};

/// Everything that can go wrong in this crate. Each message names the file, and the line and key where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The folder is not one that a run writes.
    #[error("{}: there is no {file}: expected the directory of a run, as runs/NAME{advice}", .folder.display())]
    NoRun { folder: PathBuf, file: &'static str, advice: String },

    /// The disk refuses to read.
    #[error("{}: cannot be read: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },

    /// The disk refuses to write.
    #[error("{}: cannot be written: {source} (is the folder writable, and the disk not full?)", .path.display())]
    Write { path: PathBuf, source: io::Error },

    /// A line that is not the last one is not JSON.
    #[error(
        "{}:{line}: expected one JSON object a line, found {reason}; only the last line may be cut short. \
         Take the line out to go on without it", .path.display()
    )]
    Damaged { path: PathBuf, line: usize, reason: String },

    /// A line is JSON, but not what the file is made of.
    #[error("{}:{line}: {key}: expected {expected}, found {found}; {advice}", .path.display())]
    Field { path: PathBuf, line: usize, key: String, expected: String, found: String, advice: &'static str },

    /// The configuration of a run is not TOML.
    #[error("{}:{line}: expected the TOML that the run wrote, found: {reason} (copy it again from the run)", .path.display())]
    Config { path: PathBuf, line: usize, reason: String },

    /// Too few runs for what was asked.
    #[error("{what} needs at least {needed}, and was given {given}; name more of them")]
    TooFew { what: &'static str, needed: &'static str, given: usize },

    /// Two files of scores share too little to be compared row by row.
    #[error("{first} and {second} have no row in common: were both measured on the same data set?")]
    NoCommonRows { first: String, second: String },
}

impl ReportError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Read { path: path.to_owned(), source }
    }
}
