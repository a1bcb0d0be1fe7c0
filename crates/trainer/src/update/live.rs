//! What carries gradient: scores on the way forward, and their gradients on the way back.

use crate::optimizer::Gradients;
use burn::tensor::{Device, Tensor};
use percept_core::{Activations, Policy, ScoreRequest, ScoringGroup, Tape};
use percept_ops::composed::row_major;

/// Scores that carry gradient, by a graph or by tapes.
pub(crate) struct Live<'a> {
    policy: &'a dyn Policy,
    recompute: bool,
    /// Whether the policy is the one that sampled.
    pub(super) sampled: bool,
    /// The scores, as beginnings of the loss's graph, and how it goes on below them.
    tapes: Vec<(Tensor<2>, Box<dyn Tape + 'a>)>,
}

impl<'a> Live<'a> {
    pub(crate) fn new(policy: &'a dyn Policy, recompute: bool) -> Self {
        Self { policy, recompute, sampled: false, tapes: Vec::new() }
    }

    pub(super) fn device(&self) -> Device {
        self.policy.device()
    }

    /// `activations`: of each group, or nothing.
    pub(super) fn score_sampled(
        &mut self,
        groups: &[ScoringGroup],
        request: ScoreRequest,
        activations: &[&Activations],
    ) -> Tensor<2> {
        if self.sampled && !activations.is_empty() {
            return self.policy.score_sampled(groups, request, activations);
        }
        self.score(groups, request)
    }

    pub(crate) fn score(&mut self, groups: &[ScoringGroup], request: ScoreRequest) -> Tensor<2> {
        if !self.recompute {
            return self.policy.score(groups, request);
        }
        let (scores, tape) = self.policy.score_recomputed(groups, request);
        let scores = Tensor::from_inner(scores).require_grad();
        self.tapes.push((scores.clone(), tape));
        scores
    }

    /// Backward, and the gradients added to those so far.
    pub(crate) fn accumulate(self, loss: Tensor<1>, into: &mut Gradients) {
        if !loss.is_tracked() {
            // nothing that learns was looked at: pictures alone learn, and there is none
            return;
        }
        let scale = self.policy.loss_scale();
        let loss = if scale == 1.0 { loss } else { loss.mul_scalar(scale) };
        let mut gradients = loss.backward();
        let mut add = |number: usize, gradient: Tensor<2>| {
            let gradient = row_major(if scale == 1.0 { gradient } else { gradient.div_scalar(scale) });
            let sum: &mut Option<Tensor<2>> = &mut into[number];
            *sum = Some(match sum.take() {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        };
        for (scores, tape) in self.tapes {
            if let Some(upstream) = scores.grad_remove(&mut gradients) {
                tape.backward(upstream, &mut add);
            }
        }
        for (number, parameter) in self.policy.parameters().into_iter().enumerate() {
            if let Some(gradient) = parameter.trainable.then(|| parameter.value.grad_remove(&mut gradients)).flatten() {
                add(number, gradient);
            }
        }
    }
}
