//! What is done to each row by itself: rotation, the gated unit, and rows by index.

use cubecl::prelude::*;

/// Turns `a` and `b`, which lie half a head apart. A unit for each vector of such pairs.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(in crate::cube) fn rotate<E: Float, N: Size>(
    packed: &mut Tensor<Vector<E, N>>,
    cos: &Tensor<Vector<f32, N>>,
    sin: &Tensor<Vector<f32, N>>,
    count: usize,
    row_vectors: usize,
    heads: usize,
    half_vectors: usize,
    sign: f32,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let (head, d) = (ABSOLUTE_POS / half_vectors, ABSOLUTE_POS % half_vectors);
    let (row, head) = (head / heads, head % heads);
    let at = row * row_vectors + head * 2 * half_vectors + d;
    let (a, b) = (Vector::<f32, N>::cast_from(packed[at]), Vector::<f32, N>::cast_from(packed[at + half_vectors]));
    let cos = cos[row * half_vectors + d];
    let sin = sin[row * half_vectors + d] * Vector::new(sign);
    packed[at] = Vector::cast_from(a * cos - b * sin);
    packed[at + half_vectors] = Vector::cast_from(b * cos + a * sin);
}

/// `silu(gate) up`. A unit for each vector of the result.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(in crate::cube) fn gate<E: Float, N: Size>(
    gate_up: &Tensor<Vector<E, N>>,
    output: &mut Tensor<Vector<E, N>>,
    count: usize,
    row_vectors: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let at = ABSOLUTE_POS / row_vectors * 2 * row_vectors + ABSOLUTE_POS % row_vectors;
    let gate = Vector::<f32, N>::cast_from(gate_up[at]);
    let up = Vector::<f32, N>::cast_from(gate_up[at + row_vectors]);
    output[ABSOLUTE_POS] = Vector::cast_from(gate * sigmoid::<N>(gate) * up);
}

/// The gradient of [`gate`] with respect to `gate_up`. A unit for each vector of `upstream`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(in crate::cube) fn gate_back<E: Float, N: Size>(
    gate_up: &Tensor<Vector<E, N>>,
    upstream: &Tensor<Vector<E, N>>,
    output: &mut Tensor<Vector<E, N>>,
    count: usize,
    row_vectors: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let at = ABSOLUTE_POS / row_vectors * 2 * row_vectors + ABSOLUTE_POS % row_vectors;
    let gate = Vector::<f32, N>::cast_from(gate_up[at]);
    let up = Vector::<f32, N>::cast_from(gate_up[at + row_vectors]);
    let upstream = Vector::<f32, N>::cast_from(upstream[ABSOLUTE_POS]);
    let open = sigmoid::<N>(gate);
    let one = Vector::<f32, N>::new(1.0f32);
    output[at] = Vector::cast_from(upstream * up * open * (one + gate * (one - open)));
    output[at + row_vectors] = Vector::cast_from(upstream * gate * open);
}

/// `1 / (1 + exp(-x))`, whose exponential stays finite.
#[cube]
fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0f32);
    let exponent = min(Vector::new(0.0f32) - x, Vector::new(80.0f32));
    one / (one + exponent.exp())
}

/// Rows by index; zeros where it is below 0. A unit for each vector of the result.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(in crate::cube) fn take<E: Numeric, I: Int, N: Size>(
    rows: &Tensor<Vector<E, N>>,
    index: &Tensor<I>,
    output: &mut Tensor<Vector<E, N>>,
    count: usize,
    row_vectors: usize,
    #[define(E, I)] _types: [ElemType; 2],
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let row = i32::cast_from(index[ABSOLUTE_POS / row_vectors]);
    let mut value = Vector::<E, N>::new(E::from_int(0));
    if row >= 0 {
        value = rows[row as usize * row_vectors + ABSOLUTE_POS % row_vectors];
    }
    output[ABSOLUTE_POS] = value;
}
