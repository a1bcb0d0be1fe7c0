//! One AdamW update (Loshchilov & Hutter, arXiv 1711.05101), in float32, with torch's order of operations.

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
    let [beta1, beta2] = step.betas.map(|beta| beta as f32);
    let (size, root) = step.corrections();
    let decay = 1.0 - (step.learning_rate * step.weight_decay) as f32;
    let epsilon = step.epsilon as f32;
    if !is_fused(&parameter.device()) {
        let gradient = gradient.mul_scalar(gradient_scale);
        let m = m.mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
        let v = v.mul_scalar(beta2) + (gradient.clone() * gradient).mul_scalar(1.0 - beta2);
        let denominator = v.clone().sqrt().div_scalar(root).add_scalar(epsilon);
        let parameter = parameter.mul_scalar(decay) - (m.clone() / denominator).mul_scalar(size);
        return (parameter, [m, v]);
    }
    let [mut parameter, gradient, mut m, mut v] = [parameter, gradient, m, v].map(crate::host);
    let chunks = parameter.values_mut().par_chunks_mut(1 << 14).zip(gradient.values().par_chunks(1 << 14));
    let moments = m.values_mut().par_chunks_mut(1 << 14).zip(v.values_mut().par_chunks_mut(1 << 14));
    chunks.zip(moments).for_each(|((p, g), (m, v))| {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * gradient_scale;
            *m = *m * beta1 + g * (1.0 - beta1);
            *v = *v * beta2 + g * g * (1.0 - beta2);
            *p = *p * decay - *m / (v.sqrt() / root + epsilon) * size;
        }
    });
    let tensor = |matrix: crate::cpu::Matrix| Tensor::from_primitive::<Flex>(matrix.into_tensor());
    (tensor(parameter), [tensor(m), tensor(v)])
}
