//! The gradient of attention with respect to queries, keys and values.

use super::super::bridge::Saved;
use super::super::few::{Left, Rows, product};
use super::super::math::{dot, vectorized};
use super::super::matrix::{Matrix, Shared, uninitialized};
use super::super::packed::{Packed, lay_out, lay_out_turned};
use super::tiles::{Block, Cut, KEYS, Tile, cut};
use super::{Scratch, products, room, softmax};
use crate::{AttentionPlan, HeadShape};
use rayon::prelude::*;
use std::slice;

/// `[n, (heads + 2 kv_heads) * width]`
pub(super) fn packed_gradient(plan: &AttentionPlan, shape: HeadShape, saved: &Saved<1>, gradient: &Matrix) -> Matrix {
    let (packed, output) = (saved.input(0), saved.output.as_ref().expect("the kernel keeps its output"));
    let mut dpacked = uninitialized(packed.rows * shape.packed());
    let pass = Pass {
        packed: Packed { values: packed.values(), shape },
        output: output.values(),
        gradient: gradient.values(),
        log_sums: &saved.numbers,
        target: Shared(dpacked.as_mut_ptr()),
        shape,
    };
    let cuts: Vec<Cut> = plan.groups.iter().map(|group| cut(slice::from_ref(group), plan.causal)).collect();
    let tasks = cuts.len() * shape.kv_heads;
    let room = <(Panels, Scratch, Rest)>::default;
    (0..tasks).into_par_iter().for_each_init(room, |(panels, scratch, rest), task| {
        let (cut, pair) = (&cuts[task / shape.kv_heads], task % shape.kv_heads);
        panels.lay_out(cut, pass.packed, pair);
        let repeat = shape.heads / shape.kv_heads;
        for tile in &cut.tiles {
            for head in pair * repeat..(pair + 1) * repeat {
                pass.tile(tile, head, panels, scratch, rest);
            }
        }
        for (number, tokens) in cut.panels.iter().enumerate() {
            let part = number * KEYS * shape.width..(number * KEYS + tokens.len()) * shape.width;
            pass.write(tokens.start, shape.heads + pair, &panels.dkeys[part.clone()]);
            pass.write(tokens.start, shape.heads + shape.kv_heads + pair, &panels.dvalues[part]);
        }
    });
    Matrix::from_vec(dpacked, packed.rows, packed.columns)
}

/// A group's keys and values of one head, and their gradients, panel by panel: `[64, width]`, or `[width, 64]` where they are turned.
#[derive(Default)]
struct Panels {
    keys: Vec<f32>,
    keys_turned: Vec<f32>,
    values_turned: Vec<f32>,
    dkeys: Vec<f32>,
    dvalues: Vec<f32>,
}

impl Panels {
    fn lay_out(&mut self, cut: &Cut, packed: Packed, pair: usize) {
        let width = packed.shape.width;
        let size = KEYS * width;
        let all = cut.panels.len() * size;
        for values in [&mut self.keys, &mut self.keys_turned, &mut self.values_turned] {
            room(values, all);
        }
        for gradient in [&mut self.dkeys, &mut self.dvalues] {
            gradient.clear();
            gradient.resize(all, 0.0);
        }
        for (number, tokens) in cut.panels.iter().enumerate() {
            let (keys, values) = (packed.keys(tokens.start, pair), packed.values(tokens.start, pair));
            let panel = number * size..(number + 1) * size;
            lay_out(keys, tokens.len(), width, &mut self.keys[panel.clone()]);
            lay_out_turned(keys, tokens.len(), width, &mut self.keys_turned[panel.clone()]);
            lay_out_turned(values, tokens.len(), width, &mut self.values_turned[panel]);
        }
    }
}

/// What else a tile is worked on with.
#[derive(Default)]
struct Rest {
    /// Gradient of a block's scores, `[rows, 64]`
    dscores: Vec<f32>,
    /// `[rows, width]`
    queries: Vec<f32>,
    /// The gradient of a head's output, `[rows, width]`
    upstream: Vec<f32>,
    /// Inner products of a head's output and its gradient, by row
    inner: Vec<f32>,
    log_sums: Vec<f32>,
}

struct Pass<'a> {
    packed: Packed<'a>,
    /// `[n, heads * width]`
    output: &'a [f32],
    /// `[n, heads * width]`
    gradient: &'a [f32],
    /// `[n, heads]`, or empty
    log_sums: &'a [f32],
    target: Shared,
    shape: HeadShape,
}

