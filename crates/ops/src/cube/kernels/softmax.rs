//! The softmax of an attention's scores, and its gradient.

use super::{HIDDEN, reduce};
use cubecl::prelude::*;

/// Where a row of an attention's scores lies, and what it sees.
#[derive(CubeType)]
struct ScoreRow {
    /// Its first score against the prefix, and against the own tokens.
    before: usize,
    behind: usize,
    seen_before: usize,
    seen_behind: usize,
}

/// Rows are counted as `[groups, heads, responses, tokens]`.
#[cube]
fn score_row<I: Int>(
    lengths: &Tensor<I>,
    visible: &Tensor<I>,
    heads: usize,
    responses: usize,
    tokens: usize,
    prefix_tokens: usize,
    #[comptime] prefixed: bool,
) -> ScoreRow {
    let row = CUBE_POS;
    let (token, rest) = (row % tokens, row / tokens);
    let (response, rest) = (rest % responses, rest / responses);
    let (head, group) = (rest % heads, rest / heads);
    let span = group * responses + response;
    let mut seen_before = 0usize.runtime();
    if comptime!(prefixed) {
        seen_before = usize::cast_from(lengths[group]);
    }
    ScoreRow {
        before: row * prefix_tokens,
        behind: ((span * heads + head) * tokens + token) * tokens,
        seen_before,
        seen_behind: usize::cast_from(visible[span * tokens + token]),
    }
}

/// Softmax of scaled scores against a prefix and a row's own tokens together; 0 for those that are not seen. A cube for each row.
///
/// `before` and `to_before` `[groups, heads, responses, tokens, prefix_tokens]`, where there is a prefix; `behind` and `to_behind`
/// `[groups, responses, heads, tokens, tokens]`; `lengths` `[groups]`; `visible` `[groups, responses, tokens]`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(in crate::cube) fn softmax<E: Float, I: Int>(
    before: &Tensor<f32>,
    behind: &Tensor<f32>,
    lengths: &Tensor<I>,
    visible: &Tensor<I>,
    to_before: &mut Tensor<E>,
    to_behind: &mut Tensor<E>,
    rows: usize,
    heads: usize,
    responses: usize,
    tokens: usize,
    prefix_tokens: usize,
    scale: f32,
    #[comptime] units: usize,
    #[comptime] prefixed: bool,
    #[define(E, I)] _types: [ElemType; 2],
) {
    if CUBE_POS >= rows {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let row = score_row::<I>(lengths, visible, heads, responses, tokens, prefix_tokens, prefixed);
    let mut reduced = Shared::<[f32]>::new_slice(units);

    let mut most = HIDDEN.runtime();
    if comptime!(prefixed) {
        let mut at = unit;
        while at < row.seen_before {
            most = max(most, before[row.before + at]);
            at += units;
        }
    }
    let mut at = unit;
    while at < row.seen_behind {
        most = max(most, behind[row.behind + at]);
        at += units;
    }
    reduced[unit] = most;
    reduce(&mut reduced, 1usize, units, true);
    let most = reduced[0];
    sync_cube();

    let mut sum = 0.0f32.runtime();
    if comptime!(prefixed) {
        let mut at = unit;
        while at < row.seen_before {
            sum += ((before[row.before + at] - most) * scale).exp();
            at += units;
        }
    }
    let mut at = unit;
    while at < row.seen_behind {
        sum += ((behind[row.behind + at] - most) * scale).exp();
        at += units;
    }
    reduced[unit] = sum;
    reduce(&mut reduced, 1usize, units, false);
    let sum = reduced[0];

    if comptime!(prefixed) {
        let mut at = unit;
        while at < prefix_tokens {
            let mut weight = 0.0f32.runtime();
            if at < row.seen_before {
                weight = ((before[row.before + at] - most) * scale).exp() / sum;
            }
            to_before[row.before + at] = E::cast_from(weight);
            at += units;
        }
    }
    let mut at = unit;
    while at < tokens {
        let mut weight = 0.0f32.runtime();
        if at < row.seen_behind {
            weight = ((behind[row.behind + at] - most) * scale).exp() / sum;
        }
        to_behind[row.behind + at] = E::cast_from(weight);
        at += units;
    }
}

/// The gradient of [`softmax`] with respect to the scores, from its results and their gradients. A cube for each row.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(in crate::cube) fn softmax_back<E: Float, I: Int>(
    before: &Tensor<E>,
    behind: &Tensor<E>,
    of_before: &Tensor<E>,
    of_behind: &Tensor<E>,
    lengths: &Tensor<I>,
    visible: &Tensor<I>,
    to_before: &mut Tensor<f32>,
    to_behind: &mut Tensor<f32>,
    rows: usize,
    heads: usize,
    responses: usize,
    tokens: usize,
    prefix_tokens: usize,
    scale: f32,
    #[comptime] units: usize,
    #[comptime] prefixed: bool,
    #[define(E, I)] _types: [ElemType; 2],
) {
    if CUBE_POS >= rows {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let row = score_row::<I>(lengths, visible, heads, responses, tokens, prefix_tokens, prefixed);
    let mut reduced = Shared::<[f32]>::new_slice(units);

    let mut sum = 0.0f32.runtime();
    if comptime!(prefixed) {
        let mut at = unit;
        while at < row.seen_before {
            sum += f32::cast_from(before[row.before + at]) * f32::cast_from(of_before[row.before + at]);
            at += units;
        }
    }
    let mut at = unit;
    while at < row.seen_behind {
        sum += f32::cast_from(behind[row.behind + at]) * f32::cast_from(of_behind[row.behind + at]);
        at += units;
    }
    reduced[unit] = sum;
    reduce(&mut reduced, 1usize, units, false);
    let sum = reduced[0];

    if comptime!(prefixed) {
        let mut at = unit;
        while at < prefix_tokens {
            let weight = f32::cast_from(before[row.before + at]) * scale;
            to_before[row.before + at] = weight * (f32::cast_from(of_before[row.before + at]) - sum);
            at += units;
        }
    }
    let mut at = unit;
    while at < tokens {
        let weight = f32::cast_from(behind[row.behind + at]) * scale;
        to_behind[row.behind + at] = weight * (f32::cast_from(of_behind[row.behind + at]) - sum);
        at += units;
    }
}
