//! Floating-point operations of matrix products, counted from shapes: a product of [m, k] and [k, n] is 2 m k n.
//!
//! Attention counts the pairs of query and key that see each other. Element-wise work is not counted, and neither is what a kernel
//! computes twice to save memory (the output head's logits in its backward pass), so that a share of a device's rate means useful work.

use super::GroupSize;
use percept_models::{Outline, TextSizes, VisionSizes};
use std::ops::{Add, AddAssign, Mul};

/// Operations by part of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Flops {
    pub(crate) vision: f64,
    /// Linear maps of the decoder.
    pub(crate) decoder: f64,
    /// Scores and weighted sums of the decoder's attention.
    pub(crate) attention: f64,
    /// The output head.
    pub(crate) head: f64,
}

impl Flops {
    pub(crate) fn total(&self) -> f64 {
        self.vision + self.decoder + self.attention + self.head
    }
}

impl Add for Flops {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            vision: self.vision + other.vision,
            decoder: self.decoder + other.decoder,
            attention: self.attention + other.attention,
            head: self.head + other.head,
        }
    }
}

impl AddAssign for Flops {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<f64> for Flops {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self {
            vision: self.vision * factor,
            decoder: self.decoder * factor,
            attention: self.attention * factor,
            head: self.head * factor,
        }
    }
}

/// What is done besides the plain passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Training {
    /// Whether the vision tower learns; frozen, it only goes forward.
    pub(crate) vision_learns: bool,
    /// Whether blocks are computed again for their backward pass.
    pub(crate) recompute: bool,
}

/// Features of pictures.
pub(crate) fn vision(outline: &Outline, pictures: &[[usize; 3]]) -> f64 {
    let VisionSizes { hidden, intermediate, depth, full_blocks, window, merged, .. } = outline.vision;
    let frame_width = outline.vision.patch_width / outline.vision.frames;
    let block = 2 * (hidden * 3 * hidden + hidden * hidden + hidden * 2 * intermediate + intermediate * hidden);
    let mut total = 0f64;
    for &[time, height, width] in pictures {
        let frame = height * width;
        let patches = (time * frame) as f64;
        total += patches * (2 * frame_width * hidden + depth * block) as f64;
        // windows at the right and lower edge are smaller
        let cuts =
            |side: usize| -> f64 { (0..side).step_by(window).map(|from| window.min(side - from).pow(2) as f64).sum() };
        let seen_in_windows = cuts(height) * cuts(width);
        let seen_in_full = (frame as f64).powi(2);
        let pairs = full_blocks as f64 * seen_in_full + (depth - full_blocks) as f64 * seen_in_windows;
        total += 4.0 * hidden as f64 * time as f64 * pairs;
        let wide = merged * hidden;
        total += patches / merged as f64 * (2 * wide * wide + 2 * wide * outline.text.hidden) as f64;
    }
    total
}

/// The decoder's maps on `rows` rows, of which `wanted` go all the way: the last block computes keys and values only for the others.
fn maps(text: &TextSizes, rows: f64, wanted: f64) -> f64 {
    let TextSizes { hidden, intermediate, layers, queries, keys, .. } = *text;
    let qkv = (2 * hidden * (queries + 2 * keys)) as f64;
    let rest = (2 * (queries * hidden + 3 * hidden * intermediate)) as f64;
    layers as f64 * rows * qkv + ((layers - 1) as f64 * rows + wanted) * rest
}

/// Attention over this many pairs of query and key.
fn attention(text: &TextSizes, pairs: f64) -> f64 {
    4.0 * (text.layers * text.queries) as f64 * pairs
}

fn triangle(length: usize) -> f64 {
    length as f64 * (length + 1) as f64 / 2.0
}

/// Log-probabilities of all responses of groups, without gradient.
pub(crate) fn scoring(outline: &Outline, groups: &[GroupSize]) -> Flops {
    let text = &outline.text;
    let mut total = Flops::default();
    for group in groups {
        let wanted = group.response_tokens() as f64;
        let behind = |length: &usize| ((length - 1) * group.prompt) as f64 + triangle(length - 1);
        let pairs = triangle(group.prompt) + group.responses.iter().map(behind).sum::<f64>();
        total += Flops {
            vision: vision(outline, &group.pictures),
            decoder: maps(text, group.rows() as f64, wanted),
            attention: attention(text, pairs),
            head: 2.0 * wanted * (text.hidden * text.vocabulary) as f64,
        };
    }
    total
}

/// The backward pass of [`scoring`]: a product for the input's gradient and one for the weight's.
pub(crate) fn backward(outline: &Outline, groups: &[GroupSize], how: Training) -> Flops {
    let forward = scoring(outline, groups);
    let mut total = forward * 2.0;
    if how.recompute {
        total += Flops { head: 0.0, ..forward };
    }
    if !how.vision_learns {
        total.vision = 0.0;
    }
    total
}

/// Prompts computed once, with the logits behind each.
pub(crate) fn prefill(outline: &Outline, groups: &[GroupSize]) -> Flops {
    let text = &outline.text;
    let mut total = Flops::default();
    for group in groups {
        total += Flops {
            vision: vision(outline, &group.pictures),
            decoder: maps(text, group.prompt as f64, 1.0),
            attention: attention(text, triangle(group.prompt)),
            head: 2.0 * (text.hidden * text.vocabulary) as f64,
        };
    }
    total
}

