//! One step: collect verified responses, then learn from them.
//!
//! collect: tasks -> prompts -> sample groups -> verify -> admit -> credit -> views without gradient -> batch
//! update:  for each mini-batch: for each micro-batch: live views -> loss -> backward -> accumulate; clip; optimizer step

use crate::batch::{Batch, CollectedGroup};
use crate::incident::{Kind, diagnose_sampling};
use crate::metrics::Metrics;
use crate::portion::shrinking;
use crate::refill::{Progress, Refill};
use crate::settings::{RolloutSettings, Settings};
use crate::views::{fill, phase};
use crate::{Event, Grade, Grader, TaskSource, TrainError, Watch};
use percept_core::{
    Activations, Finish, FrozenPolicy, Group, GroupOutcome, Needs, Objective, Prompt, Sampler, SamplerError,
    SamplingSpec, Task, Weights,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Every so many steps the update computes all of its forward pass, by which the sampler's log-probabilities are checked.
const COMPUTED_ANEW: u64 = 16;

/// Seconds by phase.
#[derive(Clone, Default)]
pub struct Phases<'a>(pub BTreeMap<&'static str, f64>, Option<Watch<'a>>);

impl<'a> Phases<'a> {
    /// Phases that are told as they begin.
    pub fn told(watch: Watch<'a>) -> Self {
        Self(BTreeMap::new(), Some(watch))
    }

    pub(crate) fn tell(&self, event: Event) {
        if let Some(watch) = self.1 {
            watch(event);
        }
    }

    /// Runs a part and adds its time to a phase.
    pub fn time<R>(&mut self, phase: &'static str, part: impl FnOnce() -> R) -> R {
        self.tell(Event::Phase(phase));
        let start = Instant::now();
        let result = part();
        *self.0.entry(phase).or_default() += start.elapsed().as_secs_f64();
        result
    }
}

/// Where the frozen start of a run is between the scorings that need it.
pub enum Reference<'a> {
    /// In the device's memory.
    Kept(FrozenPolicy),
    /// Brought there for each scoring, and dropped after it.
    Brought(Box<dyn Fn() -> Result<FrozenPolicy, TrainError> + 'a>),
}

/// Everything that collecting needs.
pub struct Collector<'a> {
    pub settings: &'a Settings,
    pub source: &'a mut dyn TaskSource,
    pub sampler: &'a mut dyn Sampler,
    pub grader: &'a dyn Grader,
    pub objective: &'a dyn Objective,
    pub reference: Option<&'a Reference<'a>>,
    /// Tokens scored at once; less after memory has run out.
    pub micro_tokens: usize,
}

impl RolloutSettings {
    /// The draw of one step.
    pub fn spec(&self, settings: &Settings, step: u64, evaluation: bool) -> SamplingSpec {
        SamplingSpec {
            responses_per_prompt: self.responses_per_prompt,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            max_new_tokens: self.max_new_tokens,
            stop_tokens: settings.stop_tokens.clone(),
            banned_tokens: settings.banned_tokens.clone(),
            seed: settings.seed,
            step,
            evaluation,
            kept_activations: 0,
        }
    }
}

