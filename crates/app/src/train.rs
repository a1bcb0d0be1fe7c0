//! `percept train` and `percept sft`.

use crate::beginning::{Inputs, begin, inputs};
use crate::cli::RunArguments;
use crate::deadline::Deadline;
use crate::doctor::Watcher;
use crate::grading::RubricGrader;
use crate::output::{Progress, say};
use crate::parts::{Parts, optimizer};
use crate::shown;
use crate::source::Source;
use crate::{App, dashboard};
use anyhow::ensure;
use percept_config::{BatchPlan, RunConfig, SftPlan};
use percept_core::{Objective, Weights};
use percept_rollout::InProcess;
use percept_trainer::{Grader, Outcome, Run, SftRun, SftSettings, TaskSource};
use std::cell::RefCell;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Asks a run to finish its step, save and stop.
pub(crate) static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// What Ctrl-C does: first the step is finished, then the program ends.
pub(crate) fn interrupt() {
    if INTERRUPT.swap(true, Ordering::Relaxed) {
        dashboard::close();
        std::process::exit(130);
    }
    // the dashboard shows it, and how to stop at once
    if !dashboard::is_open() {
        eprintln!("interrupted: the step is finished and saved; press Ctrl-C again to stop at once");
    }
}

fn catch_interrupts() {
    // a second handler cannot be set when a command runs others (the quickstart): the first one stays
    let _ = ctrlc::set_handler(interrupt);
}

/// Hashes of what a run reads: the model, its reference, the rows.
fn inputs_of(run: &RunConfig, train: &Source, validation: Option<&Source>) -> anyhow::Result<Inputs> {
    let rows = |source: &Source| source.files().map(Path::to_owned).collect::<Vec<_>>();
    let model = [("model.checkpoint", &run.model.checkpoint), ("model.reference", &run.model.reference)];
    let model = model.into_iter().map(|(key, folder)| (key, vec![folder.clone()]));
    let data = [("data.train", rows(train)), ("data.validation", validation.map(rows).unwrap_or_default())];
    inputs(model.chain(data))
}

/// Watches the parts of a run: one that lasts tells what it waits for.
fn deadline(run: &RunConfig, grader: &RubricGrader) -> Deadline {
    let seconds = run.trainer.deadline_seconds;
    let rollout = &run.rollout;
    let (rows, verifiers) = (rollout.prompts_per_step * rollout.responses_per_prompt, grader.names().join(", "));
    let (tokens, folder) = (rollout.max_new_tokens, run.trainer.run_dir.display().to_string());
    Deadline::start(Duration::from_secs(seconds), move |beat| {
        let waits = match beat.phase {
            "data" => "rows are being read, and their pictures decoded and cut into patches".to_owned(),
            "rollout" => format!("{rows} responses of up to {tokens} tokens are being sampled"),
            "reward" => format!("verifiers are at work: {verifiers}"),
            "reference" | "corrupted" | "behavior" => "responses are being scored".to_owned(),
            "update" => "gradients are being computed".to_owned(),
            "validation" => "the policy is being measured on data.validation".to_owned(),
            "checkpoint" => format!("a checkpoint is being written to {folder}"),
            other => other.to_owned(),
        };
        let (step, phase, lasted) = (beat.step, beat.phase, beat.seconds);
        tracing::warn!(
            "step {step}: {phase} has lasted {lasted:.0} s, longer than {seconds} s (trainer.deadline_seconds): {waits}"
        );
    })
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
    arguments.output.apply();
    let run = RunConfig::load(&arguments.config, &arguments.device.over(&arguments.sets)?)?;
    ensure!(!run.data.train.is_empty(), "data.train is missing: name the parquet or JSONL files to train on");
    let parts = Parts::new(run)?;
    let run = &parts.run;
    let objective = parts.objective(app)?;
    let mut source = parts.source(&run.data.train, false, run.data.shuffle, None)?;
    parts.mask_for(&mut source, &*objective)?;
    shown::control(&parts, &mut source, Some(&*objective))?;
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
    crate::check::ensure_checked(&parts.found, parts.placement.dtype)?;
    // before any weight takes memory
    let choose = || crate::plan::choose_micro_tokens(&parts, &*objective, &mut source);
    let chosen = run.trainer.micro_tokens.count().is_none().then(choose).transpose()?;
    if let Some(tokens) = chosen {
        say!("micro-batches of {tokens} tokens");
    }
    let run_dir = &run.trainer.run_dir;
    let begun = begin(run_dir, run, &inputs_of(run, &source, validation.as_ref())?, arguments.wish())?;
    let resume = begun.checkpoint;
    let policy = parts.learner(resume.as_deref())?;
    let needs_reference = objective.needs().views.iter().any(|view| view.weights == Weights::Reference);
    let reference = needs_reference.then(|| parts.reference(&*policy)).transpose()?;
    let mut settings = parts.settings(plan.total_steps, policy.vocabulary());
    settings.may_change_length = begun.may_change_length;
    settings.micro_tokens = chosen.unwrap_or(settings.micro_tokens);
    let mut sampler = InProcess::new(run.rollout.max_rows);
    let validates = validation.is_some() && settings.validation.every > 0;
    let doctor = RefCell::new(Watcher::new(&parts, &*objective, &grader.rubric, &source));
    catch_interrupts();
    let progress = Progress::start(&arguments.output, "training", settings.steps, validates, 1);
    let deadline = deadline(run, &grader);
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
        report: &mut |step, metrics| progress.report(step, metrics),
        watch: &|event| {
            deadline.hear(&event);
            doctor.borrow_mut().hear(&event).iter().for_each(|line| progress.warn(line));
            progress.watch(event);
        },
    }
    .run(resume.as_deref());
    progress.finish();
    Ok(conclude(&outcome?, arguments, "train"))
}

/// Warms a policy up as the configuration says.
pub(crate) fn sft(app: &App, arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    arguments.output.apply();
    let run = RunConfig::load(&arguments.config, &arguments.device.over(&arguments.sets)?)?;
    ensure!(!run.data.train.is_empty(), "data.train is missing: name the parquet or JSONL files to learn from");
    let parts = Parts::new(run)?;
    let run = &parts.run;
    let mut source = parts.source(&run.data.train, true, run.data.shuffle, None)?;
    shown::control(&parts, &mut source, None)?;
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
    crate::check::ensure_checked(&parts.found, parts.placement.dtype)?;
    let run_dir = run.trainer.run_dir.join("sft");
    let begun = begin(&run_dir, run, &inputs_of(run, &source, validation.as_ref())?, arguments.wish())?;
    let resume = begun.checkpoint;
    let policy = parts.learner(resume.as_deref())?;
    let mut settings = parts.settings(plan.total_steps, policy.vocabulary());
    settings.may_change_length = begun.may_change_length;
    settings.run_dir = run_dir;
    settings.optimizer = optimizer(&run.sft.optimizer, run.trainer.seed);
    let steps = SftSettings { steps: plan.total_steps, rows_per_step: run.sft.rows_per_step };
    let mut sampler = InProcess::new(run.rollout.max_rows);
    let validates = validation.is_some() && settings.validation.every > 0;
    catch_interrupts();
    let progress = Progress::start(&arguments.output, "warm start", steps.steps, validates, (steps.steps / 20).max(1));
    let deadline = deadline(run, &grader);
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
        report: &mut |step, metrics| progress.report(step, metrics),
        watch: &|event| {
            deadline.hear(&event);
            progress.watch(event);
        },
    }
    .run(resume.as_deref());
    progress.finish();
    Ok(conclude(&outcome?, arguments, "sft"))
}
