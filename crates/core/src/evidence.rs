//! What an objective sees of a micro-batch, and what it answers.

use crate::view::{Scores, View};
use burn::tensor::Tensor;

/// Everything known about a micro-batch of responses.
///
/// # Shapes
/// `rows` responses, `tokens` the longest of them; tensors are `[rows, tokens]` unless stated.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Live weights, whole picture; carries gradient.
    pub live: Scores,
    /// The weights that sampled, whole picture.
    pub behavior: Scores,
    /// The views that the objective declared.
    pub views: Vec<(View, Scores)>,
    /// The response's advantage at each of its tokens.
    pub advantage: Tensor<2>,
    /// 1 up to and including the end of a response, 0 behind it.
    pub mask: Tensor<2>,
    /// 1 for rows whose prompt has a picture, and its corrupted twins where the objective looks at such (see
    /// [`crate::Needs::corrupted_every`]), else 0: `[rows, 1]`.
    pub has_picture: Tensor<2>,
    /// 1 for responses that were verified as right (accuracy above 0.1), else 0: `[rows, 1]`.
    pub correct: Tensor<2>,
    pub counts: Counts,
    pub progress: Progress,
}

impl Evidence {
    /// The numbers of a declared view.
    ///
    /// # Panics
    /// When the objective's `needs()` did not name it: a mistake in the objective.
    pub fn view(&self, view: View) -> &Scores {
        let found = self.views.iter().find(|(name, _)| *name == view);
        &found.unwrap_or_else(|| panic!("{view:?} is not among the views that the objective's needs() declares")).1
    }

    /// The mask of tokens that belong to rows with a picture.
    pub fn picture_mask(&self) -> Tensor<2> {
        self.mask.clone() * self.has_picture.clone()
    }

    /// Sum over the micro-batch of `values * weights`, skipping weight 0.
    pub fn sum(&self, values: Tensor<2>, weights: Tensor<2>) -> Tensor<1> {
        percept_ops::masked_sum(values, weights)
    }
}

/// Sizes that a sum over tokens is divided by. They are handed in, so that splitting a batch never changes a loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    /// Of the mini-batch: what one optimizer update learns from.
    pub mini_batch: Tally,
    /// Of the micro-batch at hand.
    pub micro_batch: Tally,
    pub num_micro_batches: usize,
}

/// Response tokens and rows of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    pub tokens: usize,
    pub rows: usize,
    /// Tokens of rows with a picture.
    pub picture_tokens: usize,
    pub picture_rows: usize,
    /// Tokens of rows verified as right.
    pub correct_tokens: usize,
    pub correct_rows: usize,
}

/// Where the run is, for schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Steps done before this one.
    pub step: u64,
    pub total_steps: u64,
}

/// A micro-batch's part of the loss, still on the device.
#[derive(Debug)]
pub struct Loss {
    /// `[1]`; parts of a mini-batch's micro-batches add up.
    pub value: Tensor<1>,
    pub metrics: Vec<Metric>,
}

/// A named number of a micro-batch, still on the device.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    /// `[1]`, without gradient.
    pub value: Tensor<1>,
    pub reduction: Reduction,
}

/// How the numbers of a mini-batch's micro-batches become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// They are parts of a mean and add up.
    Sum,
    /// They are parts of the mean of squares of the metric of this name; reported as its variance.
    VarianceOf(&'static str),
    Max,
}

impl Metric {
    /// A part of a mean.
    pub fn part(name: &'static str, value: Tensor<1>) -> Self {
        Self { name, value: value.detach(), reduction: Reduction::Sum }
    }
}
