//! `percept bench`: whole training steps and their phases, timed.
//!
//! Stop tokens are ignored, so that every step does the same work. The first two steps are warm-up and do not count.

use crate::App;
use crate::device::DeviceFlag;
use crate::parts::Parts;
use crate::report::bar;
use crate::source::Source;
use anyhow::{Context, ensure};
use percept_config::RunConfig;
use percept_core::{DecodeRow, FrozenPolicy, Objective, Policy, Progress, Prompt, ScoreRequest, ScoringGroup, Weights};
use percept_models::qwen2_5_vl::Qwen25Vl;
use percept_rollout::InProcess;
use percept_trainer::{CollectedGroup, Collector, Metrics, Optimizer, Phases, Settings, Updater, peak_rss_mib};
use percept_weights::write_atomically;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Checkpoint folder
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Parquet or JSONL file
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// grpo, dapo, papo_g or papo_d; for PAPO its base is timed in alternation, and the overhead printed
    #[arg(long, default_value = "grpo")]
    objective: String,
    /// Prompts in a step
    #[arg(long, default_value_t = 8)]
    prompts: usize,
    /// Responses to each prompt
    #[arg(long, default_value_t = 8)]
    responses: usize,
    /// Tokens of each response
    #[arg(long, default_value_t = 64)]
    new_tokens: usize,
    /// Steps, the first two of them warm-up
    #[arg(long, default_value_t = 7)]
    steps: usize,
    #[command(flatten)]
    device: DeviceFlag,
    #[arg(long)]
    threads: Option<usize>,
    /// Tokens of a micro-batch
    #[arg(long, default_value_t = 16_384)]
    micro_tokens: usize,
    /// Override a key of the configuration (repeatable)
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Write the numbers here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const WARM_UP: usize = 2;
/// A short instruction: what is timed should not depend on the words of a method's prompt.
const FORMAT: &str = "{{ content }} Think first inside <think> </think>, then put the answer in \\boxed{}.";

/// One method's steps.
struct Lane {
    name: String,
    objective: Box<dyn Objective>,
    policy: Box<dyn Policy>,
    reference: Option<FrozenPolicy>,
    optimizer: Optimizer,
    next: u64,
    steps: Vec<Phases>,
    totals: Vec<f64>,
    groups: Vec<CollectedGroup>,
}

