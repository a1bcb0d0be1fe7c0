//! One method's steps.

use super::{WARM_UP, median};
use crate::App;
use crate::cost::rates::finish;
use crate::parts::Parts;
use crate::source::Source;
use percept_config::RunConfig;
use percept_core::{Objective, Policy, Progress, Weights};
use percept_rollout::InProcess;
use percept_trainer::{
    CollectedGroup, Collector, Grader, Metrics, Optimizer, Phases, Reference, Settings, TaskSource, Updater,
};
use std::collections::BTreeMap;
use std::time::Instant;

/// A policy that is trained by one method, with the times of its steps.
pub(super) struct Lane<'a> {
    pub(super) name: String,
    pub(super) objective: Box<dyn Objective>,
    pub(super) policy: Box<dyn Policy>,
    reference: Option<Reference<'a>>,
    pub(super) optimizer: Optimizer,
    next: u64,
    steps: Vec<Phases>,
    totals: Vec<f64>,
    /// Of the last step.
    pub(super) groups: Vec<CollectedGroup>,
}

impl<'a> Lane<'a> {
    pub(super) fn new(
        app: &App,
        parts: &'a Parts,
        run: &RunConfig,
        kind: &str,
        source: &mut Source,
    ) -> anyhow::Result<Self> {
        let objective = app.objectives.build(run)?;
        if source.masked.is_empty() {
            parts.mask_for(source, &*objective)?;
        }
        let reference = objective.needs().views.iter().any(|view| view.weights == Weights::Reference);
        let policy = parts.learner(None)?;
        let reference = reference.then(|| parts.reference(&*policy)).transpose()?;
        let optimizer = Optimizer::new(&*policy, crate::parts::optimizer(&run.optimizer, run.trainer.seed));
        let name = kind.to_owned();
        let (steps, totals, groups) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { name, objective, policy, reference, optimizer, next: 0, steps, totals, groups })
    }

    pub(super) fn step(
        &mut self,
        step: u64,
        settings: &Settings,
        source: &mut dyn TaskSource,
        grader: &dyn Grader,
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
            watch: &mut (),
            micro_tokens: settings.micro_tokens,
        };
        let batch = collector.collect(&behavior, step, &mut self.next, &mut metrics, &mut phases)?;
        drop(behavior);
        let updater = updater(&*self.objective, settings, step);
        let (policy, optimizer) = (&mut *self.policy, &mut self.optimizer);
        phases.time("update", || {
            let report = updater.run(policy, optimizer, &batch.groups, 0);
            finish(&policy.device());
            report
        })?;
        self.totals.push(start.elapsed().as_secs_f64());
        self.steps.push(phases);
        self.groups = batch.groups;
        Ok(())
    }

    pub(super) fn step_ms(&self) -> f64 {
        median(&self.totals[WARM_UP..]) * 1e3
    }

    pub(super) fn phase_ms(&self) -> BTreeMap<&'static str, f64> {
        let names = self.steps.iter().flat_map(|step| step.0.keys());
        let of = |name: &'static str| {
            let values: Vec<f64> =
                self.steps[WARM_UP..].iter().map(|step| step.0.get(name).copied().unwrap_or(0.0)).collect();
            (name, median(&values) * 1e3)
        };
        names.map(|name| of(name)).collect()
    }
}

pub(super) fn updater<'a>(objective: &'a dyn Objective, settings: &Settings, step: u64) -> Updater<'a> {
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
