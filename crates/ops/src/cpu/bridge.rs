//! How a fused operation enters burn's automatic differentiation.
//!
//! burn dispatches a tensor operation on the backend at run time; an operation of our own joins through its extension mechanism,
//! which generates the dispatch from the trait below. The operation itself is a value ([`Kernel`]) that is handed along.

use super::matrix::Matrix;
use burn::backend::{
    Autodiff, Backend as BurnBackend, Dispatch, Flex,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    tensor::FloatTensor,
};
use burn::tensor::Tensor;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

/// A fused operation of N matrices with one matrix as its result.
pub(crate) trait Kernel<const N: usize>: Debug + Send + Sync {
    /// Which inputs the backward pass reads; the memory of the others is not held.
    fn keeps(&self) -> [bool; N];

    /// Whether the backward pass reads the result.
    fn keeps_output(&self) -> bool {
        false
    }

    /// The result, and numbers to hand to the backward pass (for example the logarithm of a softmax's denominator).
    fn forward(&self, inputs: [Matrix; N], tracked: bool) -> (Matrix, Vec<f32>);

    /// The inputs' gradients, of those that are `wanted`.
    fn backward(&self, saved: Saved<N>, gradient: Matrix, wanted: [bool; N]) -> [Option<Matrix>; N];
}

/// What the forward pass left for the backward pass.
#[derive(Clone, Debug)]
pub(crate) struct Saved<const N: usize> {
    pub(crate) inputs: [Option<Matrix>; N],
    pub(crate) output: Option<Matrix>,
    pub(crate) numbers: Arc<Vec<f32>>,
}

impl<const N: usize> Saved<N> {
    /// An input named in `keeps`.
    pub(crate) fn input(&self, index: usize) -> &Matrix {
        self.inputs[index].as_ref().expect("the kernel keeps this input")
    }
}

/// A kernel's result that was computed before: the forward pass gives it, once, and the backward pass is as ever.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Option<Matrix>>);

impl Known {
    pub(crate) fn new(result: Option<Matrix>) -> Self {
        Self(Mutex::new(result))
    }

    /// The result, of this shape.
    pub(crate) fn take(&self, shape: [usize; 2]) -> Option<Matrix> {
        let result = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.inspect(|result| assert_eq!([result.rows, result.columns], shape, "a result that was computed before"))
    }
}

type Arc1 = Arc<dyn Kernel<1>>;
type Arc2 = Arc<dyn Kernel<2>>;
type Arc3 = Arc<dyn Kernel<3>>;
type Arc4 = Arc<dyn Kernel<4>>;

/// The operations as burn dispatches them.
#[backend_extension(Flex, Autodiff)]
pub trait FusedOps: BurnBackend {
    fn fused_1(a: FloatTensor<Self>, kernel: Arc1) -> FloatTensor<Self>;
    fn fused_2(a: FloatTensor<Self>, b: FloatTensor<Self>, kernel: Arc2) -> FloatTensor<Self>;
    fn fused_3(a: FloatTensor<Self>, b: FloatTensor<Self>, c: FloatTensor<Self>, kernel: Arc3) -> FloatTensor<Self>;
    fn fused_4(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        kernel: Arc4,
    ) -> FloatTensor<Self>;
}

fn run<const N: usize>(inputs: [FloatTensor<Flex>; N], kernel: &dyn Kernel<N>) -> FloatTensor<Flex> {
    kernel.forward(inputs.map(Matrix::new), false).0.into_tensor()
}

impl FusedOps for Flex {
    fn fused_1(a: FloatTensor<Self>, kernel: Arc1) -> FloatTensor<Self> {
        run([a], &*kernel)
    }
    fn fused_2(a: FloatTensor<Self>, b: FloatTensor<Self>, kernel: Arc2) -> FloatTensor<Self> {
        run([a, b], &*kernel)
    }
    fn fused_3(a: FloatTensor<Self>, b: FloatTensor<Self>, c: FloatTensor<Self>, kernel: Arc3) -> FloatTensor<Self> {
        run([a, b, c], &*kernel)
    }
    fn fused_4(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        kernel: Arc4,
    ) -> FloatTensor<Self> {
        run([a, b, c, d], &*kernel)
    }
}

#[derive(Debug)]
struct Fused;

impl<const N: usize> Backward<Flex, N> for Fused {
    type State = (Saved<N>, Arc<dyn Kernel<N>>);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (saved, kernel) = ops.state;
        let gradient = Matrix::new(gradients.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(|parent| parent.is_some());
        let results = kernel.backward(saved, gradient, wanted);
        for (parent, result) in ops.parents.into_iter().zip(results) {
            if let Some(node) = parent {
                let result = result.expect("a kernel returns each gradient that is wanted");
                gradients.register::<Flex>(node.id, result.into_tensor());
            }
        }
    }
}

fn record<C: CheckpointStrategy, const N: usize>(
    inputs: [FloatTensor<Autodiff<Flex, C>>; N],
    kernel: Arc<dyn Kernel<N>>,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = inputs.each_ref().map(|input| input.node());
    match Fused.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let inputs = inputs.map(|input| Matrix::new(input.into_primitive()));
            let keeps = kernel.keeps();
            let kept = std::array::from_fn(|index| keeps[index].then(|| inputs[index].clone()));
            let (output, numbers) = kernel.forward(inputs, true);
            let saved = Saved {
                inputs: kept,
                output: kernel.keeps_output().then(|| output.clone()),
                numbers: Arc::new(numbers),
            };
            prepared.finish((saved, kernel), output.into_tensor())
        }
        OpsKind::UnTracked(prepared) => prepared.finish(run(inputs.map(|input| input.into_primitive()), &*kernel)),
    }
}

impl<C: CheckpointStrategy> FusedOps for Autodiff<Flex, C> {
    fn fused_1(a: FloatTensor<Self>, kernel: Arc1) -> FloatTensor<Self> {
        record::<C, 1>([a], kernel)
    }
    fn fused_2(a: FloatTensor<Self>, b: FloatTensor<Self>, kernel: Arc2) -> FloatTensor<Self> {
        record::<C, 2>([a, b], kernel)
    }
    fn fused_3(a: FloatTensor<Self>, b: FloatTensor<Self>, c: FloatTensor<Self>, kernel: Arc3) -> FloatTensor<Self> {
        record::<C, 3>([a, b, c], kernel)
    }
    fn fused_4(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        kernel: Arc4,
    ) -> FloatTensor<Self> {
        record::<C, 4>([a, b, c, d], kernel)
    }
}

pub(crate) fn apply1(a: Tensor<2>, kernel: impl Kernel<1> + 'static) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_1(a.into_dispatch(), Arc::new(kernel)))
}

pub(crate) fn apply2([a, b]: [Tensor<2>; 2], kernel: impl Kernel<2> + 'static) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_2(a.into_dispatch(), b.into_dispatch(), Arc::new(kernel)))
}

pub(crate) fn apply3([a, b, c]: [Tensor<2>; 3], kernel: impl Kernel<3> + 'static) -> Tensor<2> {
    let (a, b, c) = (a.into_dispatch(), b.into_dispatch(), c.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_3(a, b, c, Arc::new(kernel)))
}

pub(crate) fn apply4([a, b, c, d]: [Tensor<2>; 4], kernel: impl Kernel<4> + 'static) -> Tensor<2> {
    let (a, b, c, d) = (a.into_dispatch(), b.into_dispatch(), c.into_dispatch(), d.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_4(a, b, c, d, Arc::new(kernel)))
}
