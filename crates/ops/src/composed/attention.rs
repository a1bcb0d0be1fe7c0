//! Attention of packed tokens in padded batches.
//!
//! Spans without a prefix (prompts, pictures, windows) of similar length are one batch. Groups with a prefix (responses behind their
//! prompt) are one batch, too: the queries of all responses of a group fold into one product with the prompt's keys, and a softmax
//! runs over those scores and the response's own together.
//!
//! Legend: S spans, G groups, R responses of a group, T tokens of a span, P tokens of a prefix, h heads, k key and value heads, w width.

use super::padded::bucket;
use super::tiles::{Tile, attend, gradient, pulled, tiles};
use super::{HIDDEN, Places, cast, indices, product};
use crate::{AttentionPlan, HeadShape, Span};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, DType, Device, Int, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A plan as padded batches on a device.
#[derive(Clone)]
pub(crate) struct Layout {
    pub(crate) plain: Vec<Plain>,
    pub(crate) prefixed: Vec<Prefixed>,
    /// Where each packed row stands among the batches' rows.
    pub(crate) place: Places,
}

/// Spans without prefix.
#[derive(Clone)]
pub(crate) struct Plain {
    pub(crate) spans: usize,
    pub(crate) tokens: usize,
    /// `[S T]`
    pub(crate) own: Places,
    /// `[S, 1, T, 1]`: keys that each query sees.
    pub(crate) visible: Tensor<4, Int>,
}

/// Groups of responses behind a prefix.
#[derive(Clone)]
pub(crate) struct Prefixed {
    pub(crate) groups: usize,
    pub(crate) responses: usize,
    pub(crate) tokens: usize,
    pub(crate) prefix_tokens: usize,
    /// `[G R T]`
    pub(crate) own: Places,
    /// `[G P]`
    pub(crate) prefix: Places,
    /// `[G, 1, 1, 1, 1]`: tokens of each prefix.
    pub(crate) prefix_visible: Tensor<5, Int>,
    /// `[G, 1, R, T, 1]`: keys of its own that each query sees.
    pub(crate) visible: Tensor<5, Int>,
}

/// See [`crate::attention`]. Without a graph, scores exist for a part of the queries at a time.
pub fn attention(packed: Tensor<2>, plan: &Arc<AttentionPlan>, shape: HeadShape) -> Tensor<2> {
    if packed.is_tracked() {
        return whole(packed, plan, shape);
    }
    let tiles = cut(plan, &packed, shape);
    if tiles.is_empty() { whole(packed, plan, shape) } else { attend(&packed, &tiles, shape) }
}

/// See [`crate::attention_gradient`].
pub fn attention_gradient(
    packed: Tensor<2>,
    upstream: Tensor<2>,
    plan: &Arc<AttentionPlan>,
    shape: HeadShape,
) -> Tensor<2> {
    let tiles = cut(plan, &packed, shape);
    match tiles.is_empty() {
        true => whole_gradient(packed, upstream, plan, shape),
        false => gradient(&packed, &upstream, &tiles, shape),
    }
}

/// The gradient of [`whole`], in float32.
pub(super) fn whole_gradient(
    packed: Tensor<2>,
    upstream: Tensor<2>,
    plan: &Arc<AttentionPlan>,
    shape: HeadShape,
) -> Tensor<2> {
    #[cfg(all(feature = "cube", feature = "kernels"))]
    {
        let layout = plan.uploaded.get(&packed.device(), |device| Layout::new(plan, device));
        if layout.place.has_kernel() {
            return crate::cube::gradient(&packed, &upstream, &layout, shape);
        }
    }
    pulled(packed, upstream, |packed| whole(packed, plan, shape))
}

fn cut(plan: &Arc<AttentionPlan>, packed: &Tensor<2>, shape: HeadShape) -> Arc<Vec<Tile>> {
    plan.tiles.get(&packed.device(), |_| Arc::new(tiles(plan, shape.heads)))
}

/// All queries at once.
pub(super) fn whole(packed: Tensor<2>, plan: &Arc<AttentionPlan>, shape: HeadShape) -> Tensor<2> {
    let layout = plan.uploaded.get(&packed.device(), |device| Layout::new(plan, device));
    #[cfg(all(feature = "cube", feature = "kernels"))]
    if layout.place.has_kernel() && !packed.is_tracked() {
        let device = packed.device();
        return match device == device.clone().without_autodiff() {
            true => crate::cube::attend(&packed, &layout, shape),
            // beside others that have a graph
            false => Tensor::from_inner(crate::cube::attend(&packed.inner(), &layout, shape)),
        };
    }
    let mut parts: Vec<Tensor<2>> = layout.plain.iter().map(|batch| batch.attend(&packed, shape)).collect();
    parts.extend(layout.prefixed.iter().map(|batch| batch.attend(&packed, shape)));
    layout.place.of(Tensor::cat(parts, 0))
}

