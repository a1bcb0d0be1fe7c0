//! Which log-probabilities a method compares.

use burn::tensor::Tensor;
use std::num::NonZeroUsize;

/// Whose weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weights {
    /// The policy that is being trained; carries gradient, computed for each micro-batch.
    Live,
    /// The policy that sampled; computed once for each collected batch, without gradient.
    Behavior,
    /// The frozen start; computed once for each collected batch, without gradient.
    Reference,
}

/// Which picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    Whole,
    /// The corrupted picture in this slot.
    Corrupted(usize),
}

/// Log-probabilities of the same responses under other weights or another picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    pub weights: Weights,
    pub image: Image,
}

impl View {
    pub const LIVE: Self = Self { weights: Weights::Live, image: Image::Whole };
    pub const BEHAVIOR: Self = Self { weights: Weights::Behavior, image: Image::Whole };
    pub const REFERENCE: Self = Self { weights: Weights::Reference, image: Image::Whole };
}

/// What an objective needs beyond the live and the behavior policy's log-probabilities on the whole picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    pub views: Vec<View>,
    /// Whether the full-softmax entropy at each token is wanted, for the live and the corrupted views.
    pub entropy: bool,
    /// Views of corrupted pictures are computed for one of so many prompts. The others count as prompts without a picture.
    pub corrupted_every: NonZeroUsize,
}

impl Default for Needs {
    fn default() -> Self {
        Self { views: Vec::new(), entropy: false, corrupted_every: NonZeroUsize::MIN }
    }
}

/// A view's numbers for a micro-batch.
///
/// # Shapes
/// `[rows, tokens]`, zeros behind a response's end.
#[derive(Clone, Debug)]
pub struct Scores {
    pub log_probs: Tensor<2>,
    /// Entropy of the whole distribution in nats, when [`Needs::entropy`] asks for it.
    pub entropy: Option<Tensor<2>>,
}
