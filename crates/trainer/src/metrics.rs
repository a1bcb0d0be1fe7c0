//! Named numbers of a step, and the file they go to.

use crate::TrainError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Numbers of one step by name; the part before the slash is the area.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(pub BTreeMap<String, f64>);

impl Metrics {
    pub fn set(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), value);
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Mean, largest and smallest of some numbers.
    pub fn spread(&mut self, name: &str, values: impl Iterator<Item = f64> + Clone) {
        let count = values.clone().count();
        if count == 0 {
            return;
        }
        self.set(format!("{name}_mean"), values.clone().sum::<f64>() / count as f64);
        self.set(format!("{name}_max"), values.clone().fold(f64::NEG_INFINITY, f64::max));
        self.set(format!("{name}_min"), values.fold(f64::INFINITY, f64::min));
    }

    /// As a JSON object with the step first; numbers that JSON cannot write become null.
    fn to_json(&self, step: u64) -> Value {
        let mut object = Map::new();
        object.insert("step".to_owned(), step.into());
        for (name, value) in &self.0 {
            object.insert(name.clone(), serde_json::Number::from_f64(*value).map_or(Value::Null, Value::Number));
        }
        Value::Object(object)
    }
}

/// Numbers of the last steps of a metrics file, oldest first; what cannot be read is left out.
pub(crate) fn recent(path: &Path, count: usize) -> Vec<Metrics> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(count)..];
    let numbers = |line: &&str| -> Option<Metrics> {
        let Value::Object(object) = serde_json::from_str(line).ok()? else { return None };
        // the measurement before training is no step
        let is_step = object.get("step").and_then(Value::as_u64).is_some_and(|step| step > 0);
        let numbers = object.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?)));
        is_step.then(|| Metrics(numbers.collect()))
    };
    last.iter().filter_map(numbers).collect()
}

/// A file of JSON lines that begin with their step.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens the file to go on behind step `after`: what a run that was interrupted wrote of later steps is dropped.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(path: &Path, after: Option<u64>) -> Result<Self, TrainError> {
        let failed = |source| TrainError::File { path: path.to_owned(), source };
        let keep = match (after, fs::read_to_string(path)) {
            (Some(step), Ok(text)) => text
                .lines()
                .filter(|line| {
                    let value: Option<Value> = serde_json::from_str(line).ok();
                    value.and_then(|value| value.get("step")?.as_u64()).is_some_and(|line_step| line_step <= step)
                })
                .map(|line| format!("{line}\n"))
                .collect(),
            _ => String::new(),
        };
        percept_weights::write_atomically(path, |file| file.write_all(keep.as_bytes()))?;
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends a step's numbers.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, step: u64, metrics: &Metrics) -> Result<(), TrainError> {
        self.write_json(&metrics.to_json(step))
    }

    /// Appends any JSON object.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_json(&mut self, value: &Value) -> Result<(), TrainError> {
        let line = format!("{value}\n");
        self.file.write_all(line.as_bytes()).map_err(|source| TrainError::File { path: self.path.clone(), source })
    }

    /// Brings what was written to the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&self) -> Result<(), TrainError> {
        self.file.sync_data().map_err(|source| TrainError::File { path: self.path.clone(), source })
    }
}
