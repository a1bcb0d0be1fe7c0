//! Tensor mathematics that every part of Percept needs.
//!
//! Matrices are packed: a batch of sequences is one `[tokens, width]` tensor without padding, and host-side plans say which rows
//! belong together. Legend: `n` tokens, `d` hidden width, `v` vocabulary.
//!
//! Each function picks its implementation by the device: fused kernels in the CPU backend's memory, or a composition of burn's
//! operations anywhere else, and for other types than float32 ([`composed`]). Decoding's attention has a kernel for accelerators, too
//! (features `cube` and `kernels`). All are the same function; the tests hold them together, in values and gradients.

mod adamw;
mod broken;
mod columns;
pub mod composed;
mod cpu;
#[cfg(all(feature = "cube", feature = "kernels"))]
mod cube;
mod halves;
mod keys;
mod kl;
mod plan;
mod sums;
mod uploaded;

pub use adamw::{AdamW, MOMENT_BLOCK, MomentType, Moments, StoredMoment, adamw};
pub use broken::{BREAKABLE, is_any_broken, set_broken};
pub use composed::cast;
pub use halves::{MapOf, NormOf, after_attention, before_attention, has_halves};
pub use keys::{RowKeys, next_key};
pub use kl::{KlEstimator, kl};
pub use plan::{AttentionPlan, CachedRow, HeadShape, PlanGroup, RotaryTable, Row, Span};
pub use sums::{masked_sum, pad_rows};

use burn::tensor::{DType, Device, Tensor};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

static FUSED: AtomicBool = AtomicBool::new(true);

/// Switches the fused kernels off (or on again) for the whole process: then every device computes by composition.
///
/// For finding out whether a kernel is at fault, and for tests.
pub fn set_fused(on: bool) {
    FUSED.store(on, Ordering::Relaxed);
}

static ROUNDED_PRODUCTS: AtomicBool = AtomicBool::new(false);

/// Lets devices round the operands of float32 products of matrices (or not again) for the whole process.
///
/// Tensor cores multiply float32 as tf32, with 11 of its 24 bits, and a backend takes them for float32 where they are faster. Not allowed,
/// such a device computes these products in float64, which is slower by far.
pub fn set_rounded_products(on: bool) {
    ROUNDED_PRODUCTS.store(on, Ordering::Relaxed);
}

/// Whether devices may round; see [`set_rounded_products`].
pub fn rounded_products() -> bool {
    ROUNDED_PRODUCTS.load(Ordering::Relaxed)
}

/// Whether tensors of this device are computed by the fused CPU kernels.
pub fn is_fused(device: &Device) -> bool {
    is_processor(device) && FUSED.load(Ordering::Relaxed)
}

/// Whether tensors of this device are in the CPU backend's memory.
fn is_processor(device: &Device) -> bool {
    use burn::backend::DispatchDevice;
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_))
}

/// Whether this tensor goes to the fused kernels, which compute in float32.
fn fused(x: &Tensor<2>) -> bool {
    is_fused(&x.device()) && x.dtype() == DType::F32
}

/// `x W^T (+ bias) (+ residual)`.
///
/// # Shapes
/// `x` `[n, in]`, `weight` `[out, in]` (as in the checkpoint), `bias` `[1, out]`, `residual` `[n, out]`; result `[n, out]`.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<2>>, residual: Option<Tensor<2>>) -> Tensor<2> {
    linear_known(x, weight, bias, residual, None)
}

/// [`linear`] whose result may have been computed before: where it is `known`, the fused kernels only take its gradient. Elsewhere it is
/// computed.
///
/// # Shapes
/// As [`linear`]'s; `known` as its result, without gradient.
pub fn linear_known(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<2>>,
    residual: Option<Tensor<2>>,
    known: Option<Tensor<2>>,
) -> Tensor<2> {
    if !fused(&x) {
        return broken::spoiled("linear", composed::linear(x, weight, bias, residual));
    }
    let known = cpu::Known::new(known.map(host));
    let kernel = cpu::Linear { bias: bias.is_some(), residual: residual.is_some(), known };
    match (bias, residual) {
        (None, None) => cpu::apply2([x, weight], kernel),
        (Some(a), None) | (None, Some(a)) => cpu::apply3([x, weight, a], kernel),
        (Some(bias), Some(residual)) => cpu::apply4([x, weight, bias, residual], kernel),
    }
}