pub(crate) fn run(app: &App, arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(arguments.steps > WARM_UP, "--steps {}: the first {WARM_UP} are warm-up, so at least 3", arguments.steps);
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let format = folder.path().join("format.jinja");
    std::fs::write(&format, FORMAT)?;
    let configured = |kind: &str| configuration(arguments, kind, &format);
    let parts = Parts::new(configured(&arguments.objective)?)?;
    let mut source = parts.source(std::slice::from_ref(&arguments.data), false, true, None)?;
    let grader = parts.grader(app)?;
    let base = match arguments.objective.as_str() {
        "papo_g" => Some("grpo"),
        "papo_d" => Some("dapo"),
        _ => None,
    };
    let mut lanes = Vec::new();
    for kind in std::iter::once(arguments.objective.as_str()).chain(base) {
        lanes.push(lane(app, &parts, configured(kind)?, kind, &mut source)?);
    }
    let mut settings = parts.settings(arguments.steps as u64, lanes[0].policy.vocabulary());
    settings.banned_tokens.append(&mut settings.stop_tokens);
    let progress = bar("benchmark");
    progress.set_length((arguments.steps * lanes.len()) as u64);
    for step in 0..arguments.steps {
        for lane in &mut lanes {
            lane.step(step as u64, &settings, &mut source, &grader)?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    report(arguments, &parts, &lanes, &settings)
}

fn configuration(arguments: &Arguments, kind: &str, format: &std::path::Path) -> anyhow::Result<RunConfig> {
    let quoted = |path: &std::path::Path| toml::Value::from(path.display().to_string());
    let mut sets = vec![
        format!("model.checkpoint={}", quoted(&arguments.checkpoint)),
        format!("data.train={}", quoted(&arguments.data)),
        format!("data.format_prompt={}", quoted(format)),
        "data.min_pixels=\"off\"".to_owned(),
        "data.max_pixels=\"off\"".to_owned(),
        format!("objective.kind={kind}"),
        format!("rollout.prompts_per_step={}", arguments.prompts),
        format!("rollout.responses_per_prompt={}", arguments.responses),
        format!("rollout.max_new_tokens={}", arguments.new_tokens),
        format!("rollout.max_rows={}", arguments.prompts * arguments.responses),
        "rollout.top_p=1.0".to_owned(),
        format!("trainer.prompts_per_update={}", arguments.prompts),
        format!("trainer.prompts_per_try={}", arguments.prompts),
        format!("trainer.micro_tokens={}", arguments.micro_tokens),
        format!("data.max_prompt_tokens={}", arguments.micro_tokens.saturating_sub(arguments.new_tokens).max(1)),
    ];
    sets.extend(arguments.threads.map(|threads| format!("device.threads={threads}")));
    sets.extend(arguments.device.over(&arguments.sets)?);
    Ok(RunConfig::parse("benchmark", "", &[], &sets)?)
}

fn lane(app: &App, parts: &Parts, run: RunConfig, kind: &str, source: &mut Source) -> anyhow::Result<Lane> {
    let objective = app.objectives.build(&run)?;
    if source.masked.is_empty() {
        parts.mask_for(source, &*objective)?;
    }
    let needs = objective.needs();
    let reference = needs.views.iter().any(|view| view.weights == Weights::Reference);
    let policy = parts.learner(None)?;
    let reference = reference.then(|| parts.reference(&*policy)).transpose()?;
    let optimizer = Optimizer::new(&*policy, crate::parts::optimizer(&run.optimizer));
    let name = kind.to_owned();
    let (steps, totals, groups) = (Vec::new(), Vec::new(), Vec::new());
    Ok(Lane { name, objective, policy, reference, optimizer, next: 0, steps, totals, groups })
}

impl Lane {
    fn step(
        &mut self,
        step: u64,
        settings: &Settings,
        source: &mut Source,
        grader: &dyn percept_trainer::Grader,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        let (mut metrics, mut phases) = (Metrics::default(), Phases::default());
        let behavior = self.policy.freeze();
        let mut sampler = InProcess::new(settings.rollout.prompts_per_step * settings.rollout.responses_per_prompt);
        let mut collector = Collector {
            settings,
            source,
            sampler: &mut sampler,
            grader,
            objective: &*self.objective,
            reference: self.reference.as_ref(),
        };
        let batch = collector.collect(&behavior, step, &mut self.next, &mut metrics, &mut phases)?;
        drop(behavior);
        let updater = updater(&*self.objective, settings, step);
        let (policy, optimizer) = (&mut *self.policy, &mut self.optimizer);
        phases.time("update", || updater.run(policy, optimizer, &batch.groups, 0));
        self.totals.push(start.elapsed().as_secs_f64());
        self.steps.push(phases);
        self.groups = batch.groups;
        Ok(())
    }

    fn step_ms(&self) -> f64 {
        median(&self.totals[WARM_UP..]) * 1e3
    }
}

fn updater<'a>(objective: &'a dyn Objective, settings: &Settings, step: u64) -> Updater<'a> {
    Updater {
        objective,
        temperature: settings.rollout.temperature,
        prompts_per_update: settings.prompts_per_update,
        micro_tokens: settings.micro_tokens,
        recompute: settings.recompute,
        learning_rate: 1e-6,
        progress: Progress { step, total_steps: settings.steps },
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// Median milliseconds of a part, after one run that does not count.
fn time(mut part: impl FnMut()) -> f64 {
    part();
    let run = |_| {
        let start = Instant::now();
        part();
        start.elapsed().as_secs_f64() * 1e3
    };
    median(&(0..5).map(run).collect::<Vec<_>>())
}

fn report(arguments: &Arguments, parts: &Parts, lanes: &[Lane], settings: &Settings) -> anyhow::Result<()> {
    let lane = &lanes[0];
    // the peak of the steps themselves, before the parts are timed
    let peak = peak_rss_mib();
    let mut phases: BTreeMap<&str, f64> = BTreeMap::new();
    for name in lane.steps.iter().flat_map(|step| step.0.keys()) {
        let values: Vec<f64> =
            lane.steps[WARM_UP..].iter().map(|step| step.0.get(name).copied().unwrap_or(0.0)).collect();
        phases.insert(name, median(&values) * 1e3);
    }
    let tokens = (arguments.prompts * arguments.responses * arguments.new_tokens) as f64;
    let prompts: Vec<&Prompt> = lane.groups.iter().map(|group| &*group.task.prompt).collect();
    let prompt_tokens = prompts.iter().map(|prompt| prompt.tokens.len()).sum::<usize>() as f64 / prompts.len() as f64;
    let pieces = pieces(parts, lane, settings, &prompts)?;
    println!(
        "{} with {} on {} threads, {}",
        arguments.objective,
        arguments.checkpoint.display(),
        rayon::current_num_threads(),
        arguments.data.display()
    );
    println!(
        "{} prompts of {prompt_tokens:.0} tokens x {} responses x {} tokens",
        arguments.prompts, arguments.responses, arguments.new_tokens
    );
    println!(
        "step            {:>9.1} ms   {:.0} tokens/s   peak memory {peak:.0} MiB",
        lane.step_ms(),
        tokens / lane.step_ms() * 1e3
    );
    for (name, ms) in &phases {
        println!("  {name:<14}{ms:>9.1} ms");
    }
    for (name, value, unit) in &pieces {
        println!("{name:<26}{value:>9.1} {unit}");
    }
    let overhead = lanes.get(1).map(|base| (lane.step_ms() / base.step_ms() - 1.0) * 100.0);
    if let (Some(overhead), Some(base)) = (overhead, lanes.get(1)) {
        println!("{} {:.1} ms: {} costs {overhead:.1} % more", base.name, base.step_ms(), lane.name);
    }
    if let Some(path) = &arguments.json {
        let keyed: serde_json::Map<String, serde_json::Value> = pieces
            .iter()
            .map(|(name, value, unit)| (format!("{name} {unit}").replace([' ', '/'], "_"), json!(value)))
            .collect();
        let value = json!({
            "objective": arguments.objective,
            "step_ms": lane.step_ms(),
            "phase_ms": phases,
            "tokens_per_second": tokens / lane.step_ms() * 1e3,
            "peak_rss_mib": peak,
            "prompt_tokens": prompt_tokens,
            "threads": rayon::current_num_threads(),
            "pieces": keyed,
            "base_step_ms": lanes.get(1).map(Lane::step_ms),
            "overhead_percent": overhead,
        });
        let text = serde_json::to_string_pretty(&value)?;
        write_atomically(path, |file| writeln!(file, "{text}"))?;
    }
    Ok(())
}

/// Parts of a step by themselves: name, number, unit.
fn pieces(
    parts: &Parts,
    lane: &Lane,
    settings: &Settings,
    prompts: &[&Prompt],
) -> anyhow::Result<Vec<(String, f64, &'static str)>> {
    let mut result = Vec::new();
    let freeze = |_: &str| false;
    let model = Qwen25Vl::from_folder(&parts.run.model.checkpoint, parts.placement.clone(), &freeze)?;
    let pictures: Vec<_> = prompts.iter().flat_map(|prompt| &prompt.pictures).collect();
    if !pictures.is_empty() {
        let ms = time(|| drop(model.image_features(&pictures).into_data()));
        result.push((format!("vision of {} pictures", pictures.len()), ms, "ms"));
    }
    let policy = lane.policy.freeze();
    let named: Vec<(usize, &Prompt)> = prompts.iter().copied().enumerate().collect();
    let ms = time(|| drop(policy.decoder(1, 1).prefill(&named).into_data()));
    result.push((format!("prefill of {} prompts", prompts.len()), ms, "ms"));
    let per_prompt = settings.rollout.responses_per_prompt;
    for batch in [1, 8, 64, 256] {
        if batch > 64.max(prompts.len() * per_prompt) {
            continue;
        }
        const STEPS: usize = 16;
        let mut decoder = policy.decoder(batch, STEPS + 1);
        decoder.prefill(&named);
        let row = |slot: usize, length: usize| DecodeRow {
            slot,
            prompt: slot / per_prompt % prompts.len(),
            token: 1,
            length,
        };
        let ms = time(|| {
            for length in 0..STEPS {
                let rows: Vec<DecodeRow> = (0..batch).map(|slot| row(slot, length)).collect();
                drop(decoder.step(&rows).into_data());
            }
        });
        result.push((format!("decode at batch {batch}"), (batch * STEPS) as f64 / ms * 1e3, "tokens/s"));
    }
    let scoring = |group: &CollectedGroup| ScoringGroup {
        prompt: group.task.prompt.clone(),
        image: percept_core::Image::Whole,
        responses: group.group.responses.iter().map(|response| response.tokens.clone().into()).collect(),
    };
    let groups: Vec<ScoringGroup> = lane.groups.iter().map(scoring).collect();
    let tokens: f64 = lane.groups.iter().flat_map(|group| &group.lengths).sum::<usize>() as f64;
    let request = ScoreRequest { temperature: 1.0, entropy: false };
    let ms = time(|| drop(policy.score(&groups, request).into_data()));
    result.push(("scoring".to_owned(), tokens / ms * 1e3, "tokens/s"));
    let updater = updater(&*lane.objective, settings, 0);
    let ms = time(|| drop(updater.gradients(&*lane.policy, &lane.groups)));
    result.push(("training".to_owned(), tokens / ms * 1e3, "tokens/s"));
    Ok(result)
}
