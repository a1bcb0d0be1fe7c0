//! The functions of this crate composed from burn's operations, for every backend and as the yardstick of the fused kernels.
//!
//! Made for accelerators: rows that belong together are padded into a few batches of bucketed lengths ([`padded`]), so that a layer is
//! some tens of launches whatever the number of prompts and responses, and kernels are compiled and tuned for a few shapes only.
//!
//! Tensors may be float32, bfloat16 or float16. Nothing is promoted by burn: a weight of another type is cast to its input's here;
//! what is not a product of matrices is computed in float32, and so are the scores of an attention.

mod attention;
mod cache;
mod padded;
mod product;
mod tiles;

pub(crate) use attention::Layout;
#[cfg(all(feature = "cube", feature = "kernels"))]
pub(crate) use attention::{Plain, Prefixed};
pub use attention::{attention, attention_gradient};
pub(crate) use cache::Cache;
#[cfg(all(feature = "cube", feature = "kernels"))]
pub(crate) use padded::bucket;
pub use product::product;
pub use tiles::MOST_SCORES;
pub(crate) use tiles::Tile;

use crate::{RotaryTable, Row, RowKeys, keys};
use burn::tensor::activation::{log_softmax, sigmoid};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use std::sync::Arc;

/// Cosines and sines on a device, each `[tokens, 1, half]`.
pub(crate) type Angles = [Tensor<3>; 2];

/// Instead of minus infinity, which shading languages need not support.
const HIDDEN: f32 = -1e30;

/// The tensor in another floating-point type; itself when it has that type.
pub fn cast<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}

/// The matrix with the strides of its shape, where it has one row or one column.
///
/// A dimension of one may have any stride, and a gradient's often has 1 in place of the row's length. With such a tensor among its inputs,
/// burn-cubecl-fusion 0.22.1 makes kernels that read it number by number and write the result in vectors of four: a fourth of the
/// result is written twice, and half of it never.
pub fn row_major(x: Tensor<2>) -> Tensor<2> {
    let shape = x.dims();
    if shape.contains(&1) { x.reshape([shape[0] * shape[1]]).reshape(shape) } else { x }
}

/// Rows of a matrix by index. Unlike with `select`, the gradient's sums run in parallel where the device adds atomically, which it does
/// in float32.
fn rows_of(x: Tensor<2>, index: Tensor<1, Int>) -> Tensor<2> {
    let ([n], [_, columns], dtype) = (index.dims(), x.dims(), x.dtype());
    let x = if x.is_tracked() { cast(x, DType::F32) } else { x };
    cast(x.gather(0, index.reshape([n, 1]).expand([n, columns])), dtype)
}

/// Which rows of a matrix stand where in another, each at most once.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    index: Tensor<1, Int>,
    /// Where each row goes, -1 for nowhere: for the kernel, for which the index is -1 where no row stands.
    back: Option<Tensor<1, Int>>,
}

impl Places {
    /// `index`: of `rows` rows; where there is none, padding stands.
    fn new(index: &[Option<u32>], rows: usize, device: &Device) -> Self {
        let on_device = |values: Vec<i32>| {
            let length = values.len();
            Tensor::from_data(TensorData::new(values, [length]), &device.clone().without_autodiff())
        };
        let padding = if has_kernels(device) { -1 } else { 0 };
        let values = index.iter().map(|row| row.map_or(padding, |row| row as i32)).collect();
        let back = has_kernels(device).then(|| {
            let mut back = vec![-1; rows];
            for (place, row) in index.iter().enumerate().filter_map(|(place, row)| row.map(|row| (place, row))) {
                assert_eq!(back[row as usize], -1, "row {row} stands in one place");
                back[row as usize] = place as i32;
            }
            on_device(back)
        });
        Self { index: on_device(values), back }
    }

    /// Whether the other matrix, and what goes back, are made by the kernel.
    #[cfg(all(feature = "cube", feature = "kernels"))]
    fn has_kernel(&self) -> bool {
        self.back.is_some()
    }

