//! `percept bench`: whole training steps, their phases and their pieces, timed, counted and compared.
//!
//! Stop tokens are ignored, so that every step does the same work. The first two steps are warm-up and do not count.

mod lengthen;
mod padded;
mod pieces;
mod report;
mod sweep;

use crate::App;
use crate::cost::rates::Rates;
use crate::cost::{GroupSize, flops};
use crate::device::DeviceFlag;
use crate::lane::{Lane, WARM_UP, median};
use crate::parts::Parts;
use crate::report::bar;
use crate::source::Source;
use anyhow::{Context, ensure};
use lengthen::Lengthened;
use padded::Padded;
use percept_algorithms::PapoConfig;
use percept_config::RunConfig;
use percept_core::Weights;
use percept_models::Described;
use percept_trainer::peak_rss_mib;
use pieces::Piece;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sweep::Axis;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Checkpoint folder (repeatable with --sweep model)
    #[arg(long, value_name = "DIR", required = true)]
    checkpoint: Vec<PathBuf>,
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
    /// Tokens of each prompt: the data's, with their text repeated to this length
    #[arg(long)]
    prompt_tokens: Option<usize>,
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
    /// Leave out the comparison with prompts repeated for every response
    #[arg(long)]
    without_padded: bool,
    /// Measure at several prompt lengths, group sizes, response lengths or models, and fit how each cost grows
    #[arg(long, value_enum, value_name = "AXIS")]
    sweep: Option<Axis>,
    /// Where to measure; when absent, 1, 2, 4 and 8 times the length or size given
    #[arg(long, value_delimiter = ',', value_name = "N,N,...", requires = "sweep")]
    sweep_values: Vec<usize>,
    /// Override a key of the configuration (repeatable)
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Write the numbers here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A short instruction: what is timed should not depend on the words of a method's prompt.
const FORMAT: &str = "{{ content }} Think first inside <think> </think>, then put the answer in \\boxed{}.";

/// What one measurement is of.
#[derive(Clone, Debug)]
struct Point {
    checkpoint: PathBuf,
    prompts: usize,
    responses: usize,
    new_tokens: usize,
    prompt_tokens: Option<usize>,
}

/// What was measured.
struct Measured {
    point: Point,
    device: String,
    dtype: String,
    parameters: usize,
    step_ms: f64,
    phase_ms: BTreeMap<&'static str, f64>,
    /// Of the steps themselves, before the pieces were timed.
    peak_rss_mib: f64,
    /// Mean over the prompts of a step.
    prompt_tokens: f64,
    pieces: Vec<Piece>,
    padded: Option<Padded>,
    /// The method that PAPO stands on, with the milliseconds of its step.
    base: Option<(String, f64)>,
    rates: Rates,
}

impl Measured {
    fn response_tokens(&self) -> f64 {
        (self.point.prompts * self.point.responses * self.point.new_tokens) as f64
    }

    fn overhead_percent(&self) -> Option<f64> {
        self.base.as_ref().map(|(_, base)| (self.step_ms / base - 1.0) * 100.0)
    }
}

pub(crate) fn run(app: &App, arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(arguments.steps > WARM_UP, "--steps {}: the first {WARM_UP} are warm-up, so at least 3", arguments.steps);
    let sweeps_models = arguments.sweep == Some(Axis::Model);
    ensure!(
        arguments.checkpoint.len() == 1 || sweeps_models,
        "--checkpoint is given {} times: several are compared by --sweep model",
        arguments.checkpoint.len()
    );
    let point = Point {
        checkpoint: arguments.checkpoint[0].clone(),
        prompts: arguments.prompts,
        responses: arguments.responses,
        new_tokens: arguments.new_tokens,
        prompt_tokens: arguments.prompt_tokens,
    };
    let Some(axis) = arguments.sweep else {
        let measured = measure(app, arguments, &point, None, !arguments.without_padded)?;
        report::print(arguments, &measured);
        return report::write(arguments, report::json(arguments, &measured));
    };
    let mut measured: Vec<Measured> = Vec::new();
    let mut told = None;
    while let Some(next) = sweep::next(axis, arguments, &point, &measured)? {
        let one = measure(app, arguments, &next, told, false)?;
        eprintln!("{}: step {:.1} ms", axis.describe(&one), one.step_ms);
        told = Some(one.rates);
        measured.push(one);
    }
    let fits = sweep::fit(axis, &measured);
    report::print_sweep(axis, &measured, &fits);
    report::write(arguments, report::sweep_json(arguments, axis, &measured, &fits))
}

