//! Watches a run, and keeps what went wrong.

use super::bundle::CHECKPOINT;
use super::diagnose::largest_ratio;
use super::{Bundle, Diagnosis, History, Kind, OnIncident, diagnose, judge};
use crate::checkpoint::{Checkpoint, State};
use crate::metrics::Metrics;
use crate::optimizer::{Gradients, Optimizer};
use crate::settings::Settings;
use crate::update::{Moment, Updater};
use crate::{CollectedGroup, SavePolicy, TrainError};
use percept_core::Policy;
use percept_weights::{StagedFolder, write_manifest};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(crate) struct Recorder<'a> {
    settings: &'a Settings,
    save: &'a SavePolicy,
    /// Kinds that are kept already.
    seen: BTreeSet<Kind>,
    history: History,
}

/// An update, or a step, that something is wrong with.
struct Found<'a> {
    kind: Kind,
    /// Steps done before it.
    step: u64,
    update: usize,
    policy: &'a dyn Policy,
    optimizer: &'a Optimizer,
    groups: &'a [CollectedGroup],
    gradients: Option<&'a Gradients>,
    metrics: &'a Metrics,
    norm: f64,
    words: String,
}

impl<'a> Recorder<'a> {
    /// `past`: metrics of the steps that a resumed run had done, oldest first.
    pub(crate) fn new(settings: &'a Settings, save: &'a SavePolicy, past: &[Metrics]) -> Self {
        let mut history = History::new(settings.watch.collapse_window);
        for metrics in past {
            history.push(metrics);
        }
        Self { settings, save, seen: BTreeSet::new(), history }
    }

    /// Looks at an update before it is made.
    ///
    /// # Errors
    /// When it must not be made.
    pub(crate) fn before_update(
        &mut self,
        updater: &Updater,
        state: &State,
        moment: &Moment,
    ) -> Result<(), TrainError> {
        if self.settings.watch.on_incident == OnIncident::Ignore {
            return Ok(());
        }
        let Some(kind) = judge(moment, &self.settings.watch) else { return Ok(()) };
        let Moment { policy, optimizer, groups, gradients, norm, metrics, update } = *moment;
        let gradients = Some(gradients);
        self.found(
            updater,
            state,
            Found {
                kind,
                step: state.step,
                update,
                policy,
                optimizer,
                groups,
                gradients,
                metrics,
                norm,
                words: String::new(),
            },
        )
    }

    /// Looks at a step that is done.
    ///
    /// # Errors
    /// When the run must not go on.
    pub(crate) fn after_step(
        &mut self,
        updater: &Updater,
        state: &State,
        policy: &dyn Policy,
        optimizer: &Optimizer,
        groups: &[CollectedGroup],
        metrics: &Metrics,
    ) -> Result<(), TrainError> {
        let told = self.history.push(metrics);
        let Some(words) = told.filter(|_| self.settings.watch.on_incident != OnIncident::Ignore) else { return Ok(()) };
        let norm = metrics.get("optimizer/grad_norm").unwrap_or(f64::NAN);
        let (kind, gradients) = (Kind::Collapse, None);
        self.found(
            updater,
            state,
            Found { kind, step: state.step - 1, update: 0, policy, optimizer, groups, gradients, metrics, norm, words },
        )
    }

    fn found(&mut self, updater: &Updater, state: &State, found: Found) -> Result<(), TrainError> {
        let stops = self.settings.watch.on_incident == OnIncident::Stop;
        if !self.seen.insert(found.kind) && !stops {
            return Ok(());
        }
        let place = match found.kind {
            Kind::NotFinite => diagnose(updater, found.policy, found.groups, found.gradients),
            Kind::Ratio => largest_ratio(updater, found.policy, found.groups),
            Kind::NoGradient => no_gradient(found.policy, found.groups),
            Kind::Collapse => Diagnosis::default(),
        };
        let words = if found.words.is_empty() { place.words() } else { found.words.clone() };
        let sound = !place.tensor.as_ref().is_some_and(|tensor| tensor.starts_with("weight "));
        let bundle = Bundle {
            kind: found.kind,
            step: found.step,
            update: found.update,
            place,
            words: words.clone(),
            numbers: Bundle::numbers(found.metrics, found.norm),
        };
        let kept = match self.keep(&bundle, state, &found) {
            Ok(folder) => format!("`percept replay {}` does the update again", folder.display()),
            // the incident is worth more than its record
            Err(error) => format!("it could not be recorded: {error}"),
        };
        let (step, update, kind) = (found.step + 1, found.update + 1, found.kind);
        if stops {
            return Err(TrainError::Incident { step, update, kind, words, kept, sound });
        }
        tracing::warn!("step {step}, update {update}: {}: {words}. {kept}", kind.words());
        Ok(())
    }

    fn keep(&self, bundle: &Bundle, state: &State, found: &Found) -> Result<PathBuf, TrainError> {
        let kind = serde_json::to_value(bundle.kind).expect("a word");
        let name = format!("step-{:06}-{}", bundle.step + 1, kind.as_str().unwrap_or_default());
        let folder = self.settings.run_dir.join("incidents").join(name);
        let staged = StagedFolder::create(&folder)?;
        let inner = staged.path().join(CHECKPOINT);
        std::fs::create_dir_all(&inner).map_err(|source| TrainError::File { path: inner.clone(), source })?;
        let checkpoint = Checkpoint { settings: self.settings, save: self.save };
        // the updates of this step that were made before belong to the weights
        let state = State { updates: found.optimizer.updates, ..state.clone() };
        checkpoint.write_into(&inner, found.policy, found.optimizer, &state)?;
        bundle.write(staged.path(), found.groups)?;
        copy_configuration(&self.settings.run_dir, staged.path())?;
        write_manifest(staged.path())?;
        staged.publish()?;
        Ok(folder)
    }
}

fn copy_configuration(run_dir: &Path, to: &Path) -> Result<(), TrainError> {
    let from = run_dir.join("config.toml");
    if from.exists() {
        std::fs::copy(&from, to.join("config.toml")).map_err(|source| TrainError::File { path: from, source })?;
    }
    Ok(())
}

fn no_gradient(policy: &dyn Policy, groups: &[CollectedGroup]) -> Diagnosis {
    let learning = policy.parameters().iter().filter(|parameter| parameter.trainable).count();
    let credited = groups.iter().filter(|group| group.advantages.iter().any(|&advantage| advantage != 0.0));
    let first = credited.clone().next();
    Diagnosis {
        tensor: Some(format!(
            "all {learning} parameters that learn; {} of {} groups have advantages",
            credited.count(),
            groups.len()
        )),
        row: first.map(|group| group.task.place.clone()),
        ..Diagnosis::default()
    }
}
