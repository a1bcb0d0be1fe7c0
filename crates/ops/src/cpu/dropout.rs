//! Numbers dropped at random, by keys; the gradient drops the same ones, found again.

use super::bridge::{Kernel, Saved};
use super::math::vectorized;
use super::matrix::{Matrix, uninitialized};
use crate::keys::{RowKeys, columns, mixture, threshold};
use rayon::prelude::*;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Dropout {
    pub(crate) rows: Arc<RowKeys>,
    pub(crate) map: u64,
    pub(crate) rate: f64,
}

const ROWS: usize = 32;

impl Dropout {
    fn apply(&self, x: &Matrix) -> Matrix {
        let (n, width) = (x.rows, x.columns);
        assert_eq!(self.rows.keys.len(), n, "a key for each row");
        let (threshold, scale) = threshold(self.rate);
        let columns: Vec<u32> = columns(self.map, width).collect();
        let mut y = uninitialized(n * width);
        let blocks = y.par_chunks_mut(ROWS * width).zip(x.values().par_chunks(ROWS * width));
        blocks.zip(self.rows.keys.par_chunks(ROWS)).for_each(|((y, x), rows)| {
            vectorized(
                #[inline(always)]
                || {
                    for ((y, x), &row) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(rows) {
                        for ((y, x), &column) in y.iter_mut().zip(x).zip(&columns) {
                            *y = if mixture(row, column) < threshold { 0.0 } else { x * scale };
                        }
                    }
                },
            );
        });
        Matrix::from_vec(y, n, width)
    }
}

impl Kernel<1> for Dropout {
    fn keeps(&self) -> [bool; 1] {
        [false]
    }

    fn forward(&self, [x]: [Matrix; 1], _: bool) -> (Matrix, Vec<f32>) {
        (self.apply(&x), Vec::new())
    }

    fn backward(&self, _: Saved<1>, gradient: Matrix, _: [bool; 1]) -> [Option<Matrix>; 1] {
        [Some(self.apply(&gradient))]
    }
}
