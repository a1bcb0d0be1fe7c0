//! Rotary position embedding on the queries and keys of a packed projection.

use super::bridge::{Kernel, Saved};
use super::math::vectorized;
use super::matrix::Matrix;
use crate::RotaryTable;
use rayon::prelude::*;
use std::sync::Arc;

/// Input: `[n, width]`, whose first `heads` heads (of the table's width) are rotated; the rest is copied.
#[derive(Debug)]
pub(crate) struct Rotate {
    pub(crate) table: Arc<RotaryTable>,
    pub(crate) heads: usize,
}

impl Rotate {
    /// Turns some rows, of `width` values, from row `first` on.
    pub(super) fn rows(&self, rows: &mut [f32], width: usize, first: usize, direction: f32) {
        let half = self.table.half;
        let (cos, sin) = (&self.table.cos, &self.table.sin);
        vectorized(
            #[inline(always)]
            || {
                for (row, values) in rows.chunks_exact_mut(width).enumerate() {
                    let at = (first + row) * half;
                    let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
                    for head in values[..self.heads * 2 * half].chunks_exact_mut(2 * half) {
                        let (first, second) = head.split_at_mut(half);
                        for i in 0..half {
                            let (a, b, s) = (first[i], second[i], sin[i] * direction);
                            first[i] = a * cos[i] - b * s;
                            second[i] = b * cos[i] + a * s;
                        }
                    }
                }
            },
        );
    }

    /// The table has a row for each of `n`, and the heads lie in `width` values.
    pub(super) fn check(&self, n: usize, width: usize) {
        let half = self.table.half;
        assert_eq!(n, self.table.len(), "one row of angles for each token");
        assert!(self.heads * 2 * half <= width, "{} heads of {} do not fit {width}", self.heads, 2 * half);
    }

    /// Turns each pair (i, i + d/2) of a head by the row's angle i; `direction` -1 turns back.
    fn turn(&self, mut x: Matrix, direction: f32) -> Matrix {
        let (n, width) = (x.rows, x.columns);
        self.check(n, width);
        x.values_mut().par_chunks_mut(64 * width).enumerate().for_each(|(block, rows)| {
            self.rows(rows, width, block * 64, direction);
        });
        x
    }
}

impl Kernel<1> for Rotate {
    fn keeps(&self) -> [bool; 1] {
        [false]
    }

    fn forward(&self, [x]: [Matrix; 1], _: bool) -> (Matrix, Vec<f32>) {
        (self.turn(x, 1.0), Vec::new())
    }

    fn backward(&self, _: Saved<1>, gradient: Matrix, _: [bool; 1]) -> [Option<Matrix>; 1] {
        [Some(self.turn(gradient, -1.0))]
    }
}
