//! Keeps the strings of special tokens in user text apart from those a chat template writes.
//!
//! Once a conversation is one string, `<|im_end|>` from a row and `<|im_end|>` from the template look the same. So the first
//! character of every such string in the row's text is replaced by a stand-in from Unicode's private use areas before rendering;
//! what then still reads as a special token is the template's, and the stand-ins are turned back afterwards.
//!
//! Strings that only become special together with what the template puts next to the text (`<|im_` at the end of one item,
//! `end|>` at the start of the next) are covered as well.

use std::collections::BTreeSet;

use crate::{Message, TextError};

/// Unicode's private use areas.
const PRIVATE: [std::ops::RangeInclusive<char>; 3] =
    ['\u{e000}'..='\u{f8ff}', '\u{f0000}'..='\u{ffffd}', '\u{100000}'..='\u{10fffd}'];

/// Which stand-ins replace which characters. Empty when no text held anything to replace.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Shield {
    pairs: Vec<(char, char)>,
}

impl Shield {
    /// The messages with stand-ins, and the way back. `sources` is other text that reaches the rendered string, whose own
    /// private characters must not be taken for stand-ins.
    ///
    /// # Errors
    /// When texts and sources hold so many private characters that none is left to stand in.
    pub fn raise(messages: &[Message], special: &[String], sources: &str) -> Result<(Vec<Message>, Self), TextError> {
        let mut messages = messages.to_vec();
        let mut shield = Self::default();
        let hits: Vec<Vec<usize>> =
            messages.iter().flat_map(|message| message.texts()).map(|text| first_characters(text, special)).collect();
        if hits.iter().all(Vec::is_empty) {
            return Ok((messages, shield));
        }
        let everything = format!("{sources}{}", serde_json::to_string(&messages).expect("messages are JSON"));
        let is_private = |character: &char| PRIVATE.iter().any(|area| area.contains(character));
        let taken: BTreeSet<char> = everything.chars().filter(is_private).collect();
        let mut stand_ins = PRIVATE.into_iter().flatten().filter(|stand_in| !taken.contains(stand_in));
        let texts = messages.iter_mut().flat_map(|message| message.texts_mut());
        for (text, hits) in texts.zip(&hits) {
            for &start in hits.iter().rev() {
                let original = text[start..].chars().next().expect("a hit is a character's start");
                let known = shield.pairs.iter().find(|pair| pair.1 == original).map(|pair| pair.0);
                let stand_in = match known {
                    Some(stand_in) => stand_in,
                    None => {
                        let fresh = stand_ins.next().ok_or(TextError::NoStandIn { taken: taken.len() })?;
                        shield.pairs.push((fresh, original));
                        fresh
                    }
                };
                text.replace_range(start..start + original.len_utf8(), stand_in.encode_utf8(&mut [0; 4]));
            }
        }
        Ok((messages, shield))
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The text with its own characters again.
    pub fn lower(&self, text: &str) -> String {
        text.chars()
            .map(|character| self.pairs.iter().find(|pair| pair.0 == character).map_or(character, |pair| pair.1))
            .collect()
    }
}

/// Where special strings begin in a text, including those it holds only a part of.
fn first_characters(text: &str, special: &[String]) -> Vec<usize> {
    let begins = |start: usize| {
        let rest = &text[start..];
        special.iter().any(|token| rest.starts_with(token.as_str()) || token.starts_with(rest))
    };
    let continues = |token: &String| {
        token.char_indices().skip(1).any(|(cut, _)| text.starts_with(&token[cut..]) || token[cut..].starts_with(text))
    };
    text.char_indices()
        .map(|(start, _)| start)
        .filter(|&start| begins(start) || (start == 0 && special.iter().any(continues)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Item};

    fn special() -> Vec<String> {
        ["<|im_end|>", "<a", "a>"].map(String::from).into()
    }

    fn shielded(texts: &[&str]) -> (String, String) {
        let items = texts.iter().map(|text| Item::text(*text)).collect();
        let (messages, shield) =
            Shield::raise(&[Message::user(Content::Items(items))], &special(), "\u{e000}").unwrap();
        let joined = messages[0].texts().concat();
        let back = shield.lower(&joined);
        (joined, back)
    }

    #[test]
    fn no_special_string_remains_and_all_come_back() {
        for texts in [
            &["x <|im_end|> y <|im_end|>"][..],
            &["<|im_", "end|>"],
            &["<|", "im", "_end|>"],
            &["<a>", "<<aa>>"],
            &["<", "|im_end|>"],
            &["\u{e001}<|im_end|>\u{e002}"],
        ] {
            let (joined, back) = shielded(texts);
            assert!(special().iter().all(|token| !joined.contains(token.as_str())), "{texts:?}: {joined:?}");
            assert_eq!(back, texts.concat());
        }
    }

    #[test]
    fn private_characters_of_the_text_are_no_stand_ins() {
        let raised = |areas: usize| {
            let private: String = PRIVATE.into_iter().take(areas).flatten().collect();
            Shield::raise(&[Message::user(Content::Text(private + "<|im_end|>"))], &special(), "")
        };
        for areas in [1, 2] {
            let (messages, shield) = raised(areas).unwrap();
            assert!(!messages[0].texts()[0].contains("<|im_end|>"));
            assert!(shield.lower(messages[0].texts()[0]).ends_with("<|im_end|>"));
        }
        let error = raised(3).unwrap_err().to_string();
        assert!(error.starts_with("the text holds 137468 different characters"), "{error}");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        let message = Message::user(Content::Text("1 < 2, |im_end|, b > c".into()));
        let (messages, shield) = Shield::raise(std::slice::from_ref(&message), &special(), "").unwrap();
        assert!(shield.is_empty());
        assert_eq!(messages, [message]);
    }
}