    /// The first matrix's rows from the other's, by the kernel; zeros where a row stands nowhere.
    #[cfg(all(feature = "cube", feature = "kernels"))]
    pub(crate) fn back(&self, rows: Tensor<2>) -> Tensor<2> {
        let back = self.back.clone().expect("the kernel's index");
        crate::cube::take(rows, back, self.index.clone())
    }

    /// The other matrix.
    pub(crate) fn of(&self, rows: Tensor<2>) -> Tensor<2> {
        match &self.back {
            #[cfg(all(feature = "cube", feature = "kernels"))]
            Some(back) => crate::cube::take(rows, self.index.clone(), back.clone()),
            _ => rows_of(rows, self.index.clone()),
        }
    }
}

fn has_kernels(device: &Device) -> bool {
    #[cfg(all(feature = "cube", feature = "kernels"))]
    return crate::cube::serves(device);
    #[cfg(not(all(feature = "cube", feature = "kernels")))]
    {
        let _ = device;
        false
    }
}

fn indices(values: Vec<u32>, device: &Device) -> Tensor<1, Int> {
    let length = values.len();
    let values: Vec<i32> = values.into_iter().map(|value| value as i32).collect();
    Tensor::from_data(TensorData::new(values, [length]), &device.clone().without_autodiff())
}

/// See [`crate::linear`]. The result has the residual's type, or the input's where there is none.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<2>>, residual: Option<Tensor<2>>) -> Tensor<2> {
    let dtype = x.dtype();
    let mut y = product(x, cast(weight, dtype).transpose());
    if let Some(bias) = bias {
        y = y + cast(bias, dtype);
    }
    if let Some(residual) = residual {
        y = cast(y, residual.dtype()) + residual;
    }
    y
}

/// See [`crate::rms_norm`].
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<2>, epsilon: f32) -> Tensor<2> {
    let dtype = x.dtype();
    let x = cast(x, DType::F32);
    let mean = (x.clone() * x.clone()).mean_dim(1);
    cast(x / mean.add_scalar(epsilon).sqrt(), dtype) * cast(gamma, dtype)
}

/// See [`crate::swiglu`].
pub fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    let (width, dtype) = (gate_up.dims()[1] / 2, gate_up.dtype());
    let gate_up = cast(gate_up, DType::F32);
    let gate = gate_up.clone().narrow(1, 0, width);
    cast(gate.clone() * sigmoid(gate) * gate_up.narrow(1, width, width), dtype)
}

/// See [`crate::dropout`].
pub fn dropout(x: Tensor<2>, rows: &RowKeys, map: u64, rate: f64) -> Tensor<2> {
    let ([n, width], dtype, device) = (x.dims(), x.dtype(), x.device());
    assert_eq!(rows.keys.len(), n, "a key for each row");
    let ints = |values: Vec<i32>, shape: [usize; 2], device: &Device| -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(values, shape), device)
    };
    let row =
        rows.uploaded.get(&device, |device| ints(rows.keys.iter().map(|&key| key as i32).collect(), [n, 1], device));
    let column = keys::columns(map, width).map(|key| key as i32).collect();
    let column = ints(column, [1, width], &device.without_autodiff());
    let round = |mixed: Tensor<2, Int>, bits: i32, high: u32, low: u32| {
        let low = mixed.clone().bitwise_and_scalar((1 << bits) - 1).mul_scalar(low as i32);
        mixed.bitwise_right_shift_scalar(bits).mul_scalar(high as i32).bitwise_xor(low)
    };
    let [a, b, c, d] = keys::FACTORS;
    let mixed = row.expand([n, width]).bitwise_xor(column.expand([n, width]));
    let mixed = round(round(mixed, 16, a, b), 15, c, d);
    let mixed = mixed.bitwise_right_shift_scalar(8).bitwise_and_scalar(keys::PARTS as i32 - 1);
    let (threshold, scale) = keys::threshold(rate);
    let kept = cast(x, DType::F32).mul_scalar(scale).mask_fill(mixed.lower_elem(threshold as i32), 0.0);
    cast(kept, dtype)
}

