//! The flight recorder: what goes wrong in a step is named, kept with all that the step needs to be done again, and by default ends the run.
//!
//! Looked for before each update, with numbers that are read back anyway: a loss or gradient that is not finite, a gradient that is
//! zero although there is something to learn, a ratio of probabilities that exploded. And between steps: the signature of a policy that
//! games the perception term ([`collapse`]).

mod bundle;
mod collapse;
mod diagnose;
mod recorder;

pub use bundle::Bundle;
pub use collapse::History;
pub(crate) use diagnose::diagnose_sampling;
pub use diagnose::{Diagnosis, diagnose};
pub(crate) use recorder::Recorder;

use crate::update::{LOG_RATIO_MAX, Moment};
use serde::{Deserialize, Serialize};

/// What a run does about an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnIncident {
    /// Record it, keep the last good weights, and end.
    Stop,
    /// Record the first of each kind, and go on.
    Record,
    Ignore,
}

/// When the recorder speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WatchSettings {
    pub on_incident: OnIncident,
    /// Largest log of a ratio of probabilities that is believed.
    pub log_ratio_limit: f64,
    /// Steps in each of the two spans that are compared for signs of collapse; 0 does not look.
    pub collapse_window: usize,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    NotFinite,
    NoGradient,
    Ratio,
    Collapse,
}

impl Kind {
    pub fn words(self) -> &'static str {
        match self {
            Self::NotFinite => "a number of the batch, the loss or its gradient is not finite",
            Self::NoGradient => "the gradient is zero although responses have advantages",
            Self::Ratio => "a token's probability exploded against the one it was sampled with",
            Self::Collapse => "the policy seems to game the perception term",
        }
    }

    /// What to try.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NotFinite => {
                "lower optimizer.learning_rate or optimizer.max_grad_norm, or compute in device.dtype = \"f32\""
            }
            Self::NoGradient => "look at model.freeze and at the objective's loss: nothing it is made of learns",
            Self::Ratio => {
                "more prompts in trainer.prompts_per_update (fewer updates a step) or a lower optimizer.learning_rate keep the policy near the one \
                 that sampled; on the first update of a step, sampler and trainer disagree: `percept check`"
            }
            Self::Collapse => {
                "lower objective.gamma, or set objective.entropy_coefficient and objective.masked_entropy_coefficient \
                 (the paper's double entropy loss)"
            }
        }
    }
}

/// Judges an update by the numbers that were read back.
pub(crate) fn judge(moment: &Moment, settings: &WatchSettings) -> Option<Kind> {
    let loss = moment.metrics.get("objective/loss").unwrap_or(0.0);
    if !moment.norm.is_finite() || !loss.is_finite() {
        return Some(Kind::NotFinite);
    }
    if diagnose::numbers(moment.groups).is_some() {
        // a bound or a mask can hide it from the loss
        return Some(Kind::NotFinite);
    }
    // later updates of a step may have clipped all of their tokens
    let learns = moment.gradients.iter().any(Option::is_some);
    let credited = |group: &&crate::CollectedGroup| group.advantages.iter().any(|&advantage| advantage != 0.0);
    let expected = moment.groups.iter().filter(credited).any(|group| learns || group.has_picture());
    if moment.update == 0 && moment.norm == 0.0 && expected {
        return Some(Kind::NoGradient);
    }
    let ratio = moment.metrics.get(LOG_RATIO_MAX).unwrap_or(0.0);
    (ratio > settings.log_ratio_limit).then_some(Kind::Ratio)
}
