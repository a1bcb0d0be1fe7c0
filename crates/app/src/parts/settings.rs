//! What the trainer is told, from a run's configuration.

use crate::plan::smallest_micro_tokens;
use percept_config::{RunConfig, SaveDtype};
use percept_ops::MomentType;
use percept_trainer::{
    KeptWeights, OnIncident, OptimizerSettings, RolloutSettings, Settings, ValidationSettings, WatchSettings,
};
use std::sync::Arc;

/// All that does not depend on a tokenizer: no token stops a response, and none is banned.
pub(crate) fn settings(run: &RunConfig, steps: u64, recompute: bool) -> Settings {
    let rollout = &run.rollout;
    let sampling = RolloutSettings {
        prompts_per_step: rollout.prompts_per_step,
        responses_per_prompt: rollout.responses_per_prompt,
        temperature: rollout.temperature as f32,
        top_p: rollout.top_p as f32,
        top_k: rollout.top_k,
        min_p: rollout.min_p as f32,
        max_new_tokens: rollout.max_new_tokens,
    };
    let validation = &run.validation;
    let evaluation = RolloutSettings {
        // as many prompts at a time as fill the decoder
        prompts_per_step: rollout.max_rows.div_ceil(validation.responses_per_prompt).max(1),
        responses_per_prompt: validation.responses_per_prompt,
        temperature: validation.temperature as f32,
        top_p: validation.top_p as f32,
        top_k: validation.top_k,
        min_p: validation.min_p as f32,
        max_new_tokens: validation.max_new_tokens,
    };
    let trainer = &run.trainer;
    Settings {
        run_dir: trainer.run_dir.clone(),
        seed: trainer.seed,
        steps,
        prompts_per_update: trainer.prompts_per_update,
        micro_tokens: trainer.micro_tokens.count().unwrap_or_else(|| smallest_micro_tokens(run)),
        micro_tokens_chosen: trainer.micro_tokens.count().is_none(),
        recompute,
        kept_activations: trainer.kept_activations_mib.saturating_mul(1 << 20),
        max_tries: trainer.max_tries,
        prompts_per_try: trainer.prompts_per_try,
        prompts_per_look: trainer.prompts_per_look,
        checkpoint_every: trainer.checkpoint_every as u64,
        keep_last: trainer.keep_last,
        keep_best: trainer.keep_best,
        may_change_length: false,
        watch: WatchSettings {
            on_incident: match trainer.on_incident {
                percept_config::OnIncident::Stop => OnIncident::Stop,
                percept_config::OnIncident::Record => OnIncident::Record,
                percept_config::OnIncident::Ignore => OnIncident::Ignore,
            },
            log_ratio_limit: trainer.log_ratio_limit,
            collapse_window: trainer.collapse_window,
        },
        deadline_seconds: trainer.deadline_seconds,
        max_nonfinite_updates: trainer.max_nonfinite_updates,
        samples_per_step: trainer.samples_per_step,
        pictures_per_step: trainer.pictures_per_step,
        rollout: sampling,
        validation: ValidationSettings {
            every: validation.every as u64,
            before_training: validation.before_training,
            limit: validation.limit,
            sampling: evaluation,
        },
        optimizer: optimizer(&run.optimizer, trainer.seed),
        kept_weights: match (&run.model.lora, run.model.save_dtype) {
            (Some(_), _) => KeptWeights::Learning,
            (None, SaveDtype::F32) => KeptWeights::None,
            (None, _) => KeptWeights::All,
        },
        stop_tokens: Vec::new(),
        banned_tokens: Vec::new(),
    }
}

pub(crate) fn optimizer(config: &percept_config::OptimizerConfig, seed: u64) -> OptimizerSettings {
    let schedule = config.clone();
    OptimizerSettings {
        betas: config.betas,
        epsilon: config.eps,
        weight_decay: config.weight_decay,
        max_grad_norm: config.max_grad_norm,
        moments: match config.moments {
            percept_config::MomentType::F32 => MomentType::F32,
            percept_config::MomentType::Bf16 => MomentType::Bf16,
            percept_config::MomentType::EightBit => MomentType::EightBit,
        },
        offload: config.offload,
        seed,
        learning_rate: Arc::new(move |step, total| schedule.learning_rate_at(step, total)),
    }
}