/// All tokens of all responses but the first of each, one by one.
pub(crate) fn decode(outline: &Outline, groups: &[GroupSize]) -> Flops {
    let text = &outline.text;
    let mut total = Flops::default();
    for group in groups {
        let steps: usize = group.responses.iter().map(|length| length - 1).sum();
        let behind = |length: &usize| ((length - 1) * group.prompt) as f64 + triangle(length - 1);
        total += Flops {
            vision: 0.0,
            decoder: maps(text, steps as f64, steps as f64),
            attention: attention(text, group.responses.iter().map(behind).sum()),
            head: 2.0 * (steps * text.hidden * text.vocabulary) as f64,
        };
    }
    total
}

/// Bytes that one decoding step must read: all weights that it multiplies with, prompts' keys and values once for each prompt, and
/// those of each row's own tokens.
pub(crate) fn decode_bytes(
    outline: &Outline,
    bytes_of_weight: impl Fn(bool) -> usize,
    bytes_of_key: usize,
    prompt_tokens: usize,
    own_tokens: usize,
) -> f64 {
    let weights = outline.parameters.iter().filter(|parameter| parameter.decodes);
    let weights: usize = weights.map(|parameter| parameter.len * bytes_of_weight(parameter.rounds)).sum();
    let text = &outline.text;
    let cached = 2 * text.keys * text.layers * (prompt_tokens + own_tokens);
    (weights + cached * bytes_of_key) as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use percept_models::Described;

    pub(crate) fn of_size(size: &str) -> Outline {
        let from = Described::Size { family: "qwen2_5_vl", size };
        percept_models::outline(from, &burn::tensor::Device::flex()).expect("a size")
    }

    fn group(prompt: usize, responses: &[usize]) -> GroupSize {
        GroupSize { prompt, pictures: vec![[1, 6, 6]], responses: responses.to_vec() }
    }

    /// 2 operations for each weight and row, as everyone counts, where attention and pictures do not matter.
    #[test]
    fn long_maps_come_to_two_operations_for_each_weight_and_row() {
        let outline = of_size("3b");
        let groups = [GroupSize { pictures: Vec::new(), ..group(1, &[2]) }];
        let weights: usize =
            outline.parameters.iter().filter(|p| p.names[0].starts_with("model.layers")).map(|p| p.len).sum();
        let found = scoring(&outline, &groups);
        // one prompt row and one of the response, both of them predict
        let expected = 2.0 * 2.0 * weights as f64;
        assert!((found.decoder / expected - 1.0).abs() < 1e-3, "{} of {expected}", found.decoder);
        assert_eq!(found.head, 2.0 * 2.0 * (2048.0 * 151_936.0));
        // 36 layers of 2048 wide queries; the prompt sees itself, and the response's token both
        assert_eq!(found.attention, 36.0 * 4.0 * 2048.0 * 3.0);
    }

    #[test]
    fn pairs_of_packed_attention_are_those_that_see_each_other() {
        let outline = of_size("tiny");
        let pairs = |group: &GroupSize| -> f64 {
            let mut pairs = 0;
            for i in 0..group.prompt {
                pairs += i + 1;
            }
            for &length in &group.responses {
                for i in 0..length - 1 {
                    pairs += group.prompt + i + 1;
                }
            }
            f64::from(u32::try_from(pairs).expect("few"))
        };
        let one = group(7, &[3, 1, 5]);
        assert_eq!(scoring(&outline, std::slice::from_ref(&one)).attention, 4.0 * 4.0 * 96.0 * pairs(&one));
        // decoding the same tokens looks at the same pairs, but for the prompt's own
        let prompt = prefill(&outline, std::slice::from_ref(&one)).attention;
        let decoded = decode(&outline, std::slice::from_ref(&one)).attention;
        assert_eq!(prompt + decoded, scoring(&outline, &[one]).attention);
    }

    #[test]
    fn repeated_prompts_cost_what_they_repeat() {
        let outline = of_size("4m");
        let one = group(100, &[9; 8]);
        let (shared, padded) = (scoring(&outline, std::slice::from_ref(&one)), scoring(&outline, &one.repeated()));
        assert_eq!(padded.vision, 8.0 * shared.vision);
        assert_eq!(padded.head, shared.head);
        let ratio = padded.decoder / shared.decoder;
        assert!((4.0..8.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn frozen_vision_goes_forward_only_and_recomputing_adds_a_pass() {
        let outline = of_size("4m");
        let groups = [group(40, &[9; 4])];
        let forward = scoring(&outline, &groups);
        let plain = backward(&outline, &groups, Training { vision_learns: true, recompute: false });
        assert_eq!(plain, forward * 2.0);
        let other = backward(&outline, &groups, Training { vision_learns: false, recompute: true });
        assert_eq!((other.vision, other.decoder, other.head), (0.0, forward.decoder * 3.0, forward.head * 2.0));
    }

    #[test]
    fn windows_at_the_edge_are_smaller() {
        let outline = of_size("tiny");
        // a window is 8 patches wide; 10 x 8 patches are a window of 8 x 8 and one of 2 x 8; a patch has two equal frames of 588 values
        let one = |grid| vision(&outline, &[grid]);
        let maps = |patches: f64| {
            let (w, f, wide) = (64.0, 172.0, 256.0);
            patches * 2.0 * (588.0 * w + 2.0 * (4.0 * w * w + 3.0 * w * f)) + patches / 4.0 * 2.0 * wide * (wide + 96.0)
        };
        let pairs = 80f64.powi(2) + 64f64.powi(2) + 16f64.powi(2);
        assert_eq!(one([1, 10, 8]), maps(80.0) + 4.0 * 64.0 * pairs);
    }
}
