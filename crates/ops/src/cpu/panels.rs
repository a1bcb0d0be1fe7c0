//! Products of few rows with a weight that was laid out for them once.
//!
//! A general matrix product copies its operands into blocks before it multiplies; for the rows of a decoding step that costs as much as
//! the product. Here the weight stands in panels of 64 outputs, `[outputs / 64, inputs, 64]`, which are read in order. Each element is one
//! chain of fused multiply-adds in the order of the inputs, from the bias or residual on, so a row's result does not depend on the rows
//! beside it.

use super::few::{Left, MOST, Rows, product_of_few};
use super::matrix::{Matrix, Shared, uninitialized};
use pulp::Simd;
use rayon::prelude::*;

/// Outputs of a panel.
pub(crate) const WIDTH: usize = 64;
/// Inputs at a time: so much of a panel stays in the nearest cache.
const DEPTH: usize = 128;
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
        let (rows, columns) = (ROWS.min(n - row), WIDTH.min(outputs - panel * WIDTH));
        // results by themselves: those of other panels stand between the rows of the target
        let mut sums = [0f32; ROWS * WIDTH];
        let line = |row: usize| {
            // SAFETY: each row of a panel's outputs belongs to one task, and lies inside the target.
            unsafe { std::slice::from_raw_parts_mut(target.at(row * outputs + panel * WIDTH), columns) }
        };
        if add {
            for (r, sums) in sums.chunks_exact_mut(WIDTH).take(rows).enumerate() {
                sums[..columns].copy_from_slice(line(row + r));
            }
        }
        pulp::Arch::new().dispatch(Task {
            x: &x.values()[row * inputs..(row + rows) * inputs],
            panel: &panels.values()[panel * inputs * WIDTH..(panel + 1) * inputs * WIDTH],
            inputs,
            sums: &mut sums[..rows * WIDTH],
            add,
        });
        for (r, sums) in sums.chunks_exact(WIDTH).take(rows).enumerate() {
            line(row + r).copy_from_slice(&sums[..columns]);
        }
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
    /// `[rows, 64]`: the results, added to what stands there with `add`.
    sums: &'a mut [f32],
    add: bool,
}

impl pulp::WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.sums.len() / WIDTH;
        for first in (0..self.inputs).step_by(DEPTH) {
            let sizes = (rows, WIDTH, DEPTH.min(self.inputs - first));
            let left = Left::of(Rows { values: &self.x[first..], stride: self.inputs });
            let right = Rows { values: &self.panel[first * WIDTH..], stride: WIDTH };
            product_of_few(simd, sizes, left, right, self.sums, WIDTH, self.add || first > 0);
        }
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
