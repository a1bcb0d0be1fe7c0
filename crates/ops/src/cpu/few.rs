//! Products of a few rows with a matrix that many of them share.
//!
//! Each element is one chain of fused multiply-adds in the order of the inner dimension, however many rows are computed together, so a
//! row's result does not depend on the rows beside it. Blocks of rows share what is loaded of the matrix, in registers.

use pulp::Simd;
use std::ops::Range;

/// Lanes of the widest vectors.
pub(crate) const LANES: usize = 16;
/// Rows of a block: with two vectors of columns each, their sums and what is loaded occupy 15 registers; with four, 29 of the 32 that
/// there are of the widest.
pub(crate) const MOST: usize = 6;

/// A matrix in a slice, rows `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
}

/// The left matrix of a product: element (row, i) is `values[row * row_stride + i * step]`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    values: &'a [f32],
    row_stride: usize,
    step: usize,
}

impl<'a> Left<'a> {
    pub(crate) fn of(rows: Rows<'a>) -> Self {
        Self { values: rows.values, row_stride: rows.stride, step: 1 }
    }

    pub(crate) fn transposed(rows: Rows<'a>) -> Self {
        Self { values: rows.values, row_stride: 1, step: rows.stride }
    }

    /// From row `row` on.
    fn from(self, row: usize) -> Self {
        Self { values: &self.values[row * self.row_stride..], ..self }
    }
}

/// [`product_of_few`] with the widest vectors of this processor.
pub(crate) fn product(
    sizes: (usize, usize, usize),
    left: Left,
    right: Rows,
    target: &mut [f32],
    stride: usize,
    add: bool,
) {
    struct Product<'a>((usize, usize, usize), Left<'a>, Rows<'a>, &'a mut [f32], usize, bool);

    impl pulp::WithSimd for Product<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            product_of_few(simd, self.0, self.1, self.2, self.3, self.4, self.5);
        }
    }

    pulp::Arch::new().dispatch(Product(sizes, left, right, target, stride, add));
}

/// `target = left right`, or `target += left right` with `add`: `[m, k] x [k, n]`.
#[inline(always)]
pub(crate) fn product_of_few<S: Simd>(
    simd: S,
    (m, n, k): (usize, usize, usize),
    left: Left,
    right: Rows,
    target: &mut [f32],
    stride: usize,
    add: bool,
) {
    let last = m.saturating_sub(1) * left.row_stride + k.saturating_sub(1) * left.step;
    assert!(m == 0 || k == 0 || last < left.values.len(), "the left matrix holds {m} x {k}");
    assert!(k == 0 || n == 0 || (k - 1) * right.stride + n <= right.values.len(), "the right matrix holds {k} x {n}");
    let mut row = 0;
    while row < m {
        let (left, target) = (left.from(row), &mut target[row * stride..]);
        row += match m - row {
            MOST.. => block::<S, MOST>(simd, (n, k), left, right, target, stride, add),
            5 => block::<S, 5>(simd, (n, k), left, right, target, stride, add),
            4 => block::<S, 4>(simd, (n, k), left, right, target, stride, add),
            3 => block::<S, 3>(simd, (n, k), left, right, target, stride, add),
            2 => block::<S, 2>(simd, (n, k), left, right, target, stride, add),
            _ => block::<S, 1>(simd, (n, k), left, right, target, stride, add),
        };
    }
}

/// `R` rows; gives `R`.
#[inline(always)]
fn block<S: Simd, const R: usize>(
    simd: S,
    (n, k): (usize, usize),
    left: Left,
    right: Rows,
    target: &mut [f32],
    stride: usize,
    add: bool,
) -> usize {
    let width = S::F32_LANES;
    let mut first = 0;
    while first < n {
        first += if width == LANES && first + 4 * width <= n {
            whole::<S, R, 4>(simd, (first, k), left, right, target, stride, add);
            4 * width
        } else if first + 2 * width <= n {
            whole::<S, R, 2>(simd, (first, k), left, right, target, stride, add);
            2 * width
        } else if first + width <= n {
            whole::<S, R, 1>(simd, (first, k), left, right, target, stride, add);
            width
        } else {
            rest::<S, R>(simd, (first..n, k), left, right, target, stride, add);
            n - first
        };
    }
    R
}

