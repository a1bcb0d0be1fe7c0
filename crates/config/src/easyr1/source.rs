//! The file's values as they are asked for, with messages that say where each stands, and which of them nobody asked for.

use std::collections::BTreeSet;

use super::error::ImportError;
use super::yaml::{Content, Node, Place};
use super::{Note, Unmatched};

pub(super) struct Source<'a> {
    file: &'a str,
    root: Node,
    read: BTreeSet<String>,
    pub unmatched: Vec<Unmatched>,
    pub notes: Vec<Note>,
}

impl<'a> Source<'a> {
    pub fn new(file: &'a str, root: Node) -> Self {
        Self { file, root, read: BTreeSet::new(), unmatched: Vec::new(), notes: Vec::new() }
    }

    /// A remark on how a key's meaning differs.
    pub fn note(&mut self, key: &str, text: impl Into<String>) {
        self.notes.push(Note { key: key.to_owned(), text: text.into() });
    }

    /// Say that a key that was read has no counterpart after all.
    pub fn leave(&mut self, key: &str, why: impl Into<String>) {
        if let Some(node) = self.root.at(key) {
            self.unmatched.push(Unmatched { key: key.to_owned(), value: node.shown(), why: why.into() });
        }
    }

    /// Whether the key is written, even as null.
    pub fn is_written(&self, key: &str) -> bool {
        self.root.at(key).is_some()
    }

    /// Whether the key has a value.
    pub fn is_given(&self, key: &str) -> bool {
        self.root.at(key).is_some_and(|node| node.content != Content::Null)
    }

    /// The value of a key, and that it was asked for; `None` where it is absent or null.
    fn take(&mut self, key: &str) -> Result<Option<Node>, ImportError> {
        self.read.insert(key.to_owned());
        let Some(node) = self.root.at(key) else { return Ok(None) };
        match &node.content {
            Content::Null => Ok(None),
            Content::Unresolved(reason) => Err(ImportError::Unsupported {
                origin: self.origin(node),
                key: key.to_owned(),
                found: "an interpolation".to_owned(),
                reason: reason.clone(),
                advice: format!("or add the override `{key}=...`"),
            }),
            _ => Ok(Some(node.clone())),
        }
    }

    pub fn number(&mut self, key: &str) -> Result<Option<f64>, ImportError> {
        let Some(node) = self.take(key)? else { return Ok(None) };
        match node.content {
            Content::Number(number) => Ok(Some(number)),
            Content::Whole(number) => Ok(Some(number as f64)),
            _ => Err(self.wrong(key, "a number", "")),
        }
    }

    pub fn whole(&mut self, key: &str) -> Result<Option<i64>, ImportError> {
        let Some(node) = self.take(key)? else { return Ok(None) };
        match node.content {
            Content::Whole(number) => Ok(Some(number)),
            _ => Err(self.wrong(key, "a whole number", "")),
        }
    }

    /// A whole number, 0 or more.
    pub fn count(&mut self, key: &str) -> Result<Option<i64>, ImportError> {
        match self.whole(key)? {
            Some(number) if number < 0 => Err(self.wrong(key, "a whole number, 0 or more", "")),
            number => Ok(number),
        }
    }

    pub fn flag(&mut self, key: &str) -> Result<Option<bool>, ImportError> {
        let Some(node) = self.take(key)? else { return Ok(None) };
        match node.content {
            Content::Flag(flag) => Ok(Some(flag)),
            _ => Err(self.wrong(key, "true or false", "")),
        }
    }

    /// A text that is not empty; a number or truth value that was meant as one is its letters.
    pub fn text(&mut self, key: &str) -> Result<Option<String>, ImportError> {
        let Some(node) = self.take(key)? else { return Ok(None) };
        match node.content {
            Content::Text(text) if text.is_empty() => Ok(None),
            Content::Text(text) => Ok(Some(text)),
            Content::Whole(_) | Content::Number(_) | Content::Flag(_) => Ok(Some(node.shown())),
            _ => Err(self.wrong(key, "a text", "")),
        }
    }

