//! Rows by an index that names each at most once, so that the gradient is rows by index, too.
//!
//! The gradient of burn's `gather` adds: in 16 bits, where devices have no atomic addition, one row after the other.

use super::{across, address, element, empty, kernels};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Int, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::*;

/// The operation as burn dispatches it. `rows` `[m, width]`, `index` `[n]`, `back` `[m]`: where each row goes; result `[n, width]`.
#[backend_extension(Cube, Autodiff, Fusion: cfg(feature = "fusion"))]
pub(crate) trait TakeOps: Backend {
    #[fusion(dtype = rows, shape = Shape::new([index[0], rows[1]]))]
    fn take_rows(rows: FloatTensor<Self>, index: IntTensor<Self>, back: IntTensor<Self>) -> FloatTensor<Self>;
}

impl TakeOps for CubeBackend {
    fn take_rows(rows: CubeTensor, index: CubeTensor, _: CubeTensor) -> CubeTensor {
        let rows = into_contiguous(rows);
        let [length, width] = [index.shape()[0], rows.shape()[1]];
        let output = empty(&rows, Shape::new([length, width]));
        let (client, lanes) = (rows.client.clone(), across(width));
        let types = [element(&rows), element(&index)];
        let count = length * width / lanes;
        let cube = CubeDim::new(&client, count);
        let address = address(&[&rows, &output]);
        // SAFETY: a vector of the result for each unit below `count`; the index names rows that there are
        unsafe {
            kernels::rows::take::launch_unchecked(
                &client,
                cubecl::calculate_cube_count_elemwise(&client, count, cube),
                cube,
                address,
                lanes,
                rows.into_tensor_arg(),
                index.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                count,
                width / lanes,
                types,
            );
        }
        output
    }
}

#[derive(Debug)]
struct Taken;

impl<B: TakeOps> Backward<B, 1> for Taken {
    type State = [IntTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [index, back] = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |upstream| B::take_rows(upstream, back, index));
    }
}

impl<B: TakeOps, C: CheckpointStrategy> TakeOps for Autodiff<B, C> {
    fn take_rows(rows: FloatTensor<Self>, index: IntTensor<Self>, back: IntTensor<Self>) -> FloatTensor<Self> {
        match Taken.prepare::<C>([rows.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let state = [index.clone(), back.clone()];
                prepared.finish(state, B::take_rows(rows.into_primitive(), index, back))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::take_rows(rows.into_primitive(), index, back)),
        }
    }
}

/// Rows by index; zeros where it is below 0.
pub(crate) fn take(rows: Tensor<2>, index: Tensor<1, Int>, back: Tensor<1, Int>) -> Tensor<2> {
    let (rows, index, back) = (rows.into_dispatch(), index.into_dispatch(), back.into_dispatch());
    Tensor::from_dispatch(Dispatch::take_rows(rows, index, back))
}
