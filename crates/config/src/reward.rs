//! `[reward]`: which verifiers judge a response, and what each judgement weighs.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// `[reward]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// Longest time for one judgement, in seconds. Default: 10.
    pub timeout_seconds: f64,
    /// Judgements made at once. Default: one for each thread of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// The verifiers, `[[reward.verifiers]]`: each with a `name`, a `kind`, a `weight`, and that kind's own keys.
    /// A list given by a higher layer replaces the whole list. Default: `accuracy` (`math`, 0.9) and `format`
    /// (`format`, 0.1).
    pub verifiers: Vec<Table>,
}

impl Default for RewardConfig {
    fn default() -> Self {
        let verifier = |name: &str, kind: &str, weight: f64| {
            Table::from_iter([
                ("name".to_owned(), Value::from(name)),
                ("kind".to_owned(), Value::from(kind)),
                ("weight".to_owned(), Value::from(weight)),
            ])
        };
        Self {
            timeout_seconds: 10.0,
            workers: None,
            verifiers: vec![verifier("accuracy", "math", 0.9), verifier("format", "format", 0.1)],
        }
    }
}

impl RewardConfig {
    /// The verifiers' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.verifiers.iter().filter_map(|verifier| verifier.get("name")?.as_str())
    }
}
