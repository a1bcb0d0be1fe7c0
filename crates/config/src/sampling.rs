//! `[rollout]` and `[validation]`: how responses are sampled, for training and for measuring.

use serde::{Deserialize, Serialize};

/// `[rollout]`: the responses a step learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfig {
    /// Prompts collected for a step. Default: 384.
    pub prompts_per_step: usize,
    /// Responses sampled for each prompt: the size of a group. Default: 5.
    pub responses_per_prompt: usize,
    /// Sampling temperature, also that of every log-probability in training. Default: 1.0.
    pub temperature: f64,
    /// Nucleus: the smallest set of tokens with this much probability. Default: 0.99; 1 is off.
    pub top_p: f64,
    /// The most probable tokens only. Default: 0, which is off.
    pub top_k: usize,
    /// Tokens with at least this share of the most probable one's probability. Default: 0.0, which is off.
    pub min_p: f64,
    /// Longest response in tokens. Default: 2048.
    pub max_new_tokens: usize,
    /// Rows decoded at once; bounds memory, never changes what is sampled. Default: 64.
    pub max_rows: usize,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            prompts_per_step: 384,
            responses_per_prompt: 5,
            temperature: 1.0,
            top_p: 0.99,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens: 2048,
            max_rows: 64,
        }
    }
}

/// `[validation]`: avg@k on `data.validation`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationConfig {
    /// Steps between validations. Default: 5; 0 is never.
    pub every: usize,
    /// Whether the policy is also measured before the first step. Default: true.
    pub before_training: bool,
    /// Responses for each question (the k of avg@k). Default: 8.
    pub responses_per_prompt: usize,
    /// Sampling temperature; 0 is greedy. Default: 1.0.
    pub temperature: f64,
    /// As in `[rollout]`. Default: 0.99.
    pub top_p: f64,
    /// As in `[rollout]`. Default: 0, which is off.
    pub top_k: usize,
    /// As in `[rollout]`. Default: 0.0, which is off.
    pub min_p: f64,
    /// Longest response in tokens. Default: `rollout.max_new_tokens`.
    pub max_new_tokens: usize,
    /// Measure on the first rows only. Default: all rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self {
            every: 5,
            before_training: true,
            responses_per_prompt: 8,
            temperature: 1.0,
            top_p: 0.99,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens: 2048,
            limit: None,
        }
    }
}
