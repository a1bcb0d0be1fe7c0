//! A whole run of reinforcement learning: steps, validation, checkpoints, metrics.

use crate::checkpoint::{Checkpoint, State};
use crate::evaluate::{Evaluation, evaluate};
use crate::incident::Recorder;
use crate::memory::peak_rss_mib;
use crate::metrics::{Metrics, MetricsFile, recent};
use crate::optimizer::Optimizer;
use crate::samples::Samples;
use crate::settings::Settings;
use crate::step::{Collector, Phases, Reference};
use crate::update::{Moment, Updater};
use crate::{Batch, Event, Grader, SavePolicy, TaskSource, TrainError, Watch, poison};
use percept_core::{Objective, Policy, Progress, Sampler};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The parts of a run.
pub struct Run<'a> {
    pub settings: &'a Settings,
    pub policy: Box<dyn Policy>,
    pub reference: Option<Reference<'a>>,
    pub objective: &'a dyn Objective,
    pub train: &'a mut dyn TaskSource,
    pub validation: Option<&'a mut dyn TaskSource>,
    pub sampler: &'a mut dyn Sampler,
    pub grader: &'a dyn Grader,
    pub save: &'a SavePolicy,
    /// Set from outside to finish the step, save and stop.
    pub interrupt: &'a AtomicBool,
    /// Told the metrics of each step.
    pub report: &'a mut dyn FnMut(u64, &Metrics),
    /// Told what goes on within a step.
    pub watch: Watch<'a>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub step: u64,
    pub interrupted: bool,
    pub checkpoint: Option<PathBuf>,
    pub best: Option<(f64, u64)>,
}

