//! Attention over packed tokens, group-shaped: each span of tokens sees a shared prefix and itself.
//!
//! A tile of query rows meets keys and values panel by panel, and what is worked on stays in the nearest caches. Panels of a prefix are laid out
//! once for all spans that see it. Only the logarithm of each softmax's denominator is kept; the backward pass computes a tile's probabilities
//! again (Dao et al., FlashAttention, arXiv 2205.14135), so memory grows linearly with length.

mod backward;
mod softmax;
mod tiles;

use super::bridge::{Kernel, Known, Saved};
use super::few::{LANES, Left, Rows, product};
use super::math::{fold, max};
use super::matrix::{Matrix, Shared, uninitialized};
use super::packed::{Packed, lay_out, lay_out_turned};
use crate::{AttentionPlan, HeadShape};
use rayon::prelude::*;
use softmax::Lanes;
use std::sync::Arc;
use tiles::{Block, KEYS, Tile, cut};

/// Input: queries, keys and values side by side, `[n, (heads + 2 kv_heads) * width]`; result `[n, heads * width]`.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) plan: Arc<AttentionPlan>,
    pub(crate) shape: HeadShape,
    /// The result, where it was computed before.
    pub(crate) known: Known,
}

/// What a thread works with.
#[derive(Default)]
struct Scratch {
    /// By block: scores `[rows, 64]`, then what becomes of them.
    scores: Vec<f32>,
    lanes: Vec<Lanes>,
    largest: Vec<f32>,
    sums: Vec<f32>,
    /// `[rows, width]`
    result: Vec<f32>,
}

impl Scratch {
    /// Exponentials of a tile's scores in `scores`, by block; by row, the largest score and the sum of the exponentials.
    fn exponentials<'a>(&mut self, tile: &Tile, queries: Left, keys: impl Fn(Block) -> Rows<'a>, shape: HeadShape) {
        let Self { scores, lanes, largest, sums, .. } = self;
        let (rows, size) = (tile.rows.len(), tile.rows.len() * KEYS);
        room(scores, tile.blocks.len() * size);
        lanes.clear();
        lanes.resize(rows, [f32::NEG_INFINITY; LANES]);
        for (&block, scores) in tile.blocks.iter().zip(scores.chunks_exact_mut(size)) {
            products(block, (rows, shape.width), queries, keys(block), scores);
            softmax::raise(lanes, scores, block);
        }
        largest.clear();
        largest.extend(lanes.iter().map(|lanes| max(lanes)));
        lanes.fill([0.0; LANES]);
        for (&block, scores) in tile.blocks.iter().zip(scores.chunks_exact_mut(size)) {
            softmax::exponentials(scores, block, largest, shape.scale(), lanes);
        }
        sums.clear();
        sums.extend(lanes.iter().map(|&lanes| fold(lanes)));
    }
}

/// Makes room for `len` values.
fn room(values: &mut Vec<f32>, len: usize) {
    if values.len() < len {
        *values = uninitialized(len);
    }
}

/// Products of queries with a block's keys, `[width, 64]`; what a row must not see is hidden.
fn products(block: Block, (rows, width): (usize, usize), queries: Left, keys: Rows, scores: &mut [f32]) {
    product((rows, block.wide(), width), queries, keys, scores, KEYS, false);
    softmax::hide(scores, block);
}

impl Kernel<1> for Attention {
    fn keeps(&self) -> [bool; 1] {
        [true]
    }

    fn keeps_output(&self) -> bool {
        true
    }

    /// The numbers kept are the logarithms of the denominators, `[n, heads]`; none of a result that was computed before.
    fn forward(&self, [packed]: [Matrix; 1], tracked: bool) -> (Matrix, Vec<f32>) {
        let (n, shape) = (packed.rows, self.shape);
        assert_eq!(packed.columns, shape.packed(), "queries, keys and values of {shape:?}");
        assert_eq!(n, self.plan.tokens, "tokens of the plan");
        let (width, outputs) = (shape.width, shape.heads * shape.width);
        if let Some(known) = self.known.take([n, outputs]) {
            return (known, Vec::new());
        }
        let mut output = uninitialized(n * outputs);
        let mut logarithms = uninitialized(if tracked { n * shape.heads } else { 0 });
        let (target, kept) = (Shared(output.as_mut_ptr()), Shared(logarithms.as_mut_ptr()));
        let packed = Packed { values: packed.values(), shape };
        let cut = cut(&self.plan.groups, self.plan.causal);
        let (size, count) = (KEYS * width, cut.panels.len());
        let [mut keys, mut values] = [(); 2].map(|()| uninitialized(shape.kv_heads * count * size));
        keys.par_chunks_mut(size).zip(values.par_chunks_mut(size)).enumerate().for_each(|(i, (keys, values))| {
            let (pair, tokens) = (i / count, &cut.panels[i % count]);
            lay_out_turned(packed.keys(tokens.start, pair), tokens.len(), width, keys);
            lay_out(packed.values(tokens.start, pair), tokens.len(), width, values);
        });
        let tasks = cut.tiles.len() * shape.heads;
        (0..tasks).into_par_iter().for_each_init(Scratch::default, |scratch, task| {
            let (tile, head) = (&cut.tiles[task / shape.heads], task % shape.heads);
            let first = head / (shape.heads / shape.kv_heads) * count;
            let panel = |block: Block| (first + block.panel) * size..(first + block.panel + 1) * size;
            let queries = Left::of(packed.queries(tile.rows.start, head));
            scratch.exponentials(tile, queries, |block| Rows { values: &keys[panel(block)], stride: KEYS }, shape);
            let Scratch { scores, largest, sums, result, .. } = scratch;
            let rows = tile.rows.len();
            room(result, rows * width);
            for (i, (&block, scores)) in tile.blocks.iter().zip(scores.chunks_exact(rows * KEYS)).enumerate() {
                let weights = Left::of(Rows { values: scores, stride: KEYS });
                let values = Rows { values: &values[panel(block)], stride: width };
                product((rows, width, block.keys), weights, values, result, width, i > 0);
            }
            for (i, row) in tile.rows.clone().enumerate() {
                // SAFETY: each row and head is written by one task.
                let line = unsafe { std::slice::from_raw_parts_mut(target.at(row * outputs + head * width), width) };
                let scale = 1.0 / sums[i];
                for (value, sum) in line.iter_mut().zip(&result[i * width..]) {
                    *value = sum * scale;
                }
                if tracked {
                    // SAFETY: as above.
                    unsafe { *kept.at(row * shape.heads + head) = largest[i] * shape.scale() + sums[i].ln() };
                }
            }
        });
        (Matrix::from_vec(output, n, outputs), logarithms)
    }

    fn backward(&self, saved: Saved<1>, gradient: Matrix, _: [bool; 1]) -> [Option<Matrix>; 1] {
        [Some(backward::packed_gradient(&self.plan, self.shape, &saved, &gradient))]
    }
}
