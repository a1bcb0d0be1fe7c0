//! Tokens chosen where the logits are: for devices from which reading a vocabulary's worth of numbers a token costs more than choosing.
//!
//! The same rule as [`crate::choose`], in float32, without a sort: top-k and top-p become thresholds on the logits, the nucleus's found
//! by halving an interval. Of tokens exactly as likely as the last one that is kept, all are kept.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use percept_core::SamplingSpec;

/// Halvings of the interval of logits (88 wide, below which a weight is 0 in float32): the threshold is known to 1e-6.
const HALVINGS: usize = 27;
const LOWEST: f32 = -88.0;
/// Tokens of a block in the search for the chosen one.
const BLOCK: usize = 512;
const NEVER: f32 = -1e30;
/// No token of a vocabulary is as unlikely as this.
pub(crate) const IMPOSSIBLE: f32 = -1e20;

/// What stays the same for a call of the sampler.
pub(crate) struct DeviceChooser {
    /// 1 for ids that are never chosen: `[1, vocabulary]`, made when the vocabulary is known.
    banned: Option<Tensor<2, Bool>>,
}

impl DeviceChooser {
    pub(crate) fn new() -> Self {
        Self { banned: None }
    }

    /// Chooses a token for each row by its number in [0, 1).
    ///
    /// # Shapes
    /// `logits` `[rows, vocabulary]`, float32; result `[rows, 2]`: ids, and log-probabilities, which are no number or below
    /// [`IMPOSSIBLE`] where nothing can be chosen.
    pub(crate) fn choose(&mut self, logits: Tensor<2>, spec: &SamplingSpec, uniforms: &[f64]) -> Tensor<2> {
        let [rows, vocabulary] = logits.dims();
        let device = logits.device();
        let banned = self.banned.get_or_insert_with(|| mask(&spec.banned_tokens, vocabulary, &device)).clone();
        let banned = banned.expand([rows, vocabulary]);
        let greedy = spec.temperature == 0.0;
        let scale = if greedy { 1.0 } else { 1.0 / spec.temperature };
        let scaled = (logits.clone() - logits.max_dim(1)).mul_scalar(scale);
        let normalizer = scaled.clone().exp().sum_dim(1).log();
        let allowed = scaled.clone().mask_fill(banned, NEVER);
        let token: Tensor<2, Int> = if greedy {
            allowed.clone().argmax(1)
        } else {
            let weights = truncate(allowed.clone(), spec);
            let uniforms: Vec<f32> = uniforms.iter().map(|&uniform| (uniform as f32).min(1.0 - f32::EPSILON)).collect();
            draw(weights, Tensor::from_data(TensorData::new(uniforms, [rows, 1]), &device))
        };
        // of a banned token about -1e30: everything is banned
        let log_prob = allowed.gather(1, token.clone()) - normalizer;
        Tensor::cat(vec![token.float(), log_prob], 1)
    }
}

fn mask(ids: &[u32], vocabulary: usize, device: &Device) -> Tensor<2, Bool> {
    let mut banned = vec![false; vocabulary];
    for &id in ids.iter().filter(|&&id| (id as usize) < vocabulary) {
        banned[id as usize] = true;
    }
    Tensor::from_data(TensorData::new(banned, [1, vocabulary]), device)
}

/// Weights of the tokens that top-k, top-p and min-p leave, 0 for the others: `[rows, vocabulary]`.
fn truncate(logits: Tensor<2>, spec: &SamplingSpec) -> Tensor<2> {
    let vocabulary = logits.dims()[1];
    // relative to the likeliest token that may be chosen, so that its weight is 1
    let mut logits = logits.clone() - logits.max_dim(1);
    let keep_from = |logits: Tensor<2>, threshold: Tensor<2>| {
        let shape = logits.dims();
        let dropped = logits.clone().lower(threshold.expand(shape));
        logits.mask_fill(dropped, NEVER)
    };
    if spec.top_k > 0 && spec.top_k < vocabulary {
        let least = logits.clone().topk(spec.top_k, 1).min_dim(1);
        logits = keep_from(logits, least);
    }
    if spec.top_p < 1.0 {
        let weights = logits.clone().exp();
        let wanted = weights.clone().sum_dim(1).mul_scalar(spec.top_p);
        // tokens from `low` on hold the wanted mass, those from `high` on (but for the likeliest) do not
        let mut low = wanted.clone().zeros_like().add_scalar(LOWEST);
        let mut high = wanted.clone().zeros_like();
        for _ in 0..HALVINGS {
            let middle = (low.clone() + high.clone()).mul_scalar(0.5);
            let dropped = logits.clone().lower(middle.clone().expand(logits.dims()));
            let enough = weights.clone().mask_fill(dropped, 0.0).sum_dim(1).greater_equal(wanted.clone());
            low = low.mask_where(enough.clone(), middle.clone());
            high = middle.mask_where(enough, high);
        }
        logits = keep_from(logits, low);
    }
    if spec.min_p > 0.0 {
        let dropped = logits.clone().lower_scalar(spec.min_p.ln());
        logits = logits.mask_fill(dropped, NEVER);
    }
    logits.exp()
}

