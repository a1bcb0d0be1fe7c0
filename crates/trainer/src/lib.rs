//! Collects verified responses and improves the policy with them.
//!
//! Read `step.rs` first: it is one training step, top to bottom. Nothing here knows which objective runs: an objective declares the
//! views it needs, and the trainer computes them.

mod batch;
mod checkpoint;
mod error;
mod evaluate;
mod incident;
mod memory;
mod metrics;
mod optimizer;
mod poison;
mod portion;
mod refill;
mod run;
mod samples;
mod seams;
mod settings;
mod sft;
mod step;
mod update;
mod views;
mod watch;

pub use batch::{Batch, CollectedGroup, ViewNumbers};
pub use checkpoint::{
    Checkpoint, Resume, StagedCheckpoint, State, find_resume, point, read_pointer, read_state, set_aside, step_name,
};
pub use error::TrainError;
pub use evaluate::{Evaluation, RowResult, evaluate, pass_at_k};
pub use incident::{Bundle, Diagnosis, History, Kind, OnIncident, WatchSettings, diagnose};
pub use memory::peak_rss_mib;
pub use metrics::{Metrics, MetricsFile};
pub use optimizer::Optimizer;
pub use portion::is_out_of_memory;
pub use refill::{Progress as RefillProgress, Refill};
pub use run::{Outcome, Run};
pub use seams::{Grade, Grader, SavePolicy, TaskSource};
pub use settings::{KeptWeights, OptimizerSettings, RolloutSettings, Settings, SftSettings, ValidationSettings};
pub use sft::{CrossEntropy, SftRun};
pub use step::{Collector, Phases, Reference};
pub use update::{Moment, Numbers, UpdateReport, Updater};
pub use watch::{Event, Watch};
