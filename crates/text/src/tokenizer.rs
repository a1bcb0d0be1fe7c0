//! A checkpoint's tokenizer.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::TextError;
use crate::error::excerpt;

/// The most white-space characters in a row. The splitting patterns look ahead in white space, and the regular-expression engine
/// gives up after a million steps back; what follows would then, without a word, be cut differently than by Hugging Face's.
const LONGEST_SPACE: usize = 250_000;

/// What the strings of special tokens (`<|im_end|>`, ...) mean when they occur in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpecialTokens {
    /// Ordinary characters.
    #[default]
    #[serde(rename = "text")]
    AsText,
    /// The special tokens themselves, as in Hugging Face's tokenizers.
    #[serde(rename = "allow")]
    Allow,
}

/// A token that tokenizer.json adds to the model's vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    pub id: u32,
    pub text: String,
    /// Special tokens are left out by `decode(.., true)`. Others, such as Qwen3's `<think>`, are ordinary text with an id of their own.
    pub special: bool,
}

/// The tokenizer of a checkpoint folder, equal id by id to Hugging Face's fast tokenizer with `add_special_tokens=False`.
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    /// A copy in which special tokens are not found in text; made when first needed.
    literal: OnceLock<tokenizers::Tokenizer>,
    added: Vec<AddedToken>,
    special: BTreeSet<u32>,
    len: usize,
}

/// An added token found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub id: u32,
    /// Its place among the text's ids.
    pub position: usize,
    /// Its place in the text, in bytes.
    pub text: Range<usize>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// When the file is missing, or is not a tokenizer.
    pub fn from_folder(folder: &Path) -> Result<Self, TextError> {
        let path = folder.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|source| TextError::Io {
            action: "read",
            path: path.clone(),
            source,
            hint: "; a checkpoint folder needs the tokenizer.json of its model",
        })?;
        let unreadable =
            |error: tokenizers::Error| TextError::Tokenizer { path: path.clone(), reason: error.to_string() };
        let mut inner = unpanicked(|| tokenizers::Tokenizer::from_bytes(bytes)).map_err(unreadable)?;
        // transformers sets both anew at every call, whatever the file says.
        inner.with_truncation(None).map_err(unreadable)?.with_padding(None);

        let mut added: Vec<_> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .map(|(id, token)| AddedToken { id, text: token.content, special: token.special })
            .collect();
        added.sort_by_key(|token| token.id);
        let special = added.iter().filter(|token| token.special).map(|token| token.id).collect();
        let len = inner.get_vocab(true).into_values().max().map_or(0, |last| last as usize + 1);
        Ok(Self { path, inner, literal: OnceLock::new(), added, special, len })
    }

    /// Token ids of a text; nothing is added at its ends.
    ///
    /// # Errors
    /// When the tokenizer's own rules fail on this text, or it has more than 250,000 white-space characters in a row.
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>, TextError> {
        self.check_space(text)?;
        let tokenizer = match special {
            SpecialTokens::Allow => &self.inner,
            SpecialTokens::AsText => self.literal.get_or_init(|| {
                let mut literal = self.inner.clone();
                literal.set_encode_special_tokens(true);
                literal
            }),
        };
        let encoding =
            unpanicked(|| tokenizer.encode_fast(text, false)).map_err(|error| self.encode_error(text, &error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids of a text with its special tokens, and where its added tokens stand.
    pub(crate) fn encode_and_find(&self, text: &str) -> Result<(Vec<u32>, Vec<Found>), TextError> {
        self.check_space(text)?;
        let encoding =
            unpanicked(|| self.inner.encode(text, false)).map_err(|error| self.encode_error(text, &error))?;
        let found = encoding
            .get_ids()
            .iter()
            .zip(encoding.get_offsets())
            .enumerate()
            .filter(|(_, (id, _))| self.added.binary_search_by_key(*id, |token| token.id).is_ok())
            .map(|(position, (&id, &(start, end)))| Found { id, position, text: start..end })
            .collect();
        Ok((encoding.get_ids().to_vec(), found))
    }

    /// The text of token ids. Ids beyond the tokenizer (rows that pad an embedding table) give no text.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        unpanicked(|| self.inner.decode(ids, skip_special)).map_err(|error| TextError::Decode {
            path: self.path.clone(),
            count: ids.len(),
            reason: error.to_string(),
        })
    }

    /// The id of a token given by its string in the vocabulary (`"<|im_end|>"`).
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The string of a token in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// One more than the largest id: the rows an embedding table needs at least.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The tokens added to the model's vocabulary, by id.
    pub fn added_tokens(&self) -> &[AddedToken] {
        &self.added
    }

    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_space(&self, text: &str) -> Result<(), TextError> {
        if text.len() <= LONGEST_SPACE {
            return Ok(());
        }
        let mut run = 0;
        for character in text.chars() {
            run = if character.is_whitespace() { run + 1 } else { 0 };
            if run > LONGEST_SPACE {
                let reason = format!("more than {LONGEST_SPACE} white-space characters in a row; shorten them");
                return Err(self.encode_error(text, &reason));
            }
        }
        Ok(())
    }

    fn encode_error(&self, text: &str, reason: &dyn std::fmt::Display) -> TextError {
        TextError::Encode { path: self.path.clone(), excerpt: excerpt(text), reason: reason.to_string() }
    }
}