/// A weight `[out, in]` laid out for products with few rows, without gradient; see [`lay_out`].
#[derive(Clone, Debug)]
pub struct LaidOut {
    /// In panels for the fused kernels, else the transpose.
    tensor: Tensor<2>,
    outputs: usize,
}

/// Lays a weight `[out, in]` out for products with few rows.
///
/// A matrix product copies its operands into blocks first; for the few rows of a decoding step that copy costs more than the product,
/// and this layout needs none.
pub fn lay_out(weight: Tensor<2>) -> LaidOut {
    let outputs = weight.dims()[0];
    if !fused(&weight) {
        return LaidOut { tensor: weight.transpose(), outputs };
    }
    let panels = cpu::lay_out(&host(weight));
    LaidOut { tensor: flex(panels), outputs }
}

/// [`linear`] with a weight that was laid out, without gradient.
///
/// # Shapes
/// `x` `[n, in]`, `bias` `[1, out]`, `residual` `[n, out]`; result `[n, out]`.
pub fn linear_laid_out(
    x: Tensor<2>,
    weight: &LaidOut,
    bias: Option<Tensor<2>>,
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    if !fused(&x) {
        let weight = weight.tensor.clone().transpose();
        return broken::spoiled("linear", composed::linear(x, weight, bias, residual));
    }
    let kernel = cpu::Linear { bias: bias.is_some(), residual: residual.is_some(), known: cpu::Known::default() };
    let inputs = [Some(x), Some(weight.tensor.clone()), bias, residual].into_iter().flatten().map(host).collect();
    flex(kernel.output(inputs, Some(weight.outputs)))
}

/// `gamma * x / sqrt(mean(x^2) + epsilon)` over the last dimension.
///
/// # Shapes
/// `x` `[n, d]`, `gamma` `[1, d]`; result `[n, d]`.
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<2>, epsilon: f32) -> Tensor<2> {
    if !fused(&x) {
        return broken::spoiled("rms_norm", composed::rms_norm(x, gamma, epsilon));
    }
    cpu::apply2([x, gamma], cpu::RmsNorm { epsilon })
}

/// `silu(gate) * up`.
///
/// # Shapes
/// `gate_up` `[n, 2 f]`, the gate first; result `[n, f]`.
pub fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    if !fused(&gate_up) {
        #[cfg(all(feature = "cube", feature = "kernels"))]
        if cube::serves(&gate_up.device()) {
            return broken::spoiled("swiglu", cube::swiglu(gate_up));
        }
        return broken::spoiled("swiglu", composed::swiglu(gate_up));
    }
    cpu::apply1(gate_up, cpu::SwiGlu)
}

/// `x * Phi(x)` with the normal distribution's Phi, not an approximation of it.
///
/// # Shapes
/// `x` `[n, d]`; result the same.
pub fn gelu(x: Tensor<2>) -> Tensor<2> {
    if !fused(&x) {
        return broken::spoiled("gelu", composed::gelu(x));
    }
    cpu::apply1(x, cpu::Gelu)
}

/// Numbers dropped at `rate` (Srivastava et al., JMLR 15, 2014), and those that are left multiplied by `1 / (1 - rate)`.
///
/// Which ones is a function of the rows' keys and the number of the map they are an input of: it depends neither on the batch, nor on the
/// device, nor on how often it is computed. The rate is rounded to a multiple of 2^-16.
///
/// # Shapes
/// `x` `[n, d]`, `rows` `n`; result `[n, d]`.
///
/// # Panics
/// When the rate is below 0 or not below 1.
pub fn dropout(x: Tensor<2>, rows: &Arc<RowKeys>, map: u64, rate: f64) -> Tensor<2> {
    if !fused(&x) {
        return broken::spoiled("dropout", composed::dropout(x, rows, map, rate));
    }
    cpu::apply1(x, cpu::Dropout { rows: rows.clone(), map, rate })
}

/// Rotary position embedding (halves of a head turned against each other) of the first `heads` heads of each row.
///
/// # Shapes
/// `packed` `[n, width]` with `heads * 2 * table.half <= width`; result the same.
pub fn rotate(packed: Tensor<2>, table: &Arc<RotaryTable>, heads: usize) -> Tensor<2> {
    if !fused(&packed) {
        #[cfg(all(feature = "cube", feature = "kernels"))]
        if cube::serves(&packed.device()) {
            let angles = composed::angles(table, &packed.device());
            return broken::spoiled("rotate", cube::rotate(packed, angles, heads));
        }
        return broken::spoiled("rotate", composed::rotate(packed, table, heads));
    }
    cpu::apply1(packed, cpu::Rotate { table: table.clone(), heads })
}

