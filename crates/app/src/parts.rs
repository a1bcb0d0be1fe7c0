//! The parts of a run, built from its configuration.

mod policies;
mod settings;
mod sources;

pub(crate) use policies::adapting;
pub(crate) use settings::{optimizer, settings};

use crate::App;
use crate::device::Found;
use crate::grading::RubricGrader;
use crate::source::Preparation;
use anyhow::{Context, ensure};
use burn::tensor::DType;
use percept_config::{Alpha, Backend, FormatPrompt, Recompute, RunConfig, SaveDtype, SaveLora, SpecialTokensInText};
use percept_core::Objective;
use percept_models::{Placement, SpecialIds};
use percept_reward::RubricConfig;
use percept_text::{ChatTemplate, GenerationConfig, PromptBuilder, PromptOptions, SpecialTokens, Tokenizer};
use percept_trainer::{SavePolicy, Settings, TrainError};
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
        Settings {
            stop_tokens: self.generation.eos.clone(),
            banned_tokens: self.banned(vocabulary),
            ..settings(&self.run, steps, self.recompute())
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
