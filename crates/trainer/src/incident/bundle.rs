//! All that an update needs to be done again: the weights and the optimizer before it as a checkpoint, and the batch with its responses,
//! so that neither data nor sampling is needed.
//!
//! ```text
//! incidents/step-000012-not_finite/
//!   incident.json     what went wrong where, and the numbers that were read
//!   batch.safetensors prompts, pictures, responses, rewards, log-probabilities
//!   checkpoint/       as those of the run
//!   config.toml       of the run
//! ```

use super::{Diagnosis, Kind};
use crate::batch::{CollectedGroup, ViewNumbers};
use crate::{Metrics, TrainError};
use percept_core::{Finish, Group, Image, PicturePatches, Prompt, Response, Task, View, Weights};
use percept_weights::{StateFile, StateKind, StateTensor, StateWriter, write_atomically};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// What a bundle tells beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    pub kind: Kind,
    /// Steps done before this one.
    pub step: u64,
    /// The update within the step, from 0.
    pub update: usize,
    pub place: Diagnosis,
    pub words: String,
    /// Numbers of the update as text, since JSON has no infinities.
    pub numbers: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct GroupText {
    place: String,
    problem: String,
    answer: String,
    prompt: u64,
    tokens: Vec<u32>,
    /// Grids of the pictures, and of each slot's corrupted ones.
    pictures: Vec<[usize; 3]>,
    corrupted: Vec<Vec<[usize; 3]>>,
    responses: Vec<ResponseText>,
    parts: Vec<String>,
    views: Vec<ViewText>,
}

#[derive(Serialize, Deserialize)]
struct ResponseText {
    tokens: Vec<u32>,
    stopped: bool,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct ViewText {
    weights: String,
    /// The slot of a corrupted picture; nothing for the whole one.
    slot: Option<usize>,
    present: bool,
    entropies: bool,
}

const INCIDENT: &str = "incident.json";
const BATCH: &str = "batch.safetensors";
pub(super) const CHECKPOINT: &str = "checkpoint";

impl Bundle {
    /// Metrics and the gradient's norm as text.
    pub fn numbers(metrics: &Metrics, norm: f64) -> BTreeMap<String, String> {
        let all = metrics.0.iter().map(|(name, value)| (name.clone(), format!("{value:e}")));
        all.chain([("optimizer/grad_norm".to_owned(), format!("{norm:e}"))]).collect()
    }

    /// Writes everything but the checkpoint.
    pub(crate) fn write(&self, folder: &Path, groups: &[CollectedGroup]) -> Result<(), TrainError> {
        let tensors = tensors(groups);
        let spec = |(name, values): &(String, Vec<f32>)| StateTensor::new(name.clone(), StateKind::F32, [values.len()]);
        let specs: Vec<StateTensor> = tensors.iter().map(spec).collect();
        let texts: Vec<GroupText> = groups.iter().map(text).collect();
        let json = serde_json::to_string(&texts).expect("texts and numbers are JSON");
        let mut writer = StateWriter::create(folder.join(BATCH), &specs, &json)?;
        tensors.iter().try_for_each(|(name, values)| writer.add_f32(name, values))?;
        writer.finish()?;
        let text = serde_json::to_string_pretty(self).expect("texts and numbers are JSON");
        Ok(write_atomically(folder.join(INCIDENT), |file| writeln!(file, "{text}"))?)
    }

    /// Reads a bundle and its batch.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn read(folder: &Path) -> Result<(Self, Vec<CollectedGroup>), TrainError> {
        let path = folder.join(INCIDENT);
        let text = std::fs::read_to_string(&path).map_err(|source| TrainError::File { path: path.clone(), source })?;
        let bundle = serde_json::from_str(&text)
            .map_err(|error| TrainError::State { path, reason: format!("no incident: {error}") })?;
        let path = folder.join(BATCH);
        let file = StateFile::open(&path)?;
        let bad = |reason: String| TrainError::State { path: path.clone(), reason };
        let texts: Vec<GroupText> =
            serde_json::from_str(file.json()).map_err(|error| bad(format!("no batch: {error}")))?;
        let groups = texts.into_iter().enumerate();
        let groups = groups.map(|(index, text)| group(index, text, &file)).collect::<Result<_, _>>()?;
        Ok((bundle, groups))
    }
}

/// Names and values of all that is not text.
fn tensors(groups: &[CollectedGroup]) -> Vec<(String, Vec<f32>)> {
    let mut all = Vec::new();
    for (g, group) in groups.iter().enumerate() {
        let prompt = &group.group.prompt;
        for (i, picture) in prompt.pictures.iter().enumerate() {
            all.push((format!("{g}.picture.{i}"), picture.rows.to_vec()));
        }
        for (slot, pictures) in prompt.corrupted.iter().enumerate() {
            for (i, picture) in pictures.iter().enumerate() {
                all.push((format!("{g}.corrupted.{slot}.{i}"), picture.rows.to_vec()));
            }
        }
        let sampled: Vec<f32> = group.group.responses.iter().flat_map(|response| response.log_probs.clone()).collect();
        all.push((format!("{g}.log_probs"), sampled));
        for (name, values) in
            [("rewards", &group.rewards), ("advantages", &group.advantages), ("correct", &group.correct)]
        {
            all.push((format!("{g}.{name}"), values.clone()));
        }
        for (i, (_, scores)) in group.parts.iter().enumerate() {
            all.push((format!("{g}.part.{i}"), scores.clone()));
        }
        for (i, (_, numbers)) in group.views.iter().enumerate() {
            let Some(numbers) = numbers else { continue };
            all.push((format!("{g}.view.{i}.log_probs"), numbers.log_probs.concat()));
            if let Some(entropies) = &numbers.entropies {
                all.push((format!("{g}.view.{i}.entropies"), entropies.concat()));
            }
        }
    }
    all
}

