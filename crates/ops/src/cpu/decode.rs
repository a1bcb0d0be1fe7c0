//! Keys and values of prompts and of responses in progress, and attention of one new token a row against them.
//!
//! Keys are kept transposed (`[width, tokens]`), so that the scores of one query are sums of contiguous rows. A prompt's keys
//! are held once, for all responses of its group. Each row is computed by itself, in the same order whatever rows stand beside it.

use super::math::{exp, max, sum, vectorized};
use super::matrix::{Matrix, Shared, uninitialized};
use crate::{CachedRow, HeadShape};
use rayon::prelude::*;
use std::collections::HashMap;

/// Keys `[kv_heads, width, tokens]` and values `[kv_heads, tokens, width]` of one prompt in one layer.
#[derive(Debug)]
struct PromptCache {
    tokens: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Own keys and values of every row in one layer, room for `tokens` each.
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
    tokens: usize,
    layers: Vec<LayerCache>,
}

impl HostCache {
    pub(crate) fn new(shape: HeadShape, layers: usize, rows: usize, tokens: usize) -> Self {
        let size = rows * shape.kv_heads * shape.width * tokens;
        let layer = || LayerCache { prompts: HashMap::new(), keys: vec![0.0; size], values: vec![0.0; size] };
        Self { shape, tokens, layers: (0..layers).map(|_| layer()).collect() }
    }

    /// Keeps the keys and values of a prompt; `packed` is `[tokens, packed]`, rotated.
    pub(crate) fn insert(&mut self, layer: usize, prompt: usize, packed: &Matrix) {
        let HeadShape { heads, kv_heads, width } = self.shape;
        let (tokens, stride) = (packed.rows, packed.columns);
        let mut keys = uninitialized(kv_heads * width * tokens);
        let mut values = uninitialized(kv_heads * width * tokens);
        for (token, row) in packed.values().chunks_exact(stride).enumerate() {
            for head in 0..kv_heads {
                let (key, value) = ((heads + head) * width, (heads + kv_heads + head) * width);
                for i in 0..width {
                    keys[(head * width + i) * tokens + token] = row[key + i];
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
    let HeadShape { heads, kv_heads, width } = cache.shape;
    let (stride, outputs, capacity) = (packed.columns, heads * width, cache.tokens);
    assert_eq!(packed.rows, rows.len(), "one projection for each row");
    let layer = &mut cache.layers[layer];
    let mut output = uninitialized(rows.len() * outputs);
    let target = Shared(output.as_mut_ptr());
    let (all_keys, all_values) = (Shared(layer.keys.as_mut_ptr()), Shared(layer.values.as_mut_ptr()));
    let size = width * capacity;
    let prompts = &layer.prompts;
    let work = rows.len() * kv_heads;
    (0..work).into_par_iter().with_min_len(4).for_each_init(Vec::new, |scratch: &mut Vec<f32>, index| {
        let (row, pair) = (index / kv_heads, index % kv_heads);
        let CachedRow { slot, prompt, length } = rows[row];
        assert!(length < capacity, "a row of {length} tokens has no room for another");
        let prompt = prompts.get(&prompt).expect("the row's prompt is in the cache");
        let source = &packed.values()[row * stride..(row + 1) * stride];
        // SAFETY: a slot belongs to one row, and (slot, pair) to one task.
        let (keys, values) = unsafe {
            let at = (slot * kv_heads + pair) * size;
            (
                std::slice::from_raw_parts_mut(all_keys.at(at), size),
                std::slice::from_raw_parts_mut(all_values.at(at), size),
            )
        };
        for i in 0..width {
            keys[i * capacity + length] = source[(heads + pair) * width + i];
        }
        let value = (heads + kv_heads + pair) * width;
        values[length * width..(length + 1) * width].copy_from_slice(&source[value..value + width]);
        let total = prompt.tokens + length + 1;
        scratch.resize(total, 0.0);
        let part = pair * width * prompt.tokens..(pair + 1) * width * prompt.tokens;
        let shared = (&prompt.keys[part.clone()], &prompt.values[part], prompt.tokens);
        let repeat = heads / kv_heads;
        for head in pair * repeat..(pair + 1) * repeat {
            let query = &source[head * width..(head + 1) * width];
            // SAFETY: each row and head is written by one task.
            let output = unsafe { std::slice::from_raw_parts_mut(target.at(row * outputs + head * width), width) };
            vectorized(
                #[inline(always)]
                || {
                    let (before, own) = scratch.split_at_mut(prompt.tokens);
                    scores(query, shared.0, shared.2, before);
                    scores(query, keys, capacity, own);
                    let scale = (width as f32).powf(-0.5);
                    let largest = max(before).max(max(own));
                    for score in before.iter_mut().chain(own.iter_mut()) {
                        *score = exp((*score - largest) * scale);
                    }
                    let total = sum(before) + sum(own);
                    weighted_sum(before, shared.1, own, values, 1.0 / total, output);
                },
            );
        }
    });
    Matrix::from_vec(output, rows.len(), outputs)
}

/// Inner products of a query with transposed keys whose rows are `stride` apart.
#[inline(always)]
fn scores(query: &[f32], keys: &[f32], stride: usize, output: &mut [f32]) {
    let tokens = output.len();
    output.fill(0.0);
    for (i, q) in query.iter().enumerate() {
        let keys = &keys[i * stride..i * stride + tokens];
        for (score, key) in output.iter_mut().zip(keys) {
            *score = q.mul_add(*key, *score);
        }
    }
}

/// `scale * (a X + b Y)`, accumulated 16 columns at a time in four interleaved sums.
#[inline(always)]
fn weighted_sum(a: &[f32], x: &[f32], b: &[f32], y: &[f32], scale: f32, output: &mut [f32]) {
    const LANES: usize = 16;
    let width = output.len();
    let mut first = 0;
    while first + LANES <= width {
        let mut sums = [[0f32; LANES]; 4];
        for (weights, rows) in [(a, x), (b, y)] {
            for (j, weight) in weights.iter().enumerate() {
                let row = &rows[j * width + first..j * width + first + LANES];
                let sums = &mut sums[j % 4];
                for lane in 0..LANES {
                    sums[lane] = weight.mul_add(row[lane], sums[lane]);
                }
            }
        }
        for lane in 0..LANES {
            let total = (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]);
            output[first + lane] = total * scale;
        }
        first += LANES;
    }
    for column in first..width {
        let mut total = 0f32;
        for (weights, rows) in [(a, x), (b, y)] {
            for (j, weight) in weights.iter().enumerate() {
                total = weight.mul_add(rows[j * width + column], total);
            }
        }
        output[column] = total * scale;
    }
}
