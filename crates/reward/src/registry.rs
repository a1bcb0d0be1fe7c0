//! Kinds of verifiers by name. An application adds its own before it builds a rubric.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::Table;

use crate::choice::Choice;
use crate::command::{Command, CommandConfig};
use crate::config::{RubricConfig, VerifierConfig};
use crate::error::RewardError;
use crate::exact::Exact;
use crate::format::Format;
use crate::math::Math;
use crate::numeric::Numeric;
use crate::rubric::{Part, Rubric};
use crate::verifier::Verifier;

/// The most judgements at once: each has a thread.
const MOST_WORKERS: usize = 1024;

type Constructor = Box<dyn Fn(Table) -> Result<Box<dyn Verifier>, RewardError> + Send + Sync>;

/// Makes verifiers from their configuration, by kind.
pub struct Registry {
    kinds: BTreeMap<String, Constructor>,
}

impl Default for Registry {
    /// The kinds of this crate: `math`, `format`, `choice`, `exact`, `numeric`, `command`.
    fn default() -> Self {
        Self { kinds: BTreeMap::new() }
            .with("math", |table| Ok(Box::new(settings::<Math>("math", table)?)))
            .with("format", |table| Ok(Box::new(settings::<Format>("format", table)?)))
            .with("exact", |table| Ok(Box::new(settings::<Exact>("exact", table)?)))
            .with("choice", |table| {
                let choice: Choice = settings("choice", table)?;
                refuse("choice", choice.complaint())?;
                Ok(Box::new(choice))
            })
            .with("numeric", |table| {
                let numeric: Numeric = settings("numeric", table)?;
                refuse("numeric", numeric.complaint())?;
                Ok(Box::new(numeric))
            })
            .with("command", |table| {
                let config: CommandConfig = settings("command", table)?;
                refuse("command", config.complaint())?;
                Ok(Box::new(Command::start(config)?))
            })
    }
}

impl Registry {
    /// Adds a kind, or replaces one. The constructor is given the verifier's keys without `name`, `kind`, `weight` and
    /// `on_error`; [`Registry::settings`] turns them into a struct.
    pub fn with(
        mut self,
        kind: &str,
        constructor: impl Fn(Table) -> Result<Box<dyn Verifier>, RewardError> + Send + Sync + 'static,
    ) -> Self {
        self.kinds.insert(kind.to_owned(), Box::new(constructor));
        self
    }

    /// The kinds there are, in alphabetical order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// A verifier's keys as a struct, for constructors.
    ///
    /// # Errors
    /// When a key is unknown, missing or of the wrong type.
    pub fn settings<T: DeserializeOwned>(kind: &str, table: Table) -> Result<T, RewardError> {
        settings(kind, table)
    }

    /// Builds a rubric. External programs are started now, so that a misspelt one is found before training.
    ///
    /// # Errors
    /// When a kind or key is unknown, a number makes no sense, two verifiers have one name, or a program cannot be
    /// started.
    pub fn rubric(&self, config: &RubricConfig) -> Result<Rubric, RewardError> {
        let wrong = |key: &str, expected, found: String| RewardError::Rubric { key: key.to_owned(), expected, found };
        let timeout = Duration::try_from_secs_f64(config.timeout_seconds).ok().filter(|timeout| !timeout.is_zero());
        let Some(timeout) = timeout else {
            return Err(wrong("timeout_seconds", "a number of seconds above 0", config.timeout_seconds.to_string()));
        };
        if let Some(workers) = config.workers.filter(|workers| !(1..=MOST_WORKERS).contains(workers)) {
            return Err(wrong("workers", "a number from 1 to 1024, or no such key", workers.to_string()));
        }
        if config.verifiers.is_empty() {
            return Err(wrong("verifiers", "at least one [[reward.verifiers]]", "none".to_owned()));
        }
        let mut parts: Vec<Part> = Vec::new();
        for verifier in &config.verifiers {
            let name = verifier.name();
            if parts.iter().any(|part| part.name == name) {
                return Err(wrong("verifiers.name", "different names", format!("`{name}` twice")));
            }
            if !verifier.weight.is_finite() {
                return Err(wrong("verifiers.weight", "a finite number", format!("{} for `{name}`", verifier.weight)));
            }
            parts.push(Part::new(name, self.verifier(verifier)?, verifier.weight, verifier.on_error));
        }
        Ok(Rubric::new(parts, timeout, config.workers))
    }