impl Collector<'_> {
    /// Collects the batch of a step, reading tasks from visit `next` on, which is advanced.
    ///
    /// # Errors
    /// When data, sampling or verification fail, or dynamic sampling cannot fill the batch.
    pub fn collect(
        &mut self,
        behavior: &FrozenPolicy,
        step: u64,
        next: &mut u64,
        metrics: &mut Metrics,
        phases: &mut Phases,
    ) -> Result<Batch, TrainError> {
        let rollout = &self.settings.rollout;
        let filters = !self.objective.parts_read().is_empty();
        let chunk = if filters { self.settings.prompts_per_try } else { rollout.prompts_per_step };
        let mut refill = Refill::new(rollout.prompts_per_step, self.settings.max_tries);
        let (mut sampled, mut means) = (Vec::new(), Vec::new());
        let mut room = self.room_for_activations(step);
        let mut skipped = 0u64;
        loop {
            let tasks = phases.time("data", || next_tasks(self.source, chunk, next, &mut skipped))?;
            let mut decided = Vec::with_capacity(tasks.len());
            let look =
                if filters && self.settings.prompts_per_look > 0 { self.settings.prompts_per_look } else { chunk };
            for tasks in tasks.chunks(look) {
                if refill.len() + decided.iter().filter(|(_, admitted)| *admitted).count() >= rollout.prompts_per_step {
                    // the first groups that are admitted fill the step: the others of the try would be left out
                    break;
                }
                for group in self.sample_and_grade(behavior, tasks.to_vec(), step, &mut room, phases)? {
                    phases.tell(Event::Sampled(&group));
                    let admitted = self.objective.admit(&outcome(&group, rollout));
                    means.push(self.filtered_mean(&group));
                    sampled.push(Sampled::of(&group));
                    decided.push((group, admitted));
                }
            }
            match refill.push(decided) {
                Progress::Full => break,
                Progress::More => {}
                Progress::TooManyTries => {
                    let (kept, needed, tries) = (refill.len(), rollout.prompts_per_step, refill.tries());
                    return Err(TrainError::NotEnoughGroups { kept, needed, tries, histogram: histogram(&means) });
                }
            }
        }
        let (tries, kept) = (refill.tries(), refill.len());
        let mut groups = refill.into_groups();
        for group in &mut groups {
            group.advantages = self.objective.credit(&outcome(group, rollout));
        }
        self.describe(&sampled, &groups, metrics);
        metrics.set("data/skipped_rows", skipped as f64);
        metrics.set("collect/tries", tries as f64);
        metrics.set("collect/admitted_fraction", kept as f64 / sampled.len() as f64);
        self.fill_views(&mut groups, behavior, phases)?;
        Ok(Batch { groups })
    }

    /// Bytes of what sampling computes that may be kept for the update: it has the weights that sampled when it is the step's only one,
    /// and nothing to compute again when it looks at whole pictures alone and keeps its graph.
    fn room_for_activations(&self, step: u64) -> usize {
        let settings = self.settings;
        let only = settings.prompts_per_update >= settings.rollout.prompts_per_step;
        let whole = self.objective.needs().views.iter().all(|view| view.weights != Weights::Live);
        let computes_anew = settings.recompute || step.is_multiple_of(COMPUTED_ANEW);
        if only && whole && !computes_anew { settings.kept_activations } else { 0 }
    }

    fn sample_and_grade(
        &mut self,
        behavior: &FrozenPolicy,
        tasks: Vec<Arc<Task>>,
        step: u64,
        room: &mut usize,
        phases: &mut Phases,
    ) -> Result<Vec<CollectedGroup>, TrainError> {
        let mut spec = self.settings.rollout.spec(self.settings, step, false);
        spec.kept_activations = *room;
        let prompts: Vec<Arc<Prompt>> = tasks.iter().map(|task| task.prompt.clone()).collect();
        let sample = |sampler: &mut &mut dyn Sampler| sampler.sample(behavior, &prompts, &spec);
        let sampler = &mut self.sampler;
        let groups =
            phases.time("rollout", || shrinking(&behavior.device(), sampler, |sampler| sampler.shrink(), sample))?;
        let groups = groups.map_err(|error| self.explain(error, behavior, &tasks, step))?;
        let kept = groups.iter().filter_map(|group| group.activations.as_ref()).map(Activations::bytes);
        *room = room.saturating_sub(kept.max().unwrap_or(0));
        phases.time("reward", || grade_groups(self.grader, tasks, groups))
    }

    /// Names the layer where a policy that cannot sample goes wrong.
    fn explain(&self, error: SamplerError, behavior: &FrozenPolicy, tasks: &[Arc<Task>], step: u64) -> TrainError {
        let SamplerError::NothingToSample { prompt } = &error else { return error.into() };
        let task = tasks.iter().find(|task| task.prompt.id == *prompt);
        let Some(place) = task.and_then(|task| diagnose_sampling(behavior, task)) else { return error.into() };
        let kept = format!("there is no update to keep: {error}");
        TrainError::Incident {
            step: step + 1,
            update: 0,
            kind: Kind::NotFinite,
            words: place.words(),
            kept,
            sound: false,
        }
    }

    fn fill_views(
        &mut self,
        groups: &mut [CollectedGroup],
        behavior: &FrozenPolicy,
        phases: &mut Phases,
    ) -> Result<(), TrainError> {
        let needs = self.objective.needs();
        for &view in &needs.views {
            let one = Needs { views: vec![view], ..needs };
            let temperature = self.settings.rollout.temperature;
            let micro_tokens = &mut self.micro_tokens;
            let brought;
            let reference = match self.reference.filter(|_| view.weights == Weights::Reference) {
                None => None,
                Some(Reference::Kept(policy)) => Some(policy),
                Some(Reference::Brought(bring)) => {
                    brought = phases.time(phase(view), bring)?;
                    Some(&brought)
                }
            };
            phases.time(phase(view), || fill(groups, &one, behavior, reference, temperature, micro_tokens))?;
        }
        Ok(())
    }

    /// The mean of the score that the objective filters on (the overall reward when it does not filter).
    fn filtered_mean(&self, group: &CollectedGroup) -> f32 {
        let key = self.objective.parts_read().into_iter().next().unwrap_or_else(|| "overall".to_owned());
        let view = outcome(group, &self.settings.rollout);
        let scores = view.part(&key).unwrap_or(&group.rewards);
        scores.iter().sum::<f32>() / scores.len() as f32
    }

    fn describe(&self, sampled: &[Sampled], groups: &[CollectedGroup], metrics: &mut Metrics) {
        let responses = sampled.iter().flat_map(|group| &group.rewards);
        let count = responses.clone().count() as f64;
        metrics.set("reward/overall", responses.map(|&reward| f64::from(reward)).sum::<f64>() / count);
        for (index, name) in self.grader.names().iter().enumerate() {
            let scores = sampled.iter().flat_map(|group| &group.parts[index]);
            metrics.set(format!("reward/{name}"), scores.map(|&score| f64::from(score)).sum::<f64>() / count);
        }
        let lengths = sampled.iter().flat_map(|group| group.lengths.iter().map(|&length| length as f64));
        metrics.spread("response/length", lengths);
        let cut: usize = sampled.iter().map(|group| group.cut).sum();
        metrics.set("response/cut_fraction", cut as f64 / count);
        metrics.spread("prompt/length", groups.iter().map(|group| group.group.prompt.tokens.len() as f64));
        metrics.spread("advantage", groups.iter().flat_map(|group| group.advantages.iter().map(|&a| f64::from(a))));
        let flat = groups.iter().filter(|group| group.rewards.iter().all(|reward| reward == &group.rewards[0])).count();
        metrics.set("collect/groups_without_variance", flat as f64 / groups.len() as f64);
        let correct = groups.iter().flat_map(|group| &group.correct).map(|&c| f64::from(c)).sum::<f64>();
        let kept = groups.iter().map(|group| group.correct.len()).sum::<usize>() as f64;
        metrics.set("collect/correct_fraction", correct / kept);
    }
}

