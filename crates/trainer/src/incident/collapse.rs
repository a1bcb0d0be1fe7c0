//! The signature of a policy that games the perception term, from the metrics of past steps.
//!
//! PAPO (arXiv 2507.06448, section 5.4 and figure 11): the divergence's loss plunges together with the reward, while the clip fraction and the
//! entropies with the picture and without it keep rising. A loss that plunges is a divergence that leaves its level, to either side;
//! the reward tells that it is not learning.

use crate::Metrics;
use std::collections::VecDeque;

/// The last steps' metrics, enough for two spans.
#[derive(Clone, Debug, Default)]
pub struct History {
    window: usize,
    steps: VecDeque<Metrics>,
}

/// Least relative change of a span's mean against the span before.
const DIVERGENCE: f64 = 0.5;
const REWARD: f64 = 0.15;
const CLIP: f64 = 0.5;
const ENTROPY: f64 = 0.1;
/// Clipping below this is noise.
const LEAST_CLIP: f64 = 0.002;

impl History {
    pub fn new(window: usize) -> Self {
        Self { window, steps: VecDeque::new() }
    }

    /// Takes a step's metrics; tells in words what is wrong when the last `window` steps show the signature against the `window` before.
    pub fn push(&mut self, metrics: &Metrics) -> Option<String> {
        if self.window == 0 {
            return None;
        }
        self.steps.push_back(metrics.clone());
        if self.steps.len() > 2 * self.window {
            self.steps.pop_front();
        }
        if self.steps.len() < 2 * self.window {
            return None;
        }
        let found = self.signature();
        if found.is_some() {
            // told once; the next time needs two spans again
            self.steps.clear();
        }
        found
    }

    /// Means of the older and the newer span.
    fn spans(&self, name: &str) -> Option<(f64, f64)> {
        let values: Vec<f64> = self.steps.iter().map(|step| step.get(name)).collect::<Option<_>>()?;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (old, new) = values.split_at(self.window);
        Some((mean(old), mean(new)))
    }

    fn signature(&self) -> Option<String> {
        let change = |(old, new): (f64, f64)| (new - old) / old.abs().max(1e-9);
        let divergence = self.spans("objective/kl_prcp")?;
        let (reward, clip) = (self.spans("reward/overall")?, self.spans("objective/clip_fraction_high")?);
        let nll = self.spans("objective/nll")?;
        // the masked view's entropy where the objective measures it
        let masked = self.spans("objective/masked_entropy");
        let rises = |span: Option<(f64, f64)>| span.is_none_or(|span| change(span) > ENTROPY);
        let collapses = change(divergence).abs() > DIVERGENCE
            && change(reward) < -REWARD
            && change(clip) > CLIP
            && clip.1 > LEAST_CLIP
            && rises(Some(nll))
            && rises(masked);
        collapses.then(|| {
            let span = |name: &str, (old, new): (f64, f64)| format!("{name} {old:.4} -> {new:.4}");
            let mut parts = vec![
                span("divergence", divergence),
                span("reward", reward),
                span("clip fraction", clip),
                span("entropy (nll)", nll),
            ];
            parts.extend(masked.map(|masked| span("masked entropy", masked)));
            format!("means of the last {} steps against the {} before: {}", self.window, self.window, parts.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(divergence: f64, reward: f64, clip: f64, entropy: f64) -> Metrics {
        let mut metrics = Metrics::default();
        metrics.set("objective/kl_prcp", divergence);
        metrics.set("reward/overall", reward);
        metrics.set("objective/clip_fraction_high", clip);
        metrics.set("objective/nll", entropy);
        metrics.set("objective/masked_entropy", entropy + 0.2);
        metrics
    }

    /// At which of 40 steps something is said.
    fn told(course: impl Fn(f64) -> Metrics) -> Vec<usize> {
        let mut history = History::new(5);
        (0..40).filter(|&n| history.push(&course(f64::from(n as u32))).is_some()).collect()
    }

    #[test]
    fn the_signature_is_told_whichever_way_the_divergence_plunges() {
        let late = |n: f64| (n - 20.0).max(0.0);
        for way in [1.0, -0.09] {
            let course = |n: f64| {
                step(
                    (1.0 + way * late(n)).max(0.01),
                    0.6 - 0.025 * late(n),
                    0.004 + 0.002 * late(n),
                    0.5 + 0.1 * late(n),
                )
            };
            let steps = told(course);
            assert!(steps.first().is_some_and(|&first| (22..32).contains(&first)), "{way}: {steps:?}");
        }
    }

    #[test]
    fn learning_and_noise_are_no_collapse() {
        // a run that learns: reward, divergence and clipping rise, entropy falls
        assert!(told(|n| step(0.1 + 0.05 * n, 0.3 + 0.01 * n, 0.001 + 0.0005 * n, 1.0 - 0.01 * n)).is_empty());
        // one sign alone is none
        assert!(told(|n| step(1.0 - 0.02 * n, 0.6, 0.004 + 0.002 * n, 0.5 + 0.1 * n)).is_empty());
        // a method without the term
        let mut history = History::new(1);
        let mut plain = step(0.0, 0.5, 0.1, 1.0);
        plain.0.remove("objective/kl_prcp");
        assert!((0..9).all(|_| history.push(&plain).is_none()));
    }
}
