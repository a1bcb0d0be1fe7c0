//! `percept replay`: an update that the flight recorder kept, done again.

use crate::App;
use crate::device::DeviceFlag;
use crate::parts::{Parts, optimizer};
use anyhow::ensure;
use percept_config::RunConfig;
use percept_core::{Objective, Progress};
use percept_trainer::{Bundle, Checkpoint, CrossEntropy, Diagnosis, Kind, Metrics, Optimizer, Updater, diagnose};
use percept_weights::check_manifest;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder of the incident: RUN/incidents/step-...
    bundle: PathBuf,
    /// Change a key of the run, for example --set device.dtype=f32 (repeatable)
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    device: DeviceFlag,
    /// Write what was found as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(app: &App, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let folder = &arguments.bundle;
    check_manifest(folder)?;
    let (bundle, groups) = Bundle::read(folder)?;
    let checkpoint = folder.join("checkpoint");
    check_manifest(&checkpoint)?;
    let mut sets = Vec::new();
    let own = folder.join("config.toml");
    ensure!(own.is_file(), "{}: missing: the run's configuration belongs to the bundle", own.display());
    let recorded = RunConfig::load(&own, &[])?;
    if recorded.model.lora.is_none() {
        // the bundle has all of the model
        sets.push(format!("model.checkpoint={}", toml::Value::from(checkpoint.display().to_string())));
    }
    sets.extend(arguments.sets.iter().cloned());
    let parts = Parts::new(RunConfig::load(&own, &arguments.device.over(&sets)?)?)?;
    let mut policy = parts.learner(Some(&checkpoint))?;
    let mut adam = Optimizer::new(&*policy, optimizer(&parts.run.optimizer, parts.run.trainer.seed));
    let state = Checkpoint::read(&checkpoint, &mut *policy, &mut adam)?;
    let settings = parts.settings(state.total_steps, policy.vocabulary());
    let warm_start = state.kind == "sft";
    let objective: Box<dyn Objective> = if warm_start { Box::new(CrossEntropy) } else { parts.objective(app)? };
    let updater = Updater {
        objective: &*objective,
        temperature: if warm_start { 1.0 } else { settings.rollout.temperature },
        prompts_per_update: groups.len(),
        micro_tokens: state.micro_tokens.unwrap_or(settings.micro_tokens),
        recompute: settings.recompute,
        learning_rate: (settings.optimizer.learning_rate)(state.step, state.total_steps),
        progress: Progress { step: state.step, total_steps: state.total_steps },
    };
    println!("step {}, update {}: {}", bundle.step + 1, bundle.update + 1, bundle.kind.words());
    println!("recorded: {}", bundle.words);
    let (gradients, numbers, _) = updater.gradients(&*policy, &groups);
    let (norm, metrics) = numbers.read(&gradients, bundle.update == 0);
    show(&bundle, &metrics, norm);
    let place = match bundle.kind {
        Kind::NotFinite => diagnose(&updater, &*policy, &groups, Some(&gradients)),
        _ => Diagnosis::default(),
    };
    let limit = settings.watch.log_ratio_limit;
    let again = goes_wrong(bundle.kind, &metrics, norm, limit) || place != Diagnosis::default();
    let device = parts.found.key();
    if again {
        let where_now = if bundle.kind == Kind::NotFinite { place.words() } else { bundle.words.clone() };
        println!("\non {device} it goes wrong again: {where_now}");
    } else {
        println!("\non {device} the update is sound");
    }
    if let Some(path) = &arguments.json {
        let summary = json!({
            "kind": bundle.kind, "step": bundle.step, "update": bundle.update, "device": device, "again": again,
            "recorded": bundle.numbers, "now": Bundle::numbers(&metrics, norm), "place": place,
        });
        percept_weights::write_atomically(path, |file| {
            std::io::Write::write_all(file, format!("{summary:#}\n").as_bytes())
        })?;
    }
    Ok(if again { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn goes_wrong(kind: Kind, metrics: &Metrics, norm: f64, limit: f64) -> bool {
    let number = |name: &str| metrics.get(name).unwrap_or(0.0);
    match kind {
        Kind::NotFinite => !norm.is_finite() || !number("objective/loss").is_finite(),
        Kind::NoGradient => norm == 0.0,
        Kind::Ratio => number("objective/log_ratio_max") > limit,
        // a course of many steps, which one update does not show
        Kind::Collapse => false,
    }
}

/// Numbers side by side.
fn show(bundle: &Bundle, metrics: &Metrics, norm: f64) {
    println!("\n{:<40}{:>16}{:>16}", "", "recorded", "now");
    let mut names: Vec<&str> = metrics.0.keys().map(String::as_str).collect();
    names.push("optimizer/grad_norm");
    for name in names {
        let now = metrics.get(name).unwrap_or(norm);
        let then = bundle.numbers.get(name).and_then(|text| text.parse::<f64>().ok());
        let then = then.map_or_else(|| "-".to_owned(), |value| format!("{value:.6}"));
        println!("{name:<40}{then:>16}{now:>16.6}");
    }
}