    /// One of some words, as what it stands for.
    pub fn choice<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, ImportError> {
        let Some(word) = self.text(key)? else { return Ok(None) };
        if let Some((_, meaning)) = choices.iter().find(|(name, _)| *name == word) {
            return Ok(Some(meaning.clone()));
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let near = crate::nearest(&word, names.iter().copied());
        let advice = near.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"));
        Err(self.wrong(key, &crate::strict::quoted(&names).replace(", ", " or "), &advice))
    }

    /// One text or a list of them.
    pub fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>, ImportError> {
        let Some(node) = self.take(key)? else { return Ok(None) };
        match node.content {
            Content::List(items) => {
                let text = |item: Node| match item.content {
                    Content::Text(text) if !text.is_empty() => Ok(text),
                    _ => Err(self.wrong(key, "a text or a list of texts", "")),
                };
                items.into_iter().map(text).collect::<Result<_, _>>().map(Some)
            }
            _ => Ok(self.text(key)?.map(|text| vec![text])),
        }
    }

    pub fn numbers(&mut self, key: &str) -> Result<Option<Vec<f64>>, ImportError> {
        let Some(node) = self.take(key)? else { return Ok(None) };
        let Content::List(items) = node.content else { return Err(self.wrong(key, "a list of numbers", "")) };
        let number = |item: Node| match item.content {
            Content::Number(number) => Ok(number),
            Content::Whole(number) => Ok(number as f64),
            _ => Err(self.wrong(key, "a list of numbers", "")),
        };
        items.into_iter().map(number).collect::<Result<_, _>>().map(Some)
    }

    pub fn wrong(&self, key: &str, expected: &str, advice: &str) -> ImportError {
        let [key, expected, advice] = [key, expected, advice].map(str::to_owned);
        let (origin, found) = self.place(&key);
        ImportError::Wrong { origin, key, expected, found, advice }
    }

    /// The value asks for something that Percept does not do.
    pub fn unsupported(&self, key: &str, reason: &str, advice: &str) -> ImportError {
        let [key, reason, advice] = [key, reason, advice].map(str::to_owned);
        let (origin, found) = self.place(&key);
        ImportError::Unsupported { origin, key, found, reason, advice }
    }

    pub fn missing(&self, key: &str, advice: &str) -> ImportError {
        let [file, key, advice] = [self.file, key, advice].map(str::to_owned);
        ImportError::Missing { file, key, advice }
    }

    fn place(&self, key: &str) -> (String, String) {
        match self.root.at(key) {
            Some(node) => (self.origin(node), node.shown()),
            None => (self.file.to_owned(), "nothing (EasyR1's default)".to_owned()),
        }
    }

    fn origin(&self, node: &Node) -> String {
        match &node.place {
            Place::Line(line) => format!("{}, line {line}", self.file),
            Place::Override(argument) => format!("override `{argument}`"),
        }
    }

    /// Keys with values that nobody asked for, in the file's order, with the value, or for an interpolation why it has none.
    pub fn unread(&self) -> Vec<(String, String, Option<String>)> {
        let mut leaves = Vec::new();
        collect(&self.root, "", &mut leaves);
        leaves.retain(|(key, ..)| !self.read.contains(key));
        leaves
    }
}

fn collect(node: &Node, key: &str, leaves: &mut Vec<(String, String, Option<String>)>) {
    match &node.content {
        Content::Null => {}
        Content::List(items) if items.is_empty() => {}
        Content::Table(entries) => {
            for (name, node) in entries {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                collect(node, &key, leaves);
            }
        }
        Content::Unresolved(reason) => leaves.push((key.to_owned(), node.shown(), Some(reason.clone()))),
        _ => leaves.push((key.to_owned(), node.shown(), None)),
    }
}
