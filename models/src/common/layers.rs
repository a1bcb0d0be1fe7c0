//! A linear map and a normalization, with their parameters.

use super::lora::{Adapter, Lora};
use super::parameters::{Make, Parameters, Spec, parameters_of};
use crate::ModelError;
use burn::tensor::{DType, Device, Tensor};
use percept_core::Parameter;
use percept_ops::{LaidOut, MapOf, NormOf, RowKeys};
use std::sync::Arc;

/// What goes through maps along with their rows.
#[derive(Clone, Copy, Default)]
pub(crate) struct Along<'a> {
    /// Keys of the rows, where adapters with dropout are to draw.
    pub(crate) keys: Option<&'a Arc<RowKeys>>,
    /// Where results are taken down, or read that were computed before.
    pub(crate) book: Option<&'a dyn Book>,
}

/// The results of maps and of attention, in the order of a pass.
pub(crate) trait Book {
    /// The next result, where it was computed before; without gradient.
    fn known(&self) -> Option<Tensor<2>>;

    /// The next result.
    fn computed(&self, result: &Tensor<2>);
}

impl<'a> Along<'a> {
    pub(crate) fn keys(keys: Option<&'a Arc<RowKeys>>) -> Self {
        Self { keys, book: None }
    }

    /// The next result, and `compute` given it where it was computed before.
    pub(crate) fn result(self, compute: impl FnOnce(Option<Tensor<2>>) -> Tensor<2>) -> Tensor<2> {
        let Some(book) = self.book else { return compute(None) };
        let result = compute(book.known());
        book.computed(&result);
        result
    }
}

/// `x W^T (+ b)`. Maps that are applied to the same input stand in one matrix, one below the other.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
    /// What learns in place of the weight.
    adapter: Option<Adapter>,
    /// The weight, with the adapter in it, laid out for few rows, when [`Linear::prepare`] made it.
    laid_out: Option<LaidOut>,
}

impl Parameters for Linear {
    fn collect<'a>(&'a self, into: &mut Vec<&'a Parameter>) {
        into.push(&self.weight);
        self.bias.collect(into);
        self.adapter.collect(into);
    }
    fn collect_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Parameter>) {
        into.push(&mut self.weight);
        self.bias.collect_mut(into);
        self.adapter.collect_mut(into);
    }
    fn linears<'a>(&'a self, into: &mut Vec<&'a Linear>) {
        into.push(self);
    }
    fn linears_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Linear>) {
        into.push(self);
    }
}

impl Linear {
    /// `maps`: name (without `.weight`) and output width of each map.
    pub(crate) fn new(make: &mut Make, input: usize, maps: &[(String, usize)], bias: bool) -> Result<Self, ModelError> {
        let weights = maps.iter().map(|(name, output)| (format!("{name}.weight"), vec![*output, input]));
        let weight = make(Spec::matrix(weights.collect()))?;
        let biases = || maps.iter().map(|(name, output)| (format!("{name}.bias"), vec![*output])).collect();
        let bias = bias.then(|| make(Spec::matrix(biases()))).transpose()?;
        Ok(Self { weight, bias, adapter: None, laid_out: None })
    }

    /// A convolution whose kernel is as large as its stride: a map of flattened patches, without bias.
    pub(crate) fn convolution(make: &mut Make, name: &str, kernel: Vec<usize>) -> Result<Self, ModelError> {
        let weight = make(Spec::matrix(vec![(format!("{name}.weight"), kernel)]))?;
        Ok(Self { weight, bias: None, adapter: None, laid_out: None })
    }

    pub(crate) fn forward(&self, x: Tensor<2>, along: Along) -> Tensor<2> {
        self.map(x, None, along)
    }

    /// The convolution of rows in which each of `[outer, times, inner]` inputs stands once: it is the same `times` times.
    pub(crate) fn forward_repeated(&self, x: Tensor<2>, [outer, times, inner]: [usize; 3], along: Along) -> Tensor<2> {
        assert!(self.adapter.is_none() && self.bias.is_none(), "a convolution has neither a bias nor an adapter");
        let outputs = self.weight.value.dims()[0];
        along.result(|known| {
            let dtype = self.weight.value.dtype();
            let weight = percept_ops::cast(self.weight.value.clone(), DType::F32);
            let weight = weight.reshape([outputs, outer, times, inner]).sum_dim(2).reshape([outputs, outer * inner]);
            percept_ops::linear_known(x, percept_ops::cast(weight, dtype), None, None, known)
        })
    }

    /// The map added to `residual`, in the residual's type.
    pub(crate) fn add_to(&self, residual: Tensor<2>, x: Tensor<2>, along: Along) -> Tensor<2> {
        self.map(x, Some(residual), along)
    }

    /// The weight and bias, where the map is nothing but them and they are float32.
    pub(crate) fn plain(&self) -> Option<MapOf> {
        let weight = &self.weight.value;
        let plain = self.adapter.is_none() && self.laid_out.is_none() && weight.dtype() == DType::F32;
        let bias = || self.bias.as_ref().map(|bias| bias.value.clone());
        plain.then(|| MapOf { weight: weight.clone(), bias: bias() })
    }

    fn map(&self, x: Tensor<2>, residual: Option<Tensor<2>>, along: Along) -> Tensor<2> {
        let bias = self.bias.as_ref().map(|bias| bias.value.clone());
        along.result(|known| {
            if let Some(weight) = &self.laid_out {
                return percept_ops::linear_laid_out(x, weight, bias, residual);
            }
            let weight = self.weight.value.clone();
            match &self.adapter {
                Some(adapter) => adapter.add(x.clone(), percept_ops::linear(x, weight, bias, residual), along.keys),
                None => percept_ops::linear_known(x, weight, bias, residual, known),
            }
        })
    }

    /// Gives the maps that are targets an adapter; `number`: this matrix's among all.
    pub(crate) fn adapt(&mut self, lora: &Lora, number: u64, device: &Device) {
        self.adapter = Adapter::new(&self.weight, lora, number, device);
    }

    /// The map without what learns in place of its weight.
    pub(crate) fn without_adapter(&mut self) {
        self.adapter = None;
    }

    pub(crate) fn weight(&self) -> &Parameter {
        &self.weight
    }

    /// The weight with the adapter in it, when there is one.
    pub(crate) fn merged(&self) -> Option<Tensor<2>> {
        self.adapter.as_ref().map(|adapter| adapter.merged(&self.weight))
    }

    /// Keeps a second copy of the weight that makes products with few rows faster; for policies without gradient.
    pub(crate) fn prepare(&mut self) {
        if self.adapter.is_some() && self.weight.value.dtype() != DType::F32 {
            // merged, the adapter would be rounded with the weight: the sampler's numbers would not be the trainer's
            return;
        }
        let weight = self.merged().unwrap_or_else(|| self.weight.value.clone());
        self.laid_out = Some(percept_ops::lay_out(weight));
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

    pub(crate) fn plain(&self) -> NormOf {
        NormOf { gamma: self.gamma.value.clone(), epsilon: self.epsilon }
    }

    /// The same, as input of a map that computes in `dtype`.
    pub(crate) fn before(&self, x: Tensor<2>, dtype: DType) -> Tensor<2> {
        percept_ops::cast(self.forward(x), dtype)
    }
}
