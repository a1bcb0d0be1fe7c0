//! `percept train` and `percept sft`.

use crate::App;
use crate::cli::RunArguments;
use crate::doctor::Watcher;
use crate::parts::{Parts, optimizer};
use crate::report::Table;
use anyhow::{Context, ensure};
use percept_config::{BatchPlan, RunConfig, SftPlan};
use percept_core::{Objective, Weights};
use percept_rollout::InProcess;
use percept_trainer::{Outcome, Run, SftRun, SftSettings, TaskSource, find_resume};
use percept_weights::write_atomically;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Makes the first Ctrl-C finish the step, and the second end the program.
fn catch_interrupts() {
    // a second handler cannot be set when a command runs others (the quickstart): the first one stays
    let _ = ctrlc::set_handler(|| {
        if INTERRUPT.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("interrupted: the step is finished and saved; press Ctrl-C again to stop at once");
    });
}

/// The run directory: fresh for a new run, with a checkpoint for one that is resumed. Gives the checkpoint.
fn prepare(run_dir: &Path, run: &RunConfig, resume: bool) -> anyhow::Result<Option<PathBuf>> {
    if resume {
        return Ok(Some(find_resume(run_dir)?));
    }
    ensure!(
        !run_dir.join("latest").exists(),
        "{} holds a run already: go on with --resume, or choose another directory with --set trainer.run_dir=...",
        run_dir.display()
    );
    std::fs::create_dir_all(run_dir).with_context(|| format!("{}: cannot be made", run_dir.display()))?;
    let text = run.to_toml()?;
    write_atomically(run_dir.join("config.toml"), |file| file.write_all(text.as_bytes()))?;
    Ok(None)
}

/// Tells how a run ended.
fn conclude(outcome: &Outcome, arguments: &RunArguments, command: &str) -> ExitCode {
    if let Some((score, step)) = outcome.best {
        println!("best validation score {score:.3} at step {step}");
    }
    if let Some(folder) = &outcome.checkpoint {
        println!("checkpoint: {}", folder.display());
    }
    if !outcome.interrupted {
        return ExitCode::SUCCESS;
    }
    let sets: Vec<String> = arguments.sets.iter().map(|set| format!(" --set {}", quoted(set))).collect();
    let config = quoted(&arguments.config.display().to_string());
    let device =
        arguments.device.device.as_ref().map_or_else(String::new, |device| format!(" --device {}", quoted(device)));
    println!(
        "stopped after step {}; go on with: percept {command} {config}{}{device} --resume",
        outcome.step,
        sets.concat()
    );
    ExitCode::from(130)
}

/// A word as a shell takes it, so that what is printed can be pasted.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// What a step costs and which views are computed, for --dry-run.
fn describe(objective: &dyn Objective) -> String {
    let views: Vec<String> =
        objective.needs().views.iter().map(|view| format!("{:?} x {:?}", view.weights, view.image)).collect();
    let views = if views.is_empty() { "none".to_owned() } else { views.join(", ") };
    format!("views beyond the live and sampling policy's: {views}")
}

