//! The Gaussian error unit x Phi(x) (Hendrycks and Gimpel, arXiv 1606.08415), Phi the normal distribution's, not an approximation by tanh.

use super::bridge::{Kernel, Saved};
use super::math::{normal, vectorized};
use super::matrix::{Matrix, uninitialized};
use rayon::prelude::*;

/// Input `[n, d]`; result the same.
#[derive(Debug)]
pub(crate) struct Gelu;

const VALUES: usize = 16 * 1024;

impl Kernel<1> for Gelu {
    fn keeps(&self) -> [bool; 1] {
        [true]
    }

    fn forward(&self, [x]: [Matrix; 1], _: bool) -> (Matrix, Vec<f32>) {
        let mut y = uninitialized(x.rows * x.columns);
        y.par_chunks_mut(VALUES).zip(x.values().par_chunks(VALUES)).for_each(|(y, x)| {
            vectorized(
                #[inline(always)]
                || {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = x * normal(x).0;
                    }
                },
            );
        });
        (Matrix::from_vec(y, x.rows, x.columns), Vec::new())
    }

    fn backward(&self, saved: Saved<1>, gradient: Matrix, _: [bool; 1]) -> [Option<Matrix>; 1] {
        let x = saved.input(0);
        let mut dx = uninitialized(x.rows * x.columns);
        let parts = dx.par_chunks_mut(VALUES).zip(x.values().par_chunks(VALUES));
        parts.zip(gradient.values().par_chunks(VALUES)).for_each(|((dx, x), dy)| {
            vectorized(
                #[inline(always)]
                || {
                    for ((dx, &x), dy) in dx.iter_mut().zip(x).zip(dy) {
                        let (below, density) = normal(x);
                        *dx = dy * (below + x * density);
                    }
                },
            );
        });
        [Some(Matrix::from_vec(dx, x.rows, x.columns))]
    }
}
