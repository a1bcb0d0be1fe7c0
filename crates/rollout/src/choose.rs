//! One token from its logits: temperature, top-k, top-p, min-p, greedy.

use percept_core::SamplingSpec;

/// A chosen token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    pub token: u32,
    /// Under the untruncated distribution at the temperature (at temperature 1 when greedy).
    pub log_prob: f32,
}

/// Ids that are never chosen.
#[derive(Clone, Debug)]
pub struct Banned(Vec<bool>);

impl Banned {
    pub fn new(ids: &[u32]) -> Self {
        let mut banned = vec![false; ids.iter().max().map_or(0, |&id| id as usize + 1)];
        ids.iter().for_each(|&id| banned[id as usize] = true);
        Self(banned)
    }

    fn holds(&self, id: usize) -> bool {
        self.0.get(id).copied().unwrap_or(false)
    }
}

/// Chooses a token by the number `uniform` in [0, 1); nothing when no token can be chosen.
///
/// Truncation in the order top-k, top-p, min-p, each on what the one before left, renormalized (transformers' and vLLM's order). The
/// inverse of the cumulative distribution is taken in order of ids. The log-probability counts every id, also banned ones, because
/// that is the distribution which scoring sees.
pub fn choose(logits: &[f32], spec: &SamplingSpec, banned: &Banned, uniform: f64) -> Option<Choice> {
    let greedy = spec.temperature == 0.0;
    let scale = if greedy { 1.0 } else { 1.0 / spec.temperature };
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    if !largest.is_finite() || logits.iter().any(|logit| logit.is_nan()) {
        return None;
    }
    let weights: Vec<f32> = logits.iter().map(|&logit| ((logit - largest) * scale).exp()).collect();
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    let choice = |token: usize| {
        let log_prob = f64::from((logits[token] - largest) * scale) - total.ln();
        Some(Choice { token: token as u32, log_prob: log_prob as f32 })
    };
    let allowed = (0..logits.len()).filter(|&id| !banned.holds(id));
    if greedy {
        let first = |a: usize, b: usize| if logits[b] > logits[a] { b } else { a };
        return allowed.reduce(first).and_then(choice);
    }
    let mut candidates: Vec<(usize, f64)> = allowed.map(|id| (id, f64::from(weights[id]))).collect();
    truncate(&mut candidates, spec);
    let mass: f64 = candidates.iter().map(|(_, weight)| weight).sum();
    let mut left = uniform * mass;
    for &(token, weight) in &candidates {
        left -= weight;
        if left < 0.0 {
            return choice(token);
        }
    }
    // rounding can leave a remainder of 1e-16: the last candidate that has any weight
    candidates.iter().rev().find(|(_, weight)| *weight > 0.0).and_then(|&(token, _)| choice(token))
}