/// For scores: rounded to 8 bits, a score of 8 would be off by 0.03, and its weight by as much of itself.
fn wide(x: Tensor<4>) -> Tensor<4> {
    cast(x, DType::F32)
}

/// Row numbers of a span, padded.
fn padded(rows: std::ops::Range<usize>, tokens: usize) -> impl Iterator<Item = Option<u32>> {
    let (first, length) = (rows.start, rows.len());
    (0..tokens).map(move |t| (t < length).then(|| (first + t) as u32))
}

/// How many keys of its own span each query sees, padded; padding sees one, so that no softmax is empty.
fn visible(length: usize, tokens: usize, causal: bool) -> impl Iterator<Item = u32> {
    (0..tokens).map(move |i| if causal { (i + 1).min(length.max(1)) } else { length.max(1) } as u32)
}

/// Whether key `j` of `keys` is beyond those that are visible, `[.., 1]`; made on the device, so that no mask is kept.
fn beyond<const D: usize>(visible: Tensor<D, Int>, keys: usize) -> Tensor<D, Bool> {
    let (mut shape, mut last) = (visible.dims(), [1; D]);
    (shape[D - 1], last[D - 1]) = (keys, keys);
    let keys = Tensor::<1, Int>::arange(0..keys as i64, &visible.device()).reshape(last);
    keys.expand(shape).greater_equal(visible.expand(shape))
}

impl Layout {
    fn new(plan: &AttentionPlan, device: &Device) -> Self {
        let mut plain: BTreeMap<usize, Vec<&Span>> = BTreeMap::new();
        let mut prefixed: BTreeMap<(usize, usize), Vec<Vec<&Span>>> = BTreeMap::new();
        for group in &plan.groups {
            let spans = group.spans.iter().filter(|span| !span.rows.is_empty());
            let (own, behind): (Vec<&Span>, Vec<&Span>) = spans.partition(|span| span.prefix.is_empty());
            own.into_iter().for_each(|span| plain.entry(bucket(span.rows.len())).or_default().push(span));
            if let Some(first) = behind.first() {
                assert!(behind.iter().all(|span| span.prefix == first.prefix), "a group has one prefix");
                let longest = behind.iter().map(|span| span.rows.len()).max().expect("not empty");
                let key = (bucket(first.prefix.len()), bucket(longest));
                prefixed.entry(key).or_default().push(behind);
            }
        }
        let mut place = vec![None; plan.tokens];
        let mut before = 0;
        let mut put = |span: &Span, at: usize| {
            for (t, row) in span.rows.clone().enumerate() {
                place[row] = Some((at + t) as u32);
            }
        };
        let plain = plain.into_iter().map(|(tokens, spans)| {
            spans.iter().enumerate().for_each(|(s, span)| put(span, before + s * tokens));
            before += spans.len() * tokens;
            Plain::new(&spans, tokens, plan, device)
        });
        let plain = plain.collect();
        let prefixed = prefixed.into_iter().map(|((prefix, tokens), groups)| {
            let responses = groups.iter().map(Vec::len).max().expect("not empty");
            for (g, group) in groups.iter().enumerate() {
                group.iter().enumerate().for_each(|(r, span)| put(span, before + (g * responses + r) * tokens));
            }
            before += groups.len() * responses * tokens;
            Prefixed::new(&groups, [responses, tokens, prefix], plan, device)
        });
        let prefixed = prefixed.collect();
        Self { plain, prefixed, place: Places::new(&place, before, device) }
    }
}

impl Plain {
    fn new(spans: &[&Span], tokens: usize, plan: &AttentionPlan, device: &Device) -> Self {
        let own: Vec<_> = spans.iter().flat_map(|span| padded(span.rows.clone(), tokens)).collect();
        let seen = spans.iter().flat_map(|span| visible(span.rows.len(), tokens, plan.causal)).collect();
        let visible = indices(seen, device).reshape([spans.len(), 1, tokens, 1]);
        Self { spans: spans.len(), tokens, own: Places::new(&own, plan.tokens, device), visible }
    }

