//! Root-mean-square normalization: y = gamma * x / sqrt(mean(x^2) + epsilon).

use super::bridge::{Kernel, Saved};
use super::linear::column_sums;
use super::math::{dot, vectorized};
use super::matrix::{Matrix, uninitialized};
use rayon::prelude::*;

/// Inputs: x `[n, d]`, gamma `[1, d]`.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    pub(crate) epsilon: f32,
}

const ROWS: usize = 64;

impl RmsNorm {
    #[inline(always)]
    fn scale(&self, row: &[f32]) -> f32 {
        1.0 / (dot(row, row) / row.len() as f32 + self.epsilon).sqrt()
    }

    /// Some rows of the result.
    pub(super) fn rows(&self, x: &[f32], gamma: &[f32], y: &mut [f32]) {
        let d = gamma.len();
        vectorized(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    let scale = self.scale(x);
                    for ((y, x), gamma) in y.iter_mut().zip(x).zip(gamma) {
                        *y = x * scale * gamma;
                    }
                }
            },
        );
    }
}

impl Kernel<2> for RmsNorm {
    fn keeps(&self) -> [bool; 2] {
        [true, true]
    }

    fn forward(&self, [x, gamma]: [Matrix; 2], _: bool) -> (Matrix, Vec<f32>) {
        let (n, d) = (x.rows, x.columns);
        assert_eq!(gamma.columns, d, "scale of a normalization over {d} values");
        let mut y = uninitialized(n * d);
        let gamma = gamma.values();
        y.par_chunks_mut(ROWS * d).zip(x.values().par_chunks(ROWS * d)).for_each(|(y, x)| self.rows(x, gamma, y));
        (Matrix::from_vec(y, n, d), Vec::new())
    }

    fn backward(&self, saved: Saved<2>, gradient: Matrix, wanted: [bool; 2]) -> [Option<Matrix>; 2] {
        let (x, gamma) = (saved.input(0), saved.input(1).values());
        let (n, d) = (x.rows, x.columns);
        // dgamma's rows are dy * x / rms: computed into `products`, then summed over rows
        let mut dx = uninitialized(n * d);
        let mut products = uninitialized(if wanted[1] { n * d } else { 0 });
        let width = if wanted[1] { ROWS * d } else { 1 };
        let blocks = dx.par_chunks_mut(ROWS * d).zip(x.values().par_chunks(ROWS * d));
        let blocks = blocks.zip(gradient.values().par_chunks(ROWS * d)).enumerate();
        let products_pointer = super::matrix::Shared(products.as_mut_ptr());
        blocks.for_each(|(block, ((dx, x), dy))| {
            let products: &mut [f32] = if wanted[1] {
                // SAFETY: block by block, the products lie where dx lies.
                unsafe { std::slice::from_raw_parts_mut(products_pointer.at(block * width), dx.len()) }
            } else {
                &mut []
            };
            vectorized(
                #[inline(always)]
                || {
                    let mut weighted = vec![0f32; d];
                    for (row, (dx, x)) in dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).enumerate() {
                        let dy = &dy[row * d..(row + 1) * d];
                        let scale = self.scale(x);
                        for ((w, dy), gamma) in weighted.iter_mut().zip(dy).zip(gamma) {
                            *w = dy * gamma;
                        }
                        let projection = dot(&weighted, x) * scale * scale * scale / d as f32;
                        for ((dx, w), x) in dx.iter_mut().zip(&weighted).zip(x) {
                            *dx = w * scale - x * projection;
                        }
                        if !products.is_empty() {
                            let products = &mut products[row * d..(row + 1) * d];
                            for ((p, dy), x) in products.iter_mut().zip(dy).zip(x) {
                                *p = dy * x * scale;
                            }
                        }
                    }
                },
            );
        });
        let dgamma = wanted[1].then(|| Matrix::from_vec(column_sums(&products, d), 1, d));
        [wanted[0].then(|| Matrix::from_vec(dx, n, d)), dgamma]
    }
}
