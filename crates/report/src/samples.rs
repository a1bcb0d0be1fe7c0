//! `samples.jsonl`: prompts and responses that a run kept.

use crate::lines::{self, Place};
use crate::{ReportError, run};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// One response. Numbers that were not finite are `None`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Sample {
    /// Steps done.
    pub step: u64,
    /// File and row of the prompt.
    pub row: String,
    /// The problem as the data set states it.
    pub problem: String,
    /// The true answer.
    pub answer: String,
    /// What the policy wrote.
    pub response: String,
    /// The weighed sum of `parts`.
    pub reward: Option<f64>,
    /// The verifiers' scores by name.
    #[serde(default)]
    pub parts: BTreeMap<String, Option<f64>>,
    /// The objective's advantage.
    pub advantage: Option<f64>,
    /// The response's length.
    pub tokens: u64,
    /// Tells which responses of a step belong to one prompt.
    pub group: Option<u64>,
    /// Whether the response was verified as right, when the run says so.
    pub correct: Option<bool>,
    /// The text of each token of the response.
    pub pieces: Option<Vec<String>>,
    /// log pi(token | whole picture) - log pi(token | masked picture) of each piece, in nats.
    pub divergence: Option<Vec<Option<f64>>>,
    /// The prompt's pictures, relative to the run directory.
    #[serde(default)]
    pub picture: Pictures,
    /// The same pictures as the masked view shows them.
    #[serde(default)]
    pub masked_picture: Pictures,
}

/// One path or several.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "a path or a list of paths")]
pub enum Pictures {
    /// A single picture.
    One(String),
    /// Any number of pictures; a prompt without pictures has none.
    Many(Vec<String>),
}

impl Default for Pictures {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Pictures {
    /// The paths.
    pub fn paths(&self) -> &[String] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }
}

impl Sample {
    /// Whether the response is right: as the run says, or else as `collect/correct_fraction` counts it, by the score of
    /// `accuracy` above 0.1, and by the reward when no verifier has that name.
    pub fn is_correct(&self) -> bool {
        let score = self.parts.get("accuracy").copied().unwrap_or(self.reward);
        self.correct.unwrap_or_else(|| score.is_some_and(|score| score > 0.1))
    }

    /// Names the prompt among those of a step.
    pub(crate) fn prompt_key(&self) -> String {
        self.group.map_or_else(|| format!("{}\n{}", self.row, self.problem), |group| group.to_string())
    }

    fn check(&self, place: Place) -> Result<(), ReportError> {
        let advice = "a run writes one number for each piece";
        if let Some(divergence) = &self.divergence {
            let Some(pieces) = &self.pieces else {
                return Err(place.field("pieces", "the texts that divergence belongs to", "nothing", advice));
            };
            if divergence.len() != pieces.len() {
                let (expected, found) = (format!("{} numbers", pieces.len()), divergence.len().to_string());
                return Err(place.field("divergence", expected, found, advice));
            }
        }
        for (key, pictures) in [("picture", &self.picture), ("masked_picture", &self.masked_picture)] {
            // a page is passed on: a run's file must not put other files of the machine into it
            let is_inside = |path: &String| {
                let mut parts = Path::new(path).components();
                !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
            };
            if let Some(outside) = pictures.paths().iter().find(|path| !is_inside(path)) {
                let advice = "pictures of a run stand below its directory";
                return Err(place.field(key, "a path inside the run directory", format!("`{outside}`"), advice));
            }
        }
        Ok(())
    }
}

/// Hands each sample of a run directory to `take`, one at a time, with the length of its line in bytes. A run without
/// `samples.jsonl` has none. Returns notes.
///
/// # Errors
/// When a line before the last is damaged or a value is of another kind, or when `take` fails.
pub(crate) fn for_each(
    run: &Path,
    mut take: impl FnMut(Sample) -> Result<(), ReportError>,
) -> Result<Vec<String>, ReportError> {
    let path = run.join("samples.jsonl");
    if !path.is_file() {
        run::file(run, "metrics.jsonl")?;
        return Ok(vec![format!("{}: the run kept no samples (trainer.samples_per_step)", path.display())]);
    }
    let note = lines::for_each(&path, |place, sample: Sample| {
        sample.check(place)?;
        take(sample)
    })?;
    Ok(Vec::from_iter(note))
}

/// Reads all samples of a run directory, with notes.
///
/// # Errors
/// When a line before the last is damaged, or a value is of another kind.
pub fn read(run: &Path) -> Result<(Vec<Sample>, Vec<String>), ReportError> {
    let mut samples = Vec::new();
    let notes = for_each(run, |sample| {
        samples.push(sample);
        Ok(())
    })?;
    Ok((samples, notes))
}

#[cfg(test)]
mod tests {
    use super::{Sample, read};
    use crate::ReportError;
    use serde_json::{Value, json};

    fn line() -> Value {
        json!({"step": 3, "row": "train.parquet row 17", "problem": "<image>How many?", "answer": "2", "response": "It is 2",
            "reward": 1.0, "parts": {"accuracy": 1.0}, "advantage": null, "tokens": 3})
    }

    fn with(key: &str, value: Value) -> Value {
        let mut line = line();
        line[key] = value;
        line
    }

    fn read_one(line: &Value) -> Result<Sample, ReportError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("samples.jsonl"), format!("{line}\n{line}\n")).expect("written");
        read(folder.path()).map(|(samples, _)| samples.into_iter().next().expect("a sample"))
    }

    #[test]
    fn keys_that_a_run_may_leave_out() {
        let sample = read_one(&line()).expect("a sample");
        assert_eq!((sample.group, sample.pieces.as_ref(), sample.advantage), (None, None, None));
        assert!(sample.picture.paths().is_empty() && sample.is_correct());
        assert_eq!(read_one(&with("picture", json!("a.png"))).expect("a sample").picture.paths(), ["a.png"]);
        let several = read_one(&with("masked_picture", json!(["p/a.png", "./b.png"]))).expect("a sample");
        assert_eq!(several.masked_picture.paths(), ["p/a.png", "./b.png"]);
    }

    #[test]
    fn right_is_what_the_run_says_or_what_accuracy_says() {
        assert!(!read_one(&with("correct", json!(false))).expect("a sample").is_correct());
        assert!(!read_one(&with("parts", json!({"accuracy": 0.1, "format": 1.0}))).expect("a sample").is_correct());
        assert!(read_one(&with("parts", json!({"format": 0.0}))).expect("a sample").is_correct());
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let mut two = with("pieces", json!(["It", " is"]));
        two["divergence"] = json!([0.5]);
        for (line, expected) in [
            (two, "samples.jsonl:1: divergence: expected 2 numbers, found 1"),
            (
                with("divergence", json!([0.5])),
                "samples.jsonl:1: pieces: expected the texts that divergence belongs to",
            ),
            (
                with("picture", json!("../../secret.png")),
                "picture: expected a path inside the run directory, found `../..",
            ),
            (with("masked_picture", json!(["/a.png"])), "masked_picture: expected a path inside the run directory"),
            (with("picture", json!(7)), "picture: expected a path or a list of paths"),
            (with("tokens", json!("many")), "samples.jsonl:1: tokens: expected u64, found string \"many\""),
        ] {
            let error = read_one(&line).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}\n{expected}");
        }
    }

    #[test]
    fn a_run_may_keep_no_samples() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(read(folder.path()).is_err(), "not a run at all");
        std::fs::write(folder.path().join("metrics.jsonl"), "").expect("written");
        let (samples, notes) = read(folder.path()).expect("a run");
        assert!(samples.is_empty() && notes[0].contains("trainer.samples_per_step"));
    }
}
