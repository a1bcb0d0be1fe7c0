//! Which responses the policy gives.

use crate::policy::FrozenPolicy;
use crate::task::{Group, Prompt};
use std::sync::Arc;

/// How responses are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingSpec {
    pub responses_per_prompt: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Smallest set of most likely tokens with at least this mass; 1 is off.
    pub top_p: f32,
    /// This many most likely tokens; 0 is off.
    pub top_k: usize,
    /// Tokens at least this fraction as likely as the most likely one; 0 is off.
    pub min_p: f32,
    pub max_new_tokens: usize,
    pub stop_tokens: Vec<u32>,
    /// Never sampled: picture placeholders, ids without text.
    pub banned_tokens: Vec<u32>,
    pub seed: u64,
    /// Names the draw together with the seed: the training step, or a validation's number.
    pub step: u64,
    /// Whether this is validation: a random stream of its own.
    pub evaluation: bool,
    /// Most bytes of what is computed that are kept for [`crate::Policy::score_sampled`]; 0 keeps nothing.
    pub kept_activations: usize,
}

/// What can keep a sampler from answering.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    #[error("prompt {prompt}: every token is excluded from sampling: its logits are not finite, or all ids are banned")]
    NothingToSample { prompt: u64 },
    #[error("{0}")]
    Other(String),
}

/// A source of responses.
pub trait Sampler: Send {
    /// A group for each prompt, in order.
    fn sample(
        &mut self,
        policy: &FrozenPolicy,
        prompts: &[Arc<Prompt>],
        spec: &SamplingSpec,
    ) -> Result<Vec<Group>, SamplerError>;

    /// Takes less memory from now on, after it ran out; false when nothing is left to make smaller.
    fn shrink(&mut self) -> bool {
        false
    }
}
