//! What host code tells the tensor functions about packed rows.

use crate::composed::{Angles, Layout, Tile};
use crate::uploaded::Uploaded;
use std::ops::Range;
use std::sync::Arc;

/// Heads of an attention layer; queries of `heads / kv_heads` heads share a key and value head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadShape {
    pub heads: usize,
    pub kv_heads: usize,
    /// Width of one head.
    pub width: usize,
}

impl HeadShape {
    /// Width of queries, keys and values side by side.
    pub fn packed(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.width
    }

    /// What scores are multiplied by: 1 / sqrt(width).
    pub fn scale(&self) -> f32 {
        (self.width as f32).powf(-0.5)
    }
}

/// Which packed tokens see which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionPlan {
    /// Number of packed tokens.
    pub tokens: usize,
    /// Whether a token sees only those of its own span that do not come after it.
    pub causal: bool,
    /// Groups share no tokens; a group's stand together, and each is in a span.
    pub groups: Vec<PlanGroup>,
    pub(crate) uploaded: Uploaded<Layout>,
    pub(crate) tiles: Uploaded<Arc<Vec<Tile>>>,
}

/// Spans that see each other's tokens; with their prefixes they lie inside the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanGroup {
    pub spans: Vec<Span>,
}

/// Consecutive tokens that see a prefix (another span's tokens, or none) and each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub rows: Range<usize>,
    pub prefix: Range<usize>,
}

impl AttentionPlan {
    /// Spans of the given lengths, one after the other, each a group of its own.
    pub fn separate(lengths: &[usize], causal: bool) -> Self {
        let mut from = 0;
        let groups = lengths
            .iter()
            .map(|length| {
                let rows = from..from + length;
                from = rows.end;
                PlanGroup { spans: vec![Span { rows, prefix: 0..0 }] }
            })
            .collect();
        Self { tokens: from, causal, groups, uploaded: Uploaded::default(), tiles: Uploaded::default() }
    }

    /// Groups of a prompt and its responses: the prompt sees itself, each response sees the prompt and itself, all causally.
    ///
    /// `groups` holds a prompt's length and its responses' lengths; tokens are packed in this order.
    pub fn shared_prefix<'a>(groups: impl IntoIterator<Item = (usize, &'a [usize])>) -> Self {
        let mut from = 0;
        let groups = groups
            .into_iter()
            .map(|(prompt, responses)| {
                let prefix = from..from + prompt;
                from = prefix.end;
                let mut spans = vec![Span { rows: prefix.clone(), prefix: 0..0 }];
                for length in responses {
                    spans.push(Span { rows: from..from + length, prefix: prefix.clone() });
                    from += length;
                }
                PlanGroup { spans }
            })
            .collect();
        Self { tokens: from, causal: true, groups, uploaded: Uploaded::default(), tiles: Uploaded::default() }
    }
}

/// Cosines and sines of each token's rotation angles.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryTable {
    /// Angles of a token: half a head's width.
    pub half: usize,
    /// `[tokens, half]`
    pub cos: Vec<f32>,
    /// `[tokens, half]`
    pub sin: Vec<f32>,
    pub(crate) uploaded: Uploaded<Angles>,
}

impl RotaryTable {
    /// The table of these angles, `[tokens, half]`, in radians.
    pub fn new(angles: &[f32], half: usize) -> Self {
        assert_eq!(angles.len() % half, 0, "{} angles are not rows of {half}", angles.len());
        Self {
            half,
            cos: angles.iter().map(|angle| angle.cos()).collect(),
            sin: angles.iter().map(|angle| angle.sin()).collect(),
            uploaded: Uploaded::default(),
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.cos.len() / self.half
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.cos.is_empty()
    }
}

/// Where a gathered row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    Table(u32),
    Feature(u32),
}

/// One row that is being decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedRow {
    /// The row's place in the cache.
    pub slot: usize,
    /// Its prompt, by the caller's number.
    pub prompt: usize,
    /// Tokens of its own that are already in the cache.
    pub length: usize,
}