impl Pass<'_> {
    /// What one head's queries of a tile add to the gradients of keys and values, and their own gradient.
    fn tile(&self, tile: &Tile, head: usize, panels: &mut Panels, scratch: &mut Scratch, rest: &mut Rest) {
        let (HeadShape { heads, width, .. }, count) = (self.shape, tile.rows.len());
        let size = count * KEYS;
        self.begin(tile, head, rest);
        let Rest { dscores, queries, upstream, inner, log_sums } = rest;
        let panel = |block: Block| block.panel * KEYS * width..(block.panel + 1) * KEYS * width;
        let keys_turned = |block: Block| Rows { values: &panels.keys_turned[panel(block)], stride: KEYS };
        let is_known = !self.log_sums.is_empty();
        if is_known {
            room(&mut scratch.scores, size);
            log_sums.clear();
            log_sums.extend(tile.rows.clone().map(|row| self.log_sums[row * heads + head]));
        } else {
            scratch.exponentials(tile, Left::of(Rows { values: queries, stride: width }), keys_turned, self.shape);
            // divided by the denominator are a row's few numbers, and not its many scores
            for (row, sum) in upstream.chunks_exact_mut(width).zip(&scratch.sums) {
                row.iter_mut().for_each(|value| *value /= sum);
            }
        }
        self.inner_products(tile, head, upstream, inner);
        room(&mut scratch.result, count * width);
        let (queries, upstream) = (Rows { values: queries, stride: width }, Rows { values: upstream, stride: width });
        for (i, &block) in tile.blocks.iter().enumerate() {
            let at = if is_known { 0 } else { i * size };
            let scores = &mut scratch.scores[at..at + size];
            if is_known {
                products(block, (count, width), Left::of(queries), keys_turned(block), scores);
                softmax::probabilities(scores, block, log_sums, self.shape.scale());
            }
            let values = Rows { values: &panels.values_turned[panel(block)], stride: KEYS };
            product((count, block.wide(), width), Left::of(upstream), values, dscores, KEYS, false);
            let turned = Left::transposed(Rows { values: scores, stride: KEYS });
            product((block.keys, width, count), turned, upstream, &mut panels.dvalues[panel(block)], width, true);
            softmax::gradient(scores, dscores, block, inner, self.shape.scale());
            let dscores = Rows { values: dscores, stride: KEYS };
            let keys = Rows { values: &panels.keys[panel(block)], stride: width };
            product((count, width, block.keys), Left::of(dscores), keys, &mut scratch.result, width, i > 0);
            let turned = Left::transposed(dscores);
            product((block.keys, width, count), turned, queries, &mut panels.dkeys[panel(block)], width, true);
        }
        self.write(tile.rows.start, head, &scratch.result[..count * width]);
    }

    /// The tile's queries and gradients by themselves: in the projection rows of one head lie far apart.
    fn begin(&self, tile: &Tile, head: usize, rest: &mut Rest) {
        let (HeadShape { heads, width, .. }, count) = (self.shape, tile.rows.len());
        rest.dscores.resize(count * KEYS, 0.0);
        rest.queries.resize(count * width, 0.0);
        rest.upstream.resize(count * width, 0.0);
        lay_out(self.packed.queries(tile.rows.start, head), count, width, &mut rest.queries);
        let first = (tile.rows.start * heads + head) * width;
        let gradient = Rows { values: &self.gradient[first..], stride: heads * width };
        lay_out(gradient, count, width, &mut rest.upstream);
    }

    fn inner_products(&self, tile: &Tile, head: usize, upstream: &[f32], inner: &mut Vec<f32>) {
        let HeadShape { heads, width, .. } = self.shape;
        inner.clear();
        vectorized(
            #[inline(always)]
            || {
                for (row, upstream) in tile.rows.clone().zip(upstream.chunks_exact(width)) {
                    inner.push(dot(upstream, &self.output[(row * heads + head) * width..][..width]));
                }
            },
        );
    }

    /// Writes `[tokens, width]`, from token `first` on, to the columns of a head in the packed gradient.
    fn write(&self, first: usize, head: usize, values: &[f32]) {
        let (stride, width) = (self.shape.packed(), self.shape.width);
        for (token, values) in (first..).zip(values.chunks_exact(width)) {
            // SAFETY: these columns of a group's tokens are written by one task, and once.
            let line = unsafe { slice::from_raw_parts_mut(self.target.at(token * stride + head * width), width) };
            line.copy_from_slice(values);
        }
    }
}