/// See [`crate::gelu`].
///
/// By the error function: on all backends but the CPU's, the derivative of burn's `gelu` is that of an approximation by tanh, and off by
/// up to 8e-4 (burn-backend 0.22.1, `gelu_backward`).
pub fn gelu(x: Tensor<2>) -> Tensor<2> {
    let dtype = x.dtype();
    let x = cast(x, DType::F32);
    let area = x.clone().mul_scalar(std::f32::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0);
    cast(x * area.mul_scalar(0.5), dtype)
}

/// The table on a device.
pub(crate) fn angles(table: &RotaryTable, device: &Device) -> Angles {
    table.uploaded.get(device, |device| {
        [&table.cos, &table.sin]
            .map(|values| Tensor::from_data(TensorData::new(values.clone(), [table.len(), 1, table.half]), device))
    })
}

/// See [`crate::rotate`].
pub fn rotate(packed: Tensor<2>, table: &Arc<RotaryTable>, heads: usize) -> Tensor<2> {
    let ([n, width], half) = (packed.dims(), table.half);
    let dtype = packed.dtype();
    let [cos, sin] = angles(table, &packed.device());
    let turned = cast(packed.clone().narrow(1, 0, heads * 2 * half), DType::F32).reshape([n, heads, 2 * half]);
    let (a, b) = (turned.clone().narrow(2, 0, half), turned.narrow(2, half, half));
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    let second = b * cos + a * sin;
    let turned = cast(Tensor::cat(vec![first, second], 2).reshape([n, heads * 2 * half]), dtype);
    if heads * 2 * half == width {
        return turned;
    }
    let rest = packed.narrow(1, heads * 2 * half, width - heads * 2 * half);
    Tensor::cat(vec![turned, rest], 1)
}

/// See [`crate::gather`]. The result has the table's type.
pub fn gather(table: Tensor<2>, features: Option<Tensor<2>>, rows: &Arc<[Row]>) -> Tensor<2> {
    let device = table.device();
    let dtype = table.dtype();
    let select = |source: Tensor<2>, index: &dyn Fn(&Row) -> u32| {
        rows_of(source, indices(rows.iter().map(index).collect(), &device))
    };
    let from_table = select(table, &|row| if let Row::Table(at) = row { *at } else { 0 });
    let Some(features) = features else { return from_table };
    let from_features = select(cast(features, dtype), &|row| if let Row::Feature(at) = row { *at } else { 0 });
    let is_feature: Vec<bool> = rows.iter().map(|row| matches!(row, Row::Feature(_))).collect();
    let is_feature = Tensor::<2, Bool>::from_data(TensorData::new(is_feature, [rows.len(), 1]), &device);
    let shape = from_table.dims();
    from_table.mask_where(is_feature.expand(shape), from_features)
}

/// See [`crate::token_log_probs`]. Both matrices are float32: rounded to bfloat16, a logit of 5 would be off by 0.02.
pub fn token_log_probs(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: &Arc<[u32]>,
    temperature: f32,
    entropy: bool,
) -> Tensor<2> {
    const ROWS: usize = 256;
    let n = hidden.dims()[0];
    let device = hidden.device();
    let head = head.transpose();
    let blocks = (0..n).step_by(ROWS).map(|from| {
        let rows = ROWS.min(n - from);
        let logits = product(hidden.clone().narrow(0, from, rows), head.clone());
        let log_probs = log_softmax(logits.div_scalar(temperature), 1);
        let ids = indices(targets[from..from + rows].to_vec(), &device).reshape([rows, 1]);
        let chosen = log_probs.clone().gather(1, ids);
        if !entropy {
            return chosen;
        }
        let entropy = (log_probs.clone().exp() * log_probs).sum_dim(1).neg();
        Tensor::cat(vec![chosen, entropy], 1)
    });
    Tensor::cat(blocks.collect(), 0)
}
