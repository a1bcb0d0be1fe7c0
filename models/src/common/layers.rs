//! A linear map and a normalization, with their parameters.

use super::parameters::{Make, Spec, parameters_of};
use crate::ModelError;
use burn::tensor::{DType, Tensor};
use percept_core::Parameter;

/// `x W^T (+ b)`. Maps that are applied to the same input stand in one matrix, one below the other.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
    /// The weight laid out for few rows, when [`Linear::prepare`] made it.
    transposed: Option<Tensor<2>>,
}
parameters_of!(Linear: weight, bias);

impl Linear {
    /// `maps`: name (without `.weight`) and output width of each map.
    pub(crate) fn new(make: &mut Make, input: usize, maps: &[(String, usize)], bias: bool) -> Result<Self, ModelError> {
        let weights = maps.iter().map(|(name, output)| (format!("{name}.weight"), vec![*output, input]));
        let weight = make(Spec::matrix(weights.collect()))?;
        let biases = || maps.iter().map(|(name, output)| (format!("{name}.bias"), vec![*output])).collect();
        let bias = bias.then(|| make(Spec::matrix(biases()))).transpose()?;
        Ok(Self { weight, bias, transposed: None })
    }

    /// A convolution whose kernel is as large as its stride: a map of flattened patches, without bias.
    pub(crate) fn convolution(make: &mut Make, name: &str, kernel: Vec<usize>) -> Result<Self, ModelError> {
        Ok(Self { weight: make(Spec::matrix(vec![(format!("{name}.weight"), kernel)]))?, bias: None, transposed: None })
    }

    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.map(x, None)
    }

    /// The map added to `residual`, in the residual's type.
    pub(crate) fn add_to(&self, residual: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        self.map(x, Some(residual))
    }

    fn map(&self, x: Tensor<2>, residual: Option<Tensor<2>>) -> Tensor<2> {
        let bias = self.bias.as_ref().map(|bias| bias.value.clone());
        match &self.transposed {
            Some(transposed) => percept_ops::linear_transposed(x, transposed.clone(), bias, residual),
            None => percept_ops::linear(x, self.weight.value.clone(), bias, residual),
        }
    }

    /// Keeps a second copy of the weight that makes products with few rows faster; for policies without gradient.
    pub(crate) fn prepare(&mut self) {
        self.transposed = Some(percept_ops::transpose_weight(self.weight.value.clone()));
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

    /// Of float32 numbers, which it stays in.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        percept_ops::rms_norm(x, self.gamma.value.clone(), self.epsilon)
    }

    /// The same, as input of a map that computes in `dtype`.
    pub(crate) fn before(&self, x: Tensor<2>, dtype: DType) -> Tensor<2> {
        percept_ops::cast(self.forward(x), dtype)
    }
}
