//! `percept eval`.

use crate::App;
use crate::device::DeviceFlag;
use crate::parts::{Parts, corruption};
use crate::report::bar;
use anyhow::{Context, ensure};
use percept_config::RunConfig;
use percept_rollout::InProcess;
use percept_trainer::{Evaluation, RolloutSettings, RowResult};
use percept_weights::write_atomically;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Checkpoint folder
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint: PathBuf,
    /// Parquet or JSONL files (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) data: Vec<PathBuf>,
    /// Take columns, prompt, verifiers and limits from this run's configuration
    #[arg(long, value_name = "RUN.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Override a key of the configuration (repeatable)
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    #[command(flatten)]
    pub(crate) device: DeviceFlag,
    /// Responses to each question
    #[arg(long, short = 'k', default_value_t = 1)]
    pub(crate) responses: usize,
    /// 0 is greedy
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// Only the first rows
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// Corrupt the pictures first, to see what the model owes to looking: black, white, mean, blacken, gaussian_noise, gaussian_blur
    #[arg(long, value_name = "KIND")]
    pub(crate) corrupt: Option<String>,
    /// Write each row's responses and scores here, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(crate) rows: Option<PathBuf>,
    /// Write the averages here, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// A configuration for commands that work on a bare checkpoint.
pub(crate) fn configuration(
    config: Option<&PathBuf>,
    checkpoint: &std::path::Path,
    sets: &[String],
) -> anyhow::Result<RunConfig> {
    let path = checkpoint.to_str().context("the checkpoint's path is not Unicode")?;
    let mut all = vec![format!("model.checkpoint={}", toml::Value::from(path))];
    all.extend_from_slice(sets);
    Ok(match config {
        Some(file) => RunConfig::load(file, &all)?,
        None => RunConfig::parse("defaults", "", &[], &all)?,
    })
}

pub(crate) fn run(app: &App, arguments: &Arguments) -> anyhow::Result<()> {
    let evaluation = measure(app, arguments)?;
    let names: Vec<String> = evaluation.rows[0].parts.iter().map(|(name, _)| name.clone()).collect();
    let k = arguments.responses;
    let mut summary = serde_json::Map::new();
    println!("{} rows, {k} responses each, temperature {}", evaluation.rows.len(), arguments.temperature);
    for name in names.iter().map(String::as_str).chain(["overall"]) {
        let mean = evaluation.average(name).unwrap_or(0.0);
        println!("avg@{k} {name:<12} {mean:.4}");
        summary.insert(format!("avg_{name}"), json!(mean));
    }
    let mut tries = 1;
    while tries <= k {
        println!("pass@{tries:<3}            {:.4}", evaluation.pass_at(tries));
        summary.insert(format!("pass_at_{tries}"), json!(evaluation.pass_at(tries)));
        tries *= 2;
    }
    summary.insert("rows".to_owned(), json!(evaluation.rows.len()));
    summary.insert("responses".to_owned(), json!(k));
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&summary)?;
        write_atomically(path, |file| writeln!(file, "{text}"))?;
    }
    if let Some(path) = &arguments.rows {
        write_atomically(path, |file| evaluation.rows.iter().try_for_each(|row| writeln!(file, "{}", row_json(row))))?;
        println!("rows: {}", path.display());
    }
    Ok(())
}

/// Samples and grades.
pub(crate) fn measure(app: &App, arguments: &Arguments) -> anyhow::Result<Evaluation> {
    ensure!(arguments.responses > 0, "--responses must be at least 1");
    ensure!(
        arguments.temperature > 0.0 || arguments.responses == 1,
        "--temperature 0 is greedy: {} responses would all be equal; set --temperature 1.0",
        arguments.responses
    );
    let parts = Parts::new(configuration(
        arguments.config.as_ref(),
        &arguments.checkpoint,
        &arguments.device.over(&arguments.sets)?,
    )?)?;
    let mut source = parts.source(&arguments.data, false, false, arguments.limit)?;
    source.shown = arguments.corrupt.as_deref().map(|kind| shown(&parts.run, kind)).transpose()?;
    let grader = parts.grader(app)?;
    let policy = parts.policy(&parts.run.model.checkpoint, false)?;
    let settings = parts.settings(1, policy.vocabulary());
    let rows = parts.run.rollout.max_rows;
    let sampling = RolloutSettings {
        prompts_per_step: rows.div_ceil(arguments.responses).max(1),
        responses_per_prompt: arguments.responses,
        temperature: arguments.temperature,
        top_p: arguments.top_p,
        top_k: 0,
        min_p: 0.0,
        max_new_tokens: parts.run.validation.max_new_tokens,
    };
    let progress = bar("evaluating");
    let policy = policy.freeze();
    let mut sampler = InProcess::new(rows);
    let told = |done: usize, total: usize| {
        progress.set_length(total as u64);
        progress.set_position(done as u64);
    };
    let evaluation =
        percept_trainer::evaluate(&policy, &mut source, &mut sampler, &grader, &settings, &sampling, None, &told);
    progress.finish_and_clear();
    Ok(evaluation?)
}

fn shown(run: &RunConfig, kind: &str) -> anyhow::Result<Box<dyn percept_vision::Corruption>> {
    let mut table = toml::Table::new();
    match kind {
        "black" | "white" | "mean" => {
            table.insert("kind".to_owned(), "blank".into());
            table.insert("color".to_owned(), kind.into());
        }
        other => {
            table.insert("kind".to_owned(), other.into());
        }
    }
    corruption(run, &table).with_context(|| {
        format!("--corrupt {kind} is not black, white, mean, or a kind of corruption that needs no keys")
    })
}

fn row_json(row: &RowResult) -> serde_json::Value {
    let parts: serde_json::Map<String, serde_json::Value> =
        row.parts.iter().map(|(name, scores)| (name.clone(), json!(scores))).collect();
    json!({
        "row": row.task.place,
        "problem": row.task.problem,
        "answer": row.task.answer,
        "responses": row.texts,
        "overall": row.rewards,
        "parts": parts,
    })
}
