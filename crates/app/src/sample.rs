//! `percept sample`: one question about some pictures.

use crate::device::DeviceFlag;
use crate::evaluate::configuration;
use crate::parts::Parts;
use anyhow::Context;
use percept_core::{Finish, Sampler};
use percept_rollout::InProcess;
use percept_trainer::{RolloutSettings, TaskSource};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Checkpoint folder
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Picture (repeatable); <image> in the question says where it stands, else all come first
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    #[arg(long, value_name = "TEXT")]
    question: String,
    /// Take the prompt's format and limits from this run's configuration
    #[arg(long, value_name = "RUN.toml")]
    config: Option<PathBuf>,
    /// Override a key of the configuration (repeatable)
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    device: DeviceFlag,
    /// 0 is greedy
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    #[arg(long, default_value_t = 512)]
    max_new_tokens: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut sets = arguments.device.over(&arguments.sets)?;
    sets.push(format!("trainer.seed={}", arguments.seed));
    let parts = Parts::new(configuration(arguments.config.as_ref(), &arguments.checkpoint, &sets)?)?;
    let problem = match arguments.question.contains("<image>") {
        true => arguments.question.clone(),
        false => "<image>".repeat(arguments.image.len()) + &arguments.question,
    };
    // one row of a data set, so that the question takes the same way as in training
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let file = folder.path().join("question.jsonl");
    let images = arguments.image.iter().map(|path| std::path::absolute(path).map(|path| path.display().to_string()));
    let images: Vec<String> = images.collect::<Result<_, _>>()?;
    let columns = &parts.run.data;
    let row = json!({ &columns.problem_column: problem, &columns.answer_column: "?", &columns.image_column: images });
    std::fs::File::create(&file)?.write_all(format!("{row}\n").as_bytes())?;
    let mut source = parts.source(&[file], false, false, None)?;
    let task = source.task(0)?.context("the question is longer than data.max_prompt_tokens")?;
    let policy = parts.policy(&parts.run.model.checkpoint, false)?;
    let settings = parts.settings(1, policy.vocabulary());
    let sampling = RolloutSettings {
        prompts_per_step: 1,
        responses_per_prompt: 1,
        temperature: arguments.temperature,
        top_p: arguments.top_p,
        top_k: 0,
        min_p: 0.0,
        max_new_tokens: arguments.max_new_tokens,
    };
    let spec = sampling.spec(&settings, 0, true);
    let groups = InProcess::new(1).sample(&policy.freeze(), &[Arc::clone(&task.prompt)], &spec)?;
    let response = &groups[0].responses[0];
    println!("{}", parts.tokenizer.decode(&response.tokens, true)?);
    if response.finish == Finish::Length {
        eprintln!("(cut off after {} tokens)", response.tokens.len());
    }
    Ok(())
}
