//! Attention in pieces, so that scores never take more than so much memory.
//!
//! A tile is a part of the queries with all keys that they see, copied next to each other: the prefix, what stands before them in their
//! own span, and their own rows. To a tile that is an attention like any other, whose prefix is all but its own rows.

use crate::plan::PlanGroup;
use crate::{AttentionPlan, HeadShape, Span};
use burn::tensor::{DType, Tensor};
use std::iter;
use std::ops::Range;
use std::sync::Arc;

/// Scores of one tile of a composed attention, all heads together, at most: 256 MiB in float32.
pub const MOST_SCORES: usize = 1 << 26;

/// Some queries and the keys that they see.
pub(crate) struct Tile {
    /// Packed rows that the tile is made of, in order.
    rows: Vec<Range<usize>>,
    /// Which of the tile's rows are results.
    results: Range<usize>,
    plan: Arc<AttentionPlan>,
}

/// Rows in `ranges`.
fn count(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(Range::len).sum()
}

/// Scores that one head needs for a span.
fn scores(span: &Span) -> usize {
    span.rows.len() * (span.prefix.len() + span.rows.len())
}

impl Tile {
    /// Consecutive groups as they are.
    fn of_groups(groups: &[PlanGroup], causal: bool) -> Self {
        let spans = || groups.iter().flat_map(|group| &group.spans);
        let first = spans().map(|span| span.rows.start).min().expect("a group has spans");
        let last = spans().map(|span| span.rows.end).max().expect("a group has spans");
        let shifted = |range: &Range<usize>| range.start.saturating_sub(first)..range.end.saturating_sub(first);
        let moved = |span: &Span| Span { rows: shifted(&span.rows), prefix: shifted(&span.prefix) };
        let groups = groups.iter().map(|group| PlanGroup { spans: group.spans.iter().map(moved).collect() });
        let plan = AttentionPlan {
            tokens: last - first,
            causal,
            groups: groups.collect(),
            uploaded: Default::default(),
            tiles: Default::default(),
        };
        Self { rows: iter::once(first..last).collect(), results: 0..last - first, plan: Arc::new(plan) }
    }

    /// Whole spans with one prefix.
    fn of_spans(spans: &[Span], causal: bool) -> Self {
        let mut rows = vec![spans[0].prefix.clone()];
        rows.retain(|range| !range.is_empty());
        let prefix = 0..count(&rows);
        let mut from = prefix.end;
        let moved = |span: &Span| {
            let rows = from..from + span.rows.len();
            from = rows.end;
            Span { rows, prefix: prefix.clone() }
        };
        let moved: Vec<Span> = spans.iter().map(moved).collect();
        rows.push(spans[0].rows.start..spans[spans.len() - 1].rows.end);
        Self::new(rows, prefix.end, moved, causal)
    }

    /// Some queries of one span.
    fn of_queries(span: &Span, queries: Range<usize>, causal: bool) -> Self {
        let mut rows = vec![span.prefix.clone(), span.rows.start..queries.start];
        if !causal {
            rows.push(queries.end..span.rows.end);
        }
        rows.retain(|range| !range.is_empty());
        let before = count(&rows);
        let span = Span { rows: before..before + queries.len(), prefix: 0..before };
        rows.push(queries);
        Self::new(rows, before, vec![span], causal)
    }

    fn new(rows: Vec<Range<usize>>, before: usize, spans: Vec<Span>, causal: bool) -> Self {
        let tokens = count(&rows);
        let plan = AttentionPlan {
            tokens,
            causal,
            groups: vec![PlanGroup { spans }],
            uploaded: Default::default(),
            tiles: Default::default(),
        };
        Self { rows, results: before..tokens, plan: Arc::new(plan) }
    }

    /// The packed rows that the tile gives results for.
    fn targets(&self) -> Range<usize> {
        let last = self.rows.last().expect("a tile has rows");
        last.end - self.results.len()..last.end
    }

    fn take(&self, packed: &Tensor<2>) -> Tensor<2> {
        let mut parts: Vec<Tensor<2>> =
            self.rows.iter().map(|rows| packed.clone().narrow(0, rows.start, rows.len())).collect();
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
    }

    fn attend(&self, taken: Tensor<2>, shape: HeadShape) -> Tensor<2> {
        super::attention::whole(taken, &self.plan, shape).narrow(0, self.results.start, self.results.len())
    }

    /// The gradient with respect to what was taken, in float32, from that of the results.
    fn gradient(&self, taken: Tensor<2>, upstream: Tensor<2>, shape: HeadShape) -> Tensor<2> {
        let ([before, after], columns) =
            ([self.results.start, self.plan.tokens - self.results.end], upstream.dims()[1]);
        let zeros = |rows: usize| {
            let options = (&upstream.device(), upstream.dtype());
            (rows > 0).then(|| Tensor::zeros([rows, columns], options))
        };
        let parts = [zeros(before), Some(upstream.clone()), zeros(after)];
        let upstream = Tensor::cat(parts.into_iter().flatten().collect(), 0);
        super::attention::whole_gradient(taken, upstream, &self.plan, shape)
    }
}

/// The tiles of a plan, in the order of their results' rows; none where the whole is small enough.
pub(super) fn tiles(plan: &AttentionPlan, heads: usize) -> Vec<Tile> {
    let most = (MOST_SCORES / heads).max(1);
    let mut tiles = Vec::new();
    if plan.groups.iter().flat_map(|group| &group.spans).map(scores).sum::<usize>() <= most {
        return tiles;
    }
    let mut from = 0;
    while from < plan.groups.len() {
        let mut sum = 0;
        let fitting = plan.groups[from..].iter().take_while(|group| {
            sum += group.spans.iter().map(scores).sum::<usize>();
            sum <= most
        });
        let to = from + fitting.count();
        if to > from {
            tiles.push(Tile::of_groups(&plan.groups[from..to], plan.causal));
            from = to;
        } else {
            cut_group(&plan.groups[from].spans, most, plan.causal, &mut tiles);
            from += 1;
        }
    }
    tiles
}