/// Leaves the candidates that top-k, top-p and min-p allow, in order of ids.
fn truncate(candidates: &mut Vec<(usize, f64)>, spec: &SamplingSpec) {
    // likelier first; of equals, the smaller id
    let order = |a: &(usize, f64), b: &(usize, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if spec.top_k > 0 && spec.top_k < candidates.len() {
        candidates.select_nth_unstable_by(spec.top_k - 1, order);
        candidates.truncate(spec.top_k);
    }
    if spec.top_p < 1.0 {
        let mass: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let wanted = f64::from(spec.top_p) * mass;
        // tokens below this weight hold less than 1 - top_p together, so the nucleus lies above: only that is sorted
        let floor = (mass - wanted) / candidates.len() as f64;
        candidates.retain(|(_, weight)| *weight >= floor);
        candidates.sort_unstable_by(order);
        let mut before = 0.0;
        let kept = candidates.iter().take_while(|(_, weight)| {
            let keep = before < wanted;
            before += weight;
            keep
        });
        let kept = kept.count().max(1);
        candidates.truncate(kept);
    }
    if spec.min_p > 0.0 {
        let largest = candidates.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
        candidates.retain(|(_, weight)| *weight >= f64::from(spec.min_p) * largest);
    }
    candidates.sort_unstable_by_key(|(id, _)| *id);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(logits: &[f32], spec: &SamplingSpec, uniform: f64) -> Option<Choice> {
        super::choose(logits, spec, &Banned::new(&spec.banned_tokens), uniform)
    }

    fn spec() -> SamplingSpec {
        SamplingSpec {
            responses_per_prompt: 1,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens: 1,
            stop_tokens: Vec::new(),
            banned_tokens: Vec::new(),
            seed: 0,
            step: 0,
            evaluation: false,
            kept_activations: 0,
        }
    }

    fn reachable(logits: &[f32], spec: &SamplingSpec) -> Vec<u32> {
        let mut tokens: Vec<u32> =
            (0..1000).map(|i| choose(logits, spec, f64::from(i) / 1000.0).expect("a token").token).collect();
        tokens.dedup();
        tokens
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [0.1f32, 0.2, 0.3, 0.4].map(f32::ln);
        let mut counts = [0; 4];
        for i in 0..10_000 {
            let choice = choose(&logits, &spec(), (f64::from(i) + 0.5) / 10_000.0).expect("a token");
            counts[choice.token as usize] += 1;
            assert!((choice.log_prob - logits[choice.token as usize]).abs() < 1e-6);
        }
        assert_eq!(counts, [1000, 2000, 3000, 4000]);
    }

    #[test]
    fn truncation_keeps_what_each_rule_allows() {
        let logits = [0.5f32, 0.05, 0.3, 0.15].map(f32::ln);
        let base = spec();
        assert_eq!(reachable(&logits, &SamplingSpec { top_k: 2, ..base.clone() }), [0, 2]);
        assert_eq!(reachable(&logits, &SamplingSpec { top_p: 0.79, ..base.clone() }), [0, 2]);
        assert_eq!(reachable(&logits, &SamplingSpec { top_p: 0.81, ..base.clone() }), [0, 2, 3]);
        assert_eq!(reachable(&logits, &SamplingSpec { top_p: 1e-9, ..base.clone() }), [0]);
        assert_eq!(reachable(&logits, &SamplingSpec { min_p: 0.29, ..base.clone() }), [0, 2, 3]);
        // after top-k 2 the masses are 0.625 and 0.375: top-p sees those
        assert_eq!(reachable(&logits, &SamplingSpec { top_k: 2, top_p: 0.6, ..base.clone() }), [0]);
        assert_eq!(reachable(&logits, &SamplingSpec { banned_tokens: vec![0, 3], ..base.clone() }), [1, 2]);
        let hot = SamplingSpec { temperature: 1e-3, ..base };
        assert_eq!(reachable(&logits, &hot), [0]);
    }

    #[test]
    fn log_probs_are_of_the_untruncated_distribution() {
        let logits = [1.0f32, 2.0, 3.0];
        let spec = SamplingSpec { temperature: 2.0, top_k: 1, banned_tokens: vec![2], ..spec() };
        let choice = choose(&logits, &spec, 0.9).expect("a token");
        let denominator: f64 = logits.iter().map(|l| (f64::from(*l) / 2.0).exp()).sum();
        assert_eq!(choice.token, 1);
        assert!((f64::from(choice.log_prob) - (1.0 - denominator.ln())).abs() < 1e-6);
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_nothing_comes_of_nothing() {
        let greedy = SamplingSpec { temperature: 0.0, ..spec() };
        assert_eq!(choose(&[1.0, 3.0, 3.0], &greedy, 0.7).expect("a token").token, 1);
        assert_eq!(choose(&[f32::NAN, 1.0], &greedy, 0.0), None);
        let banned = SamplingSpec { banned_tokens: vec![0, 1], ..spec() };
        assert_eq!(choose(&[1.0, 2.0], &banned, 0.5), None);
    }
}
