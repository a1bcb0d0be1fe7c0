//! Rotary position embedding in place, and its gradient, which is the rotation back.

use super::{across, address, element, kernels};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, cubecl};
use cubecl::prelude::*;

/// How rows are turned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    rows: usize,
    /// Numbers of a row.
    width: usize,
    /// Heads that are turned, from the first one on, and half the width of each.
    heads: usize,
    half: usize,
    /// -1 turns back.
    sign: f32,
}

/// The operation as burn dispatches it. `packed` `[rows, width]`, `cos` and `sin` `[rows, 1, half]`; result as `packed`.
#[backend_extension(Cube, Autodiff, Fusion: cfg(feature = "fusion"))]
pub(crate) trait RotateOps: Backend {
    #[fusion(dtype = packed, shape = packed)]
    fn rotate_heads(
        packed: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        turn: Turn,
    ) -> FloatTensor<Self>;
}

impl RotateOps for CubeBackend {
    fn rotate_heads(packed: CubeTensor, cos: CubeTensor, sin: CubeTensor, turn: Turn) -> CubeTensor {
        let packed = into_contiguous(packed);
        let packed = if packed.can_mut() { packed } else { into_contiguous(packed.copy()) };
        let (cos, sin) = (into_contiguous(cos), into_contiguous(sin));
        let Turn { rows, width, heads, half, sign } = turn;
        let lanes = if width.is_multiple_of(kernels::LANES) { across(half) } else { 1 };
        let count = rows * heads * half / lanes;
        let client = packed.client.clone();
        let cube = CubeDim::new(&client, count);
        let kind = element(&packed);
        // SAFETY: a unit below `count` reads and writes two vectors of a row, of which no other unit writes any
        unsafe {
            kernels::rows::rotate::launch_unchecked(
                &client,
                cubecl::calculate_cube_count_elemwise(&client, count, cube),
                cube,
                address(&[&packed]),
                lanes,
                packed.clone().into_tensor_arg(),
                cos.into_tensor_arg(),
                sin.into_tensor_arg(),
                count,
                width / lanes,
                heads,
                half / lanes,
                sign,
                kind,
            );
        }
        packed
    }
}

#[derive(Debug)]
struct Turned;

impl<B: RotateOps> Backward<B, 1> for Turned {
    type State = (FloatTensor<B>, FloatTensor<B>, Turn);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (cos, sin, turn) = ops.state;
        let back = Turn { sign: -turn.sign, ..turn };
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| B::rotate_heads(gradient, cos, sin, back));
    }
}

impl<B: RotateOps, C: CheckpointStrategy> RotateOps for Autodiff<B, C> {
    fn rotate_heads(
        packed: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        turn: Turn,
    ) -> FloatTensor<Self> {
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        match Turned.prepare::<C>([packed.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let state = (cos.clone(), sin.clone(), turn);
                prepared.finish(state, B::rotate_heads(packed.into_primitive(), cos, sin, turn))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::rotate_heads(packed.into_primitive(), cos, sin, turn)),
        }
    }
}

/// See [`crate::rotate`].
pub(crate) fn rotate(packed: Tensor<2>, [cos, sin]: [Tensor<3>; 2], heads: usize) -> Tensor<2> {
    let ([rows, width], [_, _, half]) = (packed.dims(), cos.dims());
    let turn = Turn { rows, width, heads, half, sign: 1.0 };
    let (packed, cos, sin) = (packed.into_dispatch(), cos.into_dispatch(), sin.into_dispatch());
    Tensor::from_dispatch(Dispatch::rotate_heads(packed, cos, sin, turn))
}