    fn verifier(&self, config: &VerifierConfig) -> Result<Box<dyn Verifier>, RewardError> {
        let Some(constructor) = self.kinds.get(&config.kind) else {
            return Err(RewardError::UnknownKind {
                name: config.name().to_owned(),
                kind: config.kind.clone(),
                advice: self.advice(&config.kind),
            });
        };
        constructor(config.settings.clone()).map_err(|error| match error {
            // The constructor does not know what the configuration calls it.
            RewardError::Settings { kind, message, .. } => {
                RewardError::Settings { name: config.name().to_owned(), kind, message }
            }
            other => other,
        })
    }

    fn advice(&self, written: &str) -> String {
        let nearest = self.kinds().min_by_key(|kind| distance(written, kind));
        match nearest.filter(|kind| distance(written, kind) <= (written.chars().count() / 3).max(1)) {
            Some(kind) => format!("did you mean `{kind}`?"),
            None => format!("possible here: {}", self.kinds().collect::<Vec<_>>().join(", ")),
        }
    }
}

fn settings<T: DeserializeOwned>(kind: &str, table: Table) -> Result<T, RewardError> {
    table.try_into().map_err(|error: toml::de::Error| complaint(kind, error.message().to_owned()))
}

fn refuse(kind: &str, message: Option<String>) -> Result<(), RewardError> {
    message.map_or(Ok(()), |message| Err(complaint(kind, message)))
}

fn complaint(kind: &str, message: String) -> RewardError {
    RewardError::Settings { name: kind.to_owned(), kind: kind.to_owned(), message }
}

/// Letters to insert, drop or change to get from one word to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::Registry;
    use crate::config::RubricConfig;
    use crate::error::RewardError;
    use crate::verifier::{Item, Verifier};

    fn message(text: &str) -> String {
        let config: RubricConfig = toml::from_str(text).expect("a rubric");
        Registry::default().rubric(&config).err().expect("an error").to_string()
    }

    #[test]
    fn errors_say_what_to_write() {
        assert_eq!(message("[[verifiers]]\nkind = 'mth'"), "verifier `mth`: unknown kind `mth`; did you mean `math`?");
        assert!(message("[[verifiers]]\nkind = 'llm_judge'").contains("possible here: choice, command,"));
        let unknown = message("[[verifiers]]\nname = 'n'\nkind = 'numeric'\nrelativ = 1.0");
        assert!(unknown.starts_with("verifier `n` (kind `numeric`): ") && unknown.contains("`relativ`"), "{unknown}");
        assert!(unknown.contains("`relative`"), "{unknown}");
        assert!(message("[[verifiers]]\nkind = 'numeric'\nabsolute = -1.0").contains("at least 0, found -1"));
        assert!(message("[[verifiers]]\nkind = 'math'\n[[verifiers]]\nkind = 'math'").contains("`math` twice"));
        assert!(message("[[verifiers]]\nkind = 'math'\nweight = inf").contains("a finite number"));
        assert!(message("verifiers = []").contains("at least one"));
        assert!(message("timeout_seconds = 0.0").contains("above 0"));
        assert!(message("workers = 0").contains("from 1 to 1024"));
        let missing = message("[[verifiers]]\nkind = 'command'\ncommand = ['/no/such/program']");
        assert!(missing.contains("cannot start `/no/such/program`"), "{missing}");
    }

    /// Scores the share of the letters that are capital.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Loud {
        at_least: f32,
    }

    impl Verifier for Loud {
        fn verify(&self, item: &Item) -> Result<f32, RewardError> {
            let capitals = item.response.chars().filter(char::is_ascii_uppercase).count() as f32;
            let share = capitals / item.response.len() as f32;
            Ok(if share >= self.at_least { 1.0 } else { 0.0 })
        }
    }

    #[test]
    fn applications_add_kinds() {
        let registry =
            Registry::default().with("loud", |table| Ok(Box::new(Registry::settings::<Loud>("loud", table)?)));
        let config: RubricConfig = toml::from_str("[[verifiers]]\nkind = 'loud'\nat_least = 0.5").expect("a rubric");
        let rubric = registry.rubric(&config).expect("a rubric");
        let item = |response| Item { problem: "", response, answer: "", row: "row 1" };
        let verdicts = rubric.grade(&[item("LOUD"), item("quiet")]).expect("verdicts");
        assert_eq!(verdicts.iter().map(|verdict| verdict.overall).collect::<Vec<_>>(), [1.0, 0.0]);
    }
}
