//! Keys and values of prompts and of responses in progress, and attention of one new token a row against them.
//!
//! Keys are kept transposed, in panels of a few tokens (`[tokens / 32, width, 32]`): the scores of one query are sums of contiguous rows,
//! and a step reads the keys from front to back. A prompt's keys are held once, for all responses of its group. Each row is computed by
//! itself, in the same order whatever rows stand beside it.

use super::few::{LANES, Left, Rows, product_of_few};
use super::math::{exponentials, max};
use super::matrix::{Matrix, Shared, uninitialized};
use super::packed::{Packed, lay_out, lay_out_turned};
use crate::{CachedRow, HeadShape};
use rayon::prelude::*;
use std::collections::HashMap;

/// Keys `[kv_heads, tokens / 32, width, 32]` and values `[kv_heads, tokens, width]` of one prompt in one layer.
#[derive(Debug)]
struct PromptCache {
    tokens: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Own keys and values of every row in one layer, room for `capacity` tokens each.
#[derive(Debug)]
struct LayerCache {
    prompts: HashMap<usize, PromptCache>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// The cache of a whole decoder in host memory.
#[derive(Debug)]
pub(crate) struct HostCache {
    shape: HeadShape,
    /// Tokens of a row, rounded up to whole panels.
    capacity: usize,
    layers: Vec<LayerCache>,
}

/// Rows of a prompt that one task computes: enough to share what is loaded of the prompt's keys, few enough to occupy all threads.
const ROWS: usize = 8;

/// Tokens of a panel of keys.
const PANEL: usize = 32;

/// Where a token's keys begin, of `width` each; they are `PANEL` apart.
fn place(token: usize, width: usize) -> usize {
    token / PANEL * PANEL * width + token % PANEL
}

/// Whole vectors for so many tokens.
fn padded(tokens: usize) -> usize {
    tokens.next_multiple_of(LANES)
}

impl HostCache {
    pub(crate) fn new(shape: HeadShape, layers: usize, rows: usize, tokens: usize) -> Self {
        let capacity = tokens.next_multiple_of(PANEL);
        let size = rows * shape.kv_heads * shape.width * capacity;
        let layer = || LayerCache { prompts: HashMap::new(), keys: vec![0.0; size], values: vec![0.0; size] };
        Self { shape, capacity, layers: (0..layers).map(|_| layer()).collect() }
    }

    /// Keeps the keys and values of a prompt; `packed` is `[tokens, packed]`, rotated.
    pub(crate) fn insert(&mut self, layer: usize, prompt: usize, packed: &Matrix) {
        let (HeadShape { kv_heads, width, .. }, tokens) = (self.shape, packed.rows);
        let packed = Packed { values: packed.values(), shape: self.shape };
        let padded = tokens.next_multiple_of(PANEL);
        let mut keys = uninitialized(kv_heads * width * padded);
        let mut values = uninitialized(kv_heads * width * tokens);
        for pair in 0..kv_heads {
            let panels = keys[pair * width * padded..(pair + 1) * width * padded].chunks_exact_mut(width * PANEL);
            for (first, panel) in (0..tokens).step_by(PANEL).zip(panels) {
                lay_out_turned(packed.keys(first, pair), PANEL.min(tokens - first), width, panel);
            }
            let values = &mut values[pair * width * tokens..(pair + 1) * width * tokens];
            lay_out(packed.values(0, pair), tokens, width, values);
        }
        self.layers[layer].prompts.insert(prompt, PromptCache { tokens, keys, values });
    }

