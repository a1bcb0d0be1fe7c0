//! One AdamW update (Loshchilov & Hutter, arXiv 1711.05101), in float32, with torch's order of operations.

mod code;
mod moments;

pub use code::BLOCK as MOMENT_BLOCK;
pub use moments::{MomentType, Moments, StoredMoment};

use crate::composed::row_major;
use crate::is_fused;
use burn::backend::Flex;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Hyperparameters of an update, and how far the run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    pub learning_rate: f64,
    pub betas: [f64; 2],
    pub epsilon: f64,
    /// Decoupled: the parameter shrinks by learning_rate * weight_decay before the step.
    pub weight_decay: f64,
    /// Updates of this parameter including this one, from 1.
    pub update: u64,
}

impl AdamW {
    /// Step size, and the square root of the second moment's bias correction.
    fn corrections(&self) -> (f32, f32) {
        let [first, second] = self.betas.map(|beta| 1.0 - beta.powf(self.update as f64));
        ((self.learning_rate / first) as f32, second.sqrt() as f32)
    }
}

/// The constants of one update in float32.
#[derive(Clone, Copy)]
struct Constants {
    beta1: f32,
    beta2: f32,
    size: f32,
    root: f32,
    decay: f32,
    epsilon: f32,
    gradient_scale: f32,
}

impl Constants {
    fn new(step: &AdamW, gradient_scale: f32) -> Self {
        let [beta1, beta2] = step.betas.map(|beta| beta as f32);
        let (size, root) = step.corrections();
        let decay = 1.0 - (step.learning_rate * step.weight_decay) as f32;
        Self { beta1, beta2, size, root, decay, epsilon: step.epsilon as f32, gradient_scale }
    }

    fn update(&self, p: &mut f32, g: f32, m: &mut f32, v: &mut f32) {
        let g = g * self.gradient_scale;
        *m = *m * self.beta1 + g * (1.0 - self.beta1);
        *v = *v * self.beta2 + g * g * (1.0 - self.beta2);
        *p = *p * self.decay - *m / (v.sqrt() / self.root + self.epsilon) * self.size;
    }

    fn update_on_device<const D: usize>(
        &self,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        [m, v]: [Tensor<D>; 2],
    ) -> (Tensor<D>, [Tensor<D>; 2]) {
        let gradient = gradient.mul_scalar(self.gradient_scale);
        let m = m.mul_scalar(self.beta1) + gradient.clone().mul_scalar(1.0 - self.beta1);
        let v = v.mul_scalar(self.beta2) + (gradient.clone() * gradient).mul_scalar(1.0 - self.beta2);
        let denominator = v.clone().sqrt().div_scalar(self.root).add_scalar(self.epsilon);
        let parameter = parameter.mul_scalar(self.decay) - (m.clone() / denominator).mul_scalar(self.size);
        (parameter, [m, v])
    }
}

/// The parameter and its moments after an update with this gradient (scaled by `gradient_scale` first).
///
/// # Shapes
/// All the same; tensors without autodiff. Memory that nobody else holds is reused.
pub fn adamw(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    [m, v]: [Tensor<2>; 2],
    gradient_scale: f32,
    step: &AdamW,
) -> (Tensor<2>, [Tensor<2>; 2]) {
    let constants = Constants::new(step, gradient_scale);
    if !is_fused(&parameter.device()) {
        return constants.update_on_device(parameter, row_major(gradient), [m, v]);
    }
    let [mut parameter, gradient, mut m, mut v] = [parameter, gradient, m, v].map(crate::host);
    let chunks = parameter.values_mut().par_chunks_mut(1 << 14).zip(gradient.values().par_chunks(1 << 14));
    let moments = m.values_mut().par_chunks_mut(1 << 14).zip(v.values_mut().par_chunks_mut(1 << 14));
    chunks.zip(moments).for_each(|((p, g), (m, v))| {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            constants.update(p, *g, m, v);
        }
    });
    let tensor = |matrix: crate::cpu::Matrix| Tensor::from_primitive::<Flex>(matrix.into_tensor());
    (tensor(parameter), [tensor(m), tensor(v)])
}