/// The inverse of the cumulative distribution in order of ids: `[rows, 1]`.
///
/// First the block in which the sum passes the wanted mass, then the token in it: two short scans instead of one over the vocabulary.
fn draw(weights: Tensor<2>, uniforms: Tensor<2>) -> Tensor<2, Int> {
    let [rows, vocabulary] = weights.dims();
    let blocks = vocabulary.div_ceil(BLOCK);
    let size = if blocks == 1 { vocabulary } else { BLOCK };
    let padding = blocks * size - vocabulary;
    let weights = match padding {
        0 => weights,
        _ => {
            let zeros = Tensor::zeros([rows, padding], &weights.device());
            Tensor::cat(vec![weights, zeros], 1)
        }
    };
    let weights: Tensor<3> = weights.reshape([rows, blocks, size]);
    let sums: Tensor<2> = weights.clone().sum_dim(2).reshape([rows, blocks]);
    let cumulative = sums.clone().cumsum(1);
    let target = uniforms * cumulative.clone().narrow(1, blocks - 1, 1);
    let passed = |cumulative: Tensor<2>, last: usize| -> Tensor<2, Int> {
        let shape = cumulative.dims();
        cumulative.lower_equal(target.clone().expand(shape)).int().sum_dim(1).clamp_max(last as i32)
    };
    let block = passed(cumulative.clone(), blocks - 1);
    let before = (cumulative - sums).gather(1, block.clone());
    let index: Tensor<3, Int> = block.clone().reshape([rows, 1, 1]).expand([rows, 1, size]);
    let inner: Tensor<2> = weights.gather(1, index).reshape([rows, size]);
    let within = passed(inner.clone().cumsum(1) + before, size - 1);
    // where rounding leads to a token without weight, the likeliest of the block
    let weightless = inner.clone().gather(1, within.clone()).lower_equal_scalar(0.0);
    let within = within.mask_where(weightless, inner.argmax(1));
    block.mul_scalar(size as i32) + within
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::{Banned, choose};

    fn spec() -> SamplingSpec {
        SamplingSpec {
            responses_per_prompt: 1,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens: 1,
            stop_tokens: Vec::new(),
            banned_tokens: vec![0, 7],
            seed: 0,
            step: 0,
            evaluation: false,
            kept_activations: 0,
        }
    }

    /// Pseudorandom logits in about [-6, 6].
    fn logits(count: usize, salt: u32) -> Vec<f32> {
        let mut state = salt.wrapping_mul(2_654_435_769) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            f64::from(state) / f64::from(u32::MAX)
        };
        (0..count).map(|_| (12.0 * next() - 6.0) as f32).collect()
    }

    #[test]
    fn chooses_what_the_host_chooses() {
        let mut different = 0;
        for (vocabulary, salt) in [(40, 1), (512, 2), (513, 3), (3000, 4)] {
            let specs = [
                spec(),
                SamplingSpec { temperature: 0.0, ..spec() },
                SamplingSpec { temperature: 0.6, top_p: 0.9, ..spec() },
                SamplingSpec { top_k: 5, ..spec() },
                SamplingSpec { min_p: 0.1, temperature: 1.3, ..spec() },
                SamplingSpec { top_k: 30, top_p: 0.8, min_p: 0.05, ..spec() },
            ];
            for spec in specs {
                const ROWS: usize = 200;
                let values = logits(ROWS * vocabulary, salt);
                let uniforms: Vec<f64> = (0..ROWS).map(|i| (i as f64 + 0.37) / ROWS as f64).collect();
                let tensor = Tensor::from_data(TensorData::new(values.clone(), [ROWS, vocabulary]), &Device::flex());
                let found: Vec<f32> =
                    DeviceChooser::new().choose(tensor, &spec, &uniforms).into_data().try_to_vec().expect("float32");
                let banned = Banned::new(&spec.banned_tokens);
                for ((row, pair), &uniform) in values.chunks(vocabulary).zip(found.chunks(2)).zip(&uniforms) {
                    let wanted = choose(row, &spec, &banned, uniform).expect("a token");
                    if pair[0] as u32 != wanted.token {
                        different += 1;
                        continue;
                    }
                    assert!((pair[1] - wanted.log_prob).abs() < 1e-5, "{} and {}", pair[1], wanted.log_prob);
                }
            }
        }
        // sums in float32 can put a number on the other side of a boundary: one in some hundred thousand
        assert!(different <= 2, "{different} of 4800 choices differ");
    }

    #[test]
    fn nothing_comes_of_nothing() {
        let all: Vec<u32> = (0..4).collect();
        for (values, banned) in [(vec![f32::NAN, 1.0, 2.0, 3.0], vec![]), (vec![1.0, 2.0, 3.0, 4.0], all)] {
            for temperature in [0.0, 1.0] {
                let spec = SamplingSpec { temperature, banned_tokens: banned.clone(), ..spec() };
                let tensor = Tensor::from_data(TensorData::new(values.clone(), [1, 4]), &Device::flex());
                let found: Vec<f32> =
                    DeviceChooser::new().choose(tensor, &spec, &[0.5]).into_data().try_to_vec().expect("float32");
                assert!(found[1].is_nan() || found[1] <= IMPOSSIBLE, "{values:?}: {found:?}");
            }
        }
    }
}
