//! Bytes of what a micro-batch holds: by the fused kernels of the CPU, or by kernels and compositions of operations on an accelerator.
//!
//! Counted from what each operation keeps for its backward pass (`ops/src/cpu`, `ops/src/cube`, `ops/src/composed`). Legend: d hidden width, q width of
//! all queries, k of all keys, f of the multi-layer perceptron.

use crate::cost::GroupSize;
use percept_models::Outline;

/// How operations are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Execution {
    /// By the fused kernels of the CPU, in float32.
    pub(crate) fused: bool,
    /// Bytes of an activation.
    pub(crate) width: usize,
}

/// Bytes of a float32.
const F32: usize = 4;
/// Logits that the fused head holds at once, and rows of the composed one.
const LOGITS: usize = 1 << 20;
const LOGIT_ROWS: usize = 256;
/// The fused attention's rows at once, between these, and so many of their scores where that leaves a choice.
const TILE: [usize; 2] = [64, 256];
const SCORES: usize = 1 << 17;

/// A stack of equal blocks: the decoder, or the vision tower.
#[derive(Clone, Copy)]
struct Stack {
    d: usize,
    q: usize,
    k: usize,
    f: usize,
    heads: usize,
}

impl Stack {
    fn text(outline: &Outline) -> Self {
        let text = outline.text;
        Self { d: text.hidden, q: text.queries, k: text.keys, f: text.intermediate, heads: text.heads }
    }

    fn vision(outline: &Outline) -> Self {
        let vision = outline.vision;
        Self { d: vision.hidden, q: vision.hidden, k: vision.hidden, f: vision.intermediate, heads: vision.heads }
    }

    /// Bytes that the first part of a block keeps for each row: up to and with attention, but for its scores.
    fn attention_kept(&self, how: Execution) -> usize {
        let Self { d, q, k, heads, .. } = *self;
        if how.fused {
            // input and normalized input, packed projection, attended, logarithms of denominators
            return F32 * (2 * d + q + 2 * k + q + heads);
        }
        // input, normalized, the same rounded; queries and keys in float32; values, attended
        F32 * (2 * d + (q + k)) + how.width * (d + k + q)
    }

    /// Bytes that the second part of a block keeps for each row.
    fn perceptron_kept(&self, how: Execution) -> usize {
        let Self { d, f, .. } = *self;
        if how.fused {
            return F32 * (2 * d + 3 * f);
        }
        // input, normalized, rounded; gate and up, and their product
        F32 * (2 * d) + how.width * (d + 3 * f)
    }

    /// Bytes of attention's scores that are kept for each pair of query and key.
    fn pair_kept(&self, how: Execution) -> usize {
        // the exponentials in float32, and the weights in the type of activations
        if how.fused { 0 } else { self.heads * (F32 + how.width) }
    }

    /// Bytes of the results of a block's maps and attention for each row.
    fn results(&self) -> usize {
        let Self { d, q, k, f, .. } = *self;
        F32 * ((q + 2 * k) + q + 2 * d + 2 * f)
    }

    /// Bytes for each row at the widest place of a forward pass that keeps nothing.
    fn forward_peak(&self, how: Execution) -> usize {
        let Self { d, q, k, f, .. } = *self;
        let widest = (2 * d + q + 2 * k).max(d + 2 * q + 2 * k).max(2 * d + 2 * f).max(d + 3 * f);
        if how.fused {
            F32 * widest
        } else {
            F32 * (d + 3 * f).max(d + 2 * (q + k)) + how.width * (d + q + 2 * k).max(2 * f)
        }
    }

    /// Bytes for each row while the backward pass of a block is on its way.
    fn backward_peak(&self, how: Execution) -> usize {
        let Self { d, f, .. } = *self;
        F32 * (2 * d + 3 * f) * if how.fused { 1 } else { 2 }
    }
}

/// Sizes of what is computed at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Micro {
    /// Packed tokens of the decoder.
    pub(crate) rows: usize,
    /// Response tokens, each predicted from a row.
    pub(crate) predicted: usize,
    pub(crate) patches: usize,
    /// Pairs of query and key that a layer of the decoder holds scores of, padding included.
    pairs: f64,
    /// The same for a block of the vision tower that sees whole pictures, and for one that sees windows.
    full_pairs: f64,
    window_pairs: f64,
    responses: usize,
    longest: usize,
}

impl Micro {
    pub(crate) fn of(outline: &Outline, groups: &[GroupSize]) -> Self {
        let mut micro = Self::default();
        for group in groups {
            let longest = group.responses.iter().map(|length| length - 1).max().unwrap_or(0);
            let prompt = group.prompt;
            micro.rows += group.rows();
            micro.predicted += group.response_tokens();
            micro.pairs += (prompt * prompt + group.responses.len() * longest * (prompt + longest)) as f64;
            micro.responses += group.responses.len();
            micro.longest = micro.longest.max(longest + 1);
            for &[time, height, width] in &group.pictures {
                let frame = height * width;
                micro.patches += time * frame;
                micro.full_pairs += time as f64 * (frame as f64).powi(2);
                micro.window_pairs += (time * frame * outline.vision.window.pow(2)) as f64;
            }
        }
        micro
    }
}

/// What a backward pass needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) vision_learns: bool,
    /// Blocks keep their input only and are computed again.
    pub(crate) recompute: bool,
    /// Views that carry gradient.
    pub(crate) live_views: usize,
}

/// Rows of the output head whose graph exists at a time when it is computed again.
const HEAD_ROWS: f64 = 1024.0;

/// Pairs whose scores exist at once where attention goes in tiles.
fn tiled(pairs: f64, heads: usize) -> f64 {
    pairs.min(percept_ops::composed::MOST_SCORES as f64 / heads as f64)
}

