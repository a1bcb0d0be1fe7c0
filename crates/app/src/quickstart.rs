//! `percept quickstart`: from nothing to a small model that looks, through the same files and commands as a real run.

use crate::cli::RunArguments;
use crate::device::DeviceFlag;
use crate::output::{OutputFlags, say};
use crate::{App, evaluate, task, train};
use anyhow::{Context, ensure};
use clap::Parser;
use percept_trainer::read_pointer;
use percept_weights::write_atomically;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Where everything goes; an earlier quickstart there is replaced
    #[arg(long, value_name = "DIR", default_value = "runs/quickstart")]
    dir: PathBuf,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The method: papo_g, papo_d, grpo or dapo
    #[arg(long, default_value = "papo_g")]
    objective: String,
    /// Training steps
    #[arg(long, default_value_t = 300)]
    steps: u64,
    /// Threads; all when absent
    #[arg(long)]
    threads: Option<usize>,
    /// Device: a backend and a number as `percept devices` lists them, for example cuda:0
    #[arg(long, value_name = "BACKEND[:INDEX]", default_value = "cpu")]
    device: String,
    #[command(flatten)]
    output: OutputFlags,
}

/// A command line of `percept task`, parsed as the program would.
#[derive(Parser)]
struct TaskCommand {
    #[command(flatten)]
    arguments: task::Arguments,
}

#[derive(Clone, Copy, Debug)]
struct Score {
    accuracy: f64,
    blank_accuracy: f64,
}

pub(crate) fn run(app: &App, arguments: &Arguments) -> anyhow::Result<()> {
    arguments.output.apply();
    let start = Instant::now();
    let dir = &arguments.dir;
    clear(dir)?;
    let shown = |path: &Path| path.display().to_string();
    let (data, base) = (dir.join("data"), dir.join("base"));
    say!("1. A visual task, and a small model that knows nothing");
    let seed = arguments.seed.to_string();
    let (data_text, base_text) = (shown(&data), shown(&base));
    let words = ["percept task", "--out", &data_text, "--checkpoint", &base_text, "--seed", &seed];
    say!("   $ {}", words.join(" "));
    task::run(&TaskCommand::try_parse_from(words)?.arguments)?;

    say!("\n2. A warm start on a few worked solutions");
    let config = dir.join("run.toml");
    let device = DeviceFlag { device: Some(arguments.device.clone()) };
    let text = configuration(arguments, &device.keys()?);
    write_atomically(&config, |file| file.write_all(text.as_bytes()))?;
    let warm = RunArguments {
        config: config.clone(),
        sets: Vec::new(),
        device: DeviceFlag::default(),
        resume: false,
        allow_change: Vec::new(),
        dry_run: false,
        output: arguments.output.clone(),
    };
    say!("   $ percept sft {}", config.display());
    finished(train::sft(app, &warm)?)?;
    let run_dir = dir.join("run");
    let warm_start = read_pointer(&run_dir.join("sft"), "latest").context("the warm start left no checkpoint")?;

    say!("\n3. Reinforcement learning with {}", arguments.objective);
    let checkpoint = format!("model.checkpoint={}", warm_start.display());
    let rl = RunArguments { sets: vec![checkpoint.clone()], ..warm };
    say!("   $ percept train {} --set {checkpoint}", config.display());
    finished(train::train(app, &rl)?)?;
    let trained = read_pointer(&run_dir, "latest").context("the run left no checkpoint")?;

    say!("\n4. What it learned, on held-out pictures (greedy; blank: the same questions with a black picture)");
    let mut scores = Vec::new();
    for folder in [&base, &warm_start, &trained] {
        say!(
            "   $ percept eval --config {} --checkpoint {} --data {}/test.parquet [--corrupt black]",
            config.display(),
            folder.display(),
            data.display()
        );
        scores.push(score(app, &config, folder, &data)?);
    }
    table(&["base", "warm start", &arguments.objective], &scores);
    let seconds = start.elapsed().as_secs_f64();
    let entry = |score: &Score| json!({ "accuracy": score.accuracy, "blank_accuracy": score.blank_accuracy });
    let summary = json!({
        "base": entry(&scores[0]),
        "warm_start": entry(&scores[1]),
        "trained": entry(&scores[2]),
        "objective": arguments.objective,
        "seed": arguments.seed,
        "seconds": seconds,
    });
    let path = dir.join("summary.json");
    let text = serde_json::to_string_pretty(&summary)?;
    write_atomically(&path, |file| writeln!(file, "{text}"))?;
    println!(
        "\n{seconds:.0} seconds; numbers: {}; metrics of every step: {}",
        path.display(),
        run_dir.join("metrics.jsonl").display()
    );
    println!(
        "ask it: percept sample --config {} --checkpoint {} --image PICTURE --question \"How many red circles are in the image?\"",
        config.display(),
        trained.display()
    );
    Ok(())
}

