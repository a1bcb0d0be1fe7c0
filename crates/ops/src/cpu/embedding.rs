//! Rows of a table and of picture features, put together by index.

use super::bridge::{Kernel, Saved};
use super::matrix::{Matrix, uninitialized};
use crate::Row;
use rayon::prelude::*;
use std::sync::Arc;

/// Inputs: a table `[v, d]` and, for two inputs, features `[m, d]`; result `[rows, d]`.
#[derive(Debug)]
pub(crate) struct Gather {
    pub(crate) rows: Arc<[Row]>,
    pub(crate) sizes: [usize; 2],
}

impl Gather {
    fn collect(&self, table: &Matrix, features: Option<&Matrix>) -> Matrix {
        let d = table.columns;
        assert_eq!([table.rows, features.map_or(0, |m| m.rows)], self.sizes, "rows of the table and of the features");
        let mut output = uninitialized(self.rows.len() * d);
        output.par_chunks_mut(64 * d).zip(self.rows.par_chunks(64)).for_each(|(output, rows)| {
            for (target, row) in output.chunks_exact_mut(d).zip(rows) {
                let (source, at) = match row {
                    Row::Table(at) => (table.values(), *at as usize),
                    Row::Feature(at) => (features.expect("features were given").values(), *at as usize),
                };
                target.copy_from_slice(&source[at * d..(at + 1) * d]);
            }
        });
        Matrix::from_vec(output, self.rows.len(), d)
    }

    /// Adds the rows of the gradient back where they came from, in order.
    fn scatter(&self, gradient: &Matrix, wanted: [bool; 2]) -> [Option<Matrix>; 2] {
        let d = gradient.columns;
        let mut targets = [0, 1].map(|i| wanted[i].then(|| vec![0f32; self.sizes[i] * d]));
        for (row, values) in self.rows.iter().zip(gradient.values().chunks_exact(d)) {
            let (target, at) = match row {
                Row::Table(at) => (&mut targets[0], *at as usize),
                Row::Feature(at) => (&mut targets[1], *at as usize),
            };
            if let Some(target) = target {
                target[at * d..(at + 1) * d].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        let mut index = 0;
        targets.map(|target| {
            index += 1;
            target.map(|values| Matrix::from_vec(values, self.sizes[index - 1], d))
        })
    }
}

impl Kernel<1> for Gather {
    fn keeps(&self) -> [bool; 1] {
        [false]
    }
    fn forward(&self, [table]: [Matrix; 1], _: bool) -> (Matrix, Vec<f32>) {
        (self.collect(&table, None), Vec::new())
    }
    fn backward(&self, _: Saved<1>, gradient: Matrix, [wanted]: [bool; 1]) -> [Option<Matrix>; 1] {
        let [table, _] = self.scatter(&gradient, [wanted, false]);
        [table]
    }
}

impl Kernel<2> for Gather {
    fn keeps(&self) -> [bool; 2] {
        [false, false]
    }
    fn forward(&self, [table, features]: [Matrix; 2], _: bool) -> (Matrix, Vec<f32>) {
        (self.collect(&table, Some(&features)), Vec::new())
    }
    fn backward(&self, _: Saved<2>, gradient: Matrix, wanted: [bool; 2]) -> [Option<Matrix>; 2] {
        self.scatter(&gradient, wanted)
    }
}
