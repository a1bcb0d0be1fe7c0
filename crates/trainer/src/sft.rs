//! Warm start: cross-entropy on the `solution` column, with the same data, optimizer, checkpoints and resume.
//!
//! L = -mean over solution tokens of log pi(token | picture, question, tokens before it).

use crate::batch::{least_tokens, micro_batches};
use crate::checkpoint::{Checkpoint, State};
use crate::evaluate::evaluate;
use crate::metrics::{Metrics, MetricsFile};
use crate::optimizer::{Gradients, Optimizer};
use crate::portion::halving;
use crate::run::{Outcome, check_resumable, finish_metrics};
use crate::settings::{Settings, SftSettings};
use crate::step::{Phases, next_tasks};
use crate::update::{Live, Numbers};
use crate::{CollectedGroup, Event, Grader, SavePolicy, TaskSource, TrainError, Watch};
use percept_core::{Finish, Group, Image, Metric, Policy, Response, Sampler, ScoreRequest, Task};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The parts of a warm start.
pub struct SftRun<'a> {
    pub settings: &'a Settings,
    pub sft: &'a SftSettings,
    pub policy: Box<dyn Policy>,
    pub train: &'a mut dyn TaskSource,
    pub validation: Option<&'a mut dyn TaskSource>,
    pub sampler: &'a mut dyn Sampler,
    pub grader: &'a dyn Grader,
    pub save: &'a SavePolicy,
    pub interrupt: &'a AtomicBool,
    pub report: &'a mut dyn FnMut(u64, &Metrics),
    /// Told what goes on within a step.
    pub watch: Watch<'a>,
}

impl SftRun<'_> {
    /// Trains to the last step, from the beginning or from a checkpoint.
    ///
    /// # Errors
    /// When a row has no solution, or a part fails.
    pub fn run(mut self, resume: Option<&Path>) -> Result<Outcome, TrainError> {
        let (settings, steps) = (self.settings, self.sft.steps);
        let mut optimizer = Optimizer::new(&*self.policy, settings.optimizer.clone());
        let mut state = State { kind: "sft".to_owned(), total_steps: steps, ..State::default() };
        if let Some(folder) = resume {
            state = Checkpoint::read(folder, &mut *self.policy, &mut optimizer)?;
            check_resumable(&mut state, "sft", steps, settings, folder)?;
        }
        let mut file = MetricsFile::open(&settings.run_dir.join("metrics.jsonl"), resume.map(|_| state.step))?;
        let mut last_saved = resume.map(Path::to_owned);
        while state.step < steps {
            let start = Instant::now();
            (self.watch)(Event::Step(state.step + 1));
            let (mut metrics, mut phases) = (Metrics::default(), Phases::told(self.watch));
            if let Err(error) = self.step(&mut state, &mut optimizer, &mut metrics, &mut phases) {
                let checkpoint = Checkpoint { settings, save: self.save };
                return Err(checkpoint.rescue(&*self.policy, &optimizer, &state, last_saved.as_deref(), error));
            }
            let last = state.step == steps;
            let stop = self.interrupt.load(Ordering::Relaxed);
            let every = settings.validation.every;
            let validates = every > 0 && (state.step.is_multiple_of(every) || last);
            if validates && let Err(error) = phases.time("validation", || self.validate(&mut metrics)) {
                // the step itself is done
                finish_metrics(&mut metrics, &phases, start.elapsed().as_secs_f64());
                file.write(state.step, &metrics)?;
                let checkpoint = Checkpoint { settings, save: self.save };
                return Err(checkpoint.rescue(&*self.policy, &optimizer, &state, last_saved.as_deref(), error));
            }
            let due = settings.checkpoint_every > 0 && state.step.is_multiple_of(settings.checkpoint_every);
            let checkpoint = Checkpoint { settings, save: self.save };
            let stage = || checkpoint.stage(&*self.policy, &optimizer, &state);
            let staged = (due || last || stop).then(|| phases.time("checkpoint", stage)).transpose()?;
            finish_metrics(&mut metrics, &phases, start.elapsed().as_secs_f64());
            // before the checkpoint is in place: a run that is killed in between does the step again, and writes its line again
            file.write(state.step, &metrics)?;
            if let Some(staged) = staged {
                file.sync()?;
                last_saved = Some(checkpoint.publish(staged, false)?);
            }
            (self.report)(state.step, &metrics);
            if stop && !last {
                return Ok(Outcome { step: state.step, interrupted: true, checkpoint: last_saved, best: None });
            }
        }
        Ok(Outcome { step: state.step, interrupted: false, checkpoint: last_saved, best: None })
    }

    fn step(
        &mut self,
        state: &mut State,
        optimizer: &mut Optimizer,
        metrics: &mut Metrics,
        phases: &mut Phases,
    ) -> Result<(), TrainError> {
        let settings = self.settings;
        let mut skipped = 0;
        let rows = self.sft.rows_per_step;
        let mut next_visit = state.next_visit;
        let tasks = phases.time("data", || next_tasks(self.train, rows, &mut next_visit, &mut skipped))?;
        let groups: Vec<CollectedGroup> = tasks.into_iter().map(solution_group).collect::<Result<_, _>>()?;
        state.next_visit = next_visit;
        let policy = &mut *self.policy;
        let part = |micro_tokens: usize| {
            let (gradients, numbers) = gradients(policy, &groups, micro_tokens, settings.recompute);
            let read = numbers.read(&gradients, true);
            (gradients, read)
        };
        let (mut micro_tokens, least) = (state.micro_tokens(settings), least_tokens(groups.iter()));
        let learned = phases.time("update", || halving(&policy.device(), &mut micro_tokens, least, part));
        let (gradients, (norm, read)) = learned?;
        state.keep_micro_tokens(settings, micro_tokens);
        let learning_rate = (settings.optimizer.learning_rate)(state.step, self.sft.steps);
        metrics.0.extend(read.0);
        metrics.set("optimizer/grad_norm", norm);
        metrics.set("optimizer/learning_rate", learning_rate);
        metrics.set("data/skipped_rows", skipped as f64);
        let tokens: usize = groups.iter().flat_map(|group| &group.lengths).sum();
        metrics.set("response/tokens", tokens as f64);
        if norm.is_finite() && metrics.get("sft/loss").is_some_and(f64::is_finite) {
            state.nonfinite = 0;
            phases.time("update", || optimizer.step(policy, gradients, norm, learning_rate));
        } else {
            state.nonfinite += 1;
            if state.nonfinite >= settings.max_nonfinite_updates {
                return Err(TrainError::NotFinite { step: state.step, count: state.nonfinite });
            }
        }
        state.step += 1;
        state.updates = optimizer.updates;
        Ok(())
    }

    fn validate(&mut self, metrics: &mut Metrics) -> Result<(), TrainError> {
        let Some(source) = self.validation.as_deref_mut() else { return Ok(()) };
        let (settings, policy) = (self.settings, self.policy.freeze());
        let (sampling, limit) = (&settings.validation.sampling, settings.validation.limit);
        let told = |done: usize, total: usize| (self.watch)(Event::Rows(done, total));
        let evaluation = evaluate(&policy, source, self.sampler, self.grader, settings, sampling, limit, &told)?;
        for name in self.grader.names().iter().map(String::as_str).chain(["overall"]) {
            if let Some(mean) = evaluation.average(name) {
                metrics.set(format!("validation/{name}"), mean);
            }
        }
        Ok(())
    }
}

