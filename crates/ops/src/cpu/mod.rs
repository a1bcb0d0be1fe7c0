//! Fused operations for the CPU backend, each with its own backward pass.
//!
//! burn's CPU backend is eager: composed of its operations, a normalization or an attention walks over memory many times and
//! keeps every intermediate result for the backward pass. Here each is one kernel over contiguous rows that keeps only what its
//! derivative needs. `crate::composed` computes the same functions from burn's operations on every backend; tests compare the two.

mod attention;
mod blocks;
mod bridge;
mod decode;
mod dropout;
mod embedding;
mod few;
mod gelu;
mod halves;
mod head;
mod linear;
mod math;
mod matrix;
mod norm;
mod packed;
mod panels;
mod rotary;
mod swiglu;

pub(crate) use attention::Attention;
pub(crate) use bridge::{Known, apply1, apply2, apply3, apply4};
pub(crate) use decode::{HostCache, decode};
pub(crate) use dropout::Dropout;
pub(crate) use embedding::Gather;
pub(crate) use gelu::Gelu;
pub(crate) use halves::{Norm, after_attention, before_attention};
pub(crate) use head::TokenLogProbs;
pub(crate) use linear::{Linear, Map};
pub(crate) use matrix::{Matrix, append, collect_rows};
pub(crate) use norm::RmsNorm;
pub(crate) use panels::lay_out;
pub(crate) use rotary::Rotate;
pub(crate) use swiglu::SwiGlu;
