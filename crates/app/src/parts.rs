//! The parts of a run, built from its configuration.

mod policies;
mod sources;

use crate::App;
use crate::device::Found;
use crate::grading::RubricGrader;
use crate::plan::smallest_micro_tokens;
use crate::source::Preparation;
use anyhow::{Context, ensure};
use burn::tensor::DType;
use percept_config::{Alpha, Backend, FormatPrompt, Recompute, RunConfig, SaveDtype, SaveLora, SpecialTokensInText};
use percept_core::Objective;
use percept_models::{Placement, SpecialIds};
use percept_ops::MomentType;
use percept_reward::RubricConfig;
use percept_text::{ChatTemplate, GenerationConfig, PromptBuilder, PromptOptions, SpecialTokens, Tokenizer};
use percept_trainer::{
    KeptWeights, OnIncident, OptimizerSettings, RolloutSettings, SavePolicy, Settings, TrainError, ValidationSettings,
    WatchSettings,
};
use percept_vision::{CorruptionConfig, Limits, Preprocessor};
use percept_weights::Dtype;
use std::path::Path;
use std::sync::Arc;

/// What every command needs of a checkpoint and a configuration.
pub(crate) struct Parts {
    pub(crate) run: RunConfig,
    pub(crate) found: Found,
    pub(crate) placement: Placement,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) generation: GenerationConfig,
    pub(crate) special: SpecialIds,
    pub(crate) preparation: Arc<Preparation>,
}

impl Parts {
    pub(crate) fn new(run: RunConfig) -> anyhow::Result<Self> {
        let folder = run.model.checkpoint.clone();
        ensure!(
            folder.is_dir(),
            "{}: no such folder; model.checkpoint names a folder in Hugging Face layout (config.json, *.safetensors, tokenizer.json)",
            folder.display()
        );
        let (found, placement) = crate::device::open(&run.device)?;
        let rounds = run.optimizer.moments == percept_config::MomentType::Bf16 && found.backend != Backend::Cpu;
        ensure!(
            !rounds || placement.device.supports_dtype(DType::BF16),
            "optimizer.moments = \"bf16\": {} does not compute in bfloat16; take \"8bit\" or \"f32\"",
            found.key()
        );
        // wrong keys are wrong whether the objective asks for a masked view or not
        corruption(&run, &run.data.corruption)?;
        let special = percept_models::special_ids(&folder)?;
        let tokenizer = Tokenizer::from_folder(&folder)?;
        let generation = GenerationConfig::from_folder(&folder, &tokenizer)?;
        let preparation = Arc::new(preparation(&run, &folder, &special, &generation)?);
        Ok(Self { run, found, placement, tokenizer: Arc::new(tokenizer), generation, special, preparation })
    }

    pub(crate) fn grader(&self, app: &App) -> anyhow::Result<RubricGrader> {
        // the two crates do not know each other: the section is handed over as TOML
        let table = toml::Table::try_from(&self.run.reward).context("[reward]")?;
        let config: RubricConfig = table.try_into().context("[reward]")?;
        Ok(RubricGrader { rubric: app.verifiers.rubric(&config)?, tokenizer: self.tokenizer.clone() })
    }

    /// The objective, with the rubric parts it reads checked.
    pub(crate) fn objective(&self, app: &App) -> anyhow::Result<Box<dyn Objective>> {
        let objective = app.objectives.build(&self.run)?;
        let names: Vec<&str> = self.run.reward.names().collect();
        for part in objective.parts_read() {
            ensure!(
                part == "overall" || names.contains(&part.as_str()),
                "objective.filter_key = {part:?} names no verifier; there are {names:?} and \"overall\""
            );
        }
        Ok(objective)
    }

    /// Ids that are never sampled: placeholders, and rows of the vocabulary that stand for no text.
    pub(crate) fn banned(&self, vocabulary: usize) -> Vec<u32> {
        let mut banned: Vec<u32> = std::iter::once(self.special.image).chain(self.special.video).collect();
        banned.extend(self.tokenizer.len() as u32..vocabulary as u32);
        banned
    }