/// Crate `tokenizers` indexes by what tokenizer.json says, and panics where that contradicts itself (a prefix longer than its
/// token, an offset outside of its text).
fn unpanicked<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let words = payload.downcast_ref::<&str>().copied();
        let message = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        Err(format!("its parts contradict each other ({message})").into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    fn tokenizer() -> Tokenizer {
        let folder = tempfile::tempdir().unwrap();
        tiny::write_tokenizer(folder.path(), &["how many red circles are there"], 300).unwrap();
        Tokenizer::from_folder(folder.path()).unwrap()
    }

    #[test]
    fn special_strings_are_tokens_or_text() {
        let tokenizer = tokenizer();
        let end = tokenizer.id("<|im_end|>").unwrap();
        let allowed = tokenizer.encode("red<|im_end|>", SpecialTokens::Allow).unwrap();
        assert_eq!(allowed.last(), Some(&end));
        let literal = tokenizer.encode("red<|im_end|>", SpecialTokens::AsText).unwrap();
        assert!(!literal.contains(&end));
        assert_eq!(tokenizer.decode(&literal, true).unwrap(), "red<|im_end|>");
        assert_eq!(tokenizer.decode(&allowed, true).unwrap(), "red");
        let plain = "how many\n\n 12 reds?";
        assert_eq!(
            tokenizer.encode(plain, SpecialTokens::Allow).unwrap(),
            tokenizer.encode(plain, SpecialTokens::AsText).unwrap()
        );
    }

    #[test]
    fn special_tokens_are_found_in_bytes() {
        let tokenizer = tokenizer();
        let end = tokenizer.id("<|im_end|>").unwrap();
        let (ids, found) = tokenizer.encode_and_find("e\u{301}é<|im_end|> x").unwrap();
        assert_eq!(found, [Found { id: end, position: found[0].position, text: 5..15 }]);
        assert_eq!(ids[found[0].position], end);
    }

    #[test]
    fn long_runs_are_split_to_their_end_or_refused() {
        let tokenizer = tokenizer();
        let tail = tokenizer.encode(" y", SpecialTokens::Allow).unwrap();
        for run in [" ", "\t", "ab", "?", "\u{e9}", "12", "\n", " \n", "' "] {
            let text = format!("{}x y", run.repeat(LONGEST_SPACE / run.chars().count()));
            let ids = tokenizer.encode(&text, SpecialTokens::Allow).unwrap();
            assert!(ids.ends_with(&tail), "{run:?}");
        }
        let text = format!("a{}x", " ".repeat(LONGEST_SPACE + 1));
        let refused = tokenizer.encode(&text, SpecialTokens::Allow).unwrap_err().to_string();
        assert!(refused.contains("white-space characters in a row"), "{refused}");
    }

    #[test]
    fn a_tokenizer_that_contradicts_itself_is_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        tiny::write_tokenizer(folder.path(), &["how many red circles are there"], 300).unwrap();
        let path = folder.path().join("tokenizer.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let prefix = "\"continuing_subword_prefix\": ";
        assert!(text.contains(&format!("{prefix}null")));
        std::fs::write(&path, text.replace(&format!("{prefix}null"), &format!("{prefix}\"much too long\""))).unwrap();
        let error = Tokenizer::from_folder(folder.path()).err().unwrap().to_string();
        assert!(error.contains("its parts contradict each other"), "{error}");
    }

    #[test]
    fn a_missing_or_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Tokenizer::from_folder(folder.path()).err().unwrap().to_string();
        assert!(missing.contains("tokenizer.json") && missing.contains("needs the tokenizer.json"), "{missing}");
        std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
        assert!(Tokenizer::from_folder(folder.path()).err().unwrap().to_string().contains("cannot be read"));
    }
}