/// Trains a policy as the configuration says.
pub(crate) fn train(app: &App, arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let run = RunConfig::load(&arguments.config, &arguments.device.over(&arguments.sets)?)?;
    ensure!(!run.data.train.is_empty(), "data.train is missing: name the parquet or JSONL files to train on");
    let parts = Parts::new(run)?;
    let run = &parts.run;
    let objective = parts.objective(app)?;
    let mut source = parts.source(&run.data.train, false, run.data.shuffle, None)?;
    parts.mask_for(&mut source, &*objective)?;
    let plan = BatchPlan::new(run, source.num_rows() as u64)?;
    let mut validation = match run.data.validation.is_empty() {
        true => None,
        false => Some(parts.source(&run.data.validation, false, false, run.validation.limit)?),
    };
    let grader = parts.grader(app)?;
    if arguments.dry_run {
        println!("{plan}");
        println!("{}", describe(&*objective));
        println!("{}", parts.describe_learning()?);
        return Ok(ExitCode::SUCCESS);
    }
    crate::check::ensure_checked(&parts.found)?;
    // before any weight takes memory
    let choose = || crate::plan::choose_micro_tokens(&parts, &*objective, &mut source);
    let chosen = run.trainer.micro_tokens.count().is_none().then(choose).transpose()?;
    if let Some(tokens) = chosen {
        println!("micro-batches of {tokens} tokens");
    }
    let run_dir = &run.trainer.run_dir;
    let resume = prepare(run_dir, run, arguments.resume)?;
    let policy = parts.learner(resume.as_deref())?;
    let needs_reference = objective.needs().views.iter().any(|view| view.weights == Weights::Reference);
    let reference = needs_reference.then(|| parts.reference(&*policy)).transpose()?;
    let mut settings = parts.settings(plan.total_steps, policy.vocabulary());
    settings.micro_tokens = chosen.unwrap_or(settings.micro_tokens);
    let mut sampler = InProcess::new(run.rollout.max_rows);
    let mut table = Table::new("training", settings.steps, validation.is_some() && settings.validation.every > 0, 1);
    let mut watch = Watcher::new(&parts, &*objective, &grader.rubric, &source, table.bar());
    catch_interrupts();
    let outcome = Run {
        settings: &settings,
        policy,
        reference,
        objective: &*objective,
        train: &mut source,
        validation: validation.as_mut().map(|source| source as &mut dyn TaskSource),
        sampler: &mut sampler,
        grader: &grader,
        save: &*parts.save(),
        interrupt: &INTERRUPT,
        watch: &mut watch,
        report: &mut |step, metrics| table.report(step, metrics),
    }
    .run(resume.as_deref());
    table.finish();
    Ok(conclude(&outcome?, arguments, "train"))
}

/// Warms a policy up as the configuration says.
pub(crate) fn sft(app: &App, arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let run = RunConfig::load(&arguments.config, &arguments.device.over(&arguments.sets)?)?;
    ensure!(!run.data.train.is_empty(), "data.train is missing: name the parquet or JSONL files to learn from");
    let parts = Parts::new(run)?;
    let run = &parts.run;
    let mut source = parts.source(&run.data.train, true, run.data.shuffle, None)?;
    let plan = SftPlan::new(run, source.num_rows() as u64)?;
    let mut validation = match run.data.validation.is_empty() {
        true => None,
        false => Some(parts.source(&run.data.validation, false, false, run.validation.limit)?),
    };
    let grader = parts.grader(app)?;
    if arguments.dry_run {
        println!("{plan}");
        return Ok(ExitCode::SUCCESS);
    }
    crate::check::ensure_checked(&parts.found)?;
    let run_dir = run.trainer.run_dir.join("sft");
    let resume = prepare(&run_dir, run, arguments.resume)?;
    let policy = parts.learner(resume.as_deref())?;
    let mut settings = parts.settings(plan.total_steps, policy.vocabulary());
    settings.run_dir = run_dir;
    settings.optimizer = optimizer(&run.sft.optimizer, run.trainer.seed);
    let steps = SftSettings { steps: plan.total_steps, rows_per_step: run.sft.rows_per_step };
    let mut sampler = InProcess::new(run.rollout.max_rows);
    let validates = validation.is_some() && settings.validation.every > 0;
    let mut table = Table::new("warm start", steps.steps, validates, (steps.steps / 20).max(1));
    catch_interrupts();
    let outcome = SftRun {
        settings: &settings,
        sft: &steps,
        policy,
        train: &mut source,
        validation: validation.as_mut().map(|source| source as &mut dyn TaskSource),
        sampler: &mut sampler,
        grader: &grader,
        save: &*parts.save(),
        interrupt: &INTERRUPT,
        report: &mut |step, metrics| table.report(step, metrics),
    }
    .run(resume.as_deref());
    table.finish();
    Ok(conclude(&outcome?, arguments, "sft"))
}
