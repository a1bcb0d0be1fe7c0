//! One method's steps, timed.

use crate::cost::rates::finish;
use percept_core::{Objective, Policy, Progress};
use percept_rollout::InProcess;
use percept_trainer::{
    CollectedGroup, Collector, Grader, Metrics, Optimizer, Phases, Reference, Settings, TaskSource, Updater,
};
use std::collections::BTreeMap;
use std::time::Instant;

/// Steps that do not count.
pub(crate) const WARM_UP: usize = 2;

/// A policy that is trained by one method, with the times of its steps.
pub(crate) struct Lane<'a> {
    pub(crate) objective: Box<dyn Objective>,
    pub(crate) policy: Box<dyn Policy>,
    reference: Option<Reference<'a>>,
    pub(crate) optimizer: Optimizer,
    max_rows: usize,
    next: u64,
    steps: Vec<Phases<'static>>,
    totals: Vec<f64>,
    /// Of the last step.
    pub(crate) groups: Vec<CollectedGroup>,
}

impl<'a> Lane<'a> {
    /// `max_rows`: responses decoded at once.
    pub(crate) fn new(
        objective: Box<dyn Objective>,
        policy: Box<dyn Policy>,
        reference: Option<Reference<'a>>,
        settings: &Settings,
        max_rows: usize,
    ) -> Self {
        let optimizer = Optimizer::new(&*policy, settings.optimizer.clone());
        let (steps, totals, groups) = (Vec::new(), Vec::new(), Vec::new());
        Self { objective, policy, reference, optimizer, max_rows, next: 0, steps, totals, groups }
    }

    pub(crate) fn step(
        &mut self,
        step: u64,
        settings: &Settings,
        source: &mut dyn TaskSource,
        grader: &dyn Grader,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        let (mut metrics, mut phases) = (Metrics::default(), Phases::default());
        let behavior = self.policy.freeze();
        let mut sampler = InProcess::new(self.max_rows);
        let mut collector = Collector {
            settings,
            source,
            sampler: &mut sampler,
            grader,
            objective: &*self.objective,
            reference: self.reference.as_ref(),
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

    pub(crate) fn step_ms(&self) -> f64 {
        median(&self.totals[WARM_UP..]) * 1e3
    }

    pub(crate) fn phase_ms(&self) -> BTreeMap<&'static str, f64> {
        let names = self.steps.iter().flat_map(|step| step.0.keys());
        let of = |name: &'static str| {
            let values: Vec<f64> =
                self.steps[WARM_UP..].iter().map(|step| step.0.get(name).copied().unwrap_or(0.0)).collect();
            (name, median(&values) * 1e3)
        };
        names.map(|name| of(name)).collect()
    }
}

pub(crate) fn updater<'a>(objective: &'a dyn Objective, settings: &Settings, step: u64) -> Updater<'a> {
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

/// The median of at least one value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}
