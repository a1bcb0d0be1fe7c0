//! The run file that is being written: keys that differ from their defaults, each with a remark.

use std::fmt::Write;

use toml::Value;

use crate::reference::{CORRUPTIONS, OBJECTIVE, PAPO, RUN};

const SECTIONS: [&str; 10] = [
    "model",
    "model.lora",
    "data",
    "data.corruption",
    "rollout",
    "validation",
    "reward",
    "objective",
    "optimizer",
    "trainer",
];

pub(super) struct Draft {
    /// The objective's `kind`, which its defaults depend on, and the base where the kind names none.
    pub kind: &'static str,
    pub base: &'static str,
    entries: Vec<Entry>,
}

struct Entry {
    section: &'static str,
    key: &'static str,
    value: Value,
    comment: String,
}

impl Draft {
    pub fn new() -> Self {
        Self { kind: "grpo", base: "grpo", entries: Vec::new() }
    }

    pub fn set(&mut self, path: &'static str, value: impl Into<Value>) {
        self.set_with(path, value, "");
    }

    /// The same with a comment behind it.
    pub fn set_with(&mut self, path: &'static str, value: impl Into<Value>, comment: impl Into<String>) {
        let (section, key) = path.rsplit_once('.').expect("a key stands in a section");
        self.entries.retain(|entry| (entry.section, entry.key) != (section, key));
        self.entries.push(Entry { section, key, value: value.into(), comment: comment.into() });
    }

    pub fn get(&self, path: &str) -> Option<&Value> {
        let (section, key) = path.rsplit_once('.')?;
        self.entries.iter().find(|entry| (entry.section, entry.key) == (section, key)).map(|entry| &entry.value)
    }

    /// The run as TOML, without keys that say what holds anyway.
    pub fn to_toml(&self, head: &str) -> String {
        let mut text = String::new();
        for line in head.lines() {
            text += &format!("# {}\n", printable(line));
        }
        for section in SECTIONS {
            let differs = |entry: &&Entry| entry.section == section && self.default(entry) != Some(entry.value.clone());
            let entries: Vec<&Entry> = self.entries.iter().filter(differs).collect();
            if !entries.is_empty() {
                write!(text, "\n[{section}]\n").expect("a string takes everything");
            }
            for entry in entries {
                let comment = printable(&entry.comment);
                let comment = if comment.is_empty() { comment } else { format!("  # {comment}") };
                writeln!(text, "{} = {}{comment}", entry.key, written(&entry.value))
                    .expect("a string takes everything");
            }
        }
        text
    }

    fn default(&self, entry: &Entry) -> Option<Value> {
        match (entry.section, entry.key) {
            // a method and a corruption are named even where they are the default
            (_, "kind") => None,
            ("data.corruption", key) => CORRUPTIONS[0].default("default", key),
            ("objective", key) => default_of(self.kind, self.base, key),
            (section, key) => {
                RUN.iter().find(|known| known.path == section).and_then(|known| known.default("default", key))
            }
        }
    }
}

/// What holds for a key of `[objective]` when it is not written.
pub(super) fn default_of(kind: &str, base: &str, key: &str) -> Option<Value> {
    let column = if base == "dapo" { "dapo, papo_d" } else { "grpo, papo_g" };
    OBJECTIVE.default(column, key).or_else(|| PAPO.default(kind, key))
}

/// A value as a person would write it: small numbers in powers of ten.
fn written(value: &Value) -> String {
    match value {
        Value::Float(number) if number.is_finite() => format!("{number:?}"),
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A comment without characters that would end it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_anyway_is_not_written() {
        let mut draft = Draft::new();
        draft.set("rollout.top_p", 0.99);
        draft.set("optimizer.learning_rate", 1e-6);
        draft.set("objective.kind", "grpo");
        draft.set("objective.clip_high", 0.28);
        draft.set_with("trainer.seed", 3, "two\nlines");
        draft.set("trainer.seed", 2);
        draft.set_with("optimizer.eps", 1e-7, "two\nlines");
        draft.set("data.train", vec!["a", "b\""]);
        assert_eq!(
            draft.to_toml("from here"),
            "# from here\n\n[data]\ntrain = [\"a\", 'b\"']\n\n[objective]\nkind = \"grpo\"\nclip_high = 0.28\n\n\
             [optimizer]\neps = 1e-7  # two lines\n\n[trainer]\nseed = 2\n"
        );
        draft.kind = "papo_d";
        draft.base = "dapo";
        draft.set("objective.gamma", 0.01);
        assert!(!draft.to_toml("").contains("clip_high"));
        assert!(!draft.to_toml("").contains("gamma"));
    }
}