fn cut_group(spans: &[Span], most: usize, causal: bool, tiles: &mut Vec<Tile>) {
    let mut from = 0;
    while from < spans.len() {
        let mut sum = 0;
        let fitting = spans[from..].iter().take_while(|span| {
            sum += scores(span);
            sum <= most && span.prefix == spans[from].prefix
        });
        let to = from + fitting.count();
        if to > from {
            tiles.push(Tile::of_spans(&spans[from..to], causal));
            from = to;
            continue;
        }
        let span = &spans[from];
        let step = (most / (span.prefix.len() + span.rows.len())).max(1);
        for first in span.rows.clone().step_by(step) {
            tiles.push(Tile::of_queries(span, first..span.rows.end.min(first + step), causal));
        }
        from += 1;
    }
}

/// Attention tile by tile.
pub(super) fn attend(packed: &Tensor<2>, tiles: &[Tile], shape: HeadShape) -> Tensor<2> {
    let parts = tiles.iter().map(|tile| tile.attend(tile.take(packed), shape));
    Tensor::cat(parts.collect(), 0)
}

/// The gradient with respect to `packed`, tile by tile: the graph of one exists at a time.
pub(super) fn gradient(packed: &Tensor<2>, upstream: &Tensor<2>, tiles: &[Tile], shape: HeadShape) -> Tensor<2> {
    let [n, width] = packed.dims();
    let mut sum = Tensor::zeros([n, width], (&packed.device(), DType::F32));
    for tile in tiles {
        let targets = tile.targets();
        let upstream = upstream.clone().narrow(0, targets.start, targets.len());
        let own = tile.gradient(tile.take(packed), upstream, shape);
        let mut from = 0;
        for rows in &tile.rows {
            let place = [rows.clone(), 0..width];
            let part = own.clone().narrow(0, from, rows.len());
            sum = sum.clone().slice_assign(place.clone(), sum.slice(place) + part);
            from += rows.len();
        }
    }
    sum
}

/// The gradient of a function with respect to `x`, from that of its result, in float32.
pub(super) fn pulled(x: Tensor<2>, upstream: Tensor<2>, f: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
    let leaf = Tensor::from_inner(x).require_grad();
    let mut gradients = (f(leaf.clone()) * Tensor::from_inner(upstream)).sum().backward();
    super::cast(leaf.grad_remove(&mut gradients).expect("the function looks at it"), DType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    const SHAPE: HeadShape = HeadShape { heads: 4, kv_heads: 2, width: 8 };

    fn numbers(rows: usize, columns: usize, salt: usize) -> Tensor<2> {
        let value = |i: usize| ((i * 37 + salt * 101) % 61) as f32 / 30.0 - 1.0;
        Tensor::from_data(TensorData::new((0..rows * columns).map(value).collect(), [rows, columns]), &Device::flex())
    }

    fn host(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_to_vec().expect("float32")
    }

    /// Any cut gives what the whole gives, in values and gradients.
    #[test]
    fn cuts_do_not_show() {
        let plans = [
            AttentionPlan::shared_prefix([(9, [5, 1, 30].as_slice()), (4, &[2]), (40, &[7, 7])]),
            AttentionPlan::separate(&[33, 1, 12], false),
            AttentionPlan::separate(&[5, 21], true),
        ];
        for plan in plans {
            let (packed, upstream) = (numbers(plan.tokens, SHAPE.packed(), 1), numbers(plan.tokens, 32, 2));
            let one = [Tile::of_groups(&plan.groups, plan.causal)];
            let expected = [host(attend(&packed, &one, SHAPE)), host(gradient(&packed, &upstream, &one, SHAPE))];
            let plan = Arc::new(plan);
            let whole = host(super::super::attention::whole(packed.clone(), &plan, SHAPE));
            assert_eq!(whole, expected[0]);
            for most in [30, 200, 700] {
                let mut cut = Vec::new();
                for group in &plan.groups {
                    cut_group(&group.spans, most, plan.causal, &mut cut);
                }
                assert!(most > 30 || cut.len() > plan.groups.len(), "{} tiles", cut.len());
                let found = [host(attend(&packed, &cut, SHAPE)), host(gradient(&packed, &upstream, &cut, SHAPE))];
                for (found, expected) in found.iter().zip(&expected) {
                    for (a, b) in found.iter().zip(expected) {
                        assert!((a - b).abs() < 2e-6 * (1.0 + b.abs()), "{a} and {b} with {most} scores");
                    }
                }
            }
        }
    }

    #[test]
    fn no_tile_has_more_scores_than_allowed() {
        let lengths = [8192; 8];
        let plan = AttentionPlan::shared_prefix([(1000, lengths.as_slice()), (300, &[20; 8]), (300, &[20; 8])]);
        let tiles = tiles(&plan, 16);
        let mut next = 0;
        for tile in &tiles {
            let sum: usize = tile.plan.groups.iter().flat_map(|group| &group.spans).map(scores).sum();
            assert!(sum * 16 <= MOST_SCORES, "{sum} scores");
            assert_eq!(tile.targets().start, next);
            next = tile.targets().end;
        }
        assert_eq!(next, plan.tokens);
        let small = AttentionPlan::shared_prefix([(300, [20; 8].as_slice()), (300, &[20; 8])]);
        assert!(super::tiles(&small, 16).is_empty());
    }
}
