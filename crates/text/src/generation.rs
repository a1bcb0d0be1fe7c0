//! Which tokens end a response.

use std::path::Path;

use serde_json::{Map, Value};

use crate::read::{describe, object_if_present, token_text};
use crate::{TextError, Tokenizer};

/// The token ids of a checkpoint's generation configuration. Its sampling parameters are left unread on purpose: what is
/// trained is the distribution at the run's own settings, and the files hold values for chatting (temperature 1e-6, top-k 1, ...).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationConfig {
    /// Tokens that end a response; at least one. The first is the one to teach.
    pub eos: Vec<u32>,
    /// The token that fills up rows; it is never looked at.
    pub pad: u32,
}

impl GenerationConfig {
    /// Reads `eos_token_id` and `pad_token_id` from generation_config.json, else config.json (also its `text_config`), else
    /// the `eos_token` and `pad_token` of tokenizer_config.json. Without any pad token, the first end token pads.
    ///
    /// # Errors
    /// When no end token is found, an entry is no token id, or the tokenizer does not have it.
    pub fn from_folder(folder: &Path, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let eos = find(folder, tokenizer, "eos_token_id", "eos_token")?
            .ok_or_else(|| TextError::NoEndToken { folder: folder.to_owned() })?;
        let pad = find(folder, tokenizer, "pad_token_id", "pad_token")?.unwrap_or_else(|| eos.clone());
        Ok(Self { pad: pad[0], eos })
    }

    pub fn ends(&self, id: u32) -> bool {
        self.eos.contains(&id)
    }
}

fn find(
    folder: &Path,
    tokenizer: &Tokenizer,
    key: &'static str,
    token_key: &'static str,
) -> Result<Option<Vec<u32>>, TextError> {
    for file in ["generation_config.json", "config.json"] {
        let path = folder.join(file);
        let Some(object) = object_if_present(&path)? else { continue };
        let nested = object.get("text_config").and_then(Value::as_object);
        let ids = match ids(&path, &object, key)? {
            None => nested.map_or(Ok(None), |nested| ids(&path, nested, key))?,
            found => found,
        };
        if let Some(ids) = ids {
            if let Some(&id) = ids.iter().find(|id| tokenizer.token(**id).is_none()) {
                return Err(TextError::UnknownId { path, key, id, last: tokenizer.len().saturating_sub(1) });
            }
            return Ok(Some(ids));
        }
    }
    let config = object_if_present(&folder.join("tokenizer_config.json"))?;
    let id = config.as_ref().and_then(|config| tokenizer.id(token_text(config.get(token_key)?)?));
    Ok(id.map(|id| vec![id]))
}

/// One id or a list of them; null and an empty list are none.
fn ids(path: &Path, object: &Map<String, Value>, key: &str) -> Result<Option<Vec<u32>>, TextError> {
    let wrong = |value: &Value| TextError::Field {
        path: path.to_owned(),
        key: key.to_owned(),
        expected: "a token id or a list of token ids",
        found: describe(value),
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| wrong(value));
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) if list.is_empty() => Ok(None),
        Some(Value::Array(list)) => list.iter().map(id).collect::<Result<_, _>>().map(Some),
        Some(value) => Ok(Some(vec![id(value)?])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    #[test]
    fn files_are_asked_in_order_and_sampling_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = tiny::write_tokenizer(folder.path(), &["red"], 264).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
        let read = || GenerationConfig::from_folder(folder.path(), &tokenizer);

        let own = read().unwrap();
        assert_eq!(own, GenerationConfig { eos: vec![tokens.im_end, tokens.endoftext], pad: tokens.endoftext });

        write("generation_config.json", r#"{"temperature": 1e-6, "eos_token_id": 5}"#);
        assert_eq!(read().unwrap(), GenerationConfig { eos: vec![5], pad: tokens.endoftext });
        write("generation_config.json", r#"{"eos_token_id": "5"}"#);
        assert!(read().unwrap_err().to_string().contains("`eos_token_id` should be a token id"));
        write("generation_config.json", r#"{"eos_token_id": [5, 9000]}"#);
        let error = read().unwrap_err().to_string();
        assert!(error.contains("9000") && error.contains("ends at 263"), "{error}");

        write("generation_config.json", "{}");
        write("config.json", r#"{"eos_token_id": null, "text_config": {"eos_token_id": [7, 8], "pad_token_id": 9}}"#);
        assert_eq!(read().unwrap(), GenerationConfig { eos: vec![7, 8], pad: 9 });
        write("config.json", "{}");
        assert_eq!(read().unwrap(), GenerationConfig { eos: vec![tokens.im_end], pad: tokens.endoftext });
        write("tokenizer_config.json", "{}");
        assert!(matches!(read(), Err(TextError::NoEndToken { .. })));
    }
}
