//! What can stop a run.

use crate::incident::Kind;
use percept_core::SamplerError;
use percept_weights::WeightsError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// From the outside world behind a seam: data, verifiers, models. The message is complete.
    #[error("{0}")]
    Seam(String),
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}")]
    State { path: PathBuf, reason: String },
    #[error(
        "dynamic sampling found {kept} of {needed} usable groups in {tries} tries; mean scores of the groups tried: {histogram}. \
         Take easier or harder data, widen objective.filter_low / filter_high, or raise trainer.max_tries"
    )]
    NotEnoughGroups { kept: usize, needed: usize, tries: usize, histogram: String },
    #[error(
        "step {step}: the loss or its gradient was not finite {count} updates in a row; the last checkpoint is kept. \
         Lower optimizer.learning_rate, or look at metrics.jsonl for what grew"
    )]
    NotFinite { step: u64, count: usize },
    /// The flight recorder stopped the run.
    #[error("step {step}, {}: {}: {words}. {kept}. {}; trainer.on_incident = \"record\" goes on all the same", moment(*update), kind.words(), capital(kind.advice()))]
    Incident {
        step: u64,
        /// From 1; 0 while its responses are sampled.
        update: usize,
        kind: Kind,
        words: String,
        kept: String,
        /// Whether the weights are worth keeping.
        sound: bool,
    },
    #[error(
        "out of memory with the smallest portions there are: {reason}. `percept plan` tells what needs how much, and the smallest \
         change that makes it fit"
    )]
    OutOfMemory { reason: String },
    #[error("no row of the training data can be used: {skipped} visited rows in a row were skipped (too long, or bad)")]
    NoUsableRow { skipped: u64 },
    #[error("{0}")]
    Settings(String),
    /// A part failed in the middle of a run.
    #[error("{error} (step {step} is saved; when this is put right, go on with --resume)")]
    Stopped { step: u64, error: Box<TrainError> },
}

impl TrainError {
    /// An error behind a seam, with its chain of causes in one line.
    pub fn seam(error: impl std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let inner_text = inner.to_string();
            if !text.contains(&inner_text) {
                text = format!("{text}: {inner_text}");
            }
            cause = inner.source();
        }
        Self::Seam(text)
    }
}

/// Which update of a step, from 1; 0 is before the first.
fn moment(update: usize) -> String {
    if update == 0 { "sampling".to_owned() } else { format!("update {update}") }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
