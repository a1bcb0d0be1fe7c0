//! AdamW over a policy's parameters, with gradients summed and clipped in float32.

use crate::settings::OptimizerSettings;
use burn::tensor::Tensor;
use percept_core::{Parameter, Policy};
use percept_ops::{AdamW, Moments};
use percept_random::{Key, Purpose};

/// Moments of each parameter, in the policy's order.
#[derive(Debug)]
pub struct Optimizer {
    settings: OptimizerSettings,
    /// Updates done.
    pub updates: u64,
    /// Of each trainable parameter.
    pub moments: Vec<Option<Moments>>,
}

/// Sums of gradients, in the policy's order; nothing where no gradient came.
pub type Gradients = Vec<Option<Tensor<2>>>;

impl Optimizer {
    /// Moments of zero.
    pub fn new(policy: &dyn Policy, settings: OptimizerSettings) -> Self {
        let device = policy.device().without_autodiff();
        let zeros = |parameter: &&Parameter| {
            let zeros = || Moments::zeros(parameter.value.dims(), settings.moments, settings.offload, &device);
            parameter.trainable.then(zeros)
        };
        let moments = policy.parameters().iter().map(zeros).collect();
        Self { settings, updates: 0, moments }
    }

    pub fn settings(&self) -> &OptimizerSettings {
        &self.settings
    }

    /// One update; gradients are scaled so that their global norm is at most the limit.
    pub fn step(&mut self, policy: &mut dyn Policy, mut gradients: Gradients, norm: f64, learning_rate: f64) {
        self.updates += 1;
        let settings = &self.settings;
        // torch's clip_grad_norm_: the factor max / (norm + 1e-6), when it is below 1
        let scale = (settings.max_grad_norm / (norm + 1e-6)).min(1.0);
        let step = AdamW {
            learning_rate,
            betas: settings.betas,
            epsilon: settings.epsilon,
            weight_decay: settings.weight_decay,
            update: self.updates,
        };
        let device = policy.device();
        for (number, parameter) in policy.learning_mut() {
            let (Some(gradient), Some(moments)) = (gradients[number].take(), self.moments[number].as_mut()) else {
                continue;
            };
            let empty = Tensor::empty([0, 0], &device);
            let value = std::mem::replace(&mut parameter.value, empty).inner();
            // how bfloat16 moments are rounded
            let chance =
                Key::new(settings.seed, Purpose::Rounding).step(self.updates).prompt(number as u64).uniform_at(0);
            let value = moments.update(value, gradient, scale as f32, &step, chance as f32);
            parameter.value = Tensor::from_inner(value).require_grad();
        }
    }
}