impl<'a> Run<'a> {
    /// Trains to the last step, from the beginning or from a checkpoint.
    ///
    /// # Errors
    /// When a part fails; what was earned is on disk by then.
    pub fn run(mut self, resume: Option<&Path>) -> Result<Outcome, TrainError> {
        let settings = self.settings;
        let mut optimizer = Optimizer::new(&*self.policy, settings.optimizer.clone());
        let mut state = State { kind: "train".to_owned(), total_steps: settings.steps, ..State::default() };
        if let Some(folder) = resume {
            state = Checkpoint::read(folder, &mut *self.policy, &mut optimizer)?;
            check_resumable(&mut state, "train", settings.steps, settings, folder)?;
            Checkpoint { settings, save: self.save }.mend_best(&state)?;
        }
        let after = resume.map(|_| state.step);
        let mut metrics_file = MetricsFile::open(&settings.run_dir.join("metrics.jsonl"), after)?;
        let mut samples_file = MetricsFile::open(&settings.run_dir.join("samples.jsonl"), after)?;
        let mut last_saved = resume.map(Path::to_owned);
        let past = recent(&settings.run_dir.join("metrics.jsonl"), 2 * settings.watch.collapse_window);
        let mut recorder = Recorder::new(settings, self.save, &past);
        if resume.is_none() && settings.validation.before_training && self.validation.is_some() {
            let mut metrics = Metrics::default();
            let validation = Phases::told(self.watch).time("validation", || self.validate(&mut metrics))?;
            state.best = validation.map(|evaluation| (evaluation.score(), 0));
            metrics_file.write(0, &metrics)?;
            (self.report)(0, &metrics);
        }
        while state.step < settings.steps {
            let start = Instant::now();
            (self.watch)(Event::Step(state.step + 1));
            let (mut metrics, mut phases) = (Metrics::default(), Phases::told(self.watch));
            let before = state.next_visit;
            let mut batch = match self.collect(&mut state, &mut metrics, &mut phases) {
                Ok(batch) => batch,
                Err(error @ TrainError::Incident { sound: false, .. }) => return Err(error),
                // a verifier that dies, data that went away: nothing has moved in this step, and what came before is kept
                Err(error) => {
                    let checkpoint = Checkpoint { settings, save: self.save };
                    return Err(checkpoint.rescue(&*self.policy, &optimizer, &state, last_saved.as_deref(), error));
                }
            };
            poison::apply(state.step, &mut batch.groups, &mut *self.policy);
            let learned = self.learn(&batch, &mut state, &mut optimizer, &mut recorder, &mut metrics, &mut phases);
            if let Err(error) = learned {
                let spoiled = matches!(error, TrainError::Incident { sound: false, .. });
                if optimizer.updates > state.updates || spoiled {
                    // a part of the step has moved the weights, or they are wrong: it is done again, from the checkpoint before
                    return Err(error);
                }
                state.next_visit = before;
                let checkpoint = Checkpoint { settings, save: self.save };
                return Err(checkpoint.rescue(&*self.policy, &optimizer, &state, last_saved.as_deref(), error));
            }
            poison::apply_to_metrics(state.step - 1, &mut metrics);
            let written = Samples { settings, step: state.step, grader: self.grader, source: &*self.train };
            let samples = written.of(&batch)?;
            (self.watch)(Event::Samples(&samples));
            for sample in &samples {
                samples_file.write_json(sample)?;
            }
            let last = state.step == settings.steps;
            let stop = self.interrupt.load(Ordering::Relaxed);
            let mut is_best = false;
            if settings.validation.every > 0 && (state.step.is_multiple_of(settings.validation.every) || last) {
                let evaluation = match phases.time("validation", || self.validate(&mut metrics)) {
                    Ok(evaluation) => evaluation,
                    // the step itself is done
                    Err(error) => {
                        finish_metrics(&mut metrics, &phases, start.elapsed().as_secs_f64());
                        metrics_file.write(state.step, &metrics)?;
                        let checkpoint = Checkpoint { settings, save: self.save };
                        return Err(checkpoint.rescue(&*self.policy, &optimizer, &state, last_saved.as_deref(), error));
                    }
                };
                let score = evaluation.map(|evaluation| evaluation.score());
                is_best = score.is_some_and(|score| state.best.is_none_or(|(best, _)| score > best));
                if is_best {
                    state.best = score.map(|score| (score, state.step));
                }
            }
            let due = settings.checkpoint_every > 0 && state.step.is_multiple_of(settings.checkpoint_every);
            let keep = due || last || stop || (is_best && settings.keep_best);
            let checkpoint = Checkpoint { settings, save: self.save };
            let stage = || checkpoint.stage(&*self.policy, &optimizer, &state);
            let staged = keep.then(|| phases.time("checkpoint", stage)).transpose()?;
            finish_metrics(&mut metrics, &phases, start.elapsed().as_secs_f64());
            // before the checkpoint is in place: a run that is killed in between does the step again, and writes its line again
            metrics_file.write(state.step, &metrics)?;
            if let Some(staged) = staged {
                // a checkpoint that survives the machine's crash has its lines
                metrics_file.sync()?;
                samples_file.sync()?;
                last_saved = Some(checkpoint.publish(staged, is_best)?);
            }
            (self.report)(state.step, &metrics);
            let (policy, updater) = (&*self.policy, self.updater(&state));
            if let Err(error) = recorder.after_step(&updater, &state, policy, &optimizer, &batch.groups, &metrics) {
                // the step is done, and its weights are what is to be looked at
                return Err(checkpoint.rescue(policy, &optimizer, &state, last_saved.as_deref(), error));
            }
            if stop && !last {
                let (step, best) = (state.step, state.best);
                return Ok(Outcome { step, interrupted: true, checkpoint: last_saved, best });
            }
        }
        Ok(Outcome { step: state.step, interrupted: false, checkpoint: last_saved, best: state.best })
    }

    /// The batch of a step, by the policy as it is; a failure leaves the state as it was.
    fn collect(&mut self, state: &mut State, metrics: &mut Metrics, phases: &mut Phases) -> Result<Batch, TrainError> {
        let behavior = self.policy.freeze();
        let mut collector = Collector {
            settings: self.settings,
            source: self.train,
            sampler: self.sampler,
            grader: self.grader,
            objective: self.objective,
            reference: self.reference.as_ref(),
            micro_tokens: state.micro_tokens(self.settings),
        };
        let mut next_visit = state.next_visit;
        let collected = collector.collect(&behavior, state.step, &mut next_visit, metrics, phases);
        let micro_tokens = collector.micro_tokens;
        // also of a step that could not be filled: why, is the question then
        (self.watch)(Event::Collected(state.step + 1));
        let batch = collected?;
        state.next_visit = next_visit;
        state.keep_micro_tokens(self.settings, micro_tokens);
        Ok(batch)
    }

