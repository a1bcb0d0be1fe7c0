//! Sums over tokens, and the way from packed tokens to padded rows.

use crate::{Row, gather};
use burn::tensor::{Bool, Tensor, TensorData};
use std::sync::Arc;

/// Sum of `values * weights` where the weight is not 0; values at weight 0 do not count, whatever they are.
///
/// # Shapes
/// Both `[rows, tokens]`; result `[1]`.
pub fn masked_sum(values: Tensor<2>, weights: Tensor<2>) -> Tensor<1> {
    let ignored = weights.clone().equal_scalar(0.0);
    (values.mask_fill(ignored, 0.0) * weights).sum()
}

/// Packed responses as padded rows, zeros behind each response.
///
/// # Shapes
/// `packed` `[sum of lengths, 1]`, one `lengths` entry a row; result `[lengths.len(), tokens]`.
pub fn pad_rows(packed: Tensor<2>, lengths: &[usize], tokens: usize) -> Tensor<2> {
    let device = packed.device();
    let mut rows = Vec::with_capacity(lengths.len() * tokens);
    let mut padding = Vec::with_capacity(lengths.len() * tokens);
    let mut from = 0;
    for &length in lengths {
        assert!(length <= tokens, "a response of {length} tokens in rows of {tokens}");
        rows.extend((0..tokens).map(|t| Row::Table(if t < length { (from + t) as u32 } else { 0 })));
        padding.extend((0..tokens).map(|t| t >= length));
        from += length;
    }
    assert_eq!(from, packed.dims()[0], "packed tokens of the responses");
    let rows: Arc<[Row]> = rows.into();
    let shape = [lengths.len(), tokens];
    let padding = Tensor::<2, Bool>::from_data(TensorData::new(padding, shape), &device);
    gather(packed, None, &rows).reshape(shape).mask_fill(padding, 0.0)
}