/// Softmax attention of packed tokens, where the plan says which tokens see which.
///
/// # Shapes
/// `packed` `[n, (heads + 2 kv_heads) * width]`: queries, keys, values; result `[n, heads * width]`.
pub fn attention(packed: Tensor<2>, plan: &Arc<AttentionPlan>, shape: HeadShape) -> Tensor<2> {
    attention_known(packed, plan, shape, None)
}

/// [`attention`] whose result may have been computed before; see [`linear_known`].
///
/// # Shapes
/// As [`attention`]'s; `known` as its result, without gradient.
pub fn attention_known(
    packed: Tensor<2>,
    plan: &Arc<AttentionPlan>,
    shape: HeadShape,
    known: Option<Tensor<2>>,
) -> Tensor<2> {
    if !fused(&packed) {
        return broken::spoiled("attention", composed::attention(packed, plan, shape));
    }
    let known = cpu::Known::new(known.map(host));
    cpu::apply1(packed, cpu::Attention { plan: plan.clone(), shape, known })
}

/// The gradient of [`attention`] with respect to `packed`, from that of its result. Neither has a graph: what attention needs for its
/// gradient is computed again here, and scores exist for a part of the queries at a time.
///
/// # Shapes
/// `packed` `[n, (heads + 2 kv_heads) * width]`, `upstream` `[n, heads * width]`; result as `packed`, in float32.
pub fn attention_gradient(
    packed: Tensor<2>,
    upstream: Tensor<2>,
    plan: &Arc<AttentionPlan>,
    shape: HeadShape,
) -> Tensor<2> {
    if !fused(&packed) {
        return composed::attention_gradient(packed, upstream, plan, shape);
    }
    let leaf = Tensor::from_inner(packed).require_grad();
    let attended = attention(leaf.clone(), plan, shape);
    let mut gradients = (attended * Tensor::from_inner(upstream)).sum().backward();
    leaf.grad_remove(&mut gradients).expect("every row is looked at")
}

/// Rows of a table, and of features where there are any, put together by index.
///
/// # Shapes
/// `table` `[v, d]`, `features` `[m, d]`; result `[rows.len(), d]`.
pub fn gather(table: Tensor<2>, features: Option<Tensor<2>>, rows: &Arc<[Row]>) -> Tensor<2> {
    if !fused(&table) {
        return broken::spoiled("gather", composed::gather(table, features, rows));
    }
    let features = features.map(|features| cast(features, DType::F32));
    let sizes = [table.dims()[0], features.as_ref().map_or(0, |features| features.dims()[0])];
    let kernel = cpu::Gather { rows: rows.clone(), sizes };
    match features {
        Some(features) => cpu::apply2([table, features], kernel),
        None => cpu::apply1(table, kernel),
    }
}

/// Adds the rows of a tensor in host memory, without gradient, to others of its width.
pub fn append_rows(rows: &Tensor<2>, into: &mut Vec<f32>) {
    cpu::append(host(rows.clone()).values(), into);
}

/// Rows of several matrices of the same width, in host memory, put together: (matrix, row) by (matrix, row).
///
/// # Shapes
/// `sources` `[_, width]`; result `[rows.len(), width]`.
pub fn collect_rows(sources: &[&[f32]], width: usize, rows: &[(u32, u32)]) -> Tensor<2> {
    flex(cpu::collect_rows(sources, width, rows))
}

/// These rows as a tensor without gradient, in the memory that they are in.
///
/// # Shapes
/// `rows` `n * width` values; result `[n, width]`.
pub fn from_rows(rows: Vec<f32>, width: usize) -> Tensor<2> {
    let count = rows.len() / width;
    flex(cpu::Matrix::from_vec(rows, count, width))
}

