//! Steps like a run's, of a model with fewer blocks and of fewer tokens: how much longer or shorter than counted its phases take.

use super::advice;
use super::capacity::Capacity;
use super::memory::Workload;
use super::request::{self, Target};
use super::time;
use crate::cost::GroupSize;
use crate::cost::rates::Rates;
use crate::lane::{Lane, WARM_UP};
use crate::parts::{adapting, settings};
use crate::report::bar;
use anyhow::{Context, ensure};
use percept_config::RunConfig;
use percept_core::{Objective, PicturePatches, Policy, Prompt, Task, Weights};
use percept_models::{Described, Excerpt, Placement};
use percept_trainer::{Grade, Grader, Reference, Settings, TaskSource, TrainError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What was timed, and how it compares with what is counted for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trial {
    layers: usize,
    prompts: usize,
    responses: usize,
    new_tokens: usize,
    /// By phase, seconds taken over seconds counted.
    factors: BTreeMap<String, f64>,
}

/// Seconds that are counted for one step of a trial, at most.
const STEP_SECONDS: f64 = 2.5;
/// Steps that count, behind those that do not.
const STEPS: usize = 3;
/// What is left of a run at least, as long as there is as much of it.
const LEAST_LAYERS: usize = 2;
const LEAST_NEW_TOKENS: usize = 32;
const LEAST_RESPONSES: usize = 2;

/// A run whose step is short enough to be tried, and the blocks of its model.
#[derive(Clone, Debug)]
struct Shortened {
    run: RunConfig,
    groups: Vec<GroupSize>,
    layers: usize,
}

/// A run that is to be planned.
pub(crate) struct Planned<'a> {
    pub(crate) run: &'a RunConfig,
    pub(crate) from: Described<'a>,
    pub(crate) target: &'a Target,
    pub(crate) placement: &'a Placement,
    pub(crate) workload: &'a Workload,
    pub(crate) capacity: Capacity,
}

impl Trial {
    /// Runs a few steps.
    ///
    /// # Errors
    /// When nothing that is small enough fits, or a step fails.
    pub(crate) fn measure(planned: &Planned, objective: Box<dyn Objective>, rates: &Rates) -> anyhow::Result<Self> {
        let passes = request::passes(&*objective);
        let Shortened { run, groups, layers } = shorten(planned, rates, passes)?;
        let mut placement = planned.placement.clone();
        placement.device = placement.device.autodiff();
        placement.kept_features = run.model.kept_features_mib.saturating_mul(1 << 20);
        let freeze = |name: &str| run.model.lora.is_some() || run.model.freezes(name);
        let Excerpt { policy, outline, image } =
            adapting(&run, |lora| percept_models::excerpt(planned.from, layers, &placement, &freeze, lora))?;
        ensure!(image > 0, "its vocabulary has no token of text");
        let micro_tokens = planned.workload.micro_tokens;
        let workload = request::workload(&run, &*objective, outline, planned.target, groups.clone(), micro_tokens);
        let steps = WARM_UP + STEPS;
        let settings = Settings {
            micro_tokens,
            recompute: workload.recompute,
            banned_tokens: vec![image],
            prompts_per_try: run.rollout.prompts_per_step,
            prompts_per_look: 0,
            ..settings(&run, steps as u64, workload.recompute)
        };
        let mut names = objective.parts_read();
        names.push("accuracy".to_owned());
        let needs = objective.needs();
        let mut source = Imagined {
            groups,
            image,
            slots: request::slots(&needs),
            masked_every: needs.corrupted_every.get() as u64,
            patch_width: workload.outline.vision.patch_width,
            merged: workload.outline.vision.merged,
        };
        let scores = needs.views.iter().any(|view| view.weights == Weights::Reference);
        let reference = scores.then(|| reference(&*policy));
        let mut lane = Lane::new(objective, policy, reference, &settings, run.rollout.max_rows);
        let progress = bar("trial step");
        progress.set_length(steps as u64);
        // not from 0 on: the first step of a run computes its update without what sampling kept
        for step in 1..=steps as u64 {
            lane.step(step, &settings, &mut source, &Alternating { names: names.clone() })?;
            progress.inc(1);
        }
        progress.finish_and_clear();
        let taken = lane.phase_ms();
        let counted = time::seconds(&workload, rates, passes);
        let factor = |(name, seconds): &(&'static str, f64)| {
            let taken = taken.get(name).filter(|_| *seconds > 0.0)?;
            Some(((*name).to_owned(), taken / 1e3 / seconds))
        };
        Ok(Self {
            layers,
            prompts: run.rollout.prompts_per_step,
            responses: run.rollout.responses_per_prompt,
            new_tokens: run.rollout.max_new_tokens,
            factors: counted.iter().filter_map(factor).collect(),
        })
    }

