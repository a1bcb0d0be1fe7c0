//! Every key of a run's file, with its type, its default and what it means: the generated part of
//! `docs/configuration.md`, and what an importer needs to know about sections that belong to somebody else.
//!
//! The tables stand beside the types on purpose: a reader gets sentences, and tests hold them to the types. A key that is
//! missing here, one too many, another default or another choice of words fails. (For `[objective]`, `[data.corruption]`
//! and the verifiers, whose types this crate does not know, that test is the root package's, `tests/reference.rs`.)

mod inputs;
mod owned;
#[cfg(test)]
mod tests;
mod training;

use std::fmt::{self, Write};

use toml::Value;

pub use owned::{CORRUPTIONS, OBJECTIVE, PAPO, VERIFIER, VERIFIERS};

use inputs::{DATA, LORA, MODEL, REWARD};
use training::{DEVICE, OPTIMIZER, ROLLOUT, SFT, SFT_OPTIMIZER, TRAINER, VALIDATION};

/// The sections that this crate gives a type: the keys of [`crate::RunConfig`].
pub const RUN: &[Section] =
    &[MODEL, LORA, DATA, ROLLOUT, VALIDATION, REWARD, OPTIMIZER, TRAINER, SFT, SFT_OPTIMIZER, DEVICE];

/// The one column of most sections.
const ONE: &[&str] = &["default"];

/// One table of keys.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The table's path in the file, such as `data.corruption`.
    pub path: &'static str,
    /// The heading in the page, where it is not the path in brackets.
    pub heading: Option<&'static str>,
    /// What stands between heading and table.
    pub before: &'static str,
    /// Headings of the defaults: one, or one for each `kind` that the keys differ between.
    pub columns: &'static [&'static str],
    pub keys: &'static [Key],
    /// What stands below the table.
    pub after: &'static str,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Fallback,
    pub doc: &'static str,
}

/// What is written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Path,
    /// One path, or a list of them.
    Paths,
    Texts,
    /// 0 or more.
    Whole,
    WholeOrOff,
    WholeOrAuto,
    Number,
    TwoNumbers,
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    Table,
    Tables,
}

/// What holds when the key is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// A value, as TOML.
    Toml(&'static str),
    /// Another key's value, or nothing: in words.
    Words(&'static str),
    Required,
    /// For each of the section's columns a value, or words, or `""` where the kind does not have the key.
    ByColumn(&'static [&'static str]),
}

const fn key(name: &'static str, kind: Kind, default: Fallback, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

impl Section {
    /// The default of a key under a column's heading as a value; `None` when the column does not have the key, or nothing
    /// holds without it.
    pub fn default(&self, column: &str, name: &str) -> Option<Value> {
        let column = self.columns.iter().position(|heading| *heading == column)?;
        let key = self.keys.iter().find(|key| key.name == name)?;
        match key.default {
            Fallback::Toml(text) => as_toml(text),
            Fallback::ByColumn(texts) => as_toml(texts.get(column)?),
            Fallback::Words(_) | Fallback::Required => None,
        }
    }

    /// Names of the keys that a column has.
    pub fn names(&self, column: &str) -> impl Iterator<Item = &'static str> {
        let at = self.columns.iter().position(|heading| *heading == column);
        let has = move |key: &&Key| match (key.default, at) {
            (_, None) => false,
            (Fallback::ByColumn(texts), Some(at)) => texts.get(at).is_some_and(|text| !text.is_empty()),
            _ => true,
        };
        self.keys.iter().filter(has).map(|key| key.name)
    }

    fn page(&self, page: &mut String) -> fmt::Result {
        let depth = if self.path.contains('.') || self.heading.is_some() { "###" } else { "##" };
        match self.heading {
            Some(heading) => writeln!(page, "{depth} {heading}\n")?,
            None => writeln!(page, "{depth} `[{}]`\n", self.path)?,
        }
        paragraph(page, self.before)?;
        writeln!(page, "| key | type | {} | meaning |", self.columns.join(" | "))?;
        writeln!(page, "|---|---|{}---|", "---|".repeat(self.columns.len()))?;
        for key in self.keys {
            writeln!(page, "| `{}` | {} | {} | {} |", key.name, key.kind, self.shown(key.default), key.doc)?;
        }
        writeln!(page)?;
        paragraph(page, self.after)
    }

    fn shown(&self, default: Fallback) -> String {
        match default {
            Fallback::Toml(text) => format!("`{text}`"),
            Fallback::Words(words) => words.to_owned(),
            Fallback::Required => "required".to_owned(),
            Fallback::ByColumn(texts) => {
                let shown = |text: &&str| as_toml(text).map_or_else(|| (*text).to_owned(), |_| format!("`{text}`"));
                texts.iter().map(shown).collect::<Vec<_>>().join(" | ")
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Path => "path",
            Self::Paths => "path, or list of paths",
            Self::Texts => "list of texts",
            Self::Whole => "whole number",
            Self::WholeOrOff => "whole number, or `\"off\"`",
            Self::WholeOrAuto => "whole number, or `\"auto\"`",
            Self::Number => "number",
            Self::TwoNumbers => "two numbers",
            Self::Flag => "`true`, `false`",
            Self::Table => "table",
            Self::Tables => "list of tables",
            Self::Choice(words) => {
                return f.write_str(&words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "));
            }
        })
    }
}

/// All tables, in the order of the page.
pub fn sections() -> Vec<&'static Section> {
    let mut all = Vec::new();
    for section in RUN {
        match section.path {
            "rollout" => all.extend(CORRUPTIONS),
            "optimizer" => all.extend([&VERIFIER].into_iter().chain(VERIFIERS).chain([&OBJECTIVE, &PAPO])),
            _ => {}
        }
        all.push(section);
    }
    all
}

/// The reference as Markdown: the generated part of `docs/configuration.md`.
pub fn reference() -> String {
    let mut page = String::new();
    for section in sections() {
        section.page(&mut page).expect("a string takes everything");
    }
    page
}

fn paragraph(page: &mut String, text: &str) -> fmt::Result {
    if text.is_empty() { Ok(()) } else { writeln!(page, "{text}\n") }
}

/// A default as a value; `None` for words.
fn as_toml(text: &str) -> Option<Value> {
    text.parse().ok()
}
