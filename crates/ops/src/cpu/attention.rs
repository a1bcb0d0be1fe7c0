//! Attention over packed tokens, group-shaped: each span of tokens sees a shared prefix and itself.
//!
//! A tile of query rows is scored against the prefix in one product, whatever number of responses lie in it, and against each
//! response's own keys in a small one. Only the logarithm of each softmax's denominator is kept; the backward pass computes a
//! tile's probabilities again (Dao et al., FlashAttention), so memory grows linearly with length.

use super::bridge::{Kernel, Known, Saved};
use super::math::{dot, exp, exponentials, max, vectorized};
use super::matrix::{Matrix, Shared, View, product, uninitialized};
use crate::{AttentionPlan, HeadShape};
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Input: queries, keys and values side by side, `[n, (heads + 2 kv_heads) * width]`; result `[n, heads * width]`.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) plan: Arc<AttentionPlan>,
    pub(crate) shape: HeadShape,
    /// The result, where it was computed before.
    pub(crate) known: Known,
}

/// Query rows worked on at once, between these.
const TILE: [usize; 2] = [64, 256];
/// Scores that stay in the nearer caches.
const SCORES: usize = 1 << 17;
/// Query rows of a piece where attention is causal: the fewer, the fewer scores are computed that no row may look at.
const PIECE: usize = 64;

/// Consecutive query rows that see the same prefix.
struct Tile {
    rows: Range<usize>,
    prefix: Range<usize>,
    pieces: Vec<Piece>,
}

/// Consecutive query rows of one span inside a tile, and the keys of the span that they can see.
struct Piece {
    rows: Range<usize>,
    keys: Range<usize>,
}

/// Cuts a group's spans into tiles.
fn tiles(plan: &AttentionPlan, group: usize) -> Vec<Tile> {
    let mut tiles: Vec<Tile> = Vec::new();
    for span in &plan.groups[group].spans {
        let most = (SCORES / (span.prefix.len() + span.rows.len()).max(1)).clamp(TILE[0], TILE[1]) / PIECE * PIECE;
        let mut from = span.rows.start;
        while from < span.rows.end {
            let to = span.rows.end.min(from + most);
            let pieces = if plan.causal {
                let cut = |first: usize| first..to.min(first + PIECE);
                let piece = |rows: Range<usize>| Piece { keys: span.rows.start..rows.end, rows };
                (from..to).step_by(PIECE).map(|first| piece(cut(first))).collect()
            } else {
                vec![Piece { rows: from..to, keys: span.rows.clone() }]
            };
            let joins = tiles.last().is_some_and(|tile| {
                tile.prefix == span.prefix && tile.rows.end == from && to - tile.rows.start <= most
            });
            if joins {
                let tile = tiles.last_mut().expect("there is a tile to join");
                tile.rows.end = to;
                tile.pieces.extend(pieces);
            } else {
                tiles.push(Tile { rows: from..to, prefix: span.prefix.clone(), pieces });
            }
            from = to;
        }
    }
    tiles
}

impl Tile {
    /// Columns of the tile's score matrix: the prefix, then the longest own part.
    fn columns(&self) -> usize {
        self.prefix.len() + self.pieces.iter().map(|piece| piece.keys.len()).max().unwrap_or(0)
    }

    /// Scores that row `row` may look at in a piece.
    fn visible(&self, piece: &Piece, row: usize, causal: bool) -> usize {
        let own = if causal { row + 1 - piece.keys.start } else { piece.keys.len() };
        self.prefix.len() + own
    }
}

/// One head's columns in the packed projection.
#[derive(Clone, Copy)]
struct Columns {
    query: usize,
    key: usize,
    value: usize,
    stride: usize,
    width: usize,
}

impl Columns {
    fn new(shape: HeadShape, head: usize) -> Self {
        let pair = head / (shape.heads / shape.kv_heads);
        Self {
            query: head * shape.width,
            key: (shape.heads + pair) * shape.width,
            value: (shape.heads + shape.kv_heads + pair) * shape.width,
            stride: shape.packed(),
            width: shape.width,
        }
    }
}

/// Keys or values of a head, by token.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    values: &'a [f32],
    /// Where the numbers of token `first` begin; those of the next are `stride` behind them.
    offset: usize,
    stride: usize,
    first: usize,
}

