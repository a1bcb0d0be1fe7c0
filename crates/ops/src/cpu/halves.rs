//! The two halves of a block, without gradient: what comes before its attention, and what comes behind.
//!
//! A graph needs the result of every step for the backward pass. Where there is none, rows go through all steps a block of rows at a time,
//! and what lies between two steps never leaves the caches.

use super::blocks::by_rows;
use super::linear::Map;
use super::matrix::{Matrix, Shared, uninitialized};
use super::norm::RmsNorm;
use super::rotary::Rotate;
use super::swiglu::gated;

/// Normalization, scale `[1, d]`.
pub(crate) struct Norm {
    pub(crate) kernel: RmsNorm,
    pub(crate) gamma: Matrix,
}

impl Norm {
    fn rows(&self, x: &[f32], y: &mut [f32]) {
        self.kernel.rows(x, self.gamma.values(), y);
    }
}

/// Rotated queries, keys and values: `[n, d]` to `[n, packed]`.
pub(crate) fn before_attention(x: &Matrix, norm: &Norm, map: &Map, rotate: &Rotate) -> Matrix {
    let (n, d, width) = (x.rows, x.columns, map.weight.rows);
    map.check(d);
    assert_eq!(norm.gamma.columns, d, "scale of a normalization over {d} values");
    rotate.check(n, width);
    let mut packed = uninitialized(n * width);
    let target = Shared(packed.as_mut_ptr());
    by_rows(n, map.elements(), |rows, parallelism| {
        let mut normalized = uninitialized(rows.len() * d);
        norm.rows(&x.values()[rows.start * d..rows.end * d], &mut normalized);
        // SAFETY: rows of the result; blocks do not overlap.
        let packed = unsafe { std::slice::from_raw_parts_mut(target.at(rows.start * width), rows.len() * width) };
        map.apply(&normalized, packed, false, parallelism);
        rotate.rows(packed, width, rows.start, 1.0);
    });
    Matrix::from_vec(packed, n, width)
}

/// `y = x + output(attended)`, and `y + down(silu(gate(norm(y))) * up(norm(y)))`: `[n, d]` to `[n, d]`.
pub(crate) fn after_attention(
    mut x: Matrix,
    attended: &Matrix,
    output: &Map,
    norm: &Norm,
    gate_up: &Map,
    down: &Map,
) -> Matrix {
    let (n, d, attending, inner) = (x.rows, x.columns, attended.columns, down.weight.columns);
    assert_eq!(attended.rows, n, "attention of each row");
    output.check(attending);
    gate_up.check(d);
    assert_eq!([output.weight.rows, down.weight.rows, norm.gamma.columns], [d; 3], "maps and a scale of {d} values");
    assert_eq!(gate_up.weight.rows, 2 * inner, "gate and up have the same width");
    let target = Shared(x.values_mut().as_mut_ptr());
    by_rows(n, gate_up.elements(), |rows, parallelism| {
        // SAFETY: rows of the result; blocks do not overlap.
        let x = unsafe { std::slice::from_raw_parts_mut(target.at(rows.start * d), rows.len() * d) };
        output.apply(&attended.values()[rows.start * attending..rows.end * attending], x, true, parallelism);
        let mut normalized = uninitialized(rows.len() * d);
        norm.rows(x, &mut normalized);
        let mut wide = uninitialized(rows.len() * 2 * inner);
        gate_up.apply(&normalized, &mut wide, false, parallelism);
        let mut narrow = uninitialized(rows.len() * inner);
        gated(&wide, inner, &mut narrow);
        down.apply(&narrow, x, true, parallelism);
    });
    x
}
