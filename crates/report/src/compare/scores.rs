//! Scores of the rows of a data set.

use crate::lines::{self, Place};
use crate::{ReportError, run};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// How well a row was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct RowScore {
    /// Names the row: the same in all runs that are compared.
    pub row: String,
    /// The mean over the row's responses.
    pub score: f64,
}

/// The scores of a run, or of any checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct RunScores {
    /// What the table calls it.
    pub name: String,
    /// A score for each row. Of a row that stands there several times the mean counts.
    pub rows: Vec<RowScore>,
}

impl RunScores {
    /// Reads JSON lines with the keys `row` and `score`, or what `percept eval --rows` writes (`overall`, and `parts`
    /// by name of the verifier). `part` picks a verifier's score instead of the whole.
    ///
    /// # Errors
    /// When a line before the last is damaged, or a key is missing or of another kind.
    pub fn read(path: &Path, part: Option<&str>) -> Result<Self, ReportError> {
        let mut rows = Vec::new();
        lines::for_each(path, |place, line: Map<String, Value>| {
            rows.push(parse(place, &line, part)?);
            Ok(())
        })?;
        if rows.is_empty() {
            let place = Place { path, line: 1 };
            return Err(place.field("row", "at least one row", "an empty file", "write it with `percept eval --rows`"));
        }
        let file = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name: file, rows })
    }

    /// One score for each row.
    pub(super) fn by_row(&self) -> BTreeMap<&str, f64> {
        let mut sums: BTreeMap<&str, (f64, u32)> = BTreeMap::new();
        for RowScore { row, score } in &self.rows {
            let (sum, count) = sums.entry(row).or_default();
            *sum += score;
            *count += 1;
        }
        sums.into_iter().map(|(row, (sum, count))| (row, sum / f64::from(count))).collect()
    }
}

impl RunScores {
    /// Reads several files, and names them so that they are told apart.
    ///
    /// # Errors
    /// As [`RunScores::read`].
    pub fn read_all(paths: &[&Path], part: Option<&str>) -> Result<Vec<Self>, ReportError> {
        let named = |(name, path): (String, &&Path)| Ok(Self { name, ..Self::read(path, part)? });
        run::names(paths).into_iter().zip(paths).map(named).collect()
    }
}

fn parse(place: Place, line: &Map<String, Value>, part: Option<&str>) -> Result<RowScore, ReportError> {
    let advice = "expected the keys `row` and `score`, or what `percept eval --rows` writes";
    let row = match line.get("row") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        other => return Err(place.field("row", "a text or number that names the row", told(other), advice)),
    };
    let (key, value) = match part {
        Some(part) => (part, line.get("parts").and_then(|parts| parts.get(part)).or_else(|| line.get(part))),
        None if line.contains_key("score") => ("score", line.get("score")),
        None => ("overall", line.get("overall")),
    };
    let key = if value.is_none() && part.is_none() { "score" } else { key };
    let score =
        value.and_then(mean).ok_or_else(|| place.field(key, "a number or a list of numbers", told(value), advice))?;
    Ok(RowScore { row, score })
}

/// A number, or the mean of some.
fn mean(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(is_right) => Some(f64::from(u8::from(*is_right))),
        Value::Array(values) if !values.is_empty() => {
            let sum = values.iter().map(mean).sum::<Option<f64>>()?;
            Some(sum / values.len() as f64)
        }
        other => other.as_f64(),
    }
}

fn told(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::RunScores;
    use crate::ReportError;

    fn read(text: &str, part: Option<&str>) -> Result<Vec<(String, f64)>, ReportError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("base.jsonl");
        std::fs::write(&path, text).expect("written");
        let scores = RunScores::read(&path, part)?;
        assert_eq!(scores.name, "base");
        Ok(scores.rows.into_iter().map(|row| (row.row, row.score)).collect())
    }

    #[test]
    fn both_kinds_of_lines_are_read() {
        let found = read("{\"row\": \"a\", \"score\": 0.5}\n{\"row\": 7, \"score\": true}\n", None).expect("scores");
        assert_eq!(found, [("a".to_owned(), 0.5), ("7".to_owned(), 1.0)]);
        let line = "{\"row\": \"a\", \"overall\": [0.1, 0.9], \"parts\": {\"accuracy\": [0, 1, 1, 1]}}\n";
        assert_eq!(read(line, None).expect("scores"), [("a".to_owned(), 0.5)]);
        assert_eq!(read(line, Some("accuracy")).expect("scores"), [("a".to_owned(), 0.75)]);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (text, part, expected) in [
            ("{\"row\": \"a\"}\n", None, "base.jsonl:1: score: expected a number or a list of numbers, found nothing"),
            (
                "{\"score\": 1}\n",
                None,
                "base.jsonl:1: row: expected a text or number that names the row, found nothing",
            ),
            ("{\"row\": \"a\", \"score\": \"x\"}\n", None, "base.jsonl:1: score: expected a number"),
            ("{\"row\": \"a\", \"score\": 1}\n", Some("format"), "base.jsonl:1: format: expected a number"),
            ("", None, "base.jsonl:1: row: expected at least one row, found an empty file"),
        ] {
            let error = read(text, part).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