impl Tokens<'_> {
    fn at(self, token: usize) -> View {
        View::rows(self.values, (token - self.first) * self.stride + self.offset, self.stride)
    }
}

/// `target[rows of the tile, columns] = scale * left [prefix ; own keys]^T`, left rows starting at `left`.
fn against_keys(tile: &Tile, left: View, keys: Tokens, width: usize, scale: f32, target: &mut [f32]) {
    let columns = tile.columns();
    let rows = tile.rows.len();
    let at = |row: usize| keys.at(row).transposed();
    // SAFETY: `target` has rows x columns values, and each product stays inside.
    unsafe {
        if !tile.prefix.is_empty() {
            let sizes = (rows, tile.prefix.len(), width);
            let right = at(tile.prefix.start);
            product(sizes, target.as_mut_ptr(), columns, false, left, right, scale, Parallelism::None);
        }
        for piece in &tile.pieces {
            let first = piece.rows.start - tile.rows.start;
            let left = View { pointer: left.pointer.add(first * left.row), ..left };
            let target = target.as_mut_ptr().add(first * columns + tile.prefix.len());
            let sizes = (piece.rows.len(), piece.keys.len(), width);
            product(sizes, target, columns, false, left, at(piece.keys.start), scale, Parallelism::None);
        }
    }
}

/// `target[rows of the tile] (+)= scores [prefix ; own rows of source]`.
fn times_values(tile: &Tile, scores: &[f32], values: Tokens, width: usize, target: *mut f32, target_stride: usize) {
    let columns = tile.columns();
    let at = |row: usize| values.at(row);
    let has_prefix = !tile.prefix.is_empty();
    // SAFETY: `target` is the tile's part of the result, written by this task alone.
    unsafe {
        if has_prefix {
            let sizes = (tile.rows.len(), width, tile.prefix.len());
            let left = View::rows(scores, 0, columns);
            product(sizes, target, target_stride, false, left, at(tile.prefix.start), 1.0, Parallelism::None);
        }
        for piece in &tile.pieces {
            let first = piece.rows.start - tile.rows.start;
            let left = View::rows(scores, first * columns + tile.prefix.len(), columns);
            let sizes = (piece.rows.len(), width, piece.keys.len());
            let target = target.add(first * target_stride);
            product(sizes, target, target_stride, has_prefix, left, at(piece.keys.start), 1.0, Parallelism::None);
        }
    }
}

/// `target[keys] += scores^T rows`, for keys of the prefix and of each piece; `target` is `[tokens, width]`, from token `first` on.
fn into_keys(tile: &Tile, scores: &[f32], rows: View, target: &mut [f32], first: usize, width: usize) {
    let (columns, stride) = (tile.columns(), width);
    let mut at = |token: usize| target[(token - first) * width..].as_mut_ptr();
    // SAFETY: the products stay inside the target, which has room for all of the group's tokens.
    unsafe {
        if !tile.prefix.is_empty() {
            let sizes = (tile.prefix.len(), width, tile.rows.len());
            let left = View::rows(scores, 0, columns).transposed();
            product(sizes, at(tile.prefix.start), stride, true, left, rows, 1.0, Parallelism::None);
        }
        for piece in &tile.pieces {
            let first = piece.rows.start - tile.rows.start;
            let left = View::rows(scores, first * columns + tile.prefix.len(), columns).transposed();
            let right = View { pointer: rows.pointer.add(first * rows.row), ..rows };
            let sizes = (piece.keys.len(), width, piece.rows.len());
            product(sizes, at(piece.keys.start), stride, true, left, right, 1.0, Parallelism::None);
        }
    }
}

impl Attention {
    /// Exponentials of the visible scores of each row less the largest, zeros behind them; by row, their sum, and that largest score.
    fn exponentials(&self, tile: &Tile, scores: &mut [f32], mut sums: impl FnMut(usize, f32, f32)) {
        let columns = tile.columns();
        for piece in &tile.pieces {
            let used = tile.prefix.len() + piece.keys.len();
            for row in piece.rows.clone() {
                let at = (row - tile.rows.start) * columns;
                let visible = tile.visible(piece, row, self.plan.causal);
                let (seen, hidden) = scores[at..at + used].split_at_mut(visible);
                let (sum, largest) = vectorized(
                    #[inline(always)]
                    || {
                        let largest = max(seen);
                        let sum = exponentials(seen, largest, 1.0);
                        hidden.fill(0.0);
                        (sum, largest)
                    },
                );
                sums(row, sum, largest);
            }
        }
    }