    pub(crate) fn settings(&self, steps: u64, vocabulary: usize) -> Settings {
        let run = &self.run;
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
            recompute: self.recompute(),
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
            stop_tokens: self.generation.eos.clone(),
            banned_tokens: self.banned(vocabulary),
        }
    }

    /// Whether blocks are computed again for their gradients.
    pub(crate) fn recompute(&self) -> bool {
        let fused = percept_ops::is_fused(&self.placement.device) && self.placement.dtype == DType::F32;
        recomputes(self.run.trainer.recompute, fused)
    }

    /// Writes checkpoints with the companions of the one that the run started from.
    pub(crate) fn save(&self) -> Box<SavePolicy> {
        let source = self.run.model.checkpoint.clone();
        let dtype = match self.run.model.save_dtype {
            SaveDtype::F32 => Dtype::F32,
            SaveDtype::F16 => Dtype::F16,
            SaveDtype::Bf16 => Dtype::BF16,
        };
        let adapter = self.run.model.lora.clone().filter(|lora| lora.save == SaveLora::Adapter);
        Box::new(move |policy, folder| {
            let saved = match &adapter {
                Some(lora) => percept_models::save_adapter(policy, &source, folder, lora.alpha, lora.dropout),
                None => percept_models::save(policy, &source, folder, dtype),
            };
            saved.map_err(TrainError::seam)
        })
    }
}

/// Whether blocks are computed again for their gradients. The fused kernels of the CPU keep little without that.
pub(crate) fn recomputes(key: Recompute, fused: bool) -> bool {
    match key {
        Recompute::Auto => !fused,
        Recompute::On => true,
        Recompute::Off => false,
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

pub(crate) fn corruption(run: &RunConfig, table: &toml::Table) -> anyhow::Result<Box<dyn percept_vision::Corruption>> {
    let config: CorruptionConfig = run.section(table, "data.corruption")?;
    Ok(config.build()?)
}

/// The text around a problem.
pub(crate) fn format_prompt(run: &RunConfig) -> anyhow::Result<percept_text::FormatPrompt> {
    let name = match &run.data.format_prompt {
        FormatPrompt::Papo => "math_perception".to_owned(),
        FormatPrompt::Plain => "none".to_owned(),
        FormatPrompt::File(path) => path.display().to_string(),
    };
    Ok(percept_text::FormatPrompt::load(&name, Path::new("."))?)
}

fn preparation(
    run: &RunConfig,
    folder: &Path,
    special: &SpecialIds,
    generation: &GenerationConfig,
) -> anyhow::Result<Preparation> {
    let data = &run.data;
    let options = PromptOptions {
        image_token: special.image,
        video_token: special.video,
        special_tokens_in_text: match data.special_tokens_in_text {
            SpecialTokensInText::Text => SpecialTokens::AsText,
            SpecialTokensInText::Allow => SpecialTokens::Allow,
        },
        template: serde_json::Map::new(),
    };
    let prompts = PromptBuilder::new(
        Tokenizer::from_folder(folder)?,
        ChatTemplate::from_folder(folder)?,
        format_prompt(run)?,
        options,
    )?;
    Ok(Preparation {
        prompts,
        preprocessor: Preprocessor::from_folder(folder)?,
        limits: Limits { max_pixels: data.max_picture_pixels, ..Limits::default() },
        min_pixels: data.min_pixels,
        max_pixels: data.max_pixels,
        alpha: match data.alpha {
            Alpha::White => percept_vision::Alpha::OverWhite,
            Alpha::Drop => percept_vision::Alpha::Drop,
        },
        max_prompt_tokens: data.max_prompt_tokens,
        has_images: !data.image_column.is_empty(),
        end_token: *generation.eos.first().context("generation_config.json: no end token")?,
        seed: run.trainer.seed,
    })
}
