//! Attention of packed tokens in padded batches, without a graph, and its gradient written out: of what is as large as the scores, only the
//! scores and their weights exist, and a kernel takes each to the other in one pass.
//!
//! Batches and their legend are those of [`crate::composed`]: S spans, G groups, R responses of a group, T tokens of a span, P tokens of a
//! prefix, h heads, k key and value heads, w width.

use super::softmax::{Scores, weigh, weigh_back};
use crate::HeadShape;
use crate::composed::{Layout, Plain, Prefixed, cast, product};
use burn::tensor::{DType, Int, Tensor};

/// Packed queries, keys and values; see [`crate::attention`].
pub(crate) fn attend(packed: &Tensor<2>, layout: &Layout, shape: HeadShape) -> Tensor<2> {
    let mut parts: Vec<Tensor<2>> = Vec::new();
    parts.extend(layout.plain.iter().map(|batch| OfPlain::new(batch, packed, shape).attend()));
    parts.extend(layout.prefixed.iter().map(|batch| OfPrefixed::new(batch, packed, shape).attend()));
    layout.place.of(Tensor::cat(parts, 0))
}

/// The gradient with respect to `packed`, in float32, from that of the result.
pub(crate) fn gradient(packed: &Tensor<2>, upstream: &Tensor<2>, layout: &Layout, shape: HeadShape) -> Tensor<2> {
    let upstream = cast(upstream.clone(), packed.dtype());
    let plain = layout.plain.iter().map(|batch| OfPlain::new(batch, packed, shape).gradient(&upstream));
    let prefixed = layout.prefixed.iter().map(|batch| OfPrefixed::new(batch, packed, shape).gradient(&upstream));
    plain.chain(prefixed).reduce(|sum, part| sum + part).expect("a plan has spans")
}

fn wide(x: Tensor<4>) -> Tensor<4> {
    cast(x, DType::F32)
}

/// The lengths that a kernel reads, as one row of numbers.
fn flat<const D: usize>(lengths: &Tensor<D, Int>) -> Tensor<1, Int> {
    let count = lengths.shape().num_elements();
    lengths.clone().reshape([count])
}

/// Spans without prefix.
struct OfPlain<'b> {
    batch: &'b Plain,
    shape: HeadShape,
    scores: Scores,
    seen: [Tensor<1, Int>; 2],
    /// `[S, k, h / k T, w]`, in float32 the first.
    queries: Tensor<4>,
    /// `[S, k, T, w]`, in float32 the keys.
    keys: Tensor<4>,
    values: Tensor<4>,
    /// `[S, k, h / k T, T]`
    weights: Tensor<4>,
}

impl<'b> OfPlain<'b> {
    fn new(batch: &'b Plain, packed: &Tensor<2>, shape: HeadShape) -> Self {
        let HeadShape { heads: h, kv_heads: k, width: w } = shape;
        let (s, t) = (batch.spans, batch.tokens);
        let rows = batch.own.of(packed.clone());
        let part = |first: usize, count: usize| -> Tensor<4> {
            rows.clone().narrow(1, first * w, count * w).reshape([s, t, count, w]).permute([0, 2, 1, 3])
        };
        let (queries, keys, values) =
            (wide(part(0, h)).reshape([s, k, h / k * t, w]), wide(part(h, k)), part(h + k, k));
        let visible = flat(&batch.visible);
        // without a prefix, nothing of it is read
        let seen = [visible.clone(), visible];
        let scores = Scores {
            groups: s,
            heads: h,
            responses: 1,
            tokens: t,
            prefix_tokens: 0,
            scale: shape.scale(),
            dtype: packed.dtype(),
        };
        let found = product(queries.clone(), keys.clone().swap_dims(2, 3));
        let [_, weights] = weigh([found.clone(), found], seen.clone(), scores);
        Self { batch, shape, scores, seen, queries, keys, values, weights }
    }

    /// `[S T, h w]`
    fn attend(self) -> Tensor<2> {
        let HeadShape { heads: h, width: w, .. } = self.shape;
        let (s, t) = (self.batch.spans, self.batch.tokens);
        let attended = product(self.weights, self.values).reshape([s, h, t, w]);
        attended.permute([0, 2, 1, 3]).reshape([s * t, h * w])
    }

    fn gradient(self, upstream: &Tensor<2>) -> Tensor<2> {
        let HeadShape { heads: h, kv_heads: k, width: w } = self.shape;
        let (s, t) = (self.batch.spans, self.batch.tokens);
        let upstream = self.batch.own.of(upstream.clone()).reshape([s, t, h, w]).permute([0, 2, 1, 3]);
        let upstream: Tensor<4> = upstream.reshape([s, k, h / k * t, w]);
        let of_weights = product(upstream.clone(), self.values.swap_dims(2, 3));
        let (weights, of) = (self.weights.clone(), of_weights);
        let [_, of_scores] = weigh_back([weights.clone(), weights], [of.clone(), of], self.seen, self.scores);
        let of_queries = product(of_scores.clone(), self.keys).reshape([s, h, t, w]);
        let of_keys = product(of_scores.swap_dims(2, 3), self.queries);
        let of_values = wide(product(self.weights.swap_dims(2, 3), upstream));
        let rows = |x: Tensor<4>, heads: usize| x.permute([0, 2, 1, 3]).reshape([s * t, heads * w]);
        self.batch.own.back(Tensor::cat(vec![rows(of_queries, h), rows(of_keys, k), rows(of_values, k)], 1))
    }
}