    /// A tile's probabilities from its scores and the kept logarithms, and zeros behind what a row can see.
    fn probabilities(&self, tile: &Tile, scores: &mut [f32], log_sum: impl Fn(usize) -> f32) {
        let columns = tile.columns();
        for piece in &tile.pieces {
            let used = tile.prefix.len() + piece.keys.len();
            for row in piece.rows.clone() {
                let at = (row - tile.rows.start) * columns;
                let (visible, log_sum) = (tile.visible(piece, row, self.plan.causal), log_sum(row));
                let (seen, hidden) = scores[at..at + used].split_at_mut(visible);
                vectorized(
                    #[inline(always)]
                    || {
                        seen.iter_mut().for_each(|score| *score = exp(*score - log_sum));
                        hidden.fill(0.0);
                    },
                );
            }
        }
    }

    /// Turns the gradient with respect to probabilities into that with respect to scores: p (dp - sum(p dp)) scale.
    ///
    /// The sum over keys is the inner product of the head's output `y`, rows of `stride` values, and its gradient `dy`, the tile's rows. What
    /// `p` lacks of being probabilities, a factor of each row, is in `dy` and `dp`.
    fn scores_gradient(&self, tile: &Tile, (p, dp): (&[f32], &mut [f32]), (dy, y): (&[f32], &[f32]), stride: usize) {
        let (columns, width) = (tile.columns(), self.shape.width);
        let scale = self.shape.scale();
        for piece in &tile.pieces {
            let used = tile.prefix.len() + piece.keys.len();
            for row in piece.rows.clone() {
                let within = row - tile.rows.start;
                let at = within * columns;
                let (p, dp) = (&p[at..at + used], &mut dp[at..at + used]);
                let (dy, y) = (&dy[within * width..(within + 1) * width], &y[row * stride..row * stride + width]);
                vectorized(
                    #[inline(always)]
                    || {
                        let inner = dot(dy, y);
                        for (dp, p) in dp.iter_mut().zip(p) {
                            *dp = p * (*dp - inner) * scale;
                        }
                    },
                );
            }
        }
    }
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
        let outputs = shape.heads * shape.width;
        if let Some(known) = self.known.take([n, outputs]) {
            return (known, Vec::new());
        }
        let mut output = uninitialized(n * outputs);
        let mut logarithms = uninitialized(if tracked { n * shape.heads } else { 0 });
        let (target, kept) = (Shared(output.as_mut_ptr()), Shared(logarithms.as_mut_ptr()));
        let source = packed.values();
        let work: Vec<(Tile, usize)> = (0..self.plan.groups.len())
            .flat_map(|group| {
                (0..shape.heads)
                    .flat_map(move |head| tiles(&self.plan, group).into_iter().map(move |tile| (tile, head)))
            })
            .collect();
        let room = || (Vec::new(), Vec::new());
        work.par_iter().for_each_init(room, |(scratch, denominators): &mut (Vec<f32>, Vec<f32>), (tile, head)| {
            let columns = Columns::new(shape, *head);
            let size = tile.rows.len() * tile.columns();
            if scratch.len() < size {
                *scratch = uninitialized(size);
            }
            let scores = &mut scratch[..size];
            let queries = View::rows(source, tile.rows.start * columns.stride + columns.query, columns.stride);
            let of = |offset: usize| Tokens { values: source, offset, stride: columns.stride, first: 0 };
            against_keys(tile, queries, of(columns.key), columns.width, shape.scale(), scores);
            denominators.clear();
            self.exponentials(tile, scores, |row, sum, largest| {
                denominators.push(sum);
                if tracked {
                    // SAFETY: each row and head belongs to one task.
                    unsafe { *kept.at(row * shape.heads + head) = largest + sum.ln() };
                }
            });
            let first = target.at(tile.rows.start * outputs + head * shape.width);
            times_values(tile, scores, of(columns.value), columns.width, first, outputs);
            for (row, sum) in tile.rows.clone().zip(denominators) {
                let first = target.at(row * outputs + head * shape.width);
                // SAFETY: as above; the product has written these numbers.
                let values = unsafe { std::slice::from_raw_parts_mut(first, shape.width) };
                let scale = 1.0 / *sum;
                values.iter_mut().for_each(|value| *value *= scale);
            }
        });
        (Matrix::from_vec(output, n, outputs), logarithms)
    }

    fn backward(&self, saved: Saved<1>, gradient: Matrix, _: [bool; 1]) -> [Option<Matrix>; 1] {
        let (packed, shape) = (saved.input(0), self.shape);
        let output = saved.output.as_ref().expect("the kernel keeps its output");
        let (n, outputs) = (packed.rows, shape.heads * shape.width);
        let mut dpacked = uninitialized(n * shape.packed());
        let target = Shared(dpacked.as_mut_ptr());
        let (source, dy, y) = (packed.values(), gradient.values(), output.values());
        let work: Vec<(usize, usize)> =
            (0..self.plan.groups.len()).flat_map(|group| (0..shape.kv_heads).map(move |pair| (group, pair))).collect();
        let repeat = shape.heads / shape.kv_heads;
        let room = || [const { Vec::new() }; 3];
        work.par_iter().for_each_init(room, |[scratch, of_tokens, upstream]: &mut [Vec<f32>; 3], &(group, pair)| {
            // keys and values of the group, and their gradients, by themselves: in the projection rows of one head lie far apart
            let tokens = self.plan.groups[group].tokens();
            let part = tokens.len() * shape.width;
            of_tokens.clear();
            of_tokens.resize(4 * part, 0.0);
            let (keys_and_values, gradients) = of_tokens.split_at_mut(2 * part);
            let (dkeys, dvalues) = gradients.split_at_mut(part);
            let all = Columns::new(shape, pair * repeat);
            for (token, i) in tokens.clone().zip((0..part).step_by(shape.width)) {
                for (offset, place) in [(all.key, i), (all.value, part + i)] {
                    let from = token * all.stride + offset;
                    keys_and_values[place..place + shape.width].copy_from_slice(&source[from..from + shape.width]);
                }
            }
            let of =
                |offset: usize| Tokens { values: keys_and_values, offset, stride: shape.width, first: tokens.start };
            let (keys, values) = (of(0), of(part));
            for tile in tiles(&self.plan, group) {
                let size = tile.rows.len() * tile.columns();
                if scratch.len() < 2 * size {
                    *scratch = uninitialized(2 * size);
                }
                let (scores, dscores) = scratch[..2 * size].split_at_mut(size);
                for head in pair * repeat..(pair + 1) * repeat {
                    let at = Columns::new(shape, head);
                    let queries = View::rows(source, tile.rows.start * at.stride + at.query, at.stride);
                    upstream.clear();
                    for row in tile.rows.clone() {
                        upstream.extend_from_slice(&dy[row * outputs + head * at.width..][..at.width]);
                    }
                    against_keys(&tile, queries, keys, at.width, shape.scale(), scores);
                    if saved.numbers.is_empty() {
                        // divided by the denominator are a row's few numbers, and not its many scores
                        self.exponentials(&tile, scores, |row, sum, _| {
                            let row = &mut upstream[(row - tile.rows.start) * at.width..][..at.width];
                            row.iter_mut().for_each(|value| *value /= sum);
                        });
                    } else {
                        self.probabilities(&tile, scores, |row| saved.numbers[row * shape.heads + head]);
                    }
                    let rows = View::rows(upstream, 0, at.width);
                    into_keys(&tile, scores, rows, dvalues, tokens.start, at.width);
                    against_keys(&tile, rows, values, at.width, 1.0, dscores);
                    self.scores_gradient(&tile, (scores, dscores), (upstream, &y[head * at.width..]), outputs);
                    let dqueries = target.at(tile.rows.start * at.stride + at.query);
                    times_values(&tile, dscores, keys, at.width, dqueries, at.stride);
                    into_keys(&tile, dscores, queries, dkeys, tokens.start, at.width);
                }
            }
            for (token, i) in tokens.zip((0..part).step_by(shape.width)) {
                for (offset, gradient) in [(all.key, &dkeys), (all.value, &dvalues)] {
                    // SAFETY: these columns of the group's tokens are written by this task alone.
                    let row =
                        unsafe { std::slice::from_raw_parts_mut(target.at(token * all.stride + offset), shape.width) };
                    row.copy_from_slice(&gradient[i..i + shape.width]);
                }
            }
        });
        [Some(Matrix::from_vec(dpacked, n, shape.packed()))]
    }
}
