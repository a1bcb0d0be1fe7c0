//! What can be wrong with a file that is to be imported. Every message is one line: where, which key, what to do.

use std::path::PathBuf;

use thiserror::Error;

use crate::ConfigError;

/// A file that cannot be imported.
///
/// `origin` says where a value came from: the file and the line, or the override.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}; check the path (it is taken from the current folder)", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The file is not YAML, or not a table of keys.
    #[error("{file}, line {line}, column {column}: not usable YAML: {reason}")]
    Syntax { file: String, line: usize, column: usize, reason: String },
    /// An override is not of the form `key=value`.
    #[error("override `{argument}`: {reason}; {advice}")]
    Override { argument: String, reason: String, advice: String },
    /// A value of the wrong type or out of its range.
    #[error("{origin}: `{key}` must be {expected}, found {found}{advice}")]
    Wrong { origin: String, key: String, expected: String, found: String, advice: String },
    /// A value that asks for something Percept does not do, and that changes what is learned.
    #[error("{origin}: `{key}: {found}`: {reason}; {advice}")]
    Unsupported { origin: String, key: String, found: String, reason: String, advice: String },
    /// A key without which there is no run.
    #[error("{file}: `{key}` is not given; write it into the file, or add {advice}")]
    Missing { file: String, key: String, advice: String },
    /// The values are understood, and contradict each other.
    #[error("{file}: as a run of Percept it is refused: {error}")]
    Refused { file: String, error: Box<ConfigError> },
}
