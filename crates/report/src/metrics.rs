//! `metrics.jsonl` as columns.

use crate::lines::{self, Place};
use crate::{ReportError, run};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most names times steps: every name has a place in every step.
const MOST_NUMBERS: usize = 1 << 26;

/// The numbers of a run by name and step. A number that was not finite is NaN; one that a step does not have is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Steps in ascending order, each once: of a step that was written again, the last line counts.
    pub steps: Vec<u64>,
    /// A column for each name, in the order of the names, as long as `steps`.
    pub columns: BTreeMap<String, Vec<Option<f64>>>,
    /// What a reader should know, such as a last line that was cut short.
    pub notes: Vec<String>,
}

impl Metrics {
    /// Reads `metrics.jsonl` of a run directory.
    ///
    /// # Errors
    /// When the file is missing, when a line before the last is damaged, or when a value is not a number.
    pub fn read(run: &Path) -> Result<Self, ReportError> {
        let path = run::file(run, "metrics.jsonl")?;
        let mut rows: BTreeMap<u64, BTreeMap<String, f64>> = BTreeMap::new();
        let note = lines::for_each(&path, |place, line: Map<String, Value>| {
            let (step, row) = parse(place, line)?;
            rows.insert(step, row);
            Ok(())
        })?;
        let names: BTreeSet<&String> = rows.values().flat_map(BTreeMap::keys).collect();
        if names.len().saturating_mul(rows.len()) > MOST_NUMBERS {
            let found = format!("{} names in {} steps", names.len(), rows.len());
            let (expected, place) = (format!("at most {MOST_NUMBERS} numbers"), Place { path: &path, line: 1 });
            return Err(place.field("step", expected, found, "metrics.jsonl has the same names in every step"));
        }
        let mut metrics =
            Self { steps: rows.keys().copied().collect(), notes: Vec::from_iter(note), ..Self::default() };
        for (at, row) in rows.into_values().enumerate() {
            for (name, value) in row {
                let column = metrics.columns.entry(name).or_insert_with(|| vec![None; metrics.steps.len()]);
                column[at] = Some(value);
            }
        }
        Ok(metrics)
    }

    /// The steps that have a number called `name`, with it.
    pub fn curve(&self, name: &str) -> impl Iterator<Item = (u64, f64)> + '_ {
        let column = self.columns.get(name).into_iter().flatten();
        self.steps.iter().zip(column).filter_map(|(step, value)| Some((*step, (*value)?)))
    }
}

fn parse(place: Place, line: Map<String, Value>) -> Result<(u64, BTreeMap<String, f64>), ReportError> {
    let advice = "metrics.jsonl holds one number for each name";
    let (mut step, mut row) = (None, BTreeMap::new());
    for (name, value) in line {
        if name == "step" {
            step = value.as_u64();
            if step.is_none() {
                return Err(place.field("step", "a whole number", value.to_string(), advice));
            }
        } else if value.is_null() {
            row.insert(name, f64::NAN);
        } else if let Some(number) = value.as_f64() {
            row.insert(name, number);
        } else {
            return Err(place.field(&name, "a number or null", value.to_string(), advice));
        }
    }
    let step = step.ok_or_else(|| place.field("step", "a whole number", "nothing", advice))?;
    Ok((step, row))
}

#[cfg(test)]
mod tests {
    use super::Metrics;
    use crate::ReportError;

    fn read(text: &str) -> Result<Metrics, ReportError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("metrics.jsonl"), text).expect("written");
        Metrics::read(folder.path())
    }

    #[test]
    fn columns_are_the_union_of_the_lines() {
        let text = "{\"step\":0,\"validation/overall\":0.5}\n{\"step\":2,\"a\":null}\n{\"step\":1,\"a\":1}\n{\"step\":2,\"a\":3}\n";
        let metrics = read(text).expect("metrics");
        assert_eq!(metrics.steps, [0, 1, 2]);
        assert_eq!(metrics.columns["a"], [None, Some(1.0), Some(3.0)]);
        assert_eq!(metrics.curve("validation/overall").collect::<Vec<_>>(), [(0, 0.5)]);
        assert_eq!(metrics.curve("absent").count(), 0);
        assert!(read("{\"step\":0,\"a\":null}").expect("metrics").columns["a"][0].expect("there").is_nan());
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (text, expected) in [
            ("{\"step\":1}\n{\"a\":1}", "metrics.jsonl:2: step: expected a whole number, found nothing"),
            ("{\"step\":-1}", "metrics.jsonl:1: step: expected a whole number, found -1"),
            ("{\"step\":1,\"a\":\"x\"}", "metrics.jsonl:1: a: expected a number or null, found \"x\""),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let error = Metrics::read(folder.path()).expect_err("empty").to_string();
        assert!(error.contains("there is no metrics.jsonl: expected the directory of a run"), "{error}");
    }
}
