//! What can be wrong with a configuration. Every message is one line: where, which key, what was expected, what was
//! found, and what to do.

use std::path::PathBuf;

use thiserror::Error;

/// A configuration that cannot be used.
///
/// `origin` says where a value came from: the file, the environment variable, the `--set` argument, or `default`.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The run file cannot be read.
    #[error("{}: cannot read the run file: {source}; check the path (it is taken from the current folder)", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The run file is not TOML.
    #[error("{file}, line {line}, column {column}: not valid TOML: {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What the parser said.
        reason: String,
    },
    /// An environment variable or a `--set` argument is not of the form expected.
    #[error("{origin}: {reason}; expected {expected}")]
    Override {
        /// The argument or variable.
        origin: String,
        /// What is wrong with it.
        reason: String,
        /// The form expected.
        expected: &'static str,
    },
    /// The layers could not be put over each other.
    #[error("the configuration's layers cannot be merged: {0}")]
    Merge(String),
    /// A key nobody knows.
    #[error("{origin}: unknown key `{key}`; {advice}")]
    UnknownKey {
        /// Where it was given.
        origin: String,
        /// Its full path.
        key: String,
        /// The nearest valid key, or the keys that are valid there.
        advice: String,
    },
    /// A key without which there is no run.
    #[error("{origin}: key `{key}` is missing; {}", how_to_give(key))]
    Missing {
        /// Where it was looked for.
        origin: String,
        /// Its full path.
        key: String,
    },
    /// A value of the wrong type or out of its range.
    #[error("{origin}: `{key}` must be {expected}, found {found}")]
    WrongValue {
        /// Where the value was given.
        origin: String,
        /// The key's full path.
        key: String,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A word where one of a few others is needed.
    #[error("{origin}: `{key}` cannot be \"{found}\"; {advice}")]
    UnknownChoice {
        /// Where the value was given.
        origin: String,
        /// The key's full path.
        key: String,
        /// What is there.
        found: String,
        /// The nearest word, and all that are possible.
        advice: String,
    },
    /// Values that are right by themselves and wrong together.
    #[error("{values}: {reason}; {advice}")]
    Contradiction {
        /// Each key with its value and where that came from.
        values: String,
        /// Why they cannot both hold.
        reason: String,
        /// A way out.
        advice: String,
    },
    /// The configuration cannot be written as TOML.
    #[error("the configuration cannot be written as TOML: {0}")]
    Write(String),
}

/// A text as it may stand in a message: without line feeds, and cut when long.
pub(crate) fn one_line(text: &str) -> String {
    const SHOWN: usize = 200;
    let shown = text.chars().take(SHOWN).map(|letter| if letter.is_control() { ' ' } else { letter });
    let rest = if text.chars().nth(SHOWN).is_some() { "..." } else { "" };
    shown.collect::<String>() + rest
}

/// `--set` reaches every key but those inside lists.
fn how_to_give(key: &str) -> String {
    if key.contains('[') {
        "write it in the file".to_owned()
    } else {
        format!("write it in the file or give --set {key}=...")
    }
}

/// The origin of a value that no layer gave.
pub(crate) const DEFAULT_ORIGIN: &str = "default";
/// The origin of a table that was handed over without its file.
pub(crate) const UNPLACED_ORIGIN: &str = "configuration";

impl ConfigError {
    /// The full path of the key that is wrong, where the error is about a single key.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::UnknownKey { key, .. }
            | Self::Missing { key, .. }
            | Self::WrongValue { key, .. }
            | Self::UnknownChoice { key, .. } => Some(key),
            _ => None,
        }
    }

    /// The same error, saying that it came from `place`.
    pub(crate) fn placed(mut self, place: &str) -> Self {
        match &mut self {
            Self::UnknownKey { origin, .. }
            | Self::Missing { origin, .. }
            | Self::WrongValue { origin, .. }
            | Self::UnknownChoice { origin, .. } => *origin = place.to_owned(),
            _ => {}
        }
        self
    }
}