/// Groups of responses behind a prefix. Matrices against the prefix come first in pairs, those against own tokens second.
struct OfPrefixed<'b> {
    batch: &'b Prefixed,
    shape: HeadShape,
    scores: Scores,
    seen: [Tensor<1, Int>; 2],
    /// `[G, k, h / k R T, w]` and `[G R, k, h / k T, w]`, in float32.
    queries: [Tensor<4>; 2],
    /// `[G, k, P, w]` and `[G R, k, T, w]`, in float32 the keys.
    keys: [Tensor<4>; 2],
    values: [Tensor<4>; 2],
    /// `[G, k, h / k R T, P]` and `[G R, k, h / k T, T]`
    weights: [Tensor<4>; 2],
}

impl<'b> OfPrefixed<'b> {
    fn new(batch: &'b Prefixed, packed: &Tensor<2>, shape: HeadShape) -> Self {
        let HeadShape { heads: h, kv_heads: k, width: w } = shape;
        let (g, r, t, p) = (batch.groups, batch.responses, batch.tokens, batch.prefix_tokens);
        let own = batch.own.of(packed.clone());
        let shared = batch.prefix.of(packed.clone().narrow(1, h * w, 2 * k * w));
        let pair = |first: usize| -> [Tensor<4>; 2] {
            let shared = shared.clone().narrow(1, first * w, k * w).reshape([g, p, k, w]);
            let own = own.clone().narrow(1, (h + first) * w, k * w).reshape([g * r, t, k, w]);
            [shared, own].map(|part| part.permute([0, 2, 1, 3]))
        };
        let queries = split(cast(own.clone().narrow(1, 0, h * w), DType::F32), batch, shape);
        let (keys, values) = (pair(0).map(wide), pair(k));
        let scores = Scores {
            groups: g,
            heads: h,
            responses: r,
            tokens: t,
            prefix_tokens: p,
            scale: shape.scale(),
            dtype: packed.dtype(),
        };
        let seen = [flat(&batch.prefix_visible), flat(&batch.visible)];
        let found = both(&queries, &keys, |queries, keys| product(queries, keys.swap_dims(2, 3)));
        let weights = weigh(found, seen.clone(), scores);
        Self { batch, shape, scores, seen, queries, keys, values, weights }
    }

    /// `[G R T, h w]`
    fn attend(self) -> Tensor<2> {
        let parts = both(&self.weights, &self.values, product);
        together(parts, self.batch, self.shape)
    }

    fn gradient(self, upstream: &Tensor<2>) -> Tensor<2> {
        let HeadShape { heads: h, kv_heads: k, width: w } = self.shape;
        let (g, r, t, p) = (self.batch.groups, self.batch.responses, self.batch.tokens, self.batch.prefix_tokens);
        let upstream = split(self.batch.own.of(upstream.clone()), self.batch, self.shape);
        let of_weights = both(&upstream, &self.values, |upstream, values| product(upstream, values.swap_dims(2, 3)));
        let of_scores = weigh_back(self.weights.clone(), of_weights, self.seen, self.scores);
        let of_queries = together(both(&of_scores, &self.keys, product), self.batch, self.shape);
        let turned = |x: Tensor<4>, y: Tensor<4>| wide(product(x.swap_dims(2, 3), y));
        let [shared_keys, own_keys] = both(&of_scores, &self.queries, turned);
        let [shared_values, own_values] = both(&self.weights, &upstream, turned);
        let rows = |x: Tensor<4>, count: usize| x.permute([0, 2, 1, 3]).reshape([count, k * w]);
        let [own_keys, own_values] = [own_keys, own_values].map(|x| rows(x, g * r * t));
        let own = self.batch.own.back(Tensor::cat(vec![of_queries, own_keys, own_values], 1));
        let shared = Tensor::cat([shared_keys, shared_values].map(|x| rows(x, g * p)).to_vec(), 1);
        let shared = self.batch.prefix.back(shared);
        let (of_queries, others) = (own.clone().narrow(1, 0, h * w), own.narrow(1, h * w, 2 * k * w));
        Tensor::cat(vec![of_queries, others + shared], 1)
    }
}

/// A function of two pairs, pair by pair.
fn both(a: &[Tensor<4>; 2], b: &[Tensor<4>; 2], f: impl Fn(Tensor<4>, Tensor<4>) -> Tensor<4>) -> [Tensor<4>; 2] {
    std::array::from_fn(|at| f(a[at].clone(), b[at].clone()))
}

/// Rows `[G R T, h w]` as `[G, k, h / k R T, w]` and as `[G R, k, h / k T, w]`.
fn split(rows: Tensor<2>, batch: &Prefixed, shape: HeadShape) -> [Tensor<4>; 2] {
    let HeadShape { heads: h, kv_heads: k, width: w } = shape;
    let (g, r, t) = (batch.groups, batch.responses, batch.tokens);
    let rows: Tensor<5> = rows.reshape([g, r, t, h, w]);
    let to_prefix = rows.clone().permute([0, 3, 1, 2, 4]).reshape([g, k, h / k * r * t, w]);
    [to_prefix, rows.permute([0, 1, 3, 2, 4]).reshape([g * r, k, h / k * t, w])]
}

/// The sum of rows that are split so: `[G R T, h w]`.
fn together([before, behind]: [Tensor<4>; 2], batch: &Prefixed, shape: HeadShape) -> Tensor<2> {
    let HeadShape { heads: h, width: w, .. } = shape;
    let (g, r, t) = (batch.groups, batch.responses, batch.tokens);
    let before: Tensor<5> = before.reshape([g, h, r, t, w]).permute([0, 2, 3, 1, 4]);
    let behind: Tensor<5> = behind.reshape([g, r, h, t, w]).permute([0, 1, 3, 2, 4]);
    (before + behind).reshape([g * r * t, h * w])
}