    pub(crate) fn remove(&mut self, prompt: usize) {
        for layer in &mut self.layers {
            layer.prompts.remove(&prompt);
        }
    }
}

/// Appends each row's new key and value, then attends: `packed` `[rows, packed]` gives `[rows, heads * width]`.
pub(crate) fn decode(cache: &mut HostCache, layer: usize, packed: &Matrix, rows: &[CachedRow]) -> Matrix {
    let (shape, capacity) = (cache.shape, cache.capacity);
    assert_eq!(packed.rows, rows.len(), "one projection for each row");
    let layer = &mut cache.layers[layer];
    append(layer, shape, capacity, packed, rows);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| rows[row].prompt);
    let tasks: Vec<(&[usize], usize)> = order
        .chunk_by(|&a, &b| rows[a].prompt == rows[b].prompt)
        .flat_map(|group| group.chunks(ROWS))
        .flat_map(|rows| (0..shape.kv_heads).map(move |pair| (rows, pair)))
        .collect();
    let outputs = shape.heads * shape.width;
    let mut output = uninitialized(rows.len() * outputs);
    let target = Shared(output.as_mut_ptr());
    let layer = &*layer;
    tasks.into_par_iter().for_each_init(Scratch::default, |scratch, (members, pair)| {
        let rows: Vec<CachedRow> = members.iter().map(|&row| rows[row]).collect();
        let prompt = layer.prompts.get(&rows[0].prompt).expect("the rows' prompt is in the cache");
        let block = Block { layer, prompt, shape, capacity, pair, rows: &rows };
        block.gather(packed, members, scratch);
        pulp::Arch::new().dispatch(Attend { block: &block, scratch });
        let part = shape.heads / shape.kv_heads * shape.width;
        for (result, row) in scratch.results.chunks_exact(part).zip(members) {
            // SAFETY: each row and pair is written by one task.
            let output = unsafe { std::slice::from_raw_parts_mut(target.at(row * outputs + pair * part), part) };
            output.copy_from_slice(result);
        }
    });
    Matrix::from_vec(output, rows.len(), outputs)
}

/// Writes each row's new key and value behind those it has.
fn append(layer: &mut LayerCache, shape: HeadShape, capacity: usize, packed: &Matrix, rows: &[CachedRow]) {
    let HeadShape { kv_heads, width, .. } = shape;
    let packed = Packed { values: packed.values(), shape };
    for (number, row) in rows.iter().enumerate() {
        let length = row.length;
        assert!(length < capacity, "a row of {length} tokens has no room for another");
        for pair in 0..kv_heads {
            let at = (row.slot * kv_heads + pair) * width * capacity;
            for (i, key) in packed.keys(number, pair).values[..width].iter().enumerate() {
                layer.keys[at + place(length, width) + i * PANEL] = *key;
            }
            let at = at + length * width;
            layer.values[at..at + width].copy_from_slice(&packed.values(number, pair).values[..width]);
        }
    }
}

#[derive(Default)]
struct Scratch {
    /// `[rows, repeat, width]`
    queries: Vec<f32>,
    /// `[rows, repeat, prompt and own tokens, each padded]`
    scores: Vec<f32>,
    /// `[rows, repeat, width]`
    results: Vec<f32>,
}

/// Rows of one prompt, and the heads that share one head of keys and values.
struct Block<'a> {
    layer: &'a LayerCache,
    prompt: &'a PromptCache,
    shape: HeadShape,
    capacity: usize,
    pair: usize,
    rows: &'a [CachedRow],
}

