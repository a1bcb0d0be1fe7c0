//! The gated unit, and its gradient in one pass over memory.

use super::{across, address, element, empty, kernels};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::*;

/// The operations as burn dispatches them. `gate_up` `[rows, 2 width]`, `upstream` `[rows, width]`; results `[rows, width]`, and as `gate_up`.
#[backend_extension(Cube, Autodiff, Fusion: cfg(feature = "fusion"))]
pub(crate) trait GateOps: Backend {
    #[fusion(dtype = gate_up, shape = Shape::new([gate_up[0], gate_up[1] / 2]))]
    fn gate_rows(gate_up: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = gate_up, shape = gate_up)]
    fn gate_rows_back(gate_up: FloatTensor<Self>, upstream: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl GateOps for CubeBackend {
    fn gate_rows(gate_up: CubeTensor) -> CubeTensor {
        let gate_up = into_contiguous(gate_up);
        let [rows, width] = [gate_up.shape()[0], gate_up.shape()[1] / 2];
        let output = empty(&gate_up, Shape::new([rows, width]));
        let (client, kind, lanes) = (gate_up.client.clone(), element(&gate_up), across(width));
        let count = rows * width / lanes;
        let cube = CubeDim::new(&client, count);
        let address = address(&[&gate_up]);
        // SAFETY: a vector of the result for each unit below `count`
        unsafe {
            kernels::rows::gate::launch_unchecked(
                &client,
                cubecl::calculate_cube_count_elemwise(&client, count, cube),
                cube,
                address,
                lanes,
                gate_up.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                count,
                width / lanes,
                kind,
            );
        }
        output
    }

    fn gate_rows_back(gate_up: CubeTensor, upstream: CubeTensor) -> CubeTensor {
        let (gate_up, upstream) = (into_contiguous(gate_up), into_contiguous(upstream));
        let [rows, width] = [gate_up.shape()[0], gate_up.shape()[1] / 2];
        let output = empty(&gate_up, gate_up.shape());
        let (client, kind, lanes) = (gate_up.client.clone(), element(&gate_up), across(width));
        let count = rows * width / lanes;
        let cube = CubeDim::new(&client, count);
        let address = address(&[&gate_up]);
        // SAFETY: a vector of `upstream` for each unit below `count`, and two of the result
        unsafe {
            kernels::rows::gate_back::launch_unchecked(
                &client,
                cubecl::calculate_cube_count_elemwise(&client, count, cube),
                cube,
                address,
                lanes,
                gate_up.into_tensor_arg(),
                upstream.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                count,
                width / lanes,
                kind,
            );
        }
        output
    }
}

#[derive(Debug)]
struct Gated;

impl<B: GateOps> Backward<B, 1> for Gated {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, gradients, |upstream| B::gate_rows_back(ops.state, upstream));
    }
}

impl<B: GateOps, C: CheckpointStrategy> GateOps for Autodiff<B, C> {
    fn gate_rows(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        match Gated.prepare::<C>([gate_up.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let gate_up = gate_up.into_primitive();
                prepared.finish(gate_up.clone(), B::gate_rows(gate_up))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::gate_rows(gate_up.into_primitive())),
        }
    }

    fn gate_rows_back(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("a gradient of a gradient")
    }
}

/// See [`crate::swiglu`].
pub(crate) fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::gate_rows(gate_up.into_dispatch()))
}
