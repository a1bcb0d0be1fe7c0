//! The two halves of a block in one call each, for the fused kernels without gradient. Anything else calls the functions that they consist of.

use crate::{RotaryTable, cpu, flex, fused, host};
use burn::tensor::Tensor;
use std::sync::Arc;

/// A map's weight `[out, in]` and bias `[1, out]`.
#[derive(Clone, Debug)]
pub struct MapOf {
    pub weight: Tensor<2>,
    pub bias: Option<Tensor<2>>,
}

/// A root-mean-square normalization's scale `[1, d]`, and what is added to the mean of squares.
#[derive(Clone, Debug)]
pub struct NormOf {
    pub gamma: Tensor<2>,
    pub epsilon: f32,
}

/// Whether [`before_attention`] and [`after_attention`] are there for these numbers: float32 on the CPU, and without a graph.
pub fn has_halves(x: &Tensor<2>) -> bool {
    fused(x) && !x.device().is_autodiff()
}

/// A block's normalization, projection and rotation in one, without gradient; where [`has_halves`].
///
/// # Shapes
/// `x` `[n, d]`; result `[n, packed]`, whose first `heads` heads are rotated.
pub fn before_attention(x: Tensor<2>, norm: NormOf, map: MapOf, table: &Arc<RotaryTable>, heads: usize) -> Tensor<2> {
    let rotate = cpu::Rotate { table: table.clone(), heads };
    flex(cpu::before_attention(&host(x), &normalization(norm), &map_of(map), &rotate))
}

/// What a block does behind its attention, in one and without gradient; where [`has_halves`]: `y = x + output(attended)`, and
/// `y + down(silu(gate(norm(y))) * up(norm(y)))`.
///
/// # Shapes
/// `x` `[n, d]`, `attended` `[n, heads * width]`, `maps` of the output, of gate and up one below the other, and down; result `[n, d]`.
pub fn after_attention(x: Tensor<2>, attended: Tensor<2>, norm: NormOf, maps: [MapOf; 3]) -> Tensor<2> {
    let [output, gate_up, down] = maps.map(map_of);
    flex(cpu::after_attention(host(x), &host(attended), &output, &normalization(norm), &gate_up, &down))
}

fn map_of(map: MapOf) -> cpu::Map {
    cpu::Map { weight: host(map.weight), bias: map.bias.map(host) }
}

fn normalization(norm: NormOf) -> cpu::Norm {
    cpu::Norm { kernel: cpu::RmsNorm { epsilon: norm.epsilon }, gamma: host(norm.gamma) }
}
