//! A linear map with optional bias and residual: y = x W^T (+ b) (+ r).

use super::bridge::{Kernel, Known, Saved};
use super::matrix::{Matrix, View, parallelism, product, uninitialized};
use super::panels;
use rayon::prelude::*;

/// Inputs: x `[n, in]`, W `[out, in]` (the layout of the checkpoint), then b `[1, out]` if `bias`, then r `[n, out]` if `residual`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) bias: bool,
    pub(crate) residual: bool,
    /// The result, where it was computed before.
    pub(crate) known: Known,
}

impl Linear {
    /// The map of its inputs; with `laid_out`, W is given in panels, for so many outputs.
    pub(crate) fn output(&self, mut inputs: Vec<Matrix>, laid_out: Option<usize>) -> Matrix {
        let residual = self.residual.then(|| inputs.pop().expect("residual"));
        let bias = self.bias.then(|| inputs.pop().expect("bias"));
        let [x, weight] = <[Matrix; 2]>::try_from(inputs).expect("x and the weight");
        let (n, width) = (x.rows, laid_out.unwrap_or(weight.rows));
        assert!(
            laid_out.is_some() || x.columns == weight.columns,
            "linear map of {} inputs on rows of {}",
            weight.columns,
            x.columns
        );
        let keep = residual.is_some() || bias.is_some();
        let mut output = match residual {
            Some(residual) => {
                assert_eq!([residual.rows, residual.columns], [n, width], "residual");
                residual
            }
            None => Matrix::from_vec(uninitialized(n * width), n, width),
        };
        if let Some(bias) = &bias {
            let bias = bias.values();
            let add = self.residual;
            output.values_mut().par_chunks_mut(64 * width).for_each(|rows| {
                for row in rows.chunks_exact_mut(width) {
                    if add {
                        row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
                    } else {
                        row.copy_from_slice(bias);
                    }
                }
            });
        }
        if laid_out.is_some() {
            panels::product(&x, &weight, width, output.values_mut(), keep);
            return output;
        }
        let target = output.values_mut().as_mut_ptr();
        let left = View::rows(x.values(), 0, x.columns);
        let right = View::rows(weight.values(), 0, weight.columns).transposed();
        let sizes = (n, width, x.columns);
        // SAFETY: shapes were checked above; the target is not aliased.
        unsafe { product(sizes, target, width, keep, left, right, 1.0, parallelism(n, width, x.columns)) };
        output
    }

    fn gradients<const N: usize>(&self, saved: &Saved<N>, gradient: &Matrix, wanted: [bool; N]) -> [Option<Matrix>; N] {
        let (x, weight) = (saved.input(0), saved.input(1));
        let (n, input, output) = (x.rows, x.columns, weight.rows);
        let dy = View::rows(gradient.values(), 0, output);
        std::array::from_fn(|index| {
            if !wanted[index] {
                return None;
            }
            Some(match index {
                0 => {
                    let mut dx = uninitialized(n * input);
                    let right = View::rows(weight.values(), 0, input);
                    let sizes = (n, input, output);
                    // SAFETY: as in the forward pass.
                    unsafe {
                        product(sizes, dx.as_mut_ptr(), input, false, dy, right, 1.0, parallelism(n, input, output))
                    };
                    Matrix::from_vec(dx, n, input)
                }
                1 => {
                    let mut dw = uninitialized(output * input);
                    let (left, right) = (dy.transposed(), View::rows(x.values(), 0, input));
                    let sizes = (output, input, n);
                    // SAFETY: as in the forward pass.
                    unsafe {
                        product(sizes, dw.as_mut_ptr(), input, false, left, right, 1.0, parallelism(n, input, output))
                    };
                    Matrix::from_vec(dw, output, input)
                }
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
