//! `percept eval`.

use crate::App;
use crate::categories::Categories;
use crate::device::DeviceFlag;
use crate::grading::RubricGrader;
use crate::parts::{Parts, corruption};
use crate::report::bar;
use crate::shown::Shown;
use crate::source::Source;
use anyhow::{Context, ensure};
use percept_config::RunConfig;
use percept_core::{FrozenPolicy, Task};
use percept_rollout::InProcess;
use percept_trainer::{Evaluation, RolloutSettings, RowResult, Settings, TaskSource, TrainError};
use percept_weights::write_atomically;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

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
    /// Only among so many most likely tokens; 0 is off
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Only the first rows
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) breakdown: Breakdown,
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

/// What scores are told apart by.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Breakdown {
    /// Tell scores apart by this column of the data
    #[arg(long, value_name = "COLUMN")]
    pub(crate) category: Option<String>,
    /// Measure how much of the score is owed to looking: the same rows with their pictures whole, masked, black, and swapped for
    /// those of other rows
    #[arg(long, conflicts_with = "corrupt")]
    pub(crate) reliance: bool,
    /// Shares of the pictures that --reliance masks
    #[arg(
        long,
        value_name = "SHARE,...",
        value_delimiter = ',',
        requires = "reliance",
        default_value = "0.2,0.4,0.6,0.8,1.0"
    )]
    pub(crate) ratios: Vec<f64>,
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
    if arguments.breakdown.reliance {
        return crate::reliance::run(app, arguments);
    }
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
    for tries in tries(k) {
        println!("pass@{tries:<3}            {:.4}", evaluation.pass_at(tries));
        summary.insert(format!("pass_at_{tries}"), json!(evaluation.pass_at(tries)));
    }
    summary.insert("rows".to_owned(), json!(evaluation.rows.len()));
    summary.insert("responses".to_owned(), json!(k));
    if arguments.breakdown.category.is_some() {
        let categories = Categories::of(&evaluation.rows, &names, k);
        print!("\n{}", categories.table(evaluation.judged_by(), k));
        summary.extend(categories.json());
    }
    if let Some(path) = &arguments.json {
        write_json(path, &summary)?;
    }
    if let Some(path) = &arguments.rows {
        write_rows(path, &evaluation)?;
        println!("rows: {}", path.display());
    }
    Ok(())
}

/// The numbers of tries whose chance of passing is told: powers of two up to `k`.
pub(crate) fn tries(k: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |tries| Some(tries * 2)).take_while(move |&tries| tries <= k)
}

pub(crate) fn write_json(path: &Path, summary: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(summary)?;
    Ok(write_atomically(path, |file| writeln!(file, "{text}"))?)
}

pub(crate) fn write_rows(path: &Path, evaluation: &Evaluation) -> anyhow::Result<()> {
    Ok(write_atomically(path, |file| evaluation.rows.iter().try_for_each(|row| writeln!(file, "{}", row_json(row))))?)
}

/// Samples and grades.
pub(crate) fn measure(app: &App, arguments: &Arguments) -> anyhow::Result<Evaluation> {
    let parts = parts(arguments)?;
    let shown = arguments.corrupt.as_deref().map(|kind| shown(&parts.run, kind)).transpose()?;
    let mut exam = Exam::open(app, parts, arguments)?;
    exam.source.shown = shown.map_or(Shown::Whole, Shown::Corrupted);
    exam.sit("evaluating", None)
}

/// The parts that arguments name, when they can be carried out.
pub(crate) fn parts(arguments: &Arguments) -> anyhow::Result<Parts> {
    ensure!(arguments.responses > 0, "--responses must be at least 1");
    ensure!(
        arguments.temperature > 0.0 || arguments.responses == 1,
        "--temperature 0 is greedy: {} responses would all be equal; set --temperature 1.0",
        arguments.responses
    );
    Parts::new(configuration(
        arguments.config.as_ref(),
        &arguments.checkpoint,
        &arguments.device.over(&arguments.sets)?,
    )?)
}

/// A checkpoint and the questions that are put to it.
pub(crate) struct Exam {
    pub(crate) source: Source,
    grader: RubricGrader,
    policy: FrozenPolicy,
    sampler: InProcess,
    settings: Settings,
    sampling: RolloutSettings,
}

impl Exam {
    pub(crate) fn open(app: &App, parts: Parts, arguments: &Arguments) -> anyhow::Result<Self> {
        let source = parts.benchmark(&arguments.data, arguments.breakdown.category.as_deref(), arguments.limit)?;
        let grader = parts.grader(app)?;
        let policy = parts.policy(&parts.run.model.checkpoint, false)?;
        let rows = parts.run.rollout.max_rows;
        let sampling = RolloutSettings {
            prompts_per_step: rows.div_ceil(arguments.responses).max(1),
            responses_per_prompt: arguments.responses,
            temperature: arguments.temperature,
            top_p: arguments.top_p,
            top_k: arguments.top_k,
            min_p: 0.0,
            max_new_tokens: parts.run.validation.max_new_tokens,
        };
        let settings = parts.settings(1, policy.vocabulary());
        Ok(Self { source, grader, policy: policy.freeze(), sampler: InProcess::new(rows), settings, sampling })
    }

    /// Responses to all rows, or to those of some visits, graded. The same visit gets the same random numbers each time.
    pub(crate) fn sit(&mut self, what: &str, visits: Option<&BTreeSet<u64>>) -> anyhow::Result<Evaluation> {
        let progress = bar(what);
        let told = |done: usize, total: usize| {
            progress.set_length(total as u64);
            progress.set_position(done as u64);
        };
        let mut source = Chosen { source: &mut self.source, visits };
        let (settings, sampling) = (&self.settings, &self.sampling);
        let evaluation = percept_trainer::evaluate(
            &self.policy,
            &mut source,
            &mut self.sampler,
            &self.grader,
            settings,
            sampling,
            None,
            &told,
        );
        progress.finish_and_clear();
        Ok(evaluation?)
    }
}

/// A source of which only some visits are made, or all.
struct Chosen<'a> {
    source: &'a mut Source,
    visits: Option<&'a BTreeSet<u64>>,
}

impl TaskSource for Chosen<'_> {
    fn num_rows(&self) -> usize {
        self.source.num_rows()
    }

    fn task(&mut self, visit: u64) -> Result<Option<Task>, TrainError> {
        if self.visits.is_some_and(|visits| !visits.contains(&visit)) { Ok(None) } else { self.source.task(visit) }
    }
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
    let mut all = json!({
        "row": row.place,
        "problem": row.problem,
        "answer": row.answer,
        "responses": row.texts,
        "overall": row.rewards,
        "parts": parts,
    });
    if let Some(category) = &row.category {
        all["category"] = json!(category);
    }
    all
}