impl Block<'_> {
    /// Query heads of each row.
    fn repeat(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Scores of one query.
    fn stride(&self) -> usize {
        let longest = self.rows.iter().map(|row| row.length + 1).max().expect("a row");
        padded(self.prompt.tokens) + padded(longest)
    }

    /// The block's queries, and room for its results.
    fn gather(&self, packed: &Matrix, members: &[usize], scratch: &mut Scratch) {
        let part = self.repeat() * self.shape.width;
        scratch.queries.clear();
        for &row in members {
            let at = row * packed.columns + self.pair * part;
            scratch.queries.extend_from_slice(&packed.values()[at..at + part]);
        }
        scratch.scores.resize(members.len() * self.repeat() * self.stride(), 0.0);
        scratch.results.resize(members.len() * part, 0.0);
    }

    /// The prompt's keys in panels, and values `[tokens, width]`.
    fn shared(&self) -> (&[f32], Rows<'_>) {
        let (width, prompt) = (self.shape.width, self.prompt);
        let part = |tokens: usize| self.pair * width * tokens..(self.pair + 1) * width * tokens;
        let keys = &prompt.keys[part(prompt.tokens.next_multiple_of(PANEL))];
        (keys, Rows { values: &prompt.values[part(prompt.tokens)], stride: width })
    }

    /// A row's own keys in panels, and values `[capacity, width]`.
    fn own(&self, row: &CachedRow) -> (&[f32], Rows<'_>) {
        let size = self.shape.width * self.capacity;
        let at = (row.slot * self.shape.kv_heads + self.pair) * size;
        let [keys, values] = [&self.layer.keys, &self.layer.values].map(|all| &all[at..at + size]);
        (keys, Rows { values, stride: self.shape.width })
    }
}

/// Products of `count` queries with the keys of so many tokens, rounded up to whole vectors.
#[inline(always)]
fn scores_of<S: pulp::Simd>(
    simd: S,
    count: usize,
    tokens: usize,
    queries: Rows,
    keys: &[f32],
    target: &mut [f32],
    stride: usize,
) {
    let width = queries.stride;
    for (panel, keys) in keys.chunks_exact(PANEL * width).take(tokens.div_ceil(PANEL)).enumerate() {
        let columns = padded(tokens - panel * PANEL).min(PANEL);
        let keys = Rows { values: keys, stride: PANEL };
        product_of_few(
            simd,
            (count, columns, width),
            Left::of(queries),
            keys,
            &mut target[panel * PANEL..],
            stride,
            false,
        );
    }
}

struct Attend<'a> {
    block: &'a Block<'a>,
    scratch: &'a mut Scratch,
}

impl pulp::WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        let Self { block, scratch: Scratch { queries, scores, results } } = self;
        let (width, repeat, tokens) = (block.shape.width, block.repeat(), block.prompt.tokens);
        let (before, stride) = (padded(tokens), block.stride());
        let count = block.rows.len() * repeat;
        let (keys, values) = block.shared();
        let all = Rows { values: queries, stride: width };
        scores_of(simd, count, tokens, all, keys, scores, stride);
        for (i, row) in block.rows.iter().enumerate() {
            let own = Rows { values: &queries[i * repeat * width..], stride: width };
            let target = &mut scores[i * repeat * stride + before..];
            scores_of(simd, repeat, row.length + 1, own, block.own(row).0, target, stride);
        }
        for (query, scores) in scores.chunks_exact_mut(stride).enumerate() {
            let (first, own) = scores.split_at_mut(before);
            softmax(&mut first[..tokens], &mut own[..block.rows[query / repeat].length + 1], block.shape.scale());
        }
        let weights = Left::of(Rows { values: scores, stride });
        product_of_few(simd, (count, width, tokens), weights, values, results, width, false);
        for (i, row) in block.rows.iter().enumerate() {
            let weights = Left::of(Rows { values: &scores[i * repeat * stride + before..], stride });
            let target = &mut results[i * repeat * width..];
            let sizes = (repeat, width, row.length + 1);
            product_of_few(simd, sizes, weights, block.own(row).1, target, width, true);
        }
    }
}

/// The softmax of both parts together, of scores that are still to be scaled.
#[inline(always)]
fn softmax(first: &mut [f32], own: &mut [f32], scale: f32) {
    let largest = max(first).max(max(own));
    let mut total = 0.0;
    for part in [&mut *first, &mut *own] {
        total += exponentials(part, largest, scale);
    }
    let scale = 1.0 / total;
    first.iter_mut().for_each(|weight| *weight *= scale);
    own.iter_mut().for_each(|weight| *weight *= scale);
}
