//! The gated unit of Qwen's multi-layer perceptrons: silu(gate) * up, silu(z) = z / (1 + e^-z).

use super::bridge::{Kernel, Saved};
use super::math::{sigmoid, vectorized};
use super::matrix::{Matrix, uninitialized};
use rayon::prelude::*;

/// Input: gate and up side by side, `[n, 2 f]`; result `[n, f]`.
#[derive(Debug)]
pub(crate) struct SwiGlu;

const ROWS: usize = 32;

/// Some rows of the result, of `f` values each.
pub(super) fn gated(x: &[f32], f: usize, y: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || {
            for (y, x) in y.chunks_exact_mut(f).zip(x.chunks_exact(2 * f)) {
                let (gate, up) = x.split_at(f);
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = gate * sigmoid(*gate) * up;
                }
            }
        },
    );
}

impl Kernel<1> for SwiGlu {
    fn keeps(&self) -> [bool; 1] {
        [true]
    }

    fn forward(&self, [x]: [Matrix; 1], _: bool) -> (Matrix, Vec<f32>) {
        let (n, f) = (x.rows, x.columns / 2);
        assert_eq!(x.columns, 2 * f, "gate and up have the same width");
        let mut y = uninitialized(n * f);
        y.par_chunks_mut(ROWS * f).zip(x.values().par_chunks(ROWS * 2 * f)).for_each(|(y, x)| gated(x, f, y));
        (Matrix::from_vec(y, n, f), Vec::new())
    }

    fn backward(&self, saved: Saved<1>, gradient: Matrix, _: [bool; 1]) -> [Option<Matrix>; 1] {
        let x = saved.input(0);
        let (n, f) = (x.rows, x.columns / 2);
        let mut dx = uninitialized(n * 2 * f);
        let blocks = dx.par_chunks_mut(ROWS * 2 * f).zip(x.values().par_chunks(ROWS * 2 * f));
        blocks.zip(gradient.values().par_chunks(ROWS * f)).for_each(|((dx, x), dy)| {
            vectorized(
                #[inline(always)]
                || {
                    for (row, dy) in dy.chunks_exact(f).enumerate() {
                        let (gate, up) = x[row * 2 * f..(row + 1) * 2 * f].split_at(f);
                        let (dgate, dup) = dx[row * 2 * f..(row + 1) * 2 * f].split_at_mut(f);
                        for i in 0..f {
                            let s = sigmoid(gate[i]);
                            let silu = gate[i] * s;
                            dup[i] = dy[i] * silu;
                            dgate[i] = dy[i] * up[i] * (s + silu * (1.0 - s));
                        }
                    }
                },
            );
        });
        [Some(Matrix::from_vec(dx, n, 2 * f))]
    }
}
