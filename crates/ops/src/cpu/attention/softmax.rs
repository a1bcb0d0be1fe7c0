//! What happens to scores of a tile's rows against one panel, `[rows, 64]`: all between the products.

use super::super::few::LANES;
use super::super::math::{exp, vectorized};
use super::tiles::{Block, KEYS};

/// A number for each lane of a row.
pub(super) type Lanes = [f32; LANES];

/// The whole vectors of each row.
fn rows(scores: &mut [f32], block: Block) -> impl Iterator<Item = &mut [Lanes]> {
    let vectors = block.wide() / LANES;
    scores.chunks_exact_mut(KEYS).map(move |row| &mut row.as_chunks_mut::<LANES>().0[..vectors])
}

/// Puts out of sight what a row must not see.
pub(super) fn hide(scores: &mut [f32], block: Block) {
    for (i, row) in scores.chunks_exact_mut(KEYS).enumerate() {
        row[block.seen_by(i)..block.wide()].fill(f32::NEG_INFINITY);
    }
}

/// Raises each row's largest scores to those of this block.
pub(super) fn raise(largest: &mut [Lanes], scores: &mut [f32], block: Block) {
    vectorized(
        #[inline(always)]
        || {
            for (largest, row) in largest.iter_mut().zip(rows(scores, block)) {
                for scores in row {
                    for lane in 0..LANES {
                        largest[lane] = if scores[lane] > largest[lane] { scores[lane] } else { largest[lane] };
                    }
                }
            }
        },
    );
}

/// Replaces scores by e^((score - largest) scale), and adds these to the rows' sums.
pub(super) fn exponentials(scores: &mut [f32], block: Block, largest: &[f32], scale: f32, sums: &mut [Lanes]) {
    vectorized(
        #[inline(always)]
        || {
            for ((row, largest), sums) in rows(scores, block).zip(largest).zip(sums) {
                for scores in row {
                    for lane in 0..LANES {
                        scores[lane] = exp((scores[lane] - largest) * scale);
                        sums[lane] += scores[lane];
                    }
                }
            }
        },
    );
}

/// Replaces scores by their rows' probabilities, of which the logarithms of the denominators are known.
pub(super) fn probabilities(scores: &mut [f32], block: Block, log_sums: &[f32], scale: f32) {
    vectorized(
        #[inline(always)]
        || {
            for (row, log_sum) in rows(scores, block).zip(log_sums) {
                for score in row.as_flattened_mut() {
                    *score = exp(score.mul_add(scale, -log_sum));
                }
            }
        },
    );
}

/// Turns the gradient with respect to probabilities into that with respect to products of queries and keys: p (dp - sum(p dp)) scale, with
/// the sum by rows in `inner`.
pub(super) fn gradient(p: &[f32], dp: &mut [f32], block: Block, inner: &[f32], scale: f32) {
    vectorized(
        #[inline(always)]
        || {
            for ((p, dp), inner) in p.chunks_exact(KEYS).zip(rows(dp, block)).zip(inner) {
                for (dp, p) in dp.as_flattened_mut().iter_mut().zip(p) {
                    *dp = p * (*dp - inner) * scale;
                }
            }
        },
    );
}
