//! Gradients of pieces of a computation: each piece has a graph of its own, for as long as its gradient is taken.

use super::parameters::Parameters;
use burn::tensor::{Gradients, Tensor};
use percept_core::Parameter;
use percept_ops::{AttentionPlan, HeadShape, cast};
use std::collections::HashMap;
use std::sync::Arc;

/// Who gets the parameters' gradients.
pub(crate) struct Sink<'a> {
    /// The number of each parameter, by where it stands in memory.
    numbers: HashMap<*const Parameter, usize>,
    add: &'a mut dyn FnMut(usize, Tensor<2>),
}

impl<'a> Sink<'a> {
    /// `parameters`: all of the model, in its order.
    pub(crate) fn new(parameters: &[&Parameter], add: &'a mut dyn FnMut(usize, Tensor<2>)) -> Self {
        let numbers = parameters.iter().enumerate().map(|(number, parameter)| (std::ptr::from_ref(*parameter), number));
        Self { numbers: numbers.collect(), add }
    }

    fn take(&mut self, parts: &[&dyn Parameters], gradients: &mut Gradients) {
        let mut parameters = Vec::new();
        parts.iter().for_each(|part| part.collect(&mut parameters));
        for parameter in parameters.into_iter().filter(|parameter| parameter.trainable) {
            if let Some(gradient) = parameter.value.grad_remove(gradients) {
                (self.add)(self.numbers[&std::ptr::from_ref(parameter)], gradient);
            }
        }
    }

    /// The gradients of a piece: with respect to its inputs, which are given back, and to the parameters of `parts`.
    pub(crate) fn pull<const N: usize>(
        &mut self,
        inputs: [Tensor<2>; N],
        upstream: Tensor<2>,
        parts: &[&dyn Parameters],
        piece: impl FnOnce([Tensor<2>; N]) -> Tensor<2>,
    ) -> [Tensor<2>; N] {
        let leaves = inputs.map(|input| Tensor::from_inner(input).require_grad());
        let mut gradients = (piece(leaves.clone()) * Tensor::from_inner(upstream)).sum().backward();
        self.take(parts, &mut gradients);
        leaves.map(|leaf| leaf.grad_remove(&mut gradients).expect("a piece looks at its inputs"))
    }

    /// The gradient of a block with respect to its input `x`: what stands before its attention, the attention itself, and what stands
    /// behind it are pieces, so that scores never have a graph for the whole block.
    pub(crate) fn pull_block(
        &mut self,
        x: Tensor<2>,
        upstream: Tensor<2>,
        block: &dyn Parameters,
        (plan, heads): (&Arc<AttentionPlan>, HeadShape),
        before: impl FnOnce(Tensor<2>) -> Tensor<2>,
        after: impl FnOnce([Tensor<2>; 2]) -> Tensor<2>,
    ) -> Tensor<2> {
        let leaf = Tensor::from_inner(x.clone()).require_grad();
        let packed = before(leaf.clone());
        let values = packed.clone().inner();
        let attended = percept_ops::attention(values.clone(), plan, heads);
        let [around, attended] = self.pull([x, attended], upstream, &[block], after);
        let upstream = percept_ops::attention_gradient(values, attended, plan, heads);
        let upstream = Tensor::from_inner(cast(upstream, packed.dtype()));
        let mut gradients = (packed * upstream).sum().backward();
        self.take(&[block], &mut gradients);
        around + leaf.grad_remove(&mut gradients).expect("the block looks at its input")
    }
}

/// Whether anything learns in a part of a model.
pub(crate) fn learns(part: &dyn Parameters) -> bool {
    let mut parameters = Vec::new();
    part.collect(&mut parameters);
    parameters.iter().any(|parameter| parameter.trainable)
}