    /// What `percept plan --json` wrote of a trial, if it had one.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else under that name.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let place = || path.display().to_string();
        let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).with_context(place)?)?;
        let Some(found) = value.get("trial").filter(|value| !value.is_null()) else { return Ok(None) };
        let trial: Self = serde_json::from_value(found.clone()).with_context(|| format!("{}: trial", place()))?;
        for (phase, factor) in &trial.factors {
            ensure!(
                *factor > 0.0 && factor.is_finite(),
                "{}: trial.factors.{phase}: expected a number above 0, found {factor}",
                place()
            );
        }
        Ok(Some(trial))
    }

    /// Corrects counted seconds.
    pub(crate) fn correct(&self, seconds: &mut [(&'static str, f64)]) {
        for (name, seconds) in seconds {
            *seconds *= self.factors.get(*name).copied().unwrap_or(1.0);
        }
    }

    /// For people, beside a model of so many blocks.
    pub(crate) fn describe(&self, blocks: usize) -> String {
        let Self { layers, prompts, responses, new_tokens, .. } = self;
        format!("{prompts} prompts x {responses} responses x {new_tokens} tokens by {layers} of {blocks} blocks")
    }
}

/// Leaves out blocks, then tokens, prompts and responses, until a step takes little time and memory.
fn shorten(planned: &Planned, rates: &Rates, passes: time::Passes) -> anyhow::Result<Shortened> {
    let blocks = planned.workload.outline.text.layers;
    let mut short = Shortened { run: planned.run.clone(), groups: planned.workload.groups.clone(), layers: blocks };
    // no pass looks at more of them
    short.groups.truncate(short.run.rollout.prompts_per_step);
    if planned.workload.sampled() == 0.0 {
        // a shorter step would keep what this one cannot, and its update be another
        short.run.trainer.kept_activations_mib = 0;
    }
    let kept_activations = short.run.trainer.kept_activations_mib.saturating_mul(1 << 20);
    loop {
        let rollout = &short.run.rollout;
        let workload = Workload {
            groups: short.groups.clone(),
            max_new_tokens: rollout.max_new_tokens,
            prompts_per_step: rollout.prompts_per_step,
            prompts_per_update: planned.workload.prompts_per_update.min(rollout.prompts_per_step),
            kept_activations: planned.workload.kept_activations.min(kept_activations),
            ..planned.workload.clone()
        };
        let share = short.layers as f64 / blocks as f64;
        let seconds: f64 = time::seconds(&workload, rates, passes).iter().map(|(_, seconds)| seconds * share).sum();
        let fits = advice::fits_in(&workload, planned.capacity, advice::USABLE / share);
        if seconds <= STEP_SECONDS && fits {
            return Ok(short);
        }
        if !short.halve() {
            ensure!(fits, "not even {LEAST_LAYERS} of its blocks fit");
            return Ok(short);
        }
    }
}

impl Shortened {
    /// Halves what may be halved next; false when nothing may.
    fn halve(&mut self) -> bool {
        let half = |count: usize, least: usize| count.div_ceil(2).max(least);
        let rollout = &mut self.run.rollout;
        if self.layers > LEAST_LAYERS {
            self.layers = half(self.layers, LEAST_LAYERS);
        } else if rollout.max_new_tokens > LEAST_NEW_TOKENS {
            rollout.max_new_tokens = half(rollout.max_new_tokens, LEAST_NEW_TOKENS);
        } else if rollout.prompts_per_step > 1 {
            rollout.prompts_per_step = half(rollout.prompts_per_step, 1);
        } else if rollout.responses_per_prompt > LEAST_RESPONSES {
            rollout.responses_per_prompt = half(rollout.responses_per_prompt, LEAST_RESPONSES);
        } else {
            return false;
        }
        let rollout = &self.run.rollout;
        self.run.trainer.prompts_per_update = self.run.trainer.prompts_per_update.min(rollout.prompts_per_step);
        self.groups.truncate(rollout.prompts_per_step);
        for group in &mut self.groups {
            group.responses = vec![rollout.max_new_tokens; rollout.responses_per_prompt];
        }
        true
    }
}

/// Another model of the same size; adapters switched off where there are some.
fn reference<'a>(policy: &dyn Policy) -> Reference<'a> {
    Reference::Kept(policy.without_adapters().unwrap_or_else(|| policy.freeze()))
}

/// Prompts of given lengths with pictures of given sizes.
struct Imagined {
    groups: Vec<GroupSize>,
    /// The id of pictures' tokens.
    image: u32,
    /// Corrupted twins of pictures.
    slots: usize,
    /// Of every so many prompts one has them.
    masked_every: u64,
    patch_width: usize,
    merged: usize,
}

impl TaskSource for Imagined {
    fn num_rows(&self) -> usize {
        self.groups.len()
    }

    fn task(&mut self, visit: u64) -> Result<Option<Task>, TrainError> {
        let group = &self.groups[visit as usize % self.groups.len()];
        let text = |place: usize| (visit as usize * 31 + place * 7) as u32 % self.image;
        let mut tokens = Vec::with_capacity(group.prompt);
        for &[time, height, width] in &group.pictures {
            tokens.push(text(tokens.len()));
            tokens.extend(std::iter::repeat_n(self.image, time * height * width / self.merged));
        }
        tokens.extend((tokens.len()..group.prompt).map(text));
        let picture = |grid: &[usize; 3]| {
            let count = grid.iter().product::<usize>() * self.patch_width;
            let rows = (0..count).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
            PicturePatches { rows: Arc::new(rows), grid: *grid }
        };
        let pictures = || group.pictures.iter().map(picture).collect::<Vec<_>>();
        let twin = |_| if visit.is_multiple_of(self.masked_every) { pictures() } else { Vec::new() };
        let prompt = Prompt { id: visit, tokens, pictures: pictures(), corrupted: (0..self.slots).map(twin).collect() };
        let (problem, answer, place) = (String::new(), String::new(), format!("visit {visit}"));
        Ok(Some(Task { prompt: Arc::new(prompt), problem, answer, solution: None, category: None, place }))
    }
}

/// Every second response is right, so that groups teach something.
struct Alternating {
    names: Vec<String>,
}

impl Grader for Alternating {
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn grade(&self, responses: &[(&Task, &[u32])]) -> Result<Vec<Grade>, TrainError> {
        let grade = |index: usize| {
            let score = (index % 2) as f32;
            Grade { overall: score, parts: vec![score; self.names.len()], text: String::new() }
        };
        Ok((0..responses.len()).map(grade).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::workload;
    use super::*;
    use burn::tensor::{DType, Device};

    /// What is tried of 8 prompts x 8 responses x 64 tokens of a model, where so much memory is.
    fn tried(size: &str, workload: &Workload, rates: &Rates, bytes: Option<f64>) -> anyhow::Result<Shortened> {
        let sets = [
            "model.checkpoint=none",
            "trainer.prompts_per_update=8",
            "data.train=none",
            "rollout.prompts_per_step=8",
            "rollout.responses_per_prompt=8",
            "rollout.max_new_tokens=64",
        ];
        let run = RunConfig::parse("a test", "", &[], &sets.map(str::to_owned))?;
        let placement = Placement::from(&Device::flex());
        let target = Target { name: "cpu".to_owned(), dtype: DType::F32, is_host: true, placement: None, memory: None };
        let planned = Planned {
            run: &run,
            from: Described::Size { family: "qwen2_5_vl", size },
            target: &target,
            placement: &placement,
            workload,
            capacity: Capacity { device: bytes, host: None },
        };
        let passes = time::Passes { reference: 1, corrupted: 0, corrupted_every: 1, behavior: 0 };
        shorten(&planned, rates, passes)
    }

    /// The same in numbers: blocks, tokens, prompts and responses.
    fn left(size: &str, rates: Rates, bytes: Option<f64>) -> anyhow::Result<[usize; 4]> {
        let short = tried(size, &workload(size), &rates, bytes)?;
        let rollout = &short.run.rollout;
        assert!(
            short.groups.len() <= rollout.prompts_per_step
                && short.run.trainer.prompts_per_update <= rollout.prompts_per_step
        );
        let lengths = vec![rollout.max_new_tokens; rollout.responses_per_prompt];
        assert!(short.groups.iter().all(|group| group.responses == lengths));
        Ok([short.layers, rollout.max_new_tokens, rollout.prompts_per_step, rollout.responses_per_prompt])
    }

    #[test]
    fn blocks_are_left_out_first_and_responses_last() {
        let rates = |flops: f64| Rates { matrix_flops: flops, matrix_flops_f32: flops, copy_bytes: flops / 8.0 };
        let found = [("4m", 4e11), ("4m", 8e10), ("4m", 2e10), ("3b", 4e11), ("3b", 4e13)]
            .map(|(size, flops)| left(size, rates(flops), None).expect("short enough"));
        assert_eq!(found, [[6, 64, 8, 8], [3, 64, 8, 8], [2, 32, 8, 8], [2, 32, 1, 8], [18, 64, 8, 8]]);
        // what would take too much memory is left out, too
        assert!(left("3b", rates(1e18), Some(1e10)).expect("small enough")[0] < 18);
        assert!(left("3b", rates(1e18), Some(1e8)).expect_err("nothing fits").to_string().contains("fit"));
    }
    #[test]
    fn what_a_step_cannot_keep_its_trial_does_not_keep() {
        let rates = Rates { matrix_flops: 1e11, matrix_flops_f32: 1e11, copy_bytes: 1e10 };
        let kept = |mib: usize| {
            let whole = Workload { kept_activations: mib << 20, ..workload("4m") };
            tried("4m", &whole, &rates, None).expect("short enough").run.trainer.kept_activations_mib
        };
        assert!(kept(2048) > 0);
        // too little for all of it
        assert_eq!(kept(100), 0);
    }
}
