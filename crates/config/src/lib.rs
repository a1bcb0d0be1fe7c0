//! The configuration of a run: one TOML file, typed, strict, and layered.
//!
//! Four layers, each above the one before: built-in defaults (the values of the PAPO paper and its scripts,
//! arXiv 2507.06448), the file, environment variables `PERCEPT__SECTION__KEY`, and `--set section.key=value`.
//! [`RunConfig::load`] merges them, refuses what it does not know (with the place it came from and the nearest key it
//! does know) and checks that the values agree with each other. What is resolved can be written with
//! [`RunConfig::to_toml`] and loaded again unchanged.
//!
//! Sections that belong to somebody else (`[objective]`, `[data.corruption]`, the entries of `reward.verifiers`) are
//! kept as tables: their owners give them a type with [`RunConfig::section`] or [`parse_section`].

mod data;
mod device;
mod difference;
pub mod easyr1;
mod error;
mod layers;
mod model;
mod optimizer;
mod plan;
pub mod reference;
mod reward;
mod run;
mod sampling;
mod section;
mod strict;
mod suggest;
mod trainer;
mod validate;

pub use data::{Alpha, DataConfig, FormatPrompt, OnBadRow, SpecialTokensInText, TrainingPicture};
pub use device::{Backend, DeviceConfig, FloatType};
pub use difference::{Difference, check_key, is_under};
pub use error::ConfigError;
pub use model::{LoraConfig, ModelConfig, SaveDtype, SaveLora};
pub use optimizer::{MomentType, OptimizerConfig, OptimizerKind, Schedule};
pub use plan::{BatchPlan, SftPlan};
pub use reward::RewardConfig;
pub use run::RunConfig;
pub use sampling::{RolloutConfig, ValidationConfig};
pub use section::{kind_of, parse_section, unknown_kind, wrong_value};
pub use strict::fields_of;
pub use suggest::nearest;
pub use trainer::{MicroTokens, OnIncident, Recompute, SftConfig, TrainerConfig};
