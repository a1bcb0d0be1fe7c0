//! Which files a configuration names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::DataConfig;
use crate::error::DataError;

/// How a file holds rows; told by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    JsonLines,
}

impl Format {
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "jsonl" | "ndjson" | "json" => Some(Self::JsonLines),
            _ => None,
        }
    }
}

/// Words by which data sets name splits: a folder that holds two of them must not be read as one data set by accident.
const SPLITS: [&str; 8] = ["train", "training", "validation", "valid", "val", "dev", "test", "eval"];

/// The files of a configuration, in the order of its entries and by name within a folder.
pub(crate) fn find(config: &DataConfig) -> Result<Vec<(PathBuf, Format)>, DataError> {
    if config.files.is_empty() {
        return Err(DataError::NothingNamed);
    }
    let mut found = Vec::new();
    for path in &config.files {
        let kind = std::fs::metadata(path).map_err(DataError::read(path))?;
        if kind.is_dir() {
            found.extend(in_folder(path, config.split.as_deref())?);
        } else {
            let format = Format::of(path).ok_or_else(|| DataError::Format {
                path: path.clone(),
                found: match path.extension() {
                    Some(extension) => format!("`.{}`", extension.display()),
                    None => "no extension".into(),
                },
            })?;
            found.push((path.clone(), format));
        }
    }
    Ok(found)
}

/// Parquet before JSON lines, the folder itself before its `data/`, as data sets on the hub are laid out.
fn in_folder(folder: &Path, split: Option<&str>) -> Result<Vec<(PathBuf, Format)>, DataError> {
    let data = folder.join("data");
    let mut levels = vec![folder.to_path_buf()];
    if data.is_dir() {
        levels.push(data);
    }
    let mut present = Vec::new();
    for format in [Format::Parquet, Format::JsonLines] {
        for level in &levels {
            let files = list(level, format)?;
            let chosen = match split {
                None => one_split(folder, files.clone())?,
                Some(split) if level.join(split).is_dir() => list(&level.join(split), format)?,
                Some(split) => files.iter().filter(|file| is_of_split(&name(file), split)).cloned().collect(),
            };
            if !chosen.is_empty() {
                return Ok(chosen.into_iter().map(|file| (file, format)).collect());
            }
            present.extend(files.iter().map(|file| name(file)));
        }
    }
    let wanted = match split {
        Some(split) => format!("of split `{split}` (*.parquet or *.jsonl whose names begin with it)"),
        None => "(*.parquet or *.jsonl, here or in data/)".into(),
    };
    let found = if present.is_empty() { "none".into() } else { present.join(", ") };
    Err(DataError::NoFiles { folder: folder.into(), wanted, found })
}

/// Files of one format directly in a folder, by name. A `.json` file counts only when it is named itself: folders keep
/// descriptions in such files.
fn list(folder: &Path, format: Format) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::read(folder))? {
        let path = entry.map_err(DataError::read(folder))?.path();
        let hidden = name(&path).starts_with(['.', '_']);
        let described = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if Format::of(&path) == Some(format) && !hidden && !described && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn one_split(folder: &Path, files: Vec<PathBuf>) -> Result<Vec<PathBuf>, DataError> {
    let splits: BTreeSet<&str> =
        files.iter().filter_map(|file| SPLITS.into_iter().find(|split| is_of_split(&name(file), split))).collect();
    match splits.len() {
        0 | 1 => Ok(files),
        _ => Err(DataError::SeveralSplits {
            folder: folder.into(),
            splits: splits.into_iter().collect::<Vec<_>>().join(", "),
        }),
    }
}

/// Whether a file name is `split`, or begins with it and goes on with a number or a separator and a number or word of the
/// hub's sharding (`train-00000-of-00002`, `train_0`, `train.part1`), but not with more of a name (`train_extra`, `testmini`).
fn is_of_split(name: &str, split: &str) -> bool {
    let Some(rest) = name.strip_prefix(split) else { return false };
    let mut rest = rest.chars();
    match rest.next() {
        None | Some('-' | '.' | '0'..='9') => true,
        Some('_') => rest.next().is_some_and(|next| next.is_ascii_digit()),
        Some(_) => false,
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        root
    }

    fn found(root: &Path, split: Option<&str>) -> Result<Vec<String>, DataError> {
        let config = DataConfig { split: split.map(Into::into), ..DataConfig::of([root]) };
        let files = find(&config)?;
        Ok(files.iter().map(|(file, _)| file.strip_prefix(root).unwrap().display().to_string()).collect())
    }

    #[test]
    fn shards_come_in_order_of_their_names() {
        let root =
            folder(&["train-00001-of-00002.parquet", "train-00000-of-00002.parquet", "README.md", "._x.parquet"]);
        let expected = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"];
        assert_eq!(found(root.path(), None).unwrap(), expected);
        assert_eq!(found(root.path(), Some("train")).unwrap(), expected);
    }

    #[test]
    fn a_split_is_chosen_by_its_prefix_and_not_by_longer_names() {
        let root = folder(&[
            "data/test-0.parquet",
            "data/testmini-0.parquet",
            "data/test_extra.parquet",
            "data/train.parquet",
            "data/test_1.parquet",
        ]);
        assert_eq!(found(root.path(), Some("test")).unwrap(), ["data/test-0.parquet", "data/test_1.parquet"]);
        assert_eq!(found(root.path(), Some("train")).unwrap(), ["data/train.parquet"]);
        let message = found(root.path(), Some("validation")).unwrap_err().to_string();
        assert!(message.contains("`validation`") && message.contains("train.parquet"), "{message}");
    }

    #[test]
    fn a_folder_of_several_splits_is_not_read_as_one() {
        let root = folder(&["train.parquet", "test.parquet"]);
        let message = found(root.path(), None).unwrap_err().to_string();
        assert!(message.contains("(test, train)") && message.contains("`split`"), "{message}");
    }

    #[test]
    fn a_split_may_be_a_folder() {
        let root = folder(&["data/train/0000.parquet", "data/test/0000.parquet"]);
        assert_eq!(found(root.path(), Some("test")).unwrap(), ["data/test/0000.parquet"]);
    }

    #[test]
    fn json_lines_are_taken_when_there_is_no_parquet() {
        let root = folder(&["b.jsonl", "a.ndjson", "info.json"]);
        assert_eq!(found(root.path(), None).unwrap(), ["a.ndjson", "b.jsonl"]);
        std::fs::create_dir(root.path().join("data")).unwrap();
        std::fs::write(root.path().join("data/x.parquet"), "").unwrap();
        assert_eq!(found(root.path(), None).unwrap(), ["data/x.parquet"]);
    }

    #[test]
    fn what_cannot_be_data_is_named() {
        let root = folder(&["a.csv"]);
        let message = find(&DataConfig::of([root.path().join("a.csv")])).unwrap_err().to_string();
        assert!(message.contains("a.csv") && message.contains("`.csv`"), "{message}");
        let message = find(&DataConfig::of([root.path().join("nowhere")])).unwrap_err().to_string();
        assert!(message.contains("nowhere"), "{message}");
        assert!(matches!(find(&DataConfig::default()), Err(DataError::NothingNamed)));
    }
}