/// Log-probability of each target under softmax(hidden head^T / temperature), and the entropy of that distribution on request.
///
/// Logits exist for a block of rows at a time, in both passes.
///
/// # Shapes
/// `hidden` `[n, d]`, `head` `[v, d]`, `targets` `n`; result `[n, 1]`, or `[n, 2]` with entropies (nats) in the second column.
pub fn token_log_probs(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: &Arc<[u32]>,
    temperature: f32,
    entropy: bool,
) -> Tensor<2> {
    assert!(temperature > 0.0, "a temperature above 0 was expected, not {temperature}");
    let vocabulary = head.dims()[0];
    assert!(
        targets.iter().all(|&id| (id as usize) < vocabulary),
        "a target lies outside the vocabulary of {vocabulary}"
    );
    if !fused(&hidden) {
        return broken::spoiled(
            "token_log_probs",
            composed::token_log_probs(hidden, head, targets, temperature, entropy),
        );
    }
    cpu::apply2([hidden, head], cpu::TokenLogProbs { targets: targets.clone(), temperature, entropy })
}

/// Keys and values for decoding: prompts once, and room for each row's own tokens.
#[derive(Debug)]
pub struct KeyValueCache {
    store: Store,
}

#[derive(Debug)]
enum Store {
    Host(cpu::HostCache),
    Device(Box<dyn DeviceCache>),
}

/// See [`KeyValueCache`], whose methods these are.
pub(crate) trait DeviceCache: Debug {
    fn insert(&mut self, layer: usize, prompt: usize, packed: Tensor<2>);

    fn remove(&mut self, prompt: usize);

    fn attend(&mut self, layer: usize, packed: Tensor<2>, rows: &[CachedRow]) -> Tensor<2>;
}

impl KeyValueCache {
    /// An empty cache for `layers` layers and `rows` rows of at most `tokens` tokens beyond their prompt.
    /// `dtype`: what keys and values are computed in.
    pub fn new(shape: HeadShape, layers: usize, rows: usize, tokens: usize, device: &Device, dtype: DType) -> Self {
        let store = if is_fused(device) && dtype == DType::F32 {
            Store::Host(cpu::HostCache::new(shape, layers, rows, tokens))
        } else {
            Store::Device(on_device(shape, layers, rows, tokens, device))
        };
        Self { store }
    }

    /// Keeps the keys and values of a prompt (named by a number of the caller's) in one layer.
    ///
    /// # Shapes
    /// `packed` `[tokens, packed]`, rotated.
    pub fn insert(&mut self, layer: usize, prompt: usize, packed: Tensor<2>) {
        match &mut self.store {
            Store::Host(cache) => cache.insert(layer, prompt, &host(packed)),
            Store::Device(cache) => cache.insert(layer, prompt, packed),
        }
    }

    /// Forgets a prompt in all layers.
    pub fn remove(&mut self, prompt: usize) {
        match &mut self.store {
            Store::Host(cache) => cache.remove(prompt),
            Store::Device(cache) => cache.remove(prompt),
        }
    }

    /// Appends the new token of each row and attends to its prompt and its own tokens. Every row in progress takes part in every
    /// step.
    ///
    /// # Shapes
    /// `packed` `[rows, packed]`, rotated; result `[rows, heads * width]`.
    pub fn attend(&mut self, layer: usize, packed: Tensor<2>, rows: &[CachedRow]) -> Tensor<2> {
        match &mut self.store {
            Store::Host(cache) => {
                let output = cpu::decode(cache, layer, &host(packed), rows);
                flex(output)
            }
            Store::Device(cache) => broken::spoiled("decode", cache.attend(layer, packed, rows)),
        }
    }
}

#[cfg(all(feature = "cube", feature = "kernels"))]
fn on_device(shape: HeadShape, layers: usize, rows: usize, tokens: usize, device: &Device) -> Box<dyn DeviceCache> {
    match cube::Sizes::of(shape, device) {
        Some(sizes) if cube::serves(device) => Box::new(cube::Cache::new(sizes, layers, rows, tokens)),
        _ => Box::new(composed::Cache::new(shape, layers, rows, tokens)),
    }
}

#[cfg(not(all(feature = "cube", feature = "kernels")))]
fn on_device(shape: HeadShape, layers: usize, rows: usize, tokens: usize, _: &Device) -> Box<dyn DeviceCache> {
    Box::new(composed::Cache::new(shape, layers, rows, tokens))
}

fn flex(matrix: cpu::Matrix) -> Tensor<2> {
    Tensor::from_primitive::<burn::backend::Flex>(matrix.into_tensor())
}

/// The tensor's memory on the CPU backend.
fn host(tensor: Tensor<2>) -> cpu::Matrix {
    let primitive = tensor.try_into_primitive::<burn::backend::Flex>();
    cpu::Matrix::new(primitive.expect("decoding takes tensors of the CPU backend without gradient"))
}

#[cfg(test)]
mod agreement;
