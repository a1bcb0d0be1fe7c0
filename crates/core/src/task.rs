//! What is asked, and what was answered.

use crate::policy::Activations;
use std::sync::Arc;

/// A picture as the model's vision tower takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct PicturePatches {
    /// Patches in the processor's order (merge block by merge block), `[grid_h * grid_w, channels * time * patch * patch]`. Shared, so that
    /// what was computed from them can be known again.
    pub rows: Arc<Vec<f32>>,
    /// (time, height, width) in patches.
    pub grid: [usize; 3],
}

/// A question with its pictures, tokenized; image placeholders are expanded to one token for each merged patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Names the prompt in random streams; unique among the prompts of a step.
    pub id: u64,
    pub tokens: Vec<u32>,
    pub pictures: Vec<PicturePatches>,
    /// Corrupted twins of `pictures`, one list for each slot of `Image::Corrupted`.
    pub corrupted: Vec<Vec<PicturePatches>>,
}

/// A row of the data set, ready to be sampled and verified.
#[derive(Clone, Debug)]
pub struct Task {
    pub prompt: Arc<Prompt>,
    pub problem: String,
    pub answer: String,
    /// Tokens of a worked solution, with the end token, for supervised training.
    pub solution: Option<Vec<u32>>,
    /// What kind of question it is, where the data set is asked for that.
    pub category: Option<String>,
    /// File and row, for messages.
    pub place: String,
}

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token, which is part of the response.
    Stop,
    /// The limit of new tokens.
    Length,
}

/// One sampled response.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Up to and including the stop token.
    pub tokens: Vec<u32>,
    /// Log-probability of each token under the untruncated distribution at the sampling temperature.
    pub log_probs: Vec<f32>,
    pub finish: Finish,
}

/// A prompt and the responses sampled for it.
#[derive(Clone, Debug)]
pub struct Group {
    pub prompt: Arc<Prompt>,
    pub responses: Vec<Response>,
    /// What the policy computed of them, where the sampler kept it.
    pub activations: Option<Activations>,
}
