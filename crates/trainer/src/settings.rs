//! What the trainer is told. Defaults live with the configuration.

use crate::incident::WatchSettings;
use percept_ops::MomentType;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Settings {
    pub run_dir: PathBuf,
    pub seed: u64,
    /// Steps in all, also for schedules.
    pub steps: u64,
    /// Prompts behind one optimizer update.
    pub prompts_per_update: usize,
    /// Tokens computed at once, prompts counted once for each group.
    pub micro_tokens: usize,
    /// Whether they were chosen by what fits, and may be others when the run is resumed.
    pub micro_tokens_chosen: bool,
    /// Whether only inputs of pieces are kept for the gradient, and the pieces computed again.
    pub recompute: bool,
    /// Tries of dynamic sampling; 0 is no limit.
    pub max_tries: usize,
    /// Prompts sampled in each try of dynamic sampling.
    pub prompts_per_try: usize,
    /// Prompts of a try that are sampled before it is looked whether the step is full; 0 samples the whole try.
    pub prompts_per_look: usize,
    /// Steps between checkpoints; 0 saves the last step only.
    pub checkpoint_every: u64,
    /// Checkpoints kept beside the best; 0 keeps all.
    pub keep_last: usize,
    pub keep_best: bool,
    /// Whether a checkpoint of a run of another length may be resumed: who asked for it knows that schedules change.
    pub may_change_length: bool,
    /// Updates with a non-finite loss or gradient in a row that stop the run.
    pub max_nonfinite_updates: usize,
    /// What is looked for, and what is done about it.
    pub watch: WatchSettings,
    /// Seconds after which a part of a step tells what it waits for; 0 never does.
    pub deadline_seconds: u64,
    /// Responses written to samples.jsonl in each step.
    pub samples_per_step: usize,
    /// Prompts of them whose pictures are written, too.
    pub pictures_per_step: usize,
    /// Most bytes of what sampling computes that are kept for the update; 0 keeps nothing.
    pub kept_activations: usize,
    pub rollout: RolloutSettings,
    pub validation: ValidationSettings,
    pub optimizer: OptimizerSettings,
    /// Which exact weights are kept beside a checkpoint's for resuming.
    pub kept_weights: KeptWeights,
    /// Ids of stop tokens and of tokens that are never sampled.
    pub stop_tokens: Vec<u32>,
    pub banned_tokens: Vec<u32>,
}

/// Which exact weights a checkpoint's state holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptWeights {
    /// None: the checkpoint holds them.
    None,
    /// All: the checkpoint's are rounded.
    All,
    /// Those that learn: the others come from where the run started.
    Learning,
}

#[derive(Clone, Debug)]
pub struct RolloutSettings {
    pub prompts_per_step: usize,
    pub responses_per_prompt: usize,
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: usize,
    pub min_p: f32,
    pub max_new_tokens: usize,
}

#[derive(Clone, Debug)]
pub struct ValidationSettings {
    /// Steps between validations; 0 is never.
    pub every: u64,
    pub before_training: bool,
    pub limit: Option<usize>,
    pub sampling: RolloutSettings,
}

/// AdamW, clipping, and the learning rate of each step.
#[derive(Clone)]
pub struct OptimizerSettings {
    pub betas: [f64; 2],
    pub epsilon: f64,
    pub weight_decay: f64,
    /// Global norm; infinite is off.
    pub max_grad_norm: f64,
    /// How moments are held between updates.
    pub moments: MomentType,
    /// Whether they stay in the host's memory between updates.
    pub offload: bool,
    /// Of how moments are rounded.
    pub seed: u64,
    /// Learning rate at (step, total steps).
    pub learning_rate: std::sync::Arc<dyn Fn(u64, u64) -> f64 + Send + Sync>,
}

impl std::fmt::Debug for OptimizerSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AdamW betas {:?}, epsilon {}, weight decay {}", self.betas, self.epsilon, self.weight_decay)
    }
}

#[derive(Clone, Debug)]
pub struct SftSettings {
    pub steps: u64,
    pub rows_per_step: usize,
}