/// A row's solution as the one response to its prompt.
fn solution_group(task: Arc<Task>) -> Result<CollectedGroup, TrainError> {
    let Some(tokens) = task.solution.clone() else {
        return Err(TrainError::Seam(format!(
            "{}: no solution: `percept sft` learns from a column of worked solutions; name it with data.solution_column",
            task.place
        )));
    };
    let response = Response { log_probs: vec![0.0; tokens.len()], tokens, finish: Finish::Stop };
    let group = Group { prompt: task.prompt.clone(), responses: vec![response] };
    Ok(CollectedGroup {
        lengths: vec![group.responses[0].tokens.len()],
        task,
        group,
        rewards: vec![0.0],
        parts: Vec::new(),
        texts: Vec::new(),
        advantages: vec![0.0],
        correct: vec![0.0],
        views: Vec::new(),
    })
}

/// Gradients and the loss of a batch of solutions.
fn gradients(
    policy: &dyn Policy,
    groups: &[CollectedGroup],
    micro_tokens: usize,
    recompute: bool,
) -> (Gradients, Numbers) {
    let tokens: usize = groups.iter().flat_map(|group| &group.lengths).sum();
    let mut gradients: Gradients = policy.parameters().iter().map(|_| None).collect();
    let mut numbers = Numbers::new(policy.device().without_autodiff());
    let groups: Vec<&CollectedGroup> = groups.iter().collect();
    for batch in micro_batches(&groups, micro_tokens) {
        let scoring: Vec<_> =
            batch.iter().map(|slice| groups[slice.group].scoring(Image::Whole, slice.responses.clone())).collect();
        let mut live = Live::new(policy, recompute);
        let log_probs = live.score(&scoring, ScoreRequest { temperature: 1.0, entropy: false });
        let loss = log_probs.sum().div_scalar(-(tokens as f32));
        numbers.push(Metric::part("sft/loss", loss.clone()));
        live.accumulate(loss, &mut gradients);
    }
    (gradients, numbers)
}