/// Bytes kept for the backward pass of one micro-batch.
pub(crate) fn kept(outline: &Outline, micro: &Micro, how: Execution, kept: Kept) -> f64 {
    let (text, vision) = (Stack::text(outline), Stack::vision(outline));
    let layers = outline.text.layers;
    let rows = micro.rows as f64;
    let wanted = micro.predicted as f64;
    // what is computed again is computed in tiles
    let held = |pairs: f64, heads: usize| if kept.recompute { tiled(pairs, heads) } else { pairs };
    let scores = held(micro.pairs, text.heads) * text.pair_kept(how) as f64;
    // one layer: everything for all rows up to attention, the rest of the last layer for the rows that predict
    let layer = rows * (text.attention_kept(how) + text.perceptron_kept(how)) as f64 + scores;
    let last =
        rows * text.attention_kept(how) as f64 + wanted * (F32 * text.d + text.perceptron_kept(how)) as f64 + scores;
    let mut total = if kept.recompute {
        (layers * F32 * text.d) as f64 * rows + layer.max(last)
    } else {
        (layers - 1) as f64 * layer + last
    };
    // last normalization, hidden states, and what the head keeps
    total += wanted * (2 * F32 * text.d) as f64;
    let head_rows = if kept.recompute { wanted.min(HEAD_ROWS) } else { wanted };
    total += if how.fused { wanted * 8.0 } else { head_rows * (outline.text.vocabulary * F32) as f64 };
    if kept.vision_learns {
        let sizes = outline.vision;
        let patches = micro.patches as f64;
        let block = patches * (vision.attention_kept(how) + vision.perceptron_kept(how)) as f64;
        let pairs = vision.pair_kept(how) as f64;
        let (full, windows) = (sizes.full_blocks as f64, (sizes.depth - sizes.full_blocks) as f64);
        total += if kept.recompute {
            patches * (sizes.depth * F32 * sizes.hidden) as f64 + block + pairs * held(micro.full_pairs, vision.heads)
        } else {
            sizes.depth as f64 * block + pairs * (full * micro.full_pairs + windows * micro.window_pairs)
        };
        // the patches themselves, and the merger: its input twice, its inner layer before and behind the activation
        total += patches * (F32 * sizes.patch_width / sizes.frames + F32 * 4 * sizes.hidden) as f64;
    }
    // numbers of the objective, padded: log-probabilities, ratios, masks and what their derivatives need
    let numbers = (60 * F32 * micro.responses * micro.longest) as f64;
    total * kept.live_views as f64 + numbers
}

/// Bytes of what sampling computes for the update of these groups; `vision`: that of the tower, too.
pub(crate) fn sampled(outline: &Outline, groups: &[GroupSize], vision: bool) -> f64 {
    let micro = Micro::of(outline, groups);
    let text = (Stack::text(outline).results() * outline.text.layers * micro.rows) as f64;
    let sizes = outline.vision;
    // the embedded patches, and the merger's two maps of merged ones
    let merger = sizes.hidden + outline.text.hidden / sizes.merged;
    let patch = Stack::vision(outline).results() * sizes.depth + F32 * (sizes.hidden + merger);
    text + if vision { (patch * micro.patches) as f64 } else { 0.0 }
}

/// Bytes that one micro-batch needs at once in a forward pass without gradient.
pub(crate) fn forward(outline: &Outline, micro: &Micro, how: Execution) -> f64 {
    let (text, vision) = (Stack::text(outline), Stack::vision(outline));
    let scores =
        |heads: usize, pairs: f64| if how.fused { 0.0 } else { 3.0 * (F32 * heads) as f64 * tiled(pairs, heads) };
    let decoder = micro.rows as f64 * text.forward_peak(how) as f64 + scores(text.heads, micro.pairs);
    // the whole batch's pictures are in memory as patches before they are features
    let patches = micro.patches as f64;
    let sizes = outline.vision;
    let pictures = patches * (F32 * sizes.patch_width / sizes.frames + vision.forward_peak(how)) as f64
        + scores(vision.heads, micro.full_pairs);
    decoder.max(pictures) + patches / outline.vision.merged as f64 * (F32 * text.d) as f64
}

/// Bytes that the backward pass needs beside what was kept and gradients of weights.
pub(crate) fn backward(outline: &Outline, micro: &Micro, how: Execution, recompute: bool) -> f64 {
    let text = Stack::text(outline);
    let pairs = if recompute { tiled(micro.pairs, text.heads) } else { micro.pairs };
    let scores = if how.fused { 0.0 } else { 2.0 * (F32 * text.heads) as f64 * pairs };
    micro.rows as f64 * text.backward_peak(how) as f64 + scores
}

/// Bytes of logits that exist at once in scoring.
pub(crate) fn logits(outline: &Outline, micro: &Micro, how: Execution) -> f64 {
    let v = outline.text.vocabulary;
    let rows = if how.fused { (LOGITS / v).clamp(16, 1024) } else { 3 * LOGIT_ROWS };
    (rows.min(micro.predicted.max(1) * if how.fused { 1 } else { 3 }) * v * F32) as f64
}

/// Bytes of scratch memory of the fused attention, on this many threads: scores of a tile, twice in the backward pass.
pub(crate) fn scratch(groups: &[GroupSize], how: Execution, threads: usize) -> f64 {
    if !how.fused {
        return 0.0;
    }
    let columns = groups.iter().map(|group| group.prompt + group.responses.iter().max().copied().unwrap_or(0)).max();
    let columns = columns.unwrap_or(0);
    let rows = (SCORES / columns.max(1)).clamp(TILE[0], TILE[1]);
    (2 * threads * rows * columns * F32) as f64
}
