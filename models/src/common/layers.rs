//! A linear map and a normalization, with their parameters.

use super::parameters::{Make, Spec, parameters_of};
use crate::ModelError;
use burn::tensor::Tensor;
use percept_core::Parameter;

/// `x W^T (+ b)`. Maps that are applied to the same input stand in one matrix, one below the other.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
}
parameters_of!(Linear: weight, bias);

impl Linear {
    /// `maps`: name (without `.weight`) and output width of each map.
    pub(crate) fn new(make: &mut Make, input: usize, maps: &[(String, usize)], bias: bool) -> Result<Self, ModelError> {
        let weights = maps.iter().map(|(name, output)| (format!("{name}.weight"), vec![*output, input]));
        let weight = make(Spec::matrix(weights.collect()))?;
        let biases = || maps.iter().map(|(name, output)| (format!("{name}.bias"), vec![*output])).collect();
        let bias = bias.then(|| make(Spec::matrix(biases()))).transpose()?;
        Ok(Self { weight, bias })
    }

    /// A convolution whose kernel is as large as its stride: a map of flattened patches, without bias.
    pub(crate) fn convolution(make: &mut Make, name: &str, kernel: Vec<usize>) -> Result<Self, ModelError> {
        Ok(Self { weight: make(Spec::matrix(vec![(format!("{name}.weight"), kernel)]))?, bias: None })
    }

    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        percept_ops::linear(x, self.weight.value.clone(), self.bias.as_ref().map(|bias| bias.value.clone()), None)
    }

    /// The map added to `residual`.
    pub(crate) fn add_to(&self, residual: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        let bias = self.bias.as_ref().map(|bias| bias.value.clone());
        percept_ops::linear(x, self.weight.value.clone(), bias, Some(residual))
    }
}

/// Root-mean-square normalization.
#[derive(Clone, Debug)]
pub(crate) struct RmsNorm {
    gamma: Parameter,
    epsilon: f32,
}
parameters_of!(RmsNorm: gamma);

impl RmsNorm {
    pub(crate) fn new(make: &mut Make, name: &str, width: usize, epsilon: f32) -> Result<Self, ModelError> {
        let gamma = make(Spec::scale(format!("{name}.weight"), width))?;
        Ok(Self { gamma, epsilon })
    }

    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        percept_ops::rms_norm(x, self.gamma.value.clone(), self.epsilon)
    }
}