    /// The updates of a step.
    fn learn(
        &mut self,
        batch: &Batch,
        state: &mut State,
        optimizer: &mut Optimizer,
        recorder: &mut Recorder,
        metrics: &mut Metrics,
        phases: &mut Phases,
    ) -> Result<(), TrainError> {
        let settings = self.settings;
        let updater = self.updater(state);
        let policy = &mut *self.policy;
        let watch = &mut |moment: Moment| recorder.before_update(&updater, state, &moment);
        let run = || updater.run_watched(policy, optimizer, &batch.groups, state.nonfinite, watch);
        let report = phases.time("update", run)?;
        state.keep_micro_tokens(settings, report.micro_tokens);
        metrics.set("memory/micro_tokens", report.micro_tokens as f64);
        metrics.0.extend(report.metrics.0);
        let tokens: usize = batch.groups.iter().flat_map(|group| &group.lengths).sum();
        metrics.set("response/tokens", tokens as f64);
        state.nonfinite = report.consecutive;
        if state.nonfinite >= settings.max_nonfinite_updates && state.nonfinite > 0 {
            return Err(TrainError::NotFinite { step: state.step, count: state.nonfinite });
        }
        state.step += 1;
        state.updates = optimizer.updates;
        Ok(())
    }

    /// How the batch of the next step is worked through.
    fn updater(&self, state: &State) -> Updater<'a> {
        let settings = self.settings;
        Updater {
            objective: self.objective,
            temperature: settings.rollout.temperature,
            prompts_per_update: settings.prompts_per_update,
            micro_tokens: state.micro_tokens(settings),
            recompute: settings.recompute,
            learning_rate: (settings.optimizer.learning_rate)(state.step, settings.steps),
            progress: Progress { step: state.step, total_steps: settings.steps },
        }
    }

    fn validate(&mut self, metrics: &mut Metrics) -> Result<Option<Evaluation>, TrainError> {
        let Some(source) = self.validation.as_deref_mut() else { return Ok(None) };
        let (settings, policy) = (self.settings, self.policy.freeze());
        let validation = &settings.validation;
        let (sampling, limit) = (&validation.sampling, validation.limit);
        let told = |done: usize, total: usize| (self.watch)(Event::Rows(done, total));
        let evaluation = evaluate(&policy, source, self.sampler, self.grader, settings, sampling, limit, &told)?;
        let names = self.grader.names();
        for name in names.iter().map(String::as_str).chain(["overall"]) {
            if let Some(mean) = evaluation.average(name) {
                metrics.set(format!("validation/{name}"), mean);
            }
        }
        metrics.set("validation/rows", evaluation.rows.len() as f64);
        Ok(Some(evaluation))
    }
}

/// A checkpoint goes on only as what it is, with the length that its schedules were made for.
pub(crate) fn check_resumable(
    state: &mut State,
    kind: &str,
    steps: u64,
    settings: &Settings,
    folder: &Path,
) -> Result<(), TrainError> {
    let folder = folder.display();
    if state.kind != kind {
        return Err(TrainError::Settings(format!(
            "{folder} was written by `{}`, and cannot be resumed by `{kind}`",
            state.kind
        )));
    }
    if state.total_steps != steps && !settings.may_change_length {
        return Err(TrainError::Settings(format!(
            "{folder} belongs to a run of {} steps, and this configuration has {steps}: schedules would change half-way. \
             Set trainer.steps = {}, accept it with --allow-change trainer.steps, or start a new run from this checkpoint",
            state.total_steps, state.total_steps
        )));
    }
    state.total_steps = steps;
    Ok(())
}

pub(crate) fn finish_metrics(metrics: &mut Metrics, phases: &Phases, seconds: f64) {
    for (phase, seconds) in &phases.0 {
        metrics.set(format!("time/{phase}_seconds"), *seconds);
    }
    metrics.set("time/step_seconds", seconds);
    let tokens = metrics.get("response/tokens").unwrap_or(0.0);
    metrics.set("speed/tokens_per_second", tokens / seconds);
    if let Some(rollout) = phases.0.get("rollout") {
        metrics.set("speed/rollout_tokens_per_second", tokens / rollout);
    }
    metrics.set("memory/peak_rss_mib", peak_rss_mib());
}
