//! Commands and their flags.

use crate::beginning::Wish;
use crate::device::DeviceFlag;
use crate::output::OutputFlags;
use crate::{
    App, bench, check, device, doctor, evaluate, fork, import, init, look, plan, quickstart, replay, sample, task,
    train,
};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Trains vision-language models with verifiable rewards: GRPO, DAPO, PAPO_G and PAPO_D, on any backend of burn.
#[derive(Parser)]
#[command(name = "percept", version, propagate_version = true, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Draw a visual task, make a small model, warm it up, train it with PAPO_G and show what it learned (minutes, CPU)
    Quickstart(quickstart::Arguments),
    /// Improve a checkpoint by reinforcement learning, as one TOML file says
    Train(RunArguments),
    /// Predict how much memory and time a run takes, before any weight is read; exit code 2 when it does not fit
    Plan(plan::Arguments),
    /// Sample a few prompts of a run, and say what would keep it from learning; exit code 1 when something would
    Doctor(doctor::Arguments),
    /// Do an update again that the flight recorder kept, on any device; exit code 1 when it goes wrong again
    Replay(replay::Arguments),
    /// Start a new run from a step of an old one, with changes
    Fork(fork::Arguments),
    /// Warm a checkpoint up by cross-entropy on worked solutions
    Sft(RunArguments),
    /// Measure a checkpoint on a data set: avg@k and pass@k
    Eval(evaluate::Arguments),
    /// Ask a checkpoint one question about one picture
    Sample(sample::Arguments),
    /// Write the synthetic visual task, and a small untrained checkpoint for it
    Task(task::Arguments),
    /// Write a checkpoint with random weights, of a released size, to measure memory and speed with
    Init(init::Arguments),
    /// Time the phases of a training step
    Bench(bench::Arguments),
    /// Make one page of runs to look at: curves, configuration, times, samples with their pictures
    Report(look::ReportArguments),
    /// Write a run's metrics and samples for other programs: TensorBoard event files, CSV
    Export(look::ExportArguments),
    /// Compare runs by their validations, or measurements row by row, with intervals and a paired test
    Compare(look::CompareArguments),
    /// Turn a YAML file of EasyR1 or PAPO, with the overrides of its script, into a run file
    ImportConfig(import::Arguments),
    /// List the devices that this build reaches on this machine
    Devices,
    /// Compare what a device computes with the CPU, operation by operation, and say what to do where it differs
    Check(check::Arguments),
}

/// Flags of commands that carry out a run.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RunArguments {
    /// The run's configuration
    pub(crate) config: PathBuf,
    /// Override a key, for example --set trainer.steps=10 (repeatable)
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    #[command(flatten)]
    pub(crate) device: DeviceFlag,
    /// Go on from the run's newest whole checkpoint
    #[arg(long)]
    pub(crate) resume: bool,
    /// Accept that a key, or all keys of a section, or the files behind one, are not what the run began with (repeatable)
    #[arg(long, value_name = "SECTION.KEY")]
    pub(crate) allow_change: Vec<String>,
    /// Resolve and check everything, print the batch numbers, and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

impl RunArguments {
    pub(crate) fn wish(&self) -> Wish<'_> {
        Wish { resume: self.resume, allowed: &self.allow_change }
    }
}

/// Carries out the command line.
pub(crate) fn dispatch(app: &App) -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Quickstart(arguments) => quickstart::run(app, &arguments)?,
        Command::Train(arguments) => return train::train(app, &arguments),
        Command::Plan(arguments) => return plan::run(app, &arguments),
        Command::Doctor(arguments) => return doctor::run(app, &arguments),
        Command::Replay(arguments) => return replay::run(app, &arguments),
        Command::Fork(arguments) => return fork::run(app, &arguments),
        Command::Sft(arguments) => return train::sft(app, &arguments),
        Command::Eval(arguments) => evaluate::run(app, &arguments)?,
        Command::Sample(arguments) => sample::run(&arguments)?,
        Command::Task(arguments) => task::run(&arguments)?,
        Command::Init(arguments) => init::run(&arguments)?,
        Command::Bench(arguments) => bench::run(app, &arguments)?,
        Command::ImportConfig(arguments) => import::run(&arguments)?,
        Command::Report(arguments) => look::report(&arguments)?,
        Command::Export(arguments) => look::export(&arguments)?,
        Command::Compare(arguments) => look::compare(&arguments)?,
        Command::Devices => device::list(),
        Command::Check(arguments) => return check::run(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}
