//! Where rows are and what their columns are called.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A data set: its files, and the names of the columns that are read.
///
/// The defaults are the layout of EasyR1 and PAPO: `problem`, `answer`, `images`.
///
/// A parquet row is read by decoding the pages it stands in. Files in row groups of some hundred rows (some MiB) read
/// fastest out of order; one whose pages are larger costs that much time and passing memory for each row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Files (`.parquet`, `.jsonl`, `.ndjson`, `.json` with one object per line) or folders of them, read one after the
    /// other. A folder gives its `*.parquet`, else those in its `data/`, else its `*.jsonl` and `*.ndjson`, by name.
    pub files: Vec<PathBuf>,
    /// In folders, only files of this split: `train` takes `train.parquet`, `train-00000-of-00002.parquet` and all files of
    /// a folder `train/`. It must be given when a folder holds several splits.
    pub split: Option<String>,
    /// Column of the question's text.
    pub problem: String,
    /// Column of the true answer: text, or a number or truth value, which becomes text.
    pub answer: String,
    /// Column of the pictures: one or a list of `struct{bytes, path}`, bytes or paths. Empty: rows have no pictures.
    pub images: String,
    /// Column of a worked solution (for warm starts). Not given: `solution` where a file has it.
    pub solution: Option<String>,
    /// Column of what kind of question a row is, to tell scores apart by. Not given: rows have none.
    pub category: Option<String>,
    /// Folder from which relative picture paths start. Not given: the folder of the data file.
    pub image_root: Option<PathBuf>,
    /// Decoded parquet rows kept in memory, in MiB (a single stretch of rows may exceed it while it is in use).
    pub cache_mib: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            split: None,
            problem: "problem".into(),
            answer: "answer".into(),
            images: "images".into(),
            solution: None,
            category: None,
            image_root: None,
            cache_mib: 64,
        }
    }
}

impl DataConfig {
    /// The default columns of these files or folders.
    pub fn of<P: Into<PathBuf>>(files: impl IntoIterator<Item = P>) -> Self {
        Self { files: files.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The columns to read from a file whose column names are `present`, or the first that is missing.
    pub(crate) fn resolve(&self, present: &[&str]) -> Result<Columns, Missing> {
        let require = |key: &'static str, name: &str| match present.contains(&name) {
            true => Ok(name.to_owned()),
            false => Err(Missing { key, name: name.to_owned() }),
        };
        let solution = match &self.solution {
            Some(name) => Some(require("solution", name)?),
            None => present.contains(&"solution").then(|| "solution".to_owned()),
        };
        Ok(Columns {
            problem: require("problem", &self.problem)?,
            answer: require("answer", &self.answer)?,
            images: if self.images.is_empty() { None } else { Some(require("images", &self.images)?) },
            solution,
            category: self.category.as_ref().map(|name| require("category", name)).transpose()?,
        })
    }
}

/// The columns that are read from one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    pub problem: String,
    pub answer: String,
    pub images: Option<String>,
    pub solution: Option<String>,
    pub category: Option<String>,
}

/// A column that was asked for and is not there, and the configuration key that asks for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub key: &'static str,
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_solution_is_optional_and_a_named_one_is_not() {
        let mut config = DataConfig::default();
        let present = ["problem", "answer", "images"];
        assert_eq!(config.resolve(&present).unwrap().solution, None);
        assert!(config.resolve(&["problem", "answer", "images", "solution"]).unwrap().solution.is_some());
        config.solution = Some("trace".into());
        assert_eq!(config.resolve(&present), Err(Missing { key: "solution", name: "trace".into() }));
    }

    #[test]
    fn pictures_are_required_unless_switched_off() {
        let mut config = DataConfig::default();
        assert_eq!(config.resolve(&["problem", "answer"]).unwrap_err().key, "images");
        config.images = String::new();
        assert_eq!(config.resolve(&["problem", "answer"]).unwrap().images, None);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<DataConfig>(r#"{"file": ["a"]}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `file`"), "{error}");
    }
}
