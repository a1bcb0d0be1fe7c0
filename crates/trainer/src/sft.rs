//! Warm start: cross-entropy on the `solution` column, with the same data, optimizer, checkpoints and resume.
//!
//! L = -mean over solution tokens of log pi(token | picture, question, tokens before it).

use crate::checkpoint::{Checkpoint, State};
use crate::evaluate::evaluate;
use crate::incident::Recorder;
use crate::metrics::{Metrics, MetricsFile};
use crate::optimizer::Optimizer;
use crate::run::{Outcome, check_resumable, finish_metrics};
use crate::settings::{Settings, SftSettings};
use crate::step::{Phases, next_tasks};
use crate::update::{Moment, Updater};
use crate::{CollectedGroup, Event, Grader, SavePolicy, TaskSource, TrainError, Watch, poison};
use percept_core::{
    Evidence, Finish, Group, GroupOutcome, Loss, Metric, Needs, Objective, Policy, Progress, Response, Sampler, Task,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Cross-entropy of what the data says, as an objective, so that a warm start's updates are made, watched and done again like all others.
pub struct CrossEntropy;

impl Objective for CrossEntropy {
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// All solutions count the same.
    fn credit(&self, outcome: &GroupOutcome) -> Vec<f32> {
        vec![1.0; outcome.rewards.len()]
    }

    fn loss(&self, evidence: &Evidence) -> Loss {
        let tokens = evidence.counts.mini_batch.tokens as f32;
        let value = evidence.sum(evidence.live.log_probs.clone(), evidence.mask.clone()).div_scalar(-tokens);
        Loss { metrics: vec![Metric::part("sft/loss", value.clone())], value }
    }
}

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
        let mut recorder = Recorder::new(settings, self.save, &[]);
        while state.step < steps {
            let start = Instant::now();
            (self.watch)(Event::Step(state.step + 1));
            let (mut metrics, mut phases) = (Metrics::default(), Phases::told(self.watch));
            let stepped = self.step(&mut state, &mut optimizer, &mut recorder, &mut metrics, &mut phases);
            if let Err(error) = stepped {
                if matches!(error, TrainError::Incident { sound: false, .. }) {
                    return Err(error);
                }
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
        recorder: &mut Recorder,
        metrics: &mut Metrics,
        phases: &mut Phases,
    ) -> Result<(), TrainError> {
        let settings = self.settings;
        let mut skipped = 0;
        let rows = self.sft.rows_per_step;
        let mut next_visit = state.next_visit;
        let tasks = phases.time("data", || next_tasks(self.train, rows, &mut next_visit, &mut skipped))?;
        let mut groups: Vec<CollectedGroup> = tasks.into_iter().map(solution_group).collect::<Result<_, _>>()?;
        poison::apply(state.step, &mut groups, &mut *self.policy);
        let updater = Updater {
            objective: &CrossEntropy,
            temperature: 1.0,
            prompts_per_update: rows,
            micro_tokens: state.micro_tokens(settings),
            recompute: settings.recompute,
            learning_rate: (settings.optimizer.learning_rate)(state.step, self.sft.steps),
            progress: Progress { step: state.step, total_steps: self.sft.steps },
        };
        let policy = &mut *self.policy;
        let watch = &mut |moment: Moment| recorder.before_update(&updater, state, &moment);
        let run = || updater.run_watched(policy, optimizer, &groups, state.nonfinite, watch);
        let report = phases.time("update", run)?;
        state.next_visit = next_visit;
        state.keep_micro_tokens(settings, report.micro_tokens);
        metrics.0.extend(report.metrics.0);
        // of what was sampled, and nothing was; and the loss has its own name here
        metrics.0.retain(|name, _| !name.starts_with("rollout/") && !name.starts_with("objective/"));
        metrics.set("memory/micro_tokens", report.micro_tokens as f64);
        metrics.set("data/skipped_rows", skipped as f64);
        let tokens: usize = groups.iter().flat_map(|group| &group.lengths).sum();
        metrics.set("response/tokens", tokens as f64);
        state.nonfinite = report.consecutive;
        if state.nonfinite >= settings.max_nonfinite_updates && state.nonfinite > 0 {
            return Err(TrainError::NotFinite { step: state.step, count: state.nonfinite });
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
    let group = Group { prompt: task.prompt.clone(), responses: vec![response], activations: None };
    Ok(CollectedGroup {
        lengths: vec![group.responses[0].tokens.len()],
        task,
        group,
        rewards: vec![0.0],
        parts: Vec::new(),
        texts: Vec::new(),
        advantages: vec![1.0],
        correct: vec![0.0],
        views: Vec::new(),
    })
}