fn text(group: &CollectedGroup) -> GroupText {
    let (task, prompt) = (&group.task, &group.group.prompt);
    let grids = |pictures: &Vec<PicturePatches>| pictures.iter().map(|picture| picture.grid).collect();
    let responses = group.group.responses.iter().enumerate().map(|(i, response)| ResponseText {
        tokens: response.tokens.clone(),
        stopped: response.finish == Finish::Stop,
        text: group.texts.get(i).cloned().unwrap_or_default(),
    });
    let view = |(view, numbers): &(View, Option<ViewNumbers>)| ViewText {
        weights: match view.weights {
            Weights::Live => "live",
            Weights::Behavior => "behavior",
            Weights::Reference => "reference",
        }
        .to_owned(),
        slot: match view.image {
            Image::Whole => None,
            Image::Corrupted(slot) => Some(slot),
        },
        present: numbers.is_some(),
        entropies: numbers.as_ref().is_some_and(|numbers| numbers.entropies.is_some()),
    };
    GroupText {
        place: task.place.clone(),
        problem: task.problem.clone(),
        answer: task.answer.clone(),
        prompt: prompt.id,
        tokens: prompt.tokens.clone(),
        pictures: grids(&prompt.pictures),
        corrupted: prompt.corrupted.iter().map(grids).collect(),
        responses: responses.collect(),
        parts: group.parts.iter().map(|(name, _)| name.clone()).collect(),
        views: group.views.iter().map(view).collect(),
    }
}

fn group(g: usize, text: GroupText, file: &StateFile) -> Result<CollectedGroup, TrainError> {
    let read = |name: &str| file.f32(&format!("{g}.{name}"));
    let patches = |name: String, grid: &[usize; 3]| Ok(PicturePatches { rows: read(&name)?.into(), grid: *grid });
    let pictures = text.pictures.iter().enumerate().map(|(i, grid)| patches(format!("picture.{i}"), grid));
    let pictures = pictures.collect::<Result<Vec<_>, TrainError>>()?;
    let corrupted = text.corrupted.iter().enumerate().map(|(slot, grids)| {
        let twins = grids.iter().enumerate().map(|(i, grid)| patches(format!("corrupted.{slot}.{i}"), grid));
        twins.collect::<Result<Vec<_>, TrainError>>()
    });
    let prompt =
        Prompt { id: text.prompt, tokens: text.tokens, pictures, corrupted: corrupted.collect::<Result<_, _>>()? };
    let prompt = Arc::new(prompt);
    let lengths: Vec<usize> = text.responses.iter().map(|response| response.tokens.len()).collect();
    let by_response = |name: &str| {
        let values = read(name)?;
        let found = values.len();
        let mut values = values.into_iter();
        let rows: Vec<Vec<f32>> = lengths.iter().map(|&length| values.by_ref().take(length).collect()).collect();
        let expected: usize = lengths.iter().sum();
        if found == expected {
            return Ok(rows);
        }
        let reason = format!("{g}.{name}: expected {expected} numbers, found {found}");
        Err(TrainError::State { path: BATCH.into(), reason })
    };
    let sampled = by_response("log_probs")?;
    let texts = text.responses.iter().map(|response| response.text.clone()).collect();
    let responses = text.responses.into_iter().zip(sampled).map(|(response, log_probs)| Response {
        tokens: response.tokens,
        log_probs,
        finish: if response.stopped { Finish::Stop } else { Finish::Length },
    });
    let group = Group { prompt: prompt.clone(), responses: responses.collect(), activations: None };
    let mut views = Vec::with_capacity(text.views.len());
    for (i, view) in text.views.iter().enumerate() {
        let weights = match view.weights.as_str() {
            "live" => Weights::Live,
            "behavior" => Weights::Behavior,
            _ => Weights::Reference,
        };
        let image = view.slot.map_or(Image::Whole, Image::Corrupted);
        let entropies = || by_response(&format!("view.{i}.entropies"));
        let numbers = || -> Result<ViewNumbers, TrainError> {
            let log_probs = by_response(&format!("view.{i}.log_probs"))?;
            Ok(ViewNumbers { log_probs, entropies: view.entropies.then(entropies).transpose()? })
        };
        views.push((View { weights, image }, view.present.then(numbers).transpose()?));
    }
    let parts = text.parts.into_iter().enumerate().map(|(i, name)| Ok((name, read(&format!("part.{i}"))?)));
    let (problem, answer, place) = (text.problem, text.answer, text.place);
    Ok(CollectedGroup {
        task: Arc::new(Task { prompt, problem, answer, solution: None, category: None, place }),
        group,
        rewards: read("rewards")?,
        parts: parts.collect::<Result<_, TrainError>>()?,
        texts,
        lengths,
        advantages: read("advantages")?,
        correct: read("correct")?,
        views,
    })
}