/// `R` rows and `T` vectors of columns, from column `first` on.
#[inline(always)]
fn whole<S: Simd, const R: usize, const T: usize>(
    simd: S,
    (first, k): (usize, usize),
    left: Left,
    right: Rows,
    target: &mut [f32],
    stride: usize,
    add: bool,
) {
    let place = |row: usize| row * stride + first..row * stride + first + T * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); T]; R];
    if add {
        for (row, sums) in sums.iter_mut().enumerate() {
            sums.copy_from_slice(S::as_simd_f32s(&target[place(row)]).0);
        }
    }
    // SAFETY: `product_of_few` made sure that the right matrix holds these columns of `k` rows, and the left one these rows of `k` numbers.
    sums = unsafe { accumulate(simd, left, right.values[first..].as_ptr(), right.stride, k, sums) };
    for (row, sums) in sums.iter().enumerate() {
        S::as_mut_simd_f32s(&mut target[place(row)]).0.copy_from_slice(sums);
    }
}

/// `R` rows and the last columns, fewer than a vector of them.
#[inline(always)]
fn rest<S: Simd, const R: usize>(
    simd: S,
    (columns, k): (Range<usize>, usize),
    left: Left,
    right: Rows,
    target: &mut [f32],
    stride: usize,
    add: bool,
) {
    let place = |row: usize, stride: usize| row * stride + columns.start..row * stride + columns.end;
    let mut sums = [simd.splat_f32s(0.0); R];
    if add {
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = simd.partial_load_f32s(&target[place(row, stride)]);
        }
    }
    for i in 0..k {
        let right = simd.partial_load_f32s(&right.values[place(i, right.stride)]);
        for (row, sum) in sums.iter_mut().enumerate() {
            let value = left.values[row * left.row_stride + i * left.step];
            *sum = simd.mul_add_f32s(simd.splat_f32s(value), right, *sum);
        }
    }
    for (row, &sum) in sums.iter().enumerate() {
        simd.partial_store_f32s(&mut target[place(row, stride)], sum);
    }
}

/// The inner loop, on whole vectors: sums stay in registers, which they do only as long as nothing else touches them here.
///
/// # Safety
/// `left` holds `R` rows of `k` numbers, `right` points to `k` rows of `T` vectors, `stride` numbers apart.
#[inline(always)]
unsafe fn accumulate<S: Simd, const R: usize, const T: usize>(
    simd: S,
    left: Left,
    right: *const f32,
    stride: usize,
    k: usize,
    mut sums: [[S::f32s; T]; R],
) -> [[S::f32s; T]; R] {
    let first = left.values.as_ptr();
    let mut right_row = [simd.splat_f32s(0.0); T];
    for i in 0..k {
        for (vector, right_row) in right_row.iter_mut().enumerate() {
            // SAFETY: as the caller promises.
            *right_row = unsafe { right.add(i * stride + vector * S::F32_LANES).cast::<S::f32s>().read_unaligned() };
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as the caller promises.
            let value = simd.splat_f32s(unsafe { *first.add(row * left.row_stride + i * left.step) });
            for (sum, right) in sums.iter_mut().zip(right_row) {
                *sum = simd.mul_add_f32s(value, right, *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + salt * 101) % 23) as f32 * 0.25 - 2.5).collect()
    }

    /// Against sums in the same order, and the same bits whatever rows stand beside a row.
    #[test]
    fn each_element_is_one_chain() {
        for (m, n, k) in [(1, 1, 1), (2, 16, 5), (3, 33, 8), (7, 50, 31), (13, 80, 64), (24, 15, 9)] {
            let (a, b, c) = (numbers(m * (k + 3), 1), numbers(k * (n + 2), 2), numbers(m * (n + 1), 3));
            let (left, right) = (Rows { values: &a, stride: k + 3 }, Rows { values: &b, stride: n + 2 });
            let by_columns: Vec<f32> = (0..k * (m + 2)).map(|i| a[i % (m + 2) % m * (k + 3) + i / (m + 2)]).collect();
            let columns = Rows { values: &by_columns, stride: m + 2 };
            for add in [false, true] {
                let mut found = c.clone();
                product((m, n, k), Left::of(left), right, &mut found, n + 1, add);
                let mut turned = c.clone();
                product((m, n, k), Left::transposed(columns), right, &mut turned, n + 1, add);
                assert_eq!(turned, found);
                for row in 0..m {
                    let mut alone = c[row * (n + 1)..(row + 1) * (n + 1)].to_vec();
                    let left = Rows { values: &a[row * (k + 3)..], stride: k + 3 };
                    product((1, n, k), Left::of(left), right, &mut alone, n + 1, add);
                    for column in 0..n {
                        let mut sum = if add { c[row * (n + 1) + column] } else { 0.0 };
                        for i in 0..k {
                            sum = a[row * (k + 3) + i].mul_add(b[i * (n + 2) + column], sum);
                        }
                        assert_eq!(found[row * (n + 1) + column], sum, "{m} x {n} x {k}: ({row}, {column})");
                        assert_eq!(alone[column], sum);
                    }
                }
            }
        }
    }
}
