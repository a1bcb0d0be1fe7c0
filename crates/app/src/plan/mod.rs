//! `percept plan`: how much memory and time a run takes, before any weight is read.

mod activations;
mod advice;
mod capacity;
mod memory;
mod report;
mod request;
mod time;
mod trial;

use crate::App;
use crate::cost::rates::Rates;
use crate::device::{self, DeviceFlag};
use crate::parts::Parts;
use anyhow::{Context, ensure};
use capacity::Capacity;
use percept_config::RunConfig;
use percept_core::Objective;
use percept_models::Described;
use percept_trainer::TaskSource;
use percept_weights::write_atomically;
use report::Plan;
use request::Target;
pub(crate) use request::smallest_micro_tokens;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use trial::{Planned, Trial};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// The run's configuration
    config: PathBuf,
    /// Override a key, for example --set trainer.micro_tokens=8192 (repeatable)
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    device: DeviceFlag,
    /// A size that `percept init` knows, in place of model.checkpoint: 3b, 7b, 32b, 72b, ...
    #[arg(long)]
    size: Option<String>,
    /// Plan with this much memory, also for a device of another machine: 80GiB, 24GB
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<String>,
    /// Plan with the rates in this file, as `percept bench --json` or `percept plan --json` wrote them on the machine
    #[arg(long, value_name = "FILE")]
    rates: Option<PathBuf>,
    /// Count seconds from rates alone: without timing a few steps of a part of the model first
    #[arg(long)]
    without_trial: bool,
    /// Prompts of this many tokens, in place of the data's
    #[arg(long)]
    prompt_tokens: Option<usize>,
    /// Of which so many are a picture's
    #[arg(long, requires = "prompt_tokens", default_value_t = 0)]
    image_tokens: usize,
    /// Write the plan here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How the command ends when the run does not fit as it is configured.
const DOES_NOT_FIT: u8 = 2;

pub(crate) fn run(app: &App, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let run = RunConfig::load(&arguments.config, &arguments.device.over(&arguments.sets)?)?;
    let objective = app.objectives.build(&run)?;
    let memory = arguments.memory.as_deref().map(capacity::parse).transpose().context("--memory")?;
    let target = if memory.is_some() && !device::is_compiled(run.device.backend) {
        Target::elsewhere(&run)
    } else {
        let (found, placement) = device::open(&run.device)?;
        Target::here(&found, &placement)
    };
    let folder = &run.model.checkpoint;
    let from = match &arguments.size {
        Some(size) => Described::Size { family: "qwen2_5_vl", size },
        None => Described::Folder(folder),
    };
    ensure!(
        arguments.size.is_some() || folder.is_dir(),
        "{}: no such folder; --size 3b plans with a known size in place of model.checkpoint",
        folder.display()
    );
    let outline = percept_models::outline(from, &burn::tensor::Device::flex())?;
    let groups = match arguments.prompt_tokens {
        Some(tokens) => vec![request::imagined(&run, &outline, tokens, arguments.image_tokens)?],
        None => {
            ensure!(
                !run.data.train.is_empty() && run.model.checkpoint.is_dir() && target.placement.is_some(),
                "the lengths of prompts are not known: that takes data.train, a checkpoint with its tokenizer, and a device of this \
                 machine; or say them with --prompt-tokens N --image-tokens N"
            );
            let parts = Parts::new(run.clone())?;
            let mut source = parts.source(&run.data.train, false, run.data.shuffle, Some(request::SAMPLED))?;
            request::sampled(&run, &mut source)?
        }
    };
    let capacity = capacity_of(&target, memory);
    let smallest = request::smallest_micro_tokens(&run);
    let micro_tokens = run.trainer.micro_tokens.count();
    let mut workload = request::workload(&run, &*objective, outline, &target, groups, micro_tokens.unwrap_or(smallest));
    if micro_tokens.is_none() {
        workload.micro_tokens = advice::chosen_micro_tokens(&workload, capacity, smallest);
    }
    let fits = advice::fits(&workload, capacity);
    let change = (!fits).then(|| advice::change(&workload, capacity, smallest)).flatten();
    let passes = request::passes(&*objective);
    let (mut rates, mut trial) = (None, None);
    if let Some(path) = &arguments.rates {
        (rates, trial) = (Some(Rates::read(path)?), Trial::read(path)?);
    } else if let Some(placement) = &target.placement {
        let measured = Rates::measure(&placement.device, target.dtype);
        rates = Some(measured);
        let planned = Planned { run: &run, from, target: &target, placement, workload: &workload, capacity };
        let tried = || Trial::measure(&planned, app.objectives.build(&run)?, &measured);
        trial = (!arguments.without_trial).then(tried).and_then(|tried| {
            let told = |error: &anyhow::Error| eprintln!("no trial step: {}", crate::messages::chain(error));
            tried.inspect_err(told).ok()
        });
    }
    let mut seconds = rates.map_or_else(Vec::new, |rates| time::seconds(&workload, &rates, passes));
    if let Some(trial) = &trial {
        trial.correct(&mut seconds);
    }
    let plan = Plan {
        target: &target,
        moments: workload.moments(),
        peak: workload.peak(),
        capacity,
        seconds,
        rates,
        trial,
        fits,
        change,
        workload: &workload,
    };
    plan.print();
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&plan.json())?;
        write_atomically(path, |file| writeln!(file, "{text}"))?;
    }
    Ok(if fits { ExitCode::SUCCESS } else { ExitCode::from(DOES_NOT_FIT) })
}

/// Tokens computed at once in a run that leaves the choice to us: the most that are planned to fit.
///
/// # Errors
/// When rows cannot be read, or even the smallest micro-batches do not fit.
pub(crate) fn choose_micro_tokens(
    parts: &Parts,
    objective: &dyn Objective,
    source: &mut dyn TaskSource,
) -> anyhow::Result<usize> {
    let run = &parts.run;
    let target = Target::here(&parts.found, &parts.placement);
    let outline = percept_models::outline(Described::Folder(&run.model.checkpoint), &burn::tensor::Device::flex())?;
    let smallest = smallest_micro_tokens(run);
    let groups = request::sampled(run, source)?;
    let workload = request::workload(run, objective, outline, &target, groups, smallest);
    let capacity = capacity_of(&target, None);
    ensure!(
        advice::fits(&workload, capacity),
        "trainer.micro_tokens = \"auto\": not even micro-batches of {smallest} tokens are planned to fit; `percept plan` tells what \
         needs how much, and the smallest change that makes it fit"
    );
    Ok(advice::chosen_micro_tokens(&workload, capacity, smallest))
}

/// What there is: `memory` stands for the device's, wherever it is.
fn capacity_of(target: &Target, memory: Option<f64>) -> Capacity {
    let host = capacity::host();
    if target.is_host {
        return Capacity { device: memory.or(host), host: None };
    }
    let told = target.memory.map(|bytes| bytes as f64);
    // of another machine's host memory nothing is known
    Capacity { device: memory.or(told), host: host.filter(|_| target.placement.is_some()) }
}
