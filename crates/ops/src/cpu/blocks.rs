//! Products over many rows, cut so that what a task works on stays in the caches.
//!
//! How rows are cut follows from shapes alone: a result does not depend on the number of threads.

use super::matrix::{Matrix, Shared, View, parallelism, product, uninitialized};
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a block, between these.
const ROWS: [usize; 2] = [192, 384];
/// A matrix of so many elements is beyond the nearer caches: it is read from memory for each block, and put in order for the product.
const LARGE: usize = 1 << 20;
/// Rows of a part of a sum over rows, at least.
const PART: usize = 1536;
/// Parts of a sum over rows, at most: each has a matrix of its own.
const PARTS: usize = 4;
/// Rows of a result that one task computes of a part.
const STRIP: usize = 256;

/// Rows of a block of so many rows, which a matrix of `elements` is multiplied with.
fn rows_of_block(rows: usize, elements: usize) -> usize {
    let [fewest, most] = if elements < LARGE { ROWS } else { ROWS.map(|rows| 2 * rows) };
    (rows / 32).clamp(fewest, most)
}

/// Calls `work` with blocks of rows, in parallel, and with how the product of a block is to be shared among threads.
pub(crate) fn by_rows(rows: usize, elements: usize, work: impl Fn(Range<usize>, Parallelism) + Sync) {
    let block = rows_of_block(rows, elements);
    if rows < 2 * block {
        work(0..rows, parallelism(rows, elements, 1));
    } else {
        let blocks = (0..rows / block).into_par_iter().with_max_len(1);
        // the last block takes the rest along
        blocks.for_each(|i| {
            work(i * block..if i + 1 == rows / block { rows } else { (i + 1) * block }, Parallelism::None)
        });
    }
}

/// `left^T right`, of `[rows, m]` and `[rows, n]`: `[m, n]`.
pub(crate) fn sum_over_rows(left: &Matrix, right: &Matrix) -> Matrix {
    assert_eq!(left.rows, right.rows, "rows of both");
    let (rows, m, n) = (left.rows, left.columns, right.columns);
    let part = |rows: Range<usize>, strip: Range<usize>, target: *mut f32, parallelism: Parallelism| {
        let left = View::rows(left.values(), rows.start * m + strip.start, m).transposed();
        let right = View::rows(right.values(), rows.start * n, n);
        // SAFETY: the ranges lie in the matrices; each task has a target of its own, of strip x n values.
        unsafe { product((strip.len(), n, rows.len()), target, n, false, left, right, 1.0, parallelism) };
    };
    let parts = if m * n < LARGE { (rows / PART).clamp(1, PARTS) } else { 1 };
    let mut sums = uninitialized(parts * m * n);
    if rows == 0 || m * n == 0 {
        return Matrix::from_vec(vec![0.0; m * n], m, n);
    }
    if parts == 1 {
        part(0..rows, 0..m, sums.as_mut_ptr(), parallelism(m, n, rows));
        return Matrix::from_vec(sums, m, n);
    }
    let strips = m.div_ceil(STRIP);
    let target = Shared(sums.as_mut_ptr());
    (0..parts * strips).into_par_iter().with_max_len(1).for_each(|task| {
        let (number, strip) = (task / strips, task % strips * STRIP);
        let rows = number * rows / parts..(number + 1) * rows / parts;
        part(rows, strip..m.min(strip + STRIP), target.at((number * m + strip) * n), Parallelism::None);
    });
    let (first, others) = sums.split_at_mut(m * n);
    const AT_ONCE: usize = 1 << 13;
    first.par_chunks_mut(AT_ONCE).enumerate().for_each(|(i, first)| {
        for other in others.chunks_exact(m * n) {
            let other = &other[i * AT_ONCE..][..first.len()];
            first.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
        }
    });
    sums.truncate(m * n);
    Matrix::from_vec(sums, m, n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_row_is_in_one_block() {
        for rows in [0, 1, 191, 383, 384, 385, 1000, 6483, 20_000] {
            let seen: Vec<AtomicUsize> = (0..rows).map(|_| AtomicUsize::new(0)).collect();
            by_rows(rows, 1000, |block, _| {
                seen[block].iter().for_each(|row| {
                    row.fetch_add(1, Ordering::Relaxed);
                });
            });
            assert!(seen.iter().all(|row| row.load(Ordering::Relaxed) == 1), "{rows} rows");
        }
    }

    /// Whole numbers, so that the order of the sums does not matter.
    #[test]
    fn sums_over_rows() {
        for (rows, m, n) in [(1, 1, 1), (5, 3, 2), (3072, 7, 5), (4000, 300, 9), (6200, 257, 16)] {
            let numbers = |columns: usize, salt: usize| {
                let value = |i: usize| ((i * 37 + salt) % 7) as f32 - 3.0;
                Matrix::from_vec((0..rows * columns).map(value).collect(), rows, columns)
            };
            let (left, right) = (numbers(m, 1), numbers(n, 2));
            let found = sum_over_rows(&left, &right);
            for (i, j) in [(0, 0), (m - 1, n - 1), (m / 2, n / 2), (0, n - 1)] {
                let want: f32 = (0..rows).map(|row| left.values()[row * m + i] * right.values()[row * n + j]).sum();
                assert_eq!(found.values()[i * n + j], want, "{rows} x {m} x {n}: ({i}, {j})");
            }
        }
    }
}
