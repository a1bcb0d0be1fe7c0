//! `percept fork`: a new run from a step of an old one.

use crate::App;
use crate::beginning::{CHANGES, note_changes};
use crate::cli::RunArguments;
use crate::device::DeviceFlag;
use crate::output::OutputFlags;
use crate::train;
use anyhow::{Context, bail, ensure};
use percept_config::RunConfig;
use percept_trainer::{MetricsFile, State, find_resume, point, read_state, step_name};
use percept_weights::{StagedFolder, check_manifest, write_atomically};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The old run's directory
    run: PathBuf,
    /// The step to start from, one that has a checkpoint; without, the newest
    #[arg(long)]
    step: Option<u64>,
    /// The new run's directory, which is made
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Change a key, for example --set optimizer.learning_rate=5e-7 (repeatable)
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    device: DeviceFlag,
    /// Make the directory, and print the command that trains there
    #[arg(long)]
    no_train: bool,
    #[command(flatten)]
    output: OutputFlags,
}

/// What a run directory holds of a step beside its checkpoint.
const LINES: [&str; 2] = ["metrics.jsonl", "samples.jsonl"];

pub(crate) fn run(app: &App, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (old, new) = (&arguments.run, &arguments.out);
    let from = checkpoint(old, arguments.step)?;
    check_manifest(&from)?;
    let state = read_state(&from)?;
    ensure!(
        !new.exists() || std::fs::read_dir(new).is_ok_and(|mut entries| entries.next().is_none()),
        "{}: is there already; --out names a new directory",
        new.display()
    );
    let mut sets = arguments.device.over(&arguments.sets)?;
    sets.push(format!("trainer.run_dir={}", toml::Value::from(new.display().to_string())));
    let run = RunConfig::load(old.join("config.toml"), &sets)?;
    // a warm start lives in a folder of its own in the run's
    let home = if state.kind == "sft" { new.join("sft") } else { new.clone() };
    copy(old, &from, &home, &state)?;
    let origin = json!({ "forked_from": old.display().to_string(), "step": state.step, "sets": arguments.sets });
    note_changes(&home, std::iter::once(origin))?;
    let text = run.to_toml()?;
    write_atomically(home.join("config.toml"), |file| file.write_all(text.as_bytes()))?;
    point(&home, "latest", &step_name(state.step))?;
    println!("{} goes on from step {} of {} ({CHANGES} says so)", home.display(), state.step, old.display());
    let config = home.join("config.toml");
    if arguments.no_train {
        println!("train there with: percept {} {} --resume", state.kind, config.display());
        return Ok(ExitCode::SUCCESS);
    }
    let words = RunArguments {
        config,
        sets: Vec::new(),
        device: DeviceFlag::default(),
        resume: true,
        allow_change: Vec::new(),
        dry_run: false,
        output: arguments.output.clone(),
    };
    if state.kind == "sft" { train::sft(app, &words) } else { train::train(app, &words) }
}

/// The checkpoint of a step.
fn checkpoint(run: &Path, step: Option<u64>) -> anyhow::Result<PathBuf> {
    let Some(step) = step else { return Ok(find_resume(run)?.folder) };
    let folder = run.join("checkpoints");
    let found = folder.join(step_name(step));
    if found.is_dir() {
        return Ok(found);
    }
    let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("step-")).collect();
    names.sort();
    bail!("{}: no checkpoint of step {step}; there are {}", run.display(), names.join(", "))
}

/// The checkpoint, the best one where it is older, and the lines up to the step.
fn copy(old: &Path, from: &Path, new: &Path, state: &State) -> anyhow::Result<()> {
    let checkpoints = new.join("checkpoints");
    std::fs::create_dir_all(&checkpoints).with_context(|| checkpoints.display().to_string())?;
    link_folder(from, &checkpoints.join(step_name(state.step)))?;
    if let Some((_, step)) = state.best {
        let best = old.join("checkpoints").join(step_name(step));
        if step != state.step && best.is_dir() {
            link_folder(&best, &checkpoints.join(step_name(step)))?;
        }
        if checkpoints.join(step_name(step)).is_dir() {
            point(new, "best", &step_name(step))?;
        }
    }
    for name in LINES {
        let path = old.join(name);
        if path.exists() {
            std::fs::copy(&path, new.join(name)).with_context(|| path.display().to_string())?;
            // drops what came after the step
            MetricsFile::open(&new.join(name), Some(state.step))?;
        }
    }
    let pictures = old.join("samples");
    if pictures.is_dir() {
        link_folder(&pictures, &new.join("samples"))?;
    }
    Ok(())
}

/// Another name for every file of a folder, or a copy where the disk has no such names.
fn link_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let staged = StagedFolder::create(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry.with_context(|| from.display().to_string())?.path();
        let target = staged.path().join(path.file_name().unwrap_or_default());
        if std::fs::hard_link(&path, &target).is_err() {
            std::fs::copy(&path, &target).with_context(|| path.display().to_string())?;
        }
    }
    Ok(staged.publish()?)
}
