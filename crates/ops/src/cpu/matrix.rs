//! Matrices in the memory of the CPU backend, and matrix products on them.

use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};
use gemm::Parallelism;
use rayon::prelude::*;

/// A contiguous f32 matrix.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    tensor: FlexTensor,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Matrix {
    /// A matrix out of a tensor of rank 2; copies only when the tensor is a view.
    pub(crate) fn new(tensor: FlexTensor) -> Self {
        let shape = tensor.layout().shape().clone();
        assert_eq!(shape.num_dims(), 2, "a matrix was expected, not a tensor of shape {shape:?}");
        assert_eq!(tensor.dtype(), DType::F32, "the CPU backend computes in float32");
        let whole = tensor.is_contiguous()
            && tensor.layout().start_offset() == 0
            && tensor.bytes().len() == shape.num_elements() * size_of::<f32>();
        let tensor = if whole { tensor } else { tensor.to_contiguous() };
        Self { tensor, rows: shape[0], columns: shape[1] }
    }

    /// A matrix that takes over `values`, row by row.
    pub(crate) fn from_vec(values: Vec<f32>, rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "{rows} x {columns} values");
        let layout = Layout::contiguous(Shape::from(vec![rows, columns]));
        Self { tensor: FlexTensor::new(Bytes::from_elems(values), layout, DType::F32), rows, columns }
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.tensor.storage()
    }

    /// The values for writing: in place when nothing else holds this memory, else on a copy.
    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        self.tensor.storage_mut()
    }

    pub(crate) fn into_tensor(self) -> FlexTensor {
        self.tensor
    }
}

/// Values that one task copies.
const COPIED: usize = 1 << 16;

/// Adds values to others; many of them on all threads, which also share the work of bringing fresh pages in.
pub(crate) fn append(values: &[f32], into: &mut Vec<f32>) {
    let before = into.len();
    into.reserve(values.len());
    let room = &mut into.spare_capacity_mut()[..values.len()];
    room.par_chunks_mut(COPIED).zip(values.par_chunks(COPIED)).for_each(|(room, values)| {
        room.write_copy_of_slice(values);
    });
    // SAFETY: so many values have been written behind those that were there.
    unsafe { into.set_len(before + values.len()) };
}

/// Rows (matrix, row) of several matrices of the same width, in this order.
pub(crate) fn collect_rows(sources: &[&[f32]], width: usize, rows: &[(u32, u32)]) -> Matrix {
    assert!(width > 0, "rows of at least one value");
    let mut values = uninitialized(rows.len() * width);
    let count = COPIED.div_ceil(width);
    values.par_chunks_mut(count * width).zip(rows.par_chunks(count)).for_each(|(values, rows)| {
        for (values, &(source, row)) in values.chunks_exact_mut(width).zip(rows) {
            let from = row as usize * width;
            values.copy_from_slice(&sources[source as usize][from..from + width]);
        }
    });
    Matrix::from_vec(values, rows.len(), width)
}

/// Memory for `len` values that the caller overwrites before reading; fresh pages are not cleared twice.
#[allow(clippy::uninit_vec)]
pub(crate) fn uninitialized(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: every bit pattern is an f32, and each kernel writes all values before it reads any.
    unsafe { values.set_len(len) };
    values
}

/// A strided view of a matrix operand: element (i, j) is at `pointer + i * row + j * column`.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub(crate) pointer: *const f32,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl View {
    /// Rows of length `stride` beginning at `values[offset]`.
    pub(crate) fn rows(values: &[f32], offset: usize, stride: usize) -> Self {
        Self { pointer: values[offset..].as_ptr(), row: stride, column: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }
}

/// `target = keep * target + scale * left * right`, with `[m, k] x [k, n]`; rows of `target` are `stride` apart.
///
/// # Safety
/// The views and the target must lie inside their allocations for these sizes, and nothing else may write the target meanwhile.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn product(
    (m, n, k): (usize, usize, usize),
    target: *mut f32,
    stride: usize,
    keep: bool,
    left: View,
    right: View,
    scale: f32,
    parallelism: Parallelism,
) {
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target,
            1,
            stride as isize,
            keep,
            left.pointer,
            left.column as isize,
            left.row as isize,
            right.pointer,
            right.column as isize,
            right.row as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Threads for one product: all of them above the size at which starting them pays.
pub(crate) fn parallelism(m: usize, n: usize, k: usize) -> Parallelism {
    if m * n * k >= 96 * 96 * 96 { Parallelism::Rayon(0) } else { Parallelism::None }
}

/// A pointer that tasks share; each writes a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared(pub(crate) *mut f32);

// SAFETY: kernels hand disjoint parts of the memory to the tasks that share the pointer.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: offsets come from the same plan as the allocation's size.
        unsafe { self.0.add(offset) }
    }
}
