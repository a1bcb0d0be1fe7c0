//! Products of few rows with a weight that was laid out for them once.
//!
//! A general matrix product copies its operands into blocks before it multiplies; for the rows of a decoding step that costs as much as
//! the product. Here the weight stands in panels of 64 outputs, `[outputs / 64, inputs, 64]`, through which a kernel of six rows and four
//! vectors walks in order. Each element is one chain of fused multiply-adds in the order of the inputs, from the bias or residual
//! on, so a row's result does not depend on the rows beside it.

use super::matrix::{Matrix, Shared, uninitialized};
use pulp::Simd;
use rayon::prelude::*;

/// Outputs of a panel.
pub(crate) const WIDTH: usize = 64;
/// Inputs at a time: so much of a panel stays in the nearest cache.
const DEPTH: usize = 128;
/// Rows of the kernel: with four vectors of outputs each, sums and what is loaded occupy 29 of 32 registers.
const MOST: usize = 6;
/// Rows of a task.
const ROWS: usize = 6 * MOST;

/// A weight `[outputs, inputs]` in panels; outputs that are missing in the last one are zeros.
pub(crate) fn lay_out(weight: &Matrix) -> Matrix {
    let (outputs, inputs) = (weight.rows, weight.columns);
    let values = weight.values();
    let panels = outputs.div_ceil(WIDTH);
    let mut laid = uninitialized(panels * inputs * WIDTH);
    laid.par_chunks_mut(inputs * WIDTH).enumerate().for_each(|(panel, laid)| {
        let first = panel * WIDTH;
        for (input, line) in laid.chunks_exact_mut(WIDTH).enumerate() {
            for (offset, value) in line.iter_mut().enumerate() {
                let output = first + offset;
                *value = if output < outputs { values[output * inputs + input] } else { 0.0 };
            }
        }
    });
    Matrix::from_vec(laid, panels * inputs, WIDTH)
}

/// `target = x W^T`, or `target += x W^T` with `add`; `x` `[n, inputs]`, `target` `[n, outputs]`.
pub(crate) fn product(x: &Matrix, panels: &Matrix, outputs: usize, target: &mut [f32], add: bool) {
    let (n, inputs) = (x.rows, x.columns);
    assert_eq!(
        panels.rows * panels.columns,
        outputs.div_ceil(WIDTH) * inputs * WIDTH,
        "panels of {outputs} x {inputs}"
    );
    assert_eq!(target.len(), n * outputs, "results of {n} rows");
    let tasks: Vec<(usize, usize)> =
        (0..outputs.div_ceil(WIDTH)).flat_map(|panel| (0..n).step_by(ROWS).map(move |row| (panel, row))).collect();
    let target = Shared(target.as_mut_ptr());
    let one = |&(panel, row): &(usize, usize)| {
        let rows = ROWS.min(n - row);
        let values = &panels.values()[panel * inputs * WIDTH..(panel + 1) * inputs * WIDTH];
        let task = Task {
            x: &x.values()[row * inputs..(row + rows) * inputs],
            panel: values,
            inputs,
            rows,
            columns: WIDTH.min(outputs - panel * WIDTH),
            target: target.at(row * outputs + panel * WIDTH),
            stride: outputs,
            add,
        };
        pulp::Arch::new().dispatch(task);
    };
    if n * outputs * inputs >= 96 * 96 * 96 {
        tasks.par_iter().for_each(one);
    } else {
        tasks.iter().for_each(one);
    }
}

/// Some rows and one panel.
struct Task<'a> {
    /// `[rows, inputs]`
    x: &'a [f32],
    /// `[inputs, 64]`
    panel: &'a [f32],
    inputs: usize,
    rows: usize,
    /// Outputs that there are.
    columns: usize,
    /// Rows `stride` apart, which nothing else writes.
    target: *mut f32,
    stride: usize,
    add: bool,
}

impl pulp::WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        assert!(self.x.len() == self.rows * self.inputs && self.panel.len() == self.inputs * WIDTH);
        if self.inputs == 0 {
            return;
        }
        for first in (0..self.inputs).step_by(DEPTH) {
            let depth = DEPTH.min(self.inputs - first);
            let mut row = 0;
            while row < self.rows {
                row += match self.rows - row {
                    MOST.. => self.rows_of::<S, MOST>(simd, row, first, depth),
                    5 => self.rows_of::<S, 5>(simd, row, first, depth),
                    4 => self.rows_of::<S, 4>(simd, row, first, depth),
                    3 => self.rows_of::<S, 3>(simd, row, first, depth),
                    2 => self.rows_of::<S, 2>(simd, row, first, depth),
                    _ => self.rows_of::<S, 1>(simd, row, first, depth),
                };
            }
        }
    }
}

