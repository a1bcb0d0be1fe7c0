//! Keys and values of prompts and of responses in progress, and attention of one new token a row against them.
//!
//! Keys are kept transposed (`[width, tokens]`), so that the scores of one query are sums of contiguous rows. A prompt's keys
//! are held once, for all responses of its group. Each row is computed by itself, in the same order whatever rows stand beside it.

use super::few::{LANES, Rows, product_of_few};
use super::math::{exp, max, sum};
use super::matrix::{Matrix, Shared, uninitialized};
use crate::{CachedRow, HeadShape};
use rayon::prelude::*;
use std::collections::HashMap;

/// Keys `[kv_heads, width, padded tokens]` and values `[kv_heads, tokens, width]` of one prompt in one layer.
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
    /// Tokens of a row, rounded up to whole vectors.
    capacity: usize,
    layers: Vec<LayerCache>,
}

/// Rows of a prompt that one task computes: enough to share what is loaded of the prompt's keys, few enough to occupy all threads.
const ROWS: usize = 8;

/// Whole vectors for so many tokens.
fn padded(tokens: usize) -> usize {
    tokens.next_multiple_of(LANES)
}

impl HostCache {
    pub(crate) fn new(shape: HeadShape, layers: usize, rows: usize, tokens: usize) -> Self {
        let capacity = padded(tokens);
        let size = rows * shape.kv_heads * shape.width * capacity;
        let layer = || LayerCache { prompts: HashMap::new(), keys: vec![0.0; size], values: vec![0.0; size] };
        Self { shape, capacity, layers: (0..layers).map(|_| layer()).collect() }
    }

    /// Keeps the keys and values of a prompt; `packed` is `[tokens, packed]`, rotated.
    pub(crate) fn insert(&mut self, layer: usize, prompt: usize, packed: &Matrix) {
        let HeadShape { heads, kv_heads, width } = self.shape;
        let (tokens, stride) = (packed.rows, packed.columns);
        let padded = padded(tokens);
        let mut keys = vec![0.0; kv_heads * width * padded];
        let mut values = uninitialized(kv_heads * width * tokens);
        for (token, row) in packed.values().chunks_exact(stride).enumerate() {
            for head in 0..kv_heads {
                let (key, value) = ((heads + head) * width, (heads + kv_heads + head) * width);
                for i in 0..width {
                    keys[(head * width + i) * padded + token] = row[key + i];
                }
                let at = (head * tokens + token) * width;
                values[at..at + width].copy_from_slice(&row[value..value + width]);
            }
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
    let HeadShape { heads, kv_heads, width } = shape;
    for (source, row) in packed.values().chunks_exact(packed.columns).zip(rows) {
        let length = row.length;
        assert!(length < capacity, "a row of {length} tokens has no room for another");
        for pair in 0..kv_heads {
            let at = (row.slot * kv_heads + pair) * width * capacity;
            let (key, value) = ((heads + pair) * width, (heads + kv_heads + pair) * width);
            for i in 0..width {
                layer.keys[at + i * capacity + length] = source[key + i];
            }
            let at = at + length * width;
            layer.values[at..at + width].copy_from_slice(&source[value..value + width]);
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

    /// The prompt's keys `[width, padded tokens]` and values `[tokens, width]`.
    fn shared(&self) -> [Rows<'_>; 2] {
        let (width, prompt) = (self.shape.width, self.prompt);
        let part = |tokens: usize| self.pair * width * tokens..(self.pair + 1) * width * tokens;
        let padded = padded(prompt.tokens);
        let (keys, values) = (&prompt.keys[part(padded)], &prompt.values[part(prompt.tokens)]);
        [Rows { values: keys, stride: padded }, Rows { values, stride: width }]
    }

    /// A row's own keys `[width, capacity]` and values `[capacity, width]`.
    fn own(&self, row: &CachedRow) -> [Rows<'_>; 2] {
        let size = self.shape.width * self.capacity;
        let at = (row.slot * self.shape.kv_heads + self.pair) * size;
        let [keys, values] = [&self.layer.keys, &self.layer.values].map(|all| &all[at..at + size]);
        [Rows { values: keys, stride: self.capacity }, Rows { values, stride: self.shape.width }]
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
        let [keys, values] = block.shared();
        let all = Rows { values: queries, stride: width };
        product_of_few(simd, (count, before, width), all, keys, scores, stride, false);
        for (i, row) in block.rows.iter().enumerate() {
            let own = Rows { values: &queries[i * repeat * width..], stride: width };
            let target = &mut scores[i * repeat * stride + before..];
            let sizes = (repeat, padded(row.length + 1), width);
            product_of_few(simd, sizes, own, block.own(row)[0], target, stride, false);
        }
        for (query, scores) in scores.chunks_exact_mut(stride).enumerate() {
            let (first, own) = scores.split_at_mut(before);
            softmax(&mut first[..tokens], &mut own[..block.rows[query / repeat].length + 1], block.shape.scale());
        }
        let weights = Rows { values: scores, stride };
        product_of_few(simd, (count, width, tokens), weights, values, results, width, false);
        for (i, row) in block.rows.iter().enumerate() {
            let weights = Rows { values: &scores[i * repeat * stride + before..], stride };
            let target = &mut results[i * repeat * width..];
            let sizes = (repeat, width, row.length + 1);
            product_of_few(simd, sizes, weights, block.own(row)[1], target, width, true);
        }
    }
}

/// The softmax of both parts together, of scores that are still to be scaled.
#[inline(always)]
fn softmax(first: &mut [f32], own: &mut [f32], scale: f32) {
    let largest = max(first).max(max(own));
    let mut total = 0.0;
    for part in [&mut *first, &mut *own] {
        for score in part.iter_mut() {
            *score = exp((*score - largest) * scale);
        }
        total += sum(part);
    }
    let scale = 1.0 / total;
    first.iter_mut().for_each(|weight| *weight *= scale);
    own.iter_mut().for_each(|weight| *weight *= scale);
}
