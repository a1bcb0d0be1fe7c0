//! What can go wrong with weight files, with enough in every message to put it right.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::dtype::{Dtype, StoredDtype};

/// An error of this crate. Each names the file or folder, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    /// A folder without safetensors weights; the hint says what is there instead.
    #[error("no weights in {}: expected model.safetensors or model.safetensors.index.json; {hint}", folder.display())]
    NoWeights { folder: PathBuf, hint: String },

    /// The file ends too soon.
    #[error(
        "{} is truncated: expected {expected} bytes, found {found}; copy or download it again",
        file.display()
    )]
    Truncated { file: PathBuf, expected: u64, found: u64 },

    /// The file goes on after its last tensor.
    #[error(
        "{} does not end where its header says: expected {expected} bytes, found {found}; copy or download it again",
        file.display()
    )]
    TooLong { file: PathBuf, expected: u64, found: u64 },

    /// The file is not what its name says.
    #[error("{} is not a readable safetensors file ({found} bytes): {reason}", file.display())]
    Corrupt { file: PathBuf, found: u64, reason: String },

    /// The index of a sharded checkpoint cannot be read.
    #[error("{} is not a readable index: {reason}", index.display())]
    Index { index: PathBuf, reason: String },

    /// The index names shards that are not in the folder.
    #[error(
        "{} names {total} shards, {} missing beside it: {}; copy or download them",
        index.display(), missing.len(), first_ten(missing)
    )]
    MissingShards { index: PathBuf, total: usize, missing: Vec<String> },

    /// The index and the shards name different tensors.
    #[error("{} disagrees with its shards: {}", index.display(), disagreement(misplaced, unlisted))]
    IndexDisagrees { index: PathBuf, misplaced: Vec<String>, unlisted: Vec<String> },

    /// Two tensors of the files have one canonical name.
    #[error("{} holds '{first}' and '{second}', which both mean '{name}': keep one of them", folder.display())]
    TwoNames { folder: PathBuf, name: String, first: String, second: String },

    /// A tensor that the files do not hold was asked for.
    #[error("{} holds no tensor '{name}'{}", path.display(), did_you_mean(suggestion))]
    NoSuchTensor { path: PathBuf, name: String, suggestion: Option<String> },

    /// The tensor's numbers are of another format than can be read this way.
    #[error("tensor '{name}' in {} is {found:?}; expected {expected}", path.display())]
    WrongDtype { path: PathBuf, name: String, found: StoredDtype, expected: &'static str },

    /// A finite number that the other format cannot hold.
    #[error(
        "tensor '{name}' ({}): element {position} is {value:e}, which becomes infinite in {dtype}; use a wider format",
        path.display()
    )]
    Overflow { path: PathBuf, name: String, position: usize, value: f64, dtype: Dtype },

    /// The checkpoint is not of the expected architecture.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),

    /// The folder already holds weights.
    #[error(
        "{} already holds {existing}: write into an empty folder (a loader could mix old and new)",
        folder.display()
    )]
    AlreadyThere { folder: PathBuf, existing: String },

    /// The list of tensors to write names one twice.
    #[error("tensor '{name}' is listed twice among those to write to {}", path.display())]
    ListedTwice { path: PathBuf, name: String },

    /// A tensor to write that was not on the list given at the start.
    #[error("tensor '{name}' is not on the list of those to write to {}{}", path.display(), did_you_mean(suggestion))]
    NotListed { path: PathBuf, name: String, suggestion: Option<String> },

    /// A tensor's data does not fill its shape.
    #[error(
        "tensor '{name}' for {} has shape {shape:?}, {expected} numbers; found {found}",
        path.display()
    )]
    WrongLength { path: PathBuf, name: String, shape: Vec<usize>, expected: usize, found: usize },

    /// A tensor came a second time.
    #[error("tensor '{name}' was already written to {}", path.display())]
    WrittenTwice { path: PathBuf, name: String },

    /// Listed tensors never came.
    #[error(
        "{} is incomplete: {} listed tensors were never written: {}",
        path.display(), names.len(), first_ten(names)
    )]
    NeverWritten { path: PathBuf, names: Vec<String> },

    /// A file is not as the manifest beside it says.
    #[error("{} is not whole: {reason}", path.display())]
    NotWhole { path: PathBuf, reason: String },

    /// The configuration of a checkpoint cannot be used.
    #[error("{}: {reason}", path.display())]
    Config { path: PathBuf, reason: String },

    /// The file is safetensors, but no trainer state.
    #[error("{} holds no trainer state (no '{key}' in its metadata): is it a file of weights?", path.display())]
    NotState { path: PathBuf, key: &'static str },
}

