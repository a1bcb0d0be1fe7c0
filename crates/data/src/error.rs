//! What can be wrong with a data set.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Missing;
use crate::dataset::Place;

/// Why a data set could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("no data file is named: set `files` to parquet or JSONL files, or to folders of them")]
    NothingNamed,

    #[error("{}: cannot be read: {source}; check the path (a relative one starts at the current folder)", path.display())]
    Read { path: PathBuf, source: io::Error },

    #[error("{}: cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },

    #[error("{}: expected a .parquet, .jsonl, .ndjson or .json file, found {found}", path.display())]
    Format { path: PathBuf, found: String },

    #[error("{}: no data files {wanted}; the folder holds {found}", folder.display())]
    NoFiles { folder: PathBuf, wanted: String, found: String },

    #[error("{}: the files belong to several splits ({splits}); choose one with `split`, or name the files", folder.display())]
    SeveralSplits { folder: PathBuf, splits: String },

    #[error("{}: not a readable parquet file (truncated, or another format): {reason}", path.display())]
    Parquet { path: PathBuf, reason: String },

    #[error("{}: column `{column}` is compressed with {codec}; rewrite the file with snappy or zstd", path.display())]
    Codec { path: PathBuf, column: String, codec: String },

    #[error("{}: no column `{name}` (key `{key}`); the columns are {present}{hint}", path.display())]
    MissingColumn { path: PathBuf, key: &'static str, name: String, present: String, hint: String },

    #[error("{}: column `{name}` (key `{key}`) should hold {expected}, found {found}", path.display())]
    ColumnType { path: PathBuf, key: &'static str, name: String, expected: &'static str, found: String },

    #[error("{files}: no rows")]
    Empty { files: String },

    /// One row is bad; others may be good.
    #[error("{place}, `{field}`: {reason}")]
    Row { place: Place, field: String, reason: String },

    #[error(
        "picture {}: cannot be read: {source}; a relative path starts at image_root, or else at the data file's folder",
        path.display()
    )]
    Picture { path: PathBuf, source: io::Error },

    #[error("task: `{key}` should be {expected}, found {found}")]
    Task { key: &'static str, expected: String, found: String },
}

impl DataError {
    /// The row at fault, when it is one row's fault: a caller that skips bad rows skips these and no others.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Row { place, .. } => Some(place),
            _ => None,
        }
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Read { path: path.into(), source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Write { path: path.into(), source }
    }

    pub(crate) fn missing_column(path: &Path, missing: Missing, present: &[&str]) -> Self {
        let Missing { key, name } = missing;
        let mut hint = match nearest(key, &name, present) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => String::new(),
        };
        if key == "images" && hint.is_empty() {
            hint = "; set `images = \"\"` if the rows have no pictures".into();
        }
        Self::MissingColumn { path: path.into(), key, name, present: quoted(present), hint }
    }
}

/// How many names are said.
const SHOWN: usize = 50;

/// Names in backquotes, separated by commas; of many, the first.
pub(crate) fn quoted(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The name among `present` that was most likely meant by `name`: a small slip of spelling, or another word that data sets
/// use for the same thing.
pub(crate) fn nearest<'a>(key: &str, name: &str, present: &[&'a str]) -> Option<&'a str> {
    let (distance, near) = present.iter().map(|&other| (edits(name, other), other)).min()?;
    if distance <= 1 + name.chars().count() / 4 {
        return Some(near);
    }
    let customary: &[&str] = match key {
        "problem" => &["problem", "question", "prompt", "query", "instruction"],
        "answer" => &["answer", "ground_truth", "label", "target", "solution"],
        "images" => &["images", "image", "pictures", "picture", "image_path"],
        "category" => &["category", "subject", "subfield", "topic", "task", "type", "source"],
        _ => &["solution", "trace", "rationale", "response"],
    };
    customary.iter().find_map(|word| present.iter().copied().find(|other| other.eq_ignore_ascii_case(word)))
}

/// Levenshtein distance, ignoring case.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        assert_eq!(edits("problem", "problem"), 0);
        assert_eq!(edits("problme", "problem"), 2);
        assert_eq!(edits("image", "Images"), 1);
        assert_eq!(edits("", "abc"), 3);
    }

    #[test]
    fn suggestions_follow_spelling_and_then_custom() {
        let present = ["id", "question", "answer", "image"];
        assert_eq!(nearest("answer", "anwser", &present), Some("answer"));
        assert_eq!(nearest("problem", "problem", &present), Some("question"));
        assert_eq!(nearest("images", "images", &present), Some("image"));
        assert_eq!(nearest("solution", "chain", &present), None);
    }
}
