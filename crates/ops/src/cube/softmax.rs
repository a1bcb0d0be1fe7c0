//! The softmax of an attention, over scores in two matrices: against a group's prefix, and against a response's own tokens.
//!
//! Composed, scores were masked, put together, normalized, and taken apart again: some fourteen passes over the largest thing there is.

use super::{address, element, kernels};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Int, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::*;

/// The scores of a batch. Without a prefix, `before` is anything, and its result a single number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scores {
    pub(super) groups: usize,
    pub(super) heads: usize,
    pub(super) responses: usize,
    pub(super) tokens: usize,
    /// 0 without a prefix.
    pub(super) prefix_tokens: usize,
    pub(super) scale: f32,
    /// Of the weights.
    pub(super) dtype: DType,
}

impl Scores {
    fn rows(&self) -> usize {
        self.groups * self.heads * self.responses * self.tokens
    }

    /// Units for a row.
    fn units(&self) -> usize {
        (self.prefix_tokens + self.tokens).next_power_of_two().clamp(32, 128)
    }

    /// The shape of a result for the prefix's scores.
    fn before(&self, of: &Shape) -> Shape {
        if self.prefix_tokens > 0 { of.clone() } else { Shape::new([1]) }
    }
}

/// The operations as burn dispatches them: weights from scores, and scores' gradients (float32) from weights and their gradients.
#[backend_extension(Cube, Fusion: cfg(feature = "fusion"))]
pub(crate) trait SoftmaxOps: Backend {
    #[fusion(meta = |before: &Spec, behind: &Spec, _: &Spec, _: &Spec, scores: &Scores| {
        (Spec::new(scores.before(&before.shape), scores.dtype), Spec::new(behind.shape.clone(), scores.dtype))
    })]
    fn weigh(
        before: FloatTensor<Self>,
        behind: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        visible: IntTensor<Self>,
        scores: Scores,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(meta = |before: &Spec, behind: &Spec, _: &Spec, _: &Spec, _: &Spec, _: &Spec, scores: &Scores| {
        (Spec::new(scores.before(&before.shape), DType::F32), Spec::new(behind.shape.clone(), DType::F32))
    })]
    fn weigh_back(
        before: FloatTensor<Self>,
        behind: FloatTensor<Self>,
        of_before: FloatTensor<Self>,
        of_behind: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        visible: IntTensor<Self>,
        scores: Scores,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec as Spec;

impl SoftmaxOps for CubeBackend {
    fn weigh(
        before: CubeTensor,
        behind: CubeTensor,
        lengths: CubeTensor,
        visible: CubeTensor,
        scores: Scores,
    ) -> (CubeTensor, CubeTensor) {
        let (before, behind) = (into_contiguous(before), into_contiguous(behind));
        let (client, device) = (behind.client.clone(), behind.device.clone());
        let empty = |shape| empty_device_contiguous_dtype(client.clone(), device.clone(), shape, scores.dtype);
        let (to_before, to_behind) = (empty(scores.before(&before.shape())), empty(behind.shape()));
        let types = [element(&to_behind), element(&visible)];
        let address = address(&[&before, &behind]);
        // SAFETY: a row of scores, and of results, for each cube below the number of rows
        unsafe {
            kernels::softmax::softmax::launch_unchecked(
                &client,
                cubecl::calculate_cube_count_elemwise(&client, scores.rows(), CubeDim::new_1d(1)),
                CubeDim::new_1d(scores.units() as u32),
                address,
                before.into_tensor_arg(),
                behind.into_tensor_arg(),
                lengths.into_tensor_arg(),
                visible.into_tensor_arg(),
                to_before.clone().into_tensor_arg(),
                to_behind.clone().into_tensor_arg(),
                scores.rows(),
                scores.heads,
                scores.responses,
                scores.tokens,
                scores.prefix_tokens,
                scores.scale,
                scores.units(),
                scores.prefix_tokens > 0,
                types,
            );
        }
        (to_before, to_behind)
    }

    fn weigh_back(
        before: CubeTensor,
        behind: CubeTensor,
        of_before: CubeTensor,
        of_behind: CubeTensor,
        lengths: CubeTensor,
        visible: CubeTensor,
        scores: Scores,
    ) -> (CubeTensor, CubeTensor) {
        let [before, behind, of_before, of_behind] = [before, behind, of_before, of_behind].map(into_contiguous);
        let (client, device) = (behind.client.clone(), behind.device.clone());
        let empty = |shape| empty_device_contiguous_dtype(client.clone(), device.clone(), shape, DType::F32);
        let (to_before, to_behind) = (empty(scores.before(&before.shape())), empty(behind.shape()));
        let types = [element(&behind), element(&visible)];
        let address = address(&[&to_before, &to_behind]);
        // SAFETY: as above
        unsafe {
            kernels::softmax::softmax_back::launch_unchecked(
                &client,
                cubecl::calculate_cube_count_elemwise(&client, scores.rows(), CubeDim::new_1d(1)),
                CubeDim::new_1d(scores.units() as u32),
                address,
                before.into_tensor_arg(),
                behind.into_tensor_arg(),
                of_before.into_tensor_arg(),
                of_behind.into_tensor_arg(),
                lengths.into_tensor_arg(),
                visible.into_tensor_arg(),
                to_before.clone().into_tensor_arg(),
                to_behind.clone().into_tensor_arg(),
                scores.rows(),
                scores.heads,
                scores.responses,
                scores.tokens,
                scores.prefix_tokens,
                scores.scale,
                scores.units(),
                scores.prefix_tokens > 0,
                types,
            );
        }
        (to_before, to_behind)
    }
}

/// Weights from scores (float32) against the prefix and against own tokens; shapes: [`kernels::softmax::softmax`], with heads and what stands beside
/// them split or not.
pub(super) fn weigh(
    [before, behind]: [Tensor<4>; 2],
    [lengths, visible]: [Tensor<1, Int>; 2],
    scores: Scores,
) -> [Tensor<4>; 2] {
    let (before, behind) = (before.into_dispatch(), behind.into_dispatch());
    let (lengths, visible) = (lengths.into_dispatch(), visible.into_dispatch());
    let (before, behind) = Dispatch::weigh(before, behind, lengths, visible, scores);
    [before, behind].map(Tensor::from_dispatch)
}

/// The scores' gradients, in float32, from weights and their gradients.
pub(super) fn weigh_back(
    weights: [Tensor<4>; 2],
    gradients: [Tensor<4>; 2],
    [lengths, visible]: [Tensor<1, Int>; 2],
    scores: Scores,
) -> [Tensor<4>; 2] {
    let ([before, behind], [of_before, of_behind]) =
        (weights.map(Tensor::into_dispatch), gradients.map(Tensor::into_dispatch));
    let (lengths, visible) = (lengths.into_dispatch(), visible.into_dispatch());
    let (before, behind) = Dispatch::weigh_back(before, behind, of_before, of_behind, lengths, visible, scores);
    [before, behind].map(Tensor::from_dispatch)
}
