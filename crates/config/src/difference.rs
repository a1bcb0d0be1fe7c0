//! In which keys two configurations differ.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use crate::error::ConfigError;
use crate::run::{RunConfig, known_keys};
use crate::strict::join;
use crate::suggest::nearest;

/// A key that two configurations give different values; `None` where one does not have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub key: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |value: &Option<Value>| value.as_ref().map_or_else(|| "not set".to_owned(), Value::to_string);
        write!(f, "{}: was {}, is {}", self.key, word(&self.before), word(&self.after))
    }
}

impl RunConfig {
    /// The keys in which this configuration differs from one that was resolved before, in order. Where the run directory is does not
    /// count: it may have been moved.
    ///
    /// # Errors
    /// When a value has no TOML form.
    pub fn differences(&self, before: &RunConfig) -> Result<Vec<Difference>, ConfigError> {
        let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
        for (run, keys) in [(before, &mut old), (self, &mut new)] {
            let table = Table::try_from(run).map_err(|error| ConfigError::Write(error.to_string()))?;
            flatten("", &Value::Table(table), keys);
        }
        let mut names: Vec<String> = old.keys().chain(new.keys()).cloned().collect();
        names.sort();
        names.dedup();
        let differences = names.into_iter().filter(|name| name != "trainer.run_dir").map(|key| {
            let (before, after) = (old.get(&key).cloned(), new.get(&key).cloned());
            Difference { key, before, after }
        });
        Ok(differences.filter(|difference| difference.before != difference.after).collect())
    }
}

/// Tables are taken apart; lists are values.
fn flatten(key: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => table.iter().for_each(|(name, value)| flatten(&join(key, name), value, into)),
        value => {
            into.insert(key.to_owned(), value.clone());
        }
    }
}

/// Whether a key is a word of `allowed`, or stands below one: "trainer" allows "trainer.steps".
pub fn is_under(key: &str, allowed: &str) -> bool {
    key.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Checks that a word names a key or a section.
///
/// # Errors
/// When it names none, with the nearest that does; `flag` is what it was given to.
pub fn check_key(word: &str, flag: &str) -> Result<(), ConfigError> {
    // sections of methods and verifiers have keys that only they know
    let open = ["objective", "reward"].iter().any(|section| is_under(word, section));
    let known = known_keys();
    if open || known.iter().any(|key| is_under(key, word) || is_under(word, key)) {
        return Ok(());
    }
    let advice = match nearest(word, known.iter().map(String::as_str)) {
        Some(key) => format!("did you mean `{key}`?"),
        None => "keys are listed in docs/configuration.md".to_owned(),
    };
    Err(ConfigError::UnknownKey { origin: format!("{flag} {word}"), key: word.to_owned(), advice })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(sets: &[&str]) -> RunConfig {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        RunConfig::parse("run.toml", "[model]\ncheckpoint = 'base'", &[], &sets).unwrap()
    }

    #[test]
    fn differences_name_keys_with_both_values() {
        let before = run(&["trainer.seed=3", "trainer.run_dir=a", "objective.kind=papo_g", "objective.gamma=0.01"]);
        assert_eq!(before.differences(&before).unwrap(), []);
        let after = run(&[
            "trainer.seed=4",
            "trainer.run_dir=b",
            "objective.kind=papo_g",
            "trainer.steps=7",
            "data.train=['x']",
        ]);
        let texts: Vec<String> = after.differences(&before).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "data.train: was [], is [\"x\"]",
                "objective.gamma: was 0.01, is not set",
                "trainer.seed: was 3, is 4",
                "trainer.steps: was not set, is 7",
            ]
        );
    }

    #[test]
    fn keys_and_sections_are_known_and_others_are_not() {
        for word in ["trainer", "trainer.steps", "data", "objective.mine", "reward.verifiers", "device"] {
            check_key(word, "--allow-change").unwrap();
        }
        let error = check_key("trainer.step", "--allow-change").unwrap_err().to_string();
        assert!(
            error.contains("--allow-change trainer.step") && error.contains("did you mean `trainer.steps`?"),
            "{error}"
        );
        assert!(check_key("train", "--allow-change").is_err());
        assert!(
            is_under("trainer.steps", "trainer") && !is_under("trainer.steps", "train") && is_under("data", "data")
        );
    }
}