/// Times steps and pieces at one point. `rates`: when they are known already.
fn measure(
    app: &App,
    arguments: &Arguments,
    point: &Point,
    rates: Option<Rates>,
    with_padded: bool,
) -> anyhow::Result<Measured> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let format = folder.path().join("format.jinja");
    std::fs::write(&format, FORMAT)?;
    let configured = |kind: &str| configuration(arguments, point, kind, &format);
    let parts = Parts::new(configured(&arguments.objective)?)?;
    let outline = percept_models::outline(Described::Folder(&point.checkpoint), &burn::tensor::Device::flex())?;
    let mut source = parts.source(std::slice::from_ref(&arguments.data), false, true, None)?;
    let grader = parts.grader(app)?;
    let base = match arguments.objective.as_str() {
        "papo_g" => Some("grpo"),
        "papo_d" => Some("dapo"),
        _ => None,
    };
    let mut lanes = Vec::new();
    for kind in std::iter::once(arguments.objective.as_str()).chain(base) {
        let mut run = configured(kind)?;
        if Some(kind) == base {
            // what --set gives the decorator is unknown to its base
            run.objective.retain(|key, _| !PapoConfig::KEYS.contains(&key));
        }
        lanes.push((kind.to_owned(), lane(app, &parts, &run, arguments.steps as u64, &mut source)?));
    }
    let mut settings = parts.settings(arguments.steps as u64, lanes[0].1.policy.vocabulary());
    settings.banned_tokens.append(&mut settings.stop_tokens);
    let mut source = Lengthened { source, tokens: point.prompt_tokens, special: parts.special.clone() };
    let progress = bar("benchmark");
    progress.set_length((arguments.steps * lanes.len()) as u64);
    for step in 0..arguments.steps {
        for (_, lane) in &mut lanes {
            lane.step(step as u64, &settings, &mut source, &grader)?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let peak = peak_rss_mib();
    let base = lanes.get(1).map(|(name, base)| (name.clone(), base.step_ms()));
    lanes.truncate(1);
    let (_, mut lane) = lanes.pop().expect("a lane");
    let device = parts.placement.device.clone();
    let rates = rates.unwrap_or_else(|| Rates::measure(&device, parts.placement.dtype));
    let groups: Vec<GroupSize> =
        lane.groups.iter().map(|group| GroupSize::of(&group.task.prompt, &group.lengths)).collect();
    let prompt_tokens = groups.iter().map(|group| group.prompt).sum::<usize>() as f64 / groups.len() as f64;
    let how = flops::Training { vision_learns: parts.vision_learns(&outline), recompute: parts.recompute() };
    if !how.vision_learns && parts.run.model.kept_features_mib > 0 {
        // pieces are timed again and again on the same pictures
        lane.policy = parts.forgetful_learner()?;
    }
    let padded = with_padded.then(|| {
        let repeated: Vec<GroupSize> = groups.iter().flat_map(GroupSize::repeated).collect();
        let training =
            |groups: &[GroupSize]| (flops::scoring(&outline, groups) + flops::backward(&outline, groups, how)).total();
        padded::compare(&lane, settings.micro_tokens, [training(&groups), training(&repeated)])
    });
    let padded = padded.transpose()?;
    let pieces = pieces::time_all(&parts, &outline, &mut lane, &settings, (&groups, how))?;
    Ok(Measured {
        point: point.clone(),
        device: parts.found.key(),
        dtype: crate::device::type_name(parts.placement.dtype).to_owned(),
        parameters: outline.num_parameters(),
        step_ms: lane.step_ms(),
        phase_ms: lane.phase_ms(),
        peak_rss_mib: peak,
        prompt_tokens,
        pieces,
        padded,
        base,
        rates,
    })
}

/// The steps of one method.
fn lane<'a>(app: &App, parts: &'a Parts, run: &RunConfig, steps: u64, source: &mut Source) -> anyhow::Result<Lane<'a>> {
    let objective = app.objectives.build(run)?;
    if source.masked.is_empty() {
        parts.mask_for(source, &*objective)?;
    }
    let policy = parts.learner(None)?;
    let scores = objective.needs().views.iter().any(|view| view.weights == Weights::Reference);
    let reference = scores.then(|| parts.reference(&*policy)).transpose()?;
    let settings = parts.settings(steps, policy.vocabulary());
    Ok(Lane::new(objective, policy, reference, &settings, run.rollout.max_rows))
}

fn configuration(arguments: &Arguments, point: &Point, kind: &str, format: &Path) -> anyhow::Result<RunConfig> {
    let quoted = |path: &Path| toml::Value::from(path.display().to_string());
    let mut sets = vec![
        format!("model.checkpoint={}", quoted(&point.checkpoint)),
        format!("data.train={}", quoted(&arguments.data)),
        format!("data.format_prompt={}", quoted(format)),
        "data.min_pixels=\"off\"".to_owned(),
        "data.max_pixels=\"off\"".to_owned(),
        format!("objective.kind={kind}"),
        format!("rollout.prompts_per_step={}", point.prompts),
        format!("rollout.responses_per_prompt={}", point.responses),
        format!("rollout.max_new_tokens={}", point.new_tokens),
        format!("rollout.max_rows={}", point.prompts * point.responses),
        "rollout.top_p=1.0".to_owned(),
        format!("trainer.prompts_per_update={}", point.prompts),
        format!("trainer.prompts_per_try={}", point.prompts),
        format!("trainer.micro_tokens={}", arguments.micro_tokens),
        format!("data.max_prompt_tokens={}", arguments.micro_tokens.saturating_sub(point.new_tokens).max(1)),
    ];
    sets.extend(arguments.threads.map(|threads| format!("device.threads={threads}")));
    sets.extend(arguments.device.over(&arguments.sets)?);
    Ok(RunConfig::parse("benchmark", "", &[], &sets)?)
}

/// Repetitions end when they have taken so long.
const ENOUGH: Duration = Duration::from_secs(10);

/// Median milliseconds of a part, after one run that does not count. The part returns when the device is done.
fn time(repeats: usize, mut part: impl FnMut()) -> f64 {
    let [ms] = medians(repeats, || {
        let start = Instant::now();
        part();
        [start.elapsed().as_secs_f64() * 1e3]
    });
    ms
}

/// Medians of what a part measures of itself, over at most so many runs, after one that does not count unless it was [`ENOUGH`] alone.
fn medians<const N: usize>(repeats: usize, mut part: impl FnMut() -> [f64; N]) -> [f64; N] {
    let start = Instant::now();
    let first = part();
    if start.elapsed() > ENOUGH {
        return first;
    }
    let start = Instant::now();
    let mut runs = vec![part()];
    while runs.len() < repeats && start.elapsed() < ENOUGH {
        runs.push(part());
    }
    std::array::from_fn(|i| median(&runs.iter().map(|run| run[i]).collect::<Vec<_>>()))
}