impl Task<'_> {
    /// `R` rows; gives `R`.
    #[inline(always)]
    fn rows_of<S: Simd, const R: usize>(&self, simd: S, row: usize, first: usize, depth: usize) -> usize {
        let mut column = 0;
        while column < self.columns {
            let left = self.columns - column;
            // processors without 512-bit vectors have half as many registers
            column += if S::F32_LANES >= 16 && left > 2 * S::F32_LANES {
                self.tile::<S, R, 4>(simd, row, column, first, depth)
            } else {
                self.tile::<S, R, 2>(simd, row, column, first, depth)
            };
        }
        R
    }

    /// `R` rows and `T` vectors of outputs; gives how many outputs these are.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const T: usize>(
        &self,
        simd: S,
        row: usize,
        column: usize,
        first: usize,
        depth: usize,
    ) -> usize {
        let lanes = S::F32_LANES;
        let results = |row: usize, vector: usize| {
            let from = column + vector * lanes;
            let count = self.columns.saturating_sub(from).min(lanes);
            // SAFETY: the target has `columns` outputs in each of its rows, and `count` of them stand from here on; where there are
            // none, the slice is empty and begins inside the row or at its end.
            unsafe {
                std::slice::from_raw_parts_mut(self.target.add(row * self.stride + from.min(self.columns)), count)
            }
        };
        let mut sums = [[simd.splat_f32s(0.0); T]; R];
        if self.add || first > 0 {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.partial_load_f32s(results(row + r, vector));
                }
            }
        }
        let left: [*const f32; R] = std::array::from_fn(|r| self.x[(row + r) * self.inputs + first..].as_ptr());
        let right = self.panel[first * WIDTH + column..].as_ptr();
        for i in 0..depth {
            // SAFETY: a panel has whole vectors of 64 outputs, so T vectors from a column that is a multiple of as many lie inside the
            // line of input `first + i`; a row of x has `depth` more inputs from `first` on.
            unsafe {
                let right: [S::f32s; T] = std::array::from_fn(|vector| {
                    right.add(i * WIDTH + vector * lanes).cast::<S::f32s>().read_unaligned()
                });
                for (sums, left) in sums.iter_mut().zip(&left) {
                    let value = simd.splat_f32s(*left.add(i));
                    for (sum, right) in sums.iter_mut().zip(&right) {
                        *sum = simd.mul_add_f32s(value, *right, *sum);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (vector, &sum) in sums.iter().enumerate() {
                simd.partial_store_f32s(results(row + r, vector), sum);
            }
        }
        T * lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: usize, columns: usize, salt: usize) -> Matrix {
        let value = |i: usize| ((i * 37 + salt * 101) % 23) as f32 * 0.25 - 2.5;
        Matrix::from_vec((0..rows * columns).map(value).collect(), rows, columns)
    }

    /// Against sums in the same order, and the same bits whatever rows stand beside a row.
    #[test]
    fn each_element_is_one_chain() {
        for (n, outputs, inputs) in [(1, 1, 1), (2, 64, 5), (6, 65, 128), (7, 100, 300), (40, 191, 129), (75, 448, 33)]
        {
            let (x, weight, before) = (numbers(n, inputs, 1), numbers(outputs, inputs, 2), numbers(n, outputs, 3));
            let panels = lay_out(&weight);
            for add in [false, true] {
                let mut found = before.values().to_vec();
                product(&x, &panels, outputs, &mut found, add);
                for row in 0..n {
                    let own = Matrix::from_vec(x.values()[row * inputs..(row + 1) * inputs].to_vec(), 1, inputs);
                    let mut alone = before.values()[row * outputs..(row + 1) * outputs].to_vec();
                    product(&own, &panels, outputs, &mut alone, add);
                    for output in 0..outputs {
                        let mut sum = if add { before.values()[row * outputs + output] } else { 0.0 };
                        for i in 0..inputs {
                            sum = x.values()[row * inputs + i].mul_add(weight.values()[output * inputs + i], sum);
                        }
                        let place = format!("{n} x {outputs} x {inputs}: ({row}, {output})");
                        assert_eq!(found[row * outputs + output], sum, "{place}");
                        assert_eq!(alone[output], sum, "{place}");
                    }
                }
            }
        }
    }
}