/// Removes what an earlier quickstart left, and nothing else.
fn clear(dir: &Path) -> anyhow::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let empty = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?.next().is_none();
    ensure!(
        empty || dir.join("run.toml").exists() || dir.join("base").exists(),
        "{}: the folder is not empty and not a quickstart's; choose another with --dir",
        dir.display()
    );
    for name in ["data", "base", "run", "run.toml", "summary.json"] {
        let path = dir.join(name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{}: cannot be removed", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn finished(code: ExitCode) -> anyhow::Result<()> {
    // the commands end with success, or with an interruption that they have explained
    ensure!(format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS), "the quickstart was interrupted");
    Ok(())
}

fn score(app: &App, config: &Path, checkpoint: &Path, data: &Path) -> anyhow::Result<Score> {
    let measure = |corrupt: Option<&str>| -> anyhow::Result<f64> {
        let arguments = evaluate::Arguments {
            checkpoint: checkpoint.to_owned(),
            data: vec![data.join("test.parquet")],
            config: Some(config.to_owned()),
            sets: Vec::new(),
            device: DeviceFlag::default(),
            responses: 1,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            limit: None,
            breakdown: evaluate::Breakdown::default(),
            corrupt: corrupt.map(str::to_owned),
            rows: None,
            json: None,
        };
        evaluate::measure(app, &arguments)?.average("accuracy").context("the rubric has an accuracy")
    };
    Ok(Score { accuracy: measure(None)?, blank_accuracy: measure(Some("black"))? })
}

fn table(names: &[&str], scores: &[Score]) {
    println!("\n   {:<14}{:>10}{:>10}{:>14}", "", "accuracy", "blank", "from looking");
    for (name, score) in names.iter().zip(scores) {
        let owed = score.accuracy - score.blank_accuracy;
        println!("   {name:<14}{:>10.3}{:>10.3}{owed:>14.3}", score.accuracy, score.blank_accuracy);
    }
}

/// The run's TOML file.
fn configuration(arguments: &Arguments, (backend, index): &(String, usize)) -> String {
    let dir = arguments.dir.display();
    let threads = arguments.threads.map_or_else(String::new, |threads| format!("threads = {threads}\n"));
    let perception = match arguments.objective.as_str() {
        "papo_g" | "papo_d" => "gamma = 0.01\nentropy_coefficient = 0.0\nmasked_entropy_coefficient = 0.0\n",
        _ => "",
    };
    format!(
        r#"# Written by `percept quickstart`.

[model]
checkpoint = "{dir}/base"

[data]
train = "{dir}/data/train.parquet"
validation = "{dir}/data/validation.parquet"
min_pixels = "off"
max_pixels = "off"
max_prompt_tokens = 256

[rollout]
prompts_per_step = 32
responses_per_prompt = 8
top_p = 1.0
max_new_tokens = 24
max_rows = 256

[validation]
every = 50
responses_per_prompt = 2
top_p = 1.0
limit = 64

[objective]
kind = "{objective}"
{perception}
[optimizer]
learning_rate = 3e-4
schedule = "linear"
warmup_steps = 5
final_ratio = 0.1

[trainer]
run_dir = "{dir}/run"
seed = {seed}
steps = {steps}
prompts_per_update = 32
prompts_per_try = 32
micro_tokens = 16384
checkpoint_every = 100
samples_per_step = 8

# few steps, so that much is left to learn from rewards
[sft]
steps = 160
rows_per_step = 16

[sft.optimizer]
learning_rate = 1e-3
schedule = "cosine"
warmup_steps = 10
final_ratio = 0.1

[device]
backend = "{backend}"
index = {index}
{threads}"#,
        objective = arguments.objective,
        seed = arguments.seed,
        steps = arguments.steps,
    )
}
