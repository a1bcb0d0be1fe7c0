//! Coefficients over the steps of a run.

/// From `start` to `end` in equal steps over the first int(total * fraction) steps (at least one), then `end`.
///
/// PAPO `AnnealingKLController`.
pub fn linear(start: f64, end: f64, total_steps: u64, fraction: f64, step: u64) -> f64 {
    let over = ((total_steps as f64 * fraction) as u64).max(1);
    let done = step.min(over) as f64 / over as f64;
    start + (end - start) * done
}

/// The coefficient after a batch of `num_samples` whose KL was `observed`: proportional control towards `target`
/// (Ziegler et al., arXiv 1909.08593, section 2.2).
pub fn adaptive(coefficient: f64, observed: f64, target: f64, horizon: f64, num_samples: u64) -> f64 {
    let error = (observed / target - 1.0).clamp(-0.2, 0.2);
    coefficient * (1.0 + error * num_samples as f64 / horizon)
}
