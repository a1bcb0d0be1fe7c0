//! `[trainer]` and `[sft]`: how long a run is, how a step is cut into updates, and what is kept.

use std::fmt;
use std::path::PathBuf;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::optimizer::OptimizerConfig;

/// `[trainer]`. A step is one collection of rollouts and the updates made from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainerConfig {
    /// Folder of the run. Default: `runs/` and the run file's name without its ending.
    pub run_dir: PathBuf,
    /// Seed of everything random. Default: 1.
    pub seed: u64,
    /// Steps of the run; where given, `epochs` does not count. Default: as many as `epochs` give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the training data; an epoch is its whole number of steps. Default: 2.
    pub epochs: u64,
    /// Prompts of one optimizer update (mini-batch); divides `rollout.prompts_per_step`. Default: 128.
    pub prompts_per_update: usize,
    /// Tokens computed at once in scoring and training (micro-batch), a prompt counted once for its group. Bounds
    /// memory, never changes the result. `"auto"` is the most that `percept plan` finds to fit, chosen when the run starts.
    /// Default: 16384.
    pub micro_tokens: MicroTokens,
    /// Whether blocks are computed again for their gradients, so that only their inputs are kept: less memory, for the time of
    /// one more forward pass. Default: `auto`, which is `on` for accelerators and 16-bit types, where a block keeps the most.
    pub recompute: Recompute,
    /// MiB of what sampling computes that are kept for the update, which computes no forward pass then. Default: 2048; 0 keeps nothing.
    pub kept_activations_mib: usize,
    /// Collections made to fill a step from groups that the objective admits, before the run stops. Default: 20; 0 is
    /// without limit.
    pub max_tries: usize,
    /// Prompts of one such collection. Default: `prompts_per_update`.
    pub prompts_per_try: usize,
    /// Prompts of a try that are sampled before it is looked whether the step is full already, and the rest of the try left out. What is
    /// learned does not change. Default: 0, the whole try is sampled.
    pub prompts_per_look: usize,
    /// Steps between checkpoints; the last step is always saved. Default: 5; 0 is only the last.
    pub checkpoint_every: usize,
    /// Checkpoints kept, the newest. Default: 3; 0 keeps all.
    pub keep_last: usize,
    /// Whether the checkpoint with the best validation accuracy is kept besides. Default: true.
    pub keep_best: bool,
    /// Updates in a row that may be skipped for a non-finite loss or gradient before the run stops. Default: 3.
    pub max_nonfinite_updates: usize,
    /// What happens when a loss or gradient is not finite, a gradient is zero although there is something to learn, a ratio of probabilities
    /// explodes, or the policy seems to game the perception term: `stop` records the update and ends the run with the last good weights;
    /// `record` records the first of each kind and goes on; `ignore` does neither. Default: `stop`.
    pub on_incident: OnIncident,
    /// Largest log of a token's probability over that which it was sampled with that is believed. Default: 10.0.
    pub log_ratio_limit: f64,
    /// Steps in each of the two spans whose means are compared for signs that the perception term is gamed. Default: 10; 0 does not look.
    pub collapse_window: usize,
    /// Seconds after which a part of a step tells what it waits for, again each time they have passed twice as often. Default: 1800; 0 never.
    pub deadline_seconds: u64,
    /// Responses written to `samples.jsonl` each step. Default: 16.
    pub samples_per_step: usize,
    /// Prompts of these whose pictures are written, too, whole and masked, as the policy is shown them. Default: 2.
    pub pictures_per_step: usize,
}

impl Default for TrainerConfig {
    fn default() -> Self {
        Self {
            run_dir: PathBuf::from("runs/run"),
            seed: 1,
            steps: None,
            epochs: 2,
            prompts_per_update: 128,
            micro_tokens: MicroTokens::Count(16384),
            recompute: Recompute::Auto,
            kept_activations_mib: 2048,
            max_tries: 20,
            prompts_per_try: 128,
            prompts_per_look: 0,
            checkpoint_every: 5,
            keep_last: 3,
            keep_best: true,
            max_nonfinite_updates: 3,
            on_incident: OnIncident::Stop,
            log_ratio_limit: 10.0,
            collapse_window: 10,
            deadline_seconds: 1800,
            samples_per_step: 16,
            pictures_per_step: 2,
        }
    }
}

/// What a run does when something is wrong with an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnIncident {
    #[default]
    Stop,
    Record,
    Ignore,
}

/// How many tokens are computed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MicroTokens {
    Count(usize),
    /// As many as fit.
    Auto,
}

impl MicroTokens {
    /// The number, where there is one.
    pub fn count(self) -> Option<usize> {
        match self {
            Self::Count(count) => Some(count),
            Self::Auto => None,
        }
    }
}

impl Serialize for MicroTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u64(*count as u64),
            Self::Auto => serializer.serialize_str("auto"),
        }
    }
}

impl<'de> Deserialize<'de> for MicroTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountOrAuto;
        impl Visitor<'_> for CountOrAuto {
            type Value = MicroTokens;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of tokens or \"auto\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<MicroTokens, E> {
                let count = usize::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))?;
                Ok(MicroTokens::Count(count))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<MicroTokens, E> {
                let count = usize::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))?;
                Ok(MicroTokens::Count(count))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<MicroTokens, E> {
                match value {
                    "auto" => Ok(MicroTokens::Auto),
                    _ => Err(E::invalid_value(Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(CountOrAuto)
    }
}

/// Whether blocks are computed again for their gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    #[default]
    Auto,
    On,
    Off,
}

/// `[sft]`: the warm start on `data.solution_column`. Folder, seed, micro-batches and checkpoints are `[trainer]`'s, and
/// `[validation]` holds too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Steps of the warm start; where given, `epochs` does not count. Default: as many as `epochs` give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the training data. Default: 1.
    pub epochs: u64,
    /// Rows of one optimizer update, which is a step. Default: 16.
    pub rows_per_step: usize,
    /// `[sft.optimizer]`, with the same keys and defaults as `[optimizer]` and nothing taken over from it.
    pub optimizer: OptimizerConfig,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self { steps: None, epochs: 1, rows_per_step: 16, optimizer: OptimizerConfig::default() }
    }
}