impl WeightsError {
    /// For `map_err` on an I/O result: what was tried, on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WeightsError {
        let path = path.to_owned();
        move |source| WeightsError::Io { action, path, source }
    }
}

/// Everything in which a checkpoint differs from what a model needs. Names are canonical and in order.
///
/// `Display` shows the first ten of each kind and counts the rest.
#[derive(Debug, Default)]
pub struct Mismatch {
    pub folder: PathBuf,
    /// Tensors of the model that the checkpoint lacks, with their shapes.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Tensors of the checkpoint that the model does not have, with their shapes.
    pub unexpected: Vec<(String, Vec<usize>)>,
    /// (name, expected shape, found shape).
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// (name, the tensor it should repeat): tied in the model, different in the checkpoint.
    pub untied: Vec<(String, String)>,
    /// (missing name, unexpected name near it), for those shown.
    pub suggestions: Vec<(String, String)>,
}

impl Mismatch {
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty() && self.untied.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the weights in {} do not fit the model its configuration describes", self.folder.display())?;
        let missing = self.missing.iter().map(|(name, shape)| {
            let near = self.suggestions.iter().find(|(missing, _)| missing == name);
            let hint = near.map(|(_, near)| format!(" (the file has '{near}')")).unwrap_or_default();
            format!("{name} {shape:?}{hint}")
        });
        section(f, "missing", missing.collect())?;
        let unexpected = self.unexpected.iter().map(|(name, shape)| format!("{name} {shape:?}"));
        section(f, "unexpected", unexpected.collect())?;
        let misshapen = self.misshapen.iter();
        let misshapen =
            misshapen.map(|(name, expected, found)| format!("{name} expected {expected:?}, found {found:?}"));
        section(f, "misshapen", misshapen.collect())?;
        let untied = self.untied.iter();
        let untied = untied.map(|(name, source)| format!("{name} (expected equal to {source}, or absent)"));
        section(f, "tied in the configuration but different", untied.collect())
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, entries: Vec<String>) -> fmt::Result {
    if entries.is_empty() {
        return Ok(());
    }
    write!(f, "; {} {title}: {}", entries.len(), first_ten(&entries))
}

/// How many names of a kind a message shows.
pub(crate) const SHOWN: usize = 10;

fn first_ten(names: &[String]) -> String {
    let rest = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - rest].join(", ");
    if rest == 0 { shown } else { format!("{shown}, and {rest} more") }
}

fn disagreement(misplaced: &[String], unlisted: &[String]) -> String {
    let mut parts = Vec::new();
    if !misplaced.is_empty() {
        parts.push(format!("{} tensors not where it says: {}", misplaced.len(), first_ten(misplaced)));
    }
    if !unlisted.is_empty() {
        parts.push(format!("{} tensors it does not list: {}", unlisted.len(), first_ten(unlisted)));
    }
    parts.join("; ")
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_shows_ten_of_each_and_counts_the_rest() {
        let missing = (0..12).map(|n| (format!("layers.{n}.weight"), vec![2, 3])).collect();
        let mismatch = Mismatch {
            folder: "here".into(),
            missing,
            misshapen: vec![("norm".into(), vec![4], vec![5])],
            suggestions: vec![("layers.0.weight".into(), "layer.0.weight".into())],
            ..Mismatch::default()
        };
        let text = mismatch.to_string();
        assert!(text.contains("12 missing: layers.0.weight [2, 3] (the file has 'layer.0.weight'), "), "{text}");
        assert!(text.contains("layers.9.weight [2, 3], and 2 more"), "{text}");
        assert!(!text.contains("layers.10.weight") && !text.contains("unexpected"), "{text}");
        assert!(text.contains("1 misshapen: norm expected [4], found [5]"), "{text}");
    }
}