/// What the metrics need of every sampled group, kept or not.
struct Sampled {
    rewards: Vec<f32>,
    parts: Vec<Vec<f32>>,
    lengths: Vec<usize>,
    cut: usize,
}

impl Sampled {
    fn of(group: &CollectedGroup) -> Self {
        let responses = &group.group.responses;
        Self {
            rewards: group.rewards.clone(),
            parts: group.parts.iter().map(|(_, scores)| scores.clone()).collect(),
            lengths: responses.iter().map(|response| response.tokens.len()).collect(),
            cut: responses.iter().filter(|response| response.finish == Finish::Length).count(),
        }
    }
}

fn outcome<'a>(group: &'a CollectedGroup, rollout: &RolloutSettings) -> GroupOutcome<'a> {
    GroupOutcome {
        rewards: &group.rewards,
        parts: &group.parts,
        lengths: &group.lengths,
        max_new_tokens: rollout.max_new_tokens,
    }
}

/// The next `count` tasks that are not skipped, from visit `next` on.
pub(crate) fn next_tasks(
    source: &mut dyn TaskSource,
    count: usize,
    next: &mut u64,
    skipped: &mut u64,
) -> Result<Vec<Arc<Task>>, TrainError> {
    let limit = source.num_rows() as u64 * 2;
    let mut tasks = Vec::with_capacity(count);
    let mut in_a_row = 0;
    while tasks.len() < count {
        let visits = *next..*next + (count - tasks.len()) as u64;
        for task in source.tasks(visits)? {
            *next += 1;
            match task {
                Some(task) => {
                    tasks.push(Arc::new(task));
                    in_a_row = 0;
                }
                None => {
                    *skipped += 1;
                    in_a_row += 1;
                    if in_a_row > limit {
                        return Err(TrainError::NoUsableRow { skipped: in_a_row });
                    }
                }
            }
        }
    }
    Ok(tasks)
}

/// Grades all responses of all groups at once.
pub(crate) fn grade_groups(
    grader: &dyn Grader,
    tasks: Vec<Arc<Task>>,
    groups: Vec<Group>,
) -> Result<Vec<CollectedGroup>, TrainError> {
    let pairs: Vec<(&Task, &[u32])> = tasks
        .iter()
        .zip(&groups)
        .flat_map(|(task, group)| group.responses.iter().map(|response| (&**task, response.tokens.as_slice())))
        .collect();
    let mut grades = grader.grade(&pairs)?.into_iter();
    let names = grader.names();
    let collected = tasks.into_iter().zip(groups).map(|(task, group)| {
        let own: Vec<Grade> = grades.by_ref().take(group.responses.len()).collect();
        let parts: Vec<(String, Vec<f32>)> = names
            .iter()
            .enumerate()
            .map(|(index, name)| (name.clone(), own.iter().map(|grade| grade.parts[index]).collect()))
            .collect();
        let rewards: Vec<f32> = own.iter().map(|grade| grade.overall).collect();
        let accuracy = parts.iter().find(|(name, _)| name == "accuracy").map_or(&rewards, |(_, scores)| scores);
        CollectedGroup {
            correct: accuracy.iter().map(|&score| f32::from(score > 0.1)).collect(),
            lengths: group.responses.iter().map(|response| response.tokens.len()).collect(),
            advantages: vec![0.0; rewards.len()],
            texts: own.into_iter().map(|grade| grade.text).collect(),
            views: Vec::new(),
            task,
            group,
            rewards,
            parts,
        }
    });
    Ok(collected.collect())
}

/// "0.0: 12, 0.2: 3, ...": how many groups had which mean.
fn histogram(means: &[f32]) -> String {
    let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
    for mean in means {
        *counts.entry((mean * 10.0).round() as i32).or_default() += 1;
    }
    let parts: Vec<String> =
        counts.iter().map(|(mean, count)| format!("{:.1}: {count}", f64::from(*mean) / 10.0)).collect();
    parts.join(", ")
}
