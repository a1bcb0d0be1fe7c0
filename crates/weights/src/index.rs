//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::error::WeightsError;
use crate::mapped::MappedFile;

pub(crate) const SINGLE_FILE: &str = "model.safetensors";
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The index as `save_pretrained` writes it; maps are ordered, because it sorts the keys.
#[derive(Serialize, Deserialize)]
pub(crate) struct Index {
    /// Absent or partial in files of other programs; nothing depends on it in reading.
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// # Errors
    /// When the file is no index, or names a shard outside its own folder.
    pub fn read(path: &Path) -> Result<Index, WeightsError> {
        let text = fs::read_to_string(path).map_err(WeightsError::io("read", path))?;
        let refused = |reason: String| WeightsError::Index { index: path.to_owned(), reason };
        let index: Index = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
        if index.weight_map.is_empty() {
            return Err(refused("its weight_map is empty".into()));
        }
        for (tensor, shard) in &index.weight_map {
            let mut parts = Path::new(shard).components();
            let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
            if !plain {
                return Err(refused(format!(
                    "tensor '{tensor}' is in '{shard}'; expected the name of a file beside it"
                )));
            }
        }
        Ok(index)
    }

    /// `total_parameters` counts numbers, `total_size` bytes.
    pub fn new(weight_map: BTreeMap<String, String>, total_parameters: u64, total_size: u64) -> Index {
        let mut metadata = serde_json::Map::new();
        metadata.insert("total_parameters".into(), total_parameters.into());
        metadata.insert("total_size".into(), total_size.into());
        Index { metadata, weight_map }
    }

    /// The text of the file: indented by two, ended by a line feed.
    pub fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("maps of strings and numbers are JSON");
        text + "\n"
    }

    /// Opens every shard and compares its tensors with the list.
    pub fn open_shards(&self, index: &Path) -> Result<Vec<MappedFile>, WeightsError> {
        let folder = index.parent().unwrap_or(Path::new(""));
        let names: BTreeSet<&String> = self.weight_map.values().collect();
        let missing: Vec<String> =
            names.iter().filter(|name| !folder.join(name).is_file()).map(|name| name.to_string()).collect();
        if !missing.is_empty() {
            return Err(WeightsError::MissingShards { index: index.to_owned(), total: names.len(), missing });
        }
        let shards: Vec<MappedFile> =
            names.iter().map(|name| MappedFile::open(&folder.join(name))).collect::<Result<_, _>>()?;
        let found: Vec<(&str, &str)> = names
            .iter()
            .zip(&shards)
            .flat_map(|(name, shard)| shard.tensors.iter().map(|tensor| (tensor.name.as_str(), name.as_str())))
            .collect();
        self.compare(index, &found)?;
        Ok(shards)
    }

    /// `found`: every (tensor, shard) there is.
    fn compare(&self, index: &Path, found: &[(&str, &str)]) -> Result<(), WeightsError> {
        let places: BTreeSet<(&str, &str)> = found.iter().copied().collect();
        let anywhere: BTreeMap<&str, &str> = found.iter().copied().collect();
        let mut misplaced = Vec::new();
        for (tensor, shard) in &self.weight_map {
            if !places.contains(&(tensor, shard)) {
                let actual =
                    anywhere.get(tensor.as_str()).map_or("in no shard".to_owned(), |shard| format!("in {shard}"));
                misplaced.push(format!("{tensor} (expected in {shard}, found {actual})"));
            }
        }
        let mut unlisted = Vec::new();
        for (tensor, shard) in found {
            if self.weight_map.get(*tensor).is_none_or(|listed| listed != shard) {
                unlisted.push(format!("{tensor} (in {shard})"));
            }
        }
        if misplaced.is_empty() && unlisted.is_empty() {
            return Ok(());
        }
        Err(WeightsError::IndexDisagrees { index: index.to_owned(), misplaced, unlisted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(text: &str) -> Result<Index, WeightsError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(INDEX_FILE);
        fs::write(&path, text).expect("writes");
        Index::read(&path)
    }

    #[test]
    fn reads_with_and_without_metadata() {
        let read = index(r#"{"weight_map": {"a": "x.safetensors"}}"#).expect("reads");
        assert_eq!(read.weight_map["a"], "x.safetensors");
        let read = index(r#"{"metadata": {"total_size": 1.5e9, "other": []}, "weight_map": {"a": "x"}, "more": 1}"#);
        assert!(read.is_ok());
    }

    #[test]
    fn refuses_what_is_no_index() {
        let reason = |text: &str| index(text).err().expect("refused").to_string();
        assert!(reason("{").contains("line 1"));
        assert!(reason(r#"{"metadata": {}}"#).contains("weight_map"));
        assert!(reason(r#"{"weight_map": {}}"#).contains("empty"));
        for outside in ["../x.safetensors", "/x.safetensors", "a/b", "", "."] {
            assert!(reason(&format!(r#"{{"weight_map": {{"a": "{outside}"}}}}"#)).contains("beside it"), "{outside}");
        }
    }

    #[test]
    fn is_written_as_the_reference_writes_it() {
        let weights = [("b", "2"), ("a", "1")].map(|(name, shard)| (name.to_owned(), shard.to_owned()));
        let expected = "{\n  \"metadata\": {\n    \"total_parameters\": 3,\n    \"total_size\": 12\n  },\n  \
                        \"weight_map\": {\n    \"a\": \"1\",\n    \"b\": \"2\"\n  }\n}\n";
        assert_eq!(Index::new(weights.into(), 3, 12).text(), expected);
    }

    #[test]
    fn disagreements_are_all_named() {
        let listed = index(r#"{"weight_map": {"a": "1", "b": "1", "c": "2"}}"#).expect("reads");
        assert!(listed.compare(Path::new("i"), &[("a", "1"), ("b", "1"), ("c", "2")]).is_ok());
        let error = listed.compare(Path::new("i"), &[("a", "1"), ("b", "2"), ("d", "2")]).expect_err("differs");
        let WeightsError::IndexDisagrees { misplaced, unlisted, .. } = error else { panic!("{error}") };
        assert_eq!(misplaced, ["b (expected in 1, found in 2)", "c (expected in 2, found in no shard)"]);
        assert_eq!(unlisted, ["b (in 2)", "d (in 2)"]);
        // A tensor in a second shard too would leave open which of them counts.
        assert!(listed.compare(Path::new("i"), &[("a", "1"), ("a", "2"), ("b", "1"), ("c", "2")]).is_err());
    }
}
