//! Queries, keys and values of tokens as a projection gives them, side by side, and as products of few rows take them.

use super::few::Rows;
use crate::HeadShape;

/// `[tokens, (heads + 2 kv_heads) * width]`
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) shape: HeadShape,
}

impl<'a> Packed<'a> {
    /// The numbers of a query head, from token `token` on.
    pub(crate) fn queries(self, token: usize, head: usize) -> Rows<'a> {
        self.rows(token, head)
    }

    pub(crate) fn keys(self, token: usize, pair: usize) -> Rows<'a> {
        self.rows(token, self.shape.heads + pair)
    }

    pub(crate) fn values(self, token: usize, pair: usize) -> Rows<'a> {
        self.rows(token, self.shape.heads + self.shape.kv_heads + pair)
    }

    fn rows(self, token: usize, head: usize) -> Rows<'a> {
        let stride = self.shape.packed();
        Rows { values: &self.values[token * stride + head * self.shape.width..], stride }
    }
}

/// So many tokens' numbers, `[tokens, width]`, and zeros behind them.
pub(crate) fn lay_out(source: Rows, tokens: usize, width: usize, target: &mut [f32]) {
    let (used, rest) = target.split_at_mut(tokens * width);
    for (target, source) in used.chunks_exact_mut(width).zip(source.values.chunks(source.stride)) {
        target.copy_from_slice(&source[..width]);
    }
    rest.fill(0.0);
}

/// The same transposed, `[width, tokens of a panel]`, zeros behind the last token of each row.
pub(crate) fn lay_out_turned(source: Rows, tokens: usize, width: usize, panel: &mut [f32]) {
    let size = panel.len() / width;
    for (i, target) in panel.chunks_exact_mut(size).enumerate() {
        let (used, rest) = target.split_at_mut(tokens);
        for (value, source) in used.iter_mut().zip(source.values[i..].iter().step_by(source.stride)) {
            *value = *source;
        }
        rest.fill(0.0);
    }
}
