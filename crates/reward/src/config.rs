//! A rubric in a configuration file.

use serde::{Deserialize, Serialize};
use toml::Table;

/// `[reward]`: which verifiers judge a response, and what each judgement weighs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RubricConfig {
    /// Longest time for one judgement inside this program, in seconds. Default: 10.
    pub timeout_seconds: f64,
    /// Judgements made at once. Default: one for each thread of the machine, or as many as a verifier asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// The verifiers, `[[reward.verifiers]]`. Default: PAPO's, `accuracy` (`math`, 0.9) and `format` (`format`, 0.1).
    pub verifiers: Vec<VerifierConfig>,
}

impl Default for RubricConfig {
    fn default() -> Self {
        let verifier = |name: &str, kind: &str, weight: f64| VerifierConfig {
            name: Some(name.to_owned()),
            kind: kind.to_owned(),
            weight,
            on_error: OnError::Stop,
            settings: Table::new(),
        };
        Self {
            timeout_seconds: 10.0,
            workers: None,
            verifiers: vec![verifier("accuracy", "math", 0.9), verifier("format", "format", 0.1)],
        }
    }
}

/// One verifier of a rubric. Keys that are not listed here belong to its kind, which refuses those it does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifierConfig {
    /// What metrics call it. Default: its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which verifier: `math`, `format`, `choice`, `exact`, `numeric`, `command`, or one that an application adds.
    pub kind: String,
    /// What its score is multiplied with. Default: 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// What happens when it cannot judge an item. Default: `stop`.
    #[serde(default)]
    pub on_error: OnError,
    /// The kind's own keys.
    #[serde(flatten)]
    pub settings: Table,
}

impl VerifierConfig {
    /// What metrics call it.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kind)
    }
}

/// What happens when a verifier cannot judge an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Grading stops with the error.
    #[default]
    Stop,
    /// The item's score is 0; the error is logged and counted.
    Zero,
}

fn one() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::{OnError, RubricConfig};

    #[test]
    fn reads_a_table_and_writes_it_again() {
        let text = r#"
            timeout_seconds = 5.0
            [[verifiers]]
            kind = "numeric"
            relative = 0.01
            [[verifiers]]
            name = "judge"
            kind = "command"
            weight = 0.5
            on_error = "zero"
            command = ["python3", "judge.py"]
        "#;
        let config: RubricConfig = toml::from_str(text).expect("a rubric");
        assert_eq!(config.verifiers[0].name(), "numeric");
        assert_eq!(config.verifiers[0].weight, 1.0);
        assert_eq!(config.verifiers[0].settings["relative"].as_float(), Some(0.01));
        assert_eq!(config.verifiers[1].on_error, OnError::Zero);
        let written = toml::to_string(&config).expect("TOML");
        assert_eq!(toml::from_str::<RubricConfig>(&written).expect("a rubric"), config);
        let default: RubricConfig = toml::from_str("").expect("the default");
        assert_eq!(default, RubricConfig::default());
    }
}
