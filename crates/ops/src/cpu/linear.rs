//! A linear map with optional bias and residual: y = x W^T (+ b) (+ r).

use super::blocks::{by_rows, sum_over_rows};
use super::bridge::{Kernel, Known, Saved};
use super::matrix::{Matrix, Shared, View, product, uninitialized};
use super::panels;
use gemm::Parallelism;
use rayon::prelude::*;

/// Inputs: x `[n, in]`, W `[out, in]` (the layout of the checkpoint), then b `[1, out]` if `bias`, then r `[n, out]` if `residual`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) bias: bool,
    pub(crate) residual: bool,
    /// The result, where it was computed before.
    pub(crate) known: Known,
}

/// A weight `[out, in]`, and a bias `[1, out]` where there is one.
pub(crate) struct Map {
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Matrix>,
}

impl Map {
    /// Writes the bias into rows of results, or adds it to them.
    fn add_bias(&self, target: &mut [f32], width: usize, add: bool) {
        let Some(bias) = self.bias.as_ref().map(Matrix::values) else { return };
        for row in target.chunks_exact_mut(width) {
            if add {
                row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            } else {
                row.copy_from_slice(bias);
            }
        }
    }

    /// `x W^T (+ b)` of some rows; with `add`, added to what stands in the target.
    pub(super) fn apply(&self, x: &[f32], target: &mut [f32], add: bool, parallelism: Parallelism) {
        let (input, output) = (self.weight.columns, self.weight.rows);
        let rows = x.len() / input.max(1);
        assert_eq!(target.len(), rows * output, "a result for each row");
        self.add_bias(target, output, add);
        let (left, right) = (View::rows(x, 0, input), View::rows(self.weight.values(), 0, input).transposed());
        let keep = add || self.bias.is_some();
        // SAFETY: the target has room for so many results, as asserted, and nothing else writes it.
        unsafe {
            product((rows, output, input), target.as_mut_ptr(), output, keep, left, right, 1.0, parallelism);
        }
    }

    pub(super) fn elements(&self) -> usize {
        self.weight.rows * self.weight.columns
    }

    pub(super) fn check(&self, input: usize) {
        assert_eq!(self.weight.columns, input, "linear map of {} inputs on rows of {input}", self.weight.columns);
    }
}

impl Linear {
    /// The map of its inputs; with `laid_out`, W is given in panels, for so many outputs.
    pub(crate) fn output(&self, mut inputs: Vec<Matrix>, laid_out: Option<usize>) -> Matrix {
        let residual = self.residual.then(|| inputs.pop().expect("residual"));
        let bias = self.bias.then(|| inputs.pop().expect("bias"));
        let [x, weight] = <[Matrix; 2]>::try_from(inputs).expect("x and the weight");
        let (n, width) = (x.rows, laid_out.unwrap_or(weight.rows));
        let mut output = match residual {
            Some(residual) => {
                assert_eq!([residual.rows, residual.columns], [n, width], "residual");
                residual
            }
            None => Matrix::from_vec(uninitialized(n * width), n, width),
        };
        let map = Map { weight, bias };
        if laid_out.is_some() {
            let target = output.values_mut();
            map.add_bias(target, width, self.residual);
            panels::product(&x, &map.weight, width, target, self.residual || self.bias);
            return output;
        }
        map.check(x.columns);
        let target = Shared(output.values_mut().as_mut_ptr());
        by_rows(n, map.elements(), |rows, parallelism| {
            // SAFETY: rows of the result, which is not aliased; blocks do not overlap.
            let target = unsafe { std::slice::from_raw_parts_mut(target.at(rows.start * width), rows.len() * width) };
            map.apply(&x.values()[rows.start * x.columns..rows.end * x.columns], target, self.residual, parallelism);
        });
        output
    }

    fn gradients<const N: usize>(&self, saved: &Saved<N>, gradient: &Matrix, wanted: [bool; N]) -> [Option<Matrix>; N] {
        let (x, weight) = (saved.input(0), saved.input(1));
        let (n, input, output) = (x.rows, x.columns, weight.rows);
        std::array::from_fn(|index| {
            if !wanted[index] {
                return None;
            }
            Some(match index {
                0 => {
                    let mut dx = uninitialized(n * input);
                    let target = Shared(dx.as_mut_ptr());
                    by_rows(n, input * output, |rows, parallelism| {
                        let left = View::rows(gradient.values(), rows.start * output, output);
                        let right = View::rows(weight.values(), 0, input);
                        let sizes = (rows.len(), input, output);
                        // SAFETY: as in the forward pass.
                        unsafe {
                            product(sizes, target.at(rows.start * input), input, false, left, right, 1.0, parallelism)
                        };
                    });
                    Matrix::from_vec(dx, n, input)
                }
                1 => sum_over_rows(gradient, x),
                2 if self.bias => Matrix::from_vec(column_sums(gradient.values(), output), 1, output),
                _ => gradient.clone(),
            })
        })
    }
}

/// Sums over rows, in blocks of 64 rows whose sums are added in order.
pub(super) fn column_sums(values: &[f32], columns: usize) -> Vec<f32> {
    let blocks: Vec<Vec<f32>> = values
        .par_chunks(64 * columns)
        .map(|rows| {
            let mut sums = vec![0f32; columns];
            for row in rows.chunks_exact(columns) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            sums
        })
        .collect();
    let mut total = vec![0f32; columns];
    for block in blocks {
        total.iter_mut().zip(block).for_each(|(sum, value)| *sum += value);
    }
    total
}

macro_rules! linear_of {
    ($n:literal) => {
        impl Kernel<$n> for Linear {
            fn keeps(&self) -> [bool; $n] {
                std::array::from_fn(|index| index < 2)
            }
            fn forward(&self, inputs: [Matrix; $n], _: bool) -> (Matrix, Vec<f32>) {
                let output = match self.known.take([inputs[0].rows, inputs[1].rows]) {
                    Some(known) => known,
                    None => self.output(inputs.into(), None),
                };
                (output, Vec::new())
            }
            fn backward(&self, saved: Saved<$n>, gradient: Matrix, wanted: [bool; $n]) -> [Option<Matrix>; $n] {
                self.gradients(&saved, &gradient, wanted)
            }
        }
    };
}
linear_of!(2);
linear_of!(3);
linear_of!(4);
