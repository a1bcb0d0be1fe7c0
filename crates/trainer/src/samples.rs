//! Some responses of a step, to be looked at: `samples.jsonl`, and pictures beside it.

use crate::settings::Settings;
use crate::{Batch, Grader, TaskSource, TrainError};
use percept_core::{Image, View, Weights};
use percept_weights::write_atomically;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;

/// The view that shows what the policy owes to looking.
const MASKED: View = View { weights: Weights::Behavior, image: Image::Corrupted(0) };

/// What samples of a step are made with.
pub(crate) struct Samples<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) step: u64,
    pub(crate) grader: &'a dyn Grader,
    pub(crate) source: &'a dyn TaskSource,
}

impl Samples<'_> {
    /// Lines of samples.jsonl, spread over the batch's groups; pictures are written on the way.
    ///
    /// # Errors
    /// When a picture cannot be written.
    pub(crate) fn of(&self, batch: &Batch) -> Result<Vec<Value>, TrainError> {
        let responses = 0..batch.groups.first().map_or(0, |group| group.rewards.len());
        let spread = responses.flat_map(|response| (0..batch.groups.len()).map(move |group| (group, response)));
        let chosen: Vec<(usize, usize)> = spread.take(self.settings.samples_per_step).collect();
        let mut pictures: BTreeMap<usize, Map<String, Value>> = BTreeMap::new();
        for &(group, _) in &chosen {
            if pictures.len() < self.settings.pictures_per_step && !pictures.contains_key(&group) {
                pictures.insert(group, self.pictures(batch, group)?);
            }
        }
        let line = |&(group, response): &(usize, usize)| {
            let mut sample = self.sample(batch, group, response);
            sample.extend(pictures.get(&group).cloned().unwrap_or_default());
            Value::Object(sample)
        };
        Ok(chosen.iter().map(line).collect())
    }

    fn sample(&self, batch: &Batch, number: usize, response: usize) -> Map<String, Value> {
        let group = &batch.groups[number];
        let sampled = &group.group.responses[response];
        let parts: Map<String, Value> =
            group.parts.iter().map(|(name, scores)| (name.clone(), json!(scores[response]))).collect();
        let Value::Object(mut sample) = json!({
            "step": self.step,
            "group": number,
            "row": group.task.place,
            "problem": group.task.problem,
            "answer": group.task.answer,
            "response": group.texts[response],
            "reward": group.rewards[response],
            "parts": parts,
            "advantage": group.advantages[response],
            "tokens": group.lengths[response],
            "correct": group.correct[response] != 0.0,
        }) else {
            unreachable!("an object was written")
        };
        let view = group.views.iter().find(|(view, _)| *view == MASKED).and_then(|(_, numbers)| numbers.as_ref());
        let Some(numbers) = view else { return sample };
        let pieces = self.grader.pieces(&sampled.tokens);
        if pieces.len() == sampled.tokens.len() {
            // log pi(token | picture) - log pi(token | masked picture); what is not finite becomes null
            let both = sampled.log_probs.iter().zip(&numbers.log_probs[response]);
            let divergence: Vec<f32> = both.map(|(whole, masked)| whole - masked).collect();
            sample.insert("divergence".to_owned(), json!(divergence));
            sample.insert("pieces".to_owned(), json!(pieces));
        }
        sample
    }

    /// Writes a prompt's pictures; their places relative to the run directory.
    fn pictures(&self, batch: &Batch, number: usize) -> Result<Map<String, Value>, TrainError> {
        let prompt = &batch.groups[number].group.prompt;
        let folder = self.settings.run_dir.join("samples");
        let mut places = Map::new();
        let masked = prompt.corrupted.first().map_or(&[][..], |pictures| pictures);
        for (key, pictures) in [("picture", &prompt.pictures[..]), ("masked_picture", masked)] {
            let mut names = Vec::new();
            for (at, picture) in pictures.iter().enumerate() {
                let Some(png) = self.source.png(picture) else { continue };
                std::fs::create_dir_all(&folder).map_err(|source| TrainError::File { path: folder.clone(), source })?;
                let name = format!("step-{:06}-prompt-{number}-{key}-{at}.png", self.step);
                write_atomically(folder.join(&name), |file| file.write_all(&png))?;
                names.push(format!("samples/{name}"));
            }
            if !names.is_empty() {
                places.insert(key.to_owned(), json!(names));
            }
        }
        Ok(places)
    }
}
