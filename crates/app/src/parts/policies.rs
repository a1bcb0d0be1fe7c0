//! Policies of a run: the one that learns, its reference, and any other.

use super::Parts;
use anyhow::ensure;
use percept_config::RunConfig;
use percept_core::Policy;
use percept_models::{Lora, Outline, Placement};
use percept_trainer::{Reference, TrainError};
use std::path::Path;

impl Parts {
    /// The policy of a checkpoint: with gradients for training, or without.
    pub(crate) fn policy(&self, folder: &Path, gradients: bool) -> anyhow::Result<Box<dyn Policy>> {
        self.placed(folder, self.placement(gradients))
    }

    /// Where a policy lives, and what it may keep.
    fn placement(&self, gradients: bool) -> Placement {
        let mut placement = self.placement.clone();
        if gradients {
            placement.device = placement.device.autodiff();
            // of no use to others, which see a picture once
            placement.kept_features = self.run.model.kept_features_mib.saturating_mul(1 << 20);
        }
        placement
    }

    fn placed(&self, folder: &Path, placement: Placement) -> anyhow::Result<Box<dyn Policy>> {
        let freeze = |name: &str| self.run.model.freezes(name);
        let gradients = placement.device.is_autodiff();
        let policy = percept_models::load(folder, placement, &freeze)?;
        if gradients {
            self.check_freeze(&*policy)?;
        }
        Ok(policy)
    }

    /// The policy that a run trains: from its last checkpoint when it is resumed. Adapters are added to the weights that the run started
    /// from; the trainer's state brings their values.
    pub(crate) fn learner(&self, resume: Option<&Path>) -> anyhow::Result<Box<dyn Policy>> {
        self.placed_learner(resume, self.placement(true))
    }

    /// One that computes everything anew each time, for measuring how long that takes.
    pub(crate) fn forgetful_learner(&self) -> anyhow::Result<Box<dyn Policy>> {
        self.placed_learner(None, Placement { kept_features: 0, ..self.placement(true) })
    }

    fn placed_learner(&self, resume: Option<&Path>, placement: Placement) -> anyhow::Result<Box<dyn Policy>> {
        let start = &self.run.model.checkpoint;
        adapting(&self.run, |lora| match lora {
            None => self.placed(resume.unwrap_or(start), placement),
            Some(lora) => Ok(percept_models::load_adapted(start, &placement, lora)?),
        })
    }

    /// The frozen reference of a policy in training: itself without its adapters where it has any and starts from the reference.
    pub(crate) fn reference(&self, policy: &dyn Policy) -> anyhow::Result<Reference<'_>> {
        let model = &self.run.model;
        let shared = policy.without_adapters().filter(|_| model.reference == model.checkpoint);
        match shared {
            Some(base) => Ok(Reference::Kept(base)),
            None if model.offload_reference => {
                let read = || Ok::<_, anyhow::Error>(self.policy(&model.reference, false)?.freeze());
                // what is wrong with its files is told before the first step
                drop(read()?);
                Ok(Reference::Brought(Box::new(move || {
                    read().map_err(|error| TrainError::Seam(crate::messages::chain(&error)))
                })))
            }
            None => Ok(Reference::Kept(self.policy(&model.reference, false)?.freeze())),
        }
    }

    /// How many numbers learn, for --dry-run.
    pub(crate) fn describe_learning(&self) -> anyhow::Result<String> {
        let policy = self.learner(None)?;
        let (mut all, mut learning) = (0usize, 0usize);
        for parameter in policy.parameters() {
            let count: usize = parameter.value.dims().iter().product();
            all += count;
            learning += if parameter.trainable { count } else { 0 };
        }
        Ok(format!("{learning} of {all} parameters learn ({:.2} %)", 100.0 * learning as f64 / all as f64))
    }

    /// Whether a part of the vision tower is trained.
    pub(crate) fn vision_learns(&self, outline: &Outline) -> bool {
        let parameters = outline.parameters.iter().filter(|parameter| parameter.vision);
        parameters.flat_map(|parameter| &parameter.names).any(|name| !self.run.model.freezes(name))
    }

    /// Every pattern of `model.freeze` must mean something, and something must be left to train.
    fn check_freeze(&self, policy: &dyn Policy) -> anyhow::Result<()> {
        let parameters = policy.parameters();
        let names: Vec<&str> = parameters.iter().flat_map(|p| &p.pieces).map(|piece| piece.name.as_str()).collect();
        for pattern in &self.run.model.freeze {
            let mut alone = self.run.model.clone();
            alone.freeze = vec![pattern.clone()];
            ensure!(
                names.iter().any(|name| alone.freezes(name)),
                "model.freeze: {pattern:?} matches no parameter; parameters are named like {:?} and {:?}",
                names[0],
                names[names.len() - 1]
            );
        }
        ensure!(parameters.iter().any(|p| p.trainable), "model.freeze leaves no parameter to train");
        Ok(())
    }
}

/// Makes something with the adapters that a run asks for, if any.
pub(crate) fn adapting<R>(run: &RunConfig, make: impl FnOnce(Option<&Lora>) -> R) -> R {
    let Some(lora) = &run.model.lora else { return make(None) };
    let targets = |name: &str| lora.adapts(name);
    make(Some(&Lora {
        rank: lora.rank,
        alpha: lora.alpha,
        dropout: lora.dropout,
        seed: run.trainer.seed,
        targets: &targets,
    }))
}
