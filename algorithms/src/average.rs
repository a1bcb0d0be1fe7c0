//! How per-token losses become one number.

use burn::tensor::Tensor;
use percept_core::{Evidence, Tally};
use serde::{Deserialize, Serialize};

/// What a sum over tokens is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// Mean over all response tokens of the mini-batch (DAPO, eq. 8). Micro-batches never change it.
    #[default]
    Token,
    /// Mean over responses of each response's mean over its tokens (GRPO's printed formula).
    Sequence,
    /// Mean over micro-batches of their token means: what PAPO's code computes. Tokens of micro-batches with short responses weigh
    /// more, and the loss depends on how the batch is cut.
    MicroBatchToken,
    /// Mean over micro-batches of their sequence means.
    MicroBatchSequence,
}

/// Which tokens count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    /// Those of rows with a picture.
    Pictures,
    /// Those of rows verified as right.
    Correct,
}

impl Average {
    /// Weights such that the sum of `value * weight` over all micro-batches is the average. `[rows, tokens]`
    pub(crate) fn weights(self, evidence: &Evidence, scope: Scope) -> Tensor<2> {
        const EPSILON: f32 = 1e-8;
        let mask = match scope {
            Scope::All => evidence.mask.clone(),
            Scope::Pictures => evidence.picture_mask(),
            Scope::Correct => evidence.mask.clone() * evidence.correct.clone(),
        };
        let counts = &evidence.counts;
        let tokens = |tally: Tally| match scope {
            Scope::All => tally.tokens,
            Scope::Pictures => tally.picture_tokens,
            Scope::Correct => tally.correct_tokens,
        };
        let rows = |tally: Tally| match scope {
            Scope::All => tally.rows,
            Scope::Pictures => tally.picture_rows,
            Scope::Correct => tally.correct_rows,
        };
        let by_row = |mask: Tensor<2>| {
            let lengths = mask.clone().sum_dim(1).add_scalar(EPSILON);
            mask / lengths
        };
        let parts = counts.num_micro_batches as f32;
        match self {
            Self::Token => mask.div_scalar(tokens(counts.mini_batch) as f32 + EPSILON),
            Self::Sequence => by_row(mask).div_scalar(rows(counts.mini_batch) as f32 + EPSILON),
            Self::MicroBatchToken => mask.div_scalar((tokens(counts.micro_batch) as f32 + EPSILON) * parts),
            Self::MicroBatchSequence => by_row(mask).div_scalar((rows(counts.micro_batch) as f32 + EPSILON) * parts),
        }
    }

    /// The token mean that goes with this average: the reference's entropy terms never use the sequence mean.
    pub(crate) fn by_token(self) -> Self {
        match self {
            Self::Token | Self::Sequence => Self::Token,
            Self::MicroBatchToken | Self::MicroBatchSequence => Self::MicroBatchToken,
        }
    }
}
