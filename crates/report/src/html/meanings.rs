//! What metrics mean, from the tables of `docs/metrics.md`, so that it is written once.

use std::collections::HashMap;

const DOCUMENT: &str = include_str!("../../../../docs/metrics.md");

/// Meaning and unit of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Meaning {
    pub(super) text: &'static str,
    pub(super) unit: &'static str,
}

/// Meanings by name; `reward/NAME` in the document is any metric of its area that has no line of its own.
pub(super) struct Meanings {
    names: HashMap<String, Meaning>,
}

impl Meanings {
    pub(super) fn read() -> Self {
        let mut names = HashMap::new();
        for line in DOCUMENT.lines().filter(|line| line.starts_with("| `")) {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let (Some(all), Some(text), Some(unit)) = (cells.next(), cells.next(), cells.next()) else { continue };
            let mut first = "";
            for name in all.split(", ").map(|name| name.trim_matches('`')) {
                // `response/length_mean`, `_max`, `_min`
                let name = match first.rsplit_once('_') {
                    Some((stem, _)) if name.starts_with('_') => format!("{stem}{name}"),
                    _ => name.to_owned(),
                };
                if first.is_empty() {
                    first = all.split('`').nth(1).unwrap_or("");
                }
                names.insert(name, Meaning { text, unit });
            }
        }
        Self { names }
    }

    /// Of a metric that is not in the document, such as one of an objective of one's own, nothing is known.
    pub(super) fn of(&self, name: &str) -> Meaning {
        let area = || name.split_once('/').map(|(area, _)| format!("{area}/NAME"));
        let known = self.names.get(name).or_else(|| self.names.get(&area()?));
        known.copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Meanings;

    #[test]
    fn metrics_of_the_document_are_known() {
        let meanings = Meanings::read();
        for name in [
            "reward/overall",
            "reward/mine",
            "response/length_min",
            "advantage_max",
            "objective/kl_prcp",
            "time/rollout_seconds",
            "time/checkpoint_seconds",
            "validation/accuracy",
        ] {
            assert!(!meanings.of(name).text.is_empty(), "{name}");
        }
        assert_eq!(meanings.of("optimizer/skipped_updates").unit, "count");
        assert!(meanings.of("reward/mine").text.starts_with("mean score of the verifier"));
        assert_eq!(meanings.of("mine/own").text, "");
    }
}