    fn attend(&self, packed: &Tensor<2>, shape: HeadShape) -> Tensor<2> {
        let HeadShape { heads: h, kv_heads: k, width: w } = shape;
        let (s, t) = (self.spans, self.tokens);
        let rows = self.own.of(packed.clone());
        let part = |first: usize, count: usize| -> Tensor<4> {
            let part = rows.clone().narrow(1, first * w, count * w);
            part.reshape([s, t, count, w]).permute([0, 2, 1, 3])
        };
        let queries = wide(part(0, h)).reshape([s, k, h / k * t, w]);
        let scores = product(queries, wide(part(h, k)).swap_dims(2, 3)).reshape([s, h, t, t]);
        let scores = scores.mul_scalar(shape.scale());
        let scores = scores.mask_fill(beyond(self.visible.clone(), t).expand([s, h, t, t]), HIDDEN);
        let weights = cast(softmax(scores, 3), packed.dtype()).reshape([s, k, h / k * t, t]);
        let attended = product(weights, part(h + k, k)).reshape([s, h, t, w]);
        attended.permute([0, 2, 1, 3]).reshape([s * t, h * w])
    }
}

impl Prefixed {
    fn new(
        groups: &[Vec<&Span>],
        [responses, tokens, prefix_tokens]: [usize; 3],
        plan: &AttentionPlan,
        device: &Device,
    ) -> Self {
        let (mut own, mut prefix, mut lengths, mut seen) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for group in groups {
            let shared = group[0].prefix.clone();
            lengths.push(shared.len() as u32);
            prefix.extend(padded(shared, prefix_tokens));
            for response in 0..responses {
                let rows = group.get(response).map_or(0..0, |span| span.rows.clone());
                own.extend(padded(rows.clone(), tokens));
                seen.extend(visible(rows.len(), tokens, plan.causal));
            }
        }
        let count = groups.len();
        Self {
            groups: groups.len(),
            responses,
            tokens,
            prefix_tokens,
            own: Places::new(&own, plan.tokens, device),
            prefix: Places::new(&prefix, plan.tokens, device),
            prefix_visible: indices(lengths, device).reshape([count, 1, 1, 1, 1]),
            visible: indices(seen, device).reshape([count, 1, responses, tokens, 1]),
        }
    }

    fn attend(&self, packed: &Tensor<2>, shape: HeadShape) -> Tensor<2> {
        let HeadShape { heads: h, kv_heads: k, width: w } = shape;
        let (g, r, t, p) = (self.groups, self.responses, self.tokens, self.prefix_tokens);
        let fold = h / k;
        let dtype = packed.dtype();
        let own = self.own.of(packed.clone());
        let keys_and_values = packed.clone().narrow(1, h * w, 2 * k * w);
        let shared = self.prefix.of(keys_and_values);
        // [G, k, P, w]
        let shared_part = |first: usize| -> Tensor<4> {
            shared.clone().narrow(1, first * w, k * w).reshape([g, p, k, w]).permute([0, 2, 1, 3])
        };
        // [G R, k, T, w]
        let own_part = |first: usize| -> Tensor<4> {
            own.clone().narrow(1, first * w, k * w).reshape([g * r, t, k, w]).permute([0, 2, 1, 3])
        };
        // [G, R, T, h, w]
        let queries: Tensor<5> = cast(own.clone().narrow(1, 0, h * w).reshape([g, r, t, h, w]), DType::F32);
        let to_prefix = queries.clone().permute([0, 3, 1, 2, 4]).reshape([g, k, fold * r * t, w]);
        let to_own = queries.permute([0, 1, 3, 2, 4]).reshape([g * r, k, fold * t, w]);
        let before: Tensor<5> = product(to_prefix, wide(shared_part(0)).swap_dims(2, 3)).reshape([g, h, r, t, p]);
        let behind: Tensor<5> = product(to_own, wide(own_part(h)).swap_dims(2, 3)).reshape([g, r, h, t, t]);
        let unseen = beyond(self.prefix_visible.clone(), p).expand([g, h, r, t, p]);
        let before = before.mask_fill(unseen, HIDDEN);
        let unseen = beyond(self.visible.clone(), t).expand([g, h, r, t, t]);
        let behind = behind.permute([0, 2, 1, 3, 4]).mask_fill(unseen, HIDDEN);
        let scores = Tensor::cat(vec![before, behind], 4).mul_scalar(shape.scale());
        let weights = cast(softmax(scores, 4), dtype);
        let before = weights.clone().narrow(4, 0, p).reshape([g, k, fold * r * t, p]);
        let before: Tensor<5> = product(before, shared_part(k)).reshape([g, h, r, t, w]);
        let behind = weights.narrow(4, p, t).permute([0, 2, 1, 3, 4]).reshape([g * r, k, fold * t, t]);
        let behind: Tensor<5> = product(behind, own_part(h + k)).reshape([g, r, h, t, w]);
        let attended = before.permute([0, 2, 3, 1, 4]) + behind.permute([0, 1, 3, 2, 4]);
        attended.reshape([g * r * t, h * w])
    }
}
