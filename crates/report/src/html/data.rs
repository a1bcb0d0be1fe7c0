//! What a page is told, as the script reads it.

use super::base64;
use crate::Metrics;
use crate::compare::{RunScore, validation_score};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

#[derive(Serialize)]
pub(super) struct Data {
    pub(super) runs: Vec<RunData>,
    pub(super) charts: Vec<Chart>,
    /// For each run.
    pub(super) phases: Vec<Option<Phases>>,
    pub(super) configuration: Vec<ConfigurationRow>,
    pub(super) prompts: Vec<Prompt>,
    /// Samples of the runs, also those that the page leaves out.
    pub(super) num_samples: usize,
    /// PNG files in base64.
    pub(super) pictures: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// The head line of a run.
#[derive(Serialize)]
pub(super) struct RunData {
    name: String,
    last_step: u64,
    seconds: f64,
    reward: Option<f64>,
    /// The metric that decides which checkpoint is best.
    validation: Option<(&'static str, [f64; 2], [u64; 2])>,
}

impl RunData {
    pub(super) fn new(name: String, metrics: &Metrics) -> Self {
        let names = ["validation/accuracy", "validation/overall"];
        let last_and_best =
            |score: RunScore| ([round(score.last.value), round(score.best.value)], [score.last.step, score.best.step]);
        let validation = names.into_iter().find_map(|name| {
            let (values, steps) = validation_score(metrics, name).map(last_and_best)?;
            Some((name, values, steps))
        });
        let seconds = metrics.curve("time/step_seconds").map(|(_, seconds)| seconds).filter(|s| s.is_finite()).sum();
        let reward = metrics.curve("reward/overall").map(|(_, reward)| reward).filter(|r| r.is_finite()).last();
        Self {
            name,
            last_step: metrics.steps.last().copied().unwrap_or(0),
            seconds,
            reward: reward.map(round),
            validation,
        }
    }
}

/// One metric of all runs.
#[derive(Serialize)]
pub(super) struct Chart {
    pub(super) area: String,
    /// Without the area.
    pub(super) name: String,
    pub(super) meaning: &'static str,
    pub(super) unit: &'static str,
    pub(super) curves: Vec<Curve>,
}

/// One metric of one run.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Curve {
    pub(super) run: usize,
    /// Steps, each less the one before.
    pub(super) steps: Vec<u64>,
    /// Not finite: null.
    pub(super) values: Vec<Option<f64>>,
    /// Of a thinned curve: means of `every` points, for smoothing, with their steps, each less the one before.
    pub(super) mean_steps: Vec<u64>,
    pub(super) means: Vec<Option<f64>>,
    pub(super) every: usize,
    /// Points before thinning, and how many of them were not finite.
    pub(super) num_points: usize,
    pub(super) num_nonfinite: usize,
    pub(super) last: Option<f64>,
}

/// Where a run's time went.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Phases {
    pub(super) names: Vec<String>,
    /// First and last step of each bar.
    pub(super) spans: Vec<(u64, u64)>,
    /// For each name, mean seconds of a step in each bar.
    pub(super) seconds: Vec<Vec<f64>>,
    /// For each name, seconds of the whole run.
    pub(super) totals: Vec<f64>,
}

/// A key of the configuration.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct ConfigurationRow {
    pub(super) section: String,
    pub(super) key: String,
    /// For each run, as TOML writes it.
    pub(super) values: Vec<Option<String>>,
    pub(super) differs: bool,
}

/// A prompt of a step with its responses.
#[derive(Serialize)]
pub(super) struct Prompt {
    pub(super) run: usize,
    pub(super) step: u64,
    pub(super) row: String,
    pub(super) problem: String,
    pub(super) answer: String,
    pub(super) pictures: Vec<PictureData>,
    pub(super) masked: Vec<PictureData>,
    pub(super) responses: Vec<ResponseData>,
}

#[derive(Serialize)]
pub(super) struct PictureData {
    pub(super) path: String,
    /// Place in [`Data::pictures`]; none when it was left out.
    pub(super) at: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct ResponseData {
    /// Empty when the pieces put together are the text.
    pub(super) text: String,
    pub(super) pieces: Vec<String>,
    pub(super) divergence: Vec<Option<f64>>,
    /// Over the tokens where it is finite; none without any.
    pub(super) mean: Option<f64>,
    pub(super) largest: Option<f64>,
    pub(super) correct: bool,
    pub(super) reward: Option<f64>,
    pub(super) advantage: Option<f64>,
    pub(super) parts: BTreeMap<String, Option<f64>>,
    pub(super) tokens: u64,
}

/// Picture files, each once however many prompts show it.
#[derive(Default)]
pub(super) struct Pictures {
    pub(super) files: Vec<String>,
    places: HashMap<String, usize>,
}

impl Pictures {
    /// The place of a file.
    pub(super) fn place(&mut self, png: &[u8]) -> usize {
        let text = base64::encode(png);
        *self.places.entry(text).or_insert_with_key(|text| {
            self.files.push(text.clone());
            self.files.len() - 1
        })
    }
}

/// To six significant digits: more cannot be seen, and would double the page.
pub(super) fn round(value: f64) -> f64 {
    format!("{value:.5e}").parse().expect("a number")
}
