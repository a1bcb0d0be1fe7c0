//! Reading the small files of a checkpoint folder, with errors that name them.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};

use crate::TextError;

/// The whole file, or nothing when it does not exist.
pub(crate) fn text_if_present(path: &Path) -> Result<Option<String>, TextError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Io { action: "read", path: path.to_owned(), source, hint: "" }),
    }
}

/// The JSON object in a file, or nothing when the file does not exist.
pub(crate) fn object_if_present(path: &Path) -> Result<Option<Map<String, Value>>, TextError> {
    let Some(text) = text_if_present(path)? else { return Ok(None) };
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(other) => Err(TextError::Field {
            path: path.to_owned(),
            key: "the file".into(),
            expected: "a JSON object",
            found: describe(&other),
        }),
        Err(error) => Err(TextError::Json { path: path.to_owned(), reason: error.to_string() }),
    }
}

/// A special token as tokenizer_config.json writes it: a string, or an object with `content`.
pub(crate) fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_nothing_and_a_broken_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert!(object_if_present(&path).unwrap().is_none());
        std::fs::write(&path, "{\"a\": ").unwrap();
        assert!(object_if_present(&path).unwrap_err().to_string().contains("config.json: not valid JSON"));
        std::fs::write(&path, "[1, 2]").unwrap();
        assert!(
            object_if_present(&path).unwrap_err().to_string().contains("should be a JSON object, found a list of 2")
        );
    }
}
