//! Advantages within a group.

/// (R - mean) / (std + 1e-6) with the unbiased standard deviation (n - 1); zeros for a group without variance.
///
/// DeepSeekMath, arXiv 2402.03300, section 4.1.2; constants as in EasyR1 `compute_grpo_outcome_advantage`.
pub fn group_normalized(rewards: &[f32]) -> Vec<f32> {
    let n = rewards.len();
    assert!(n >= 2, "a group-normalized advantage needs at least 2 responses, not {n}");
    let mean = rewards.iter().map(|&r| f64::from(r)).sum::<f64>() / n as f64;
    let squares: f64 = rewards.iter().map(|&r| (f64::from(r) - mean).powi(2)).sum();
    let deviation = (squares / (n - 1) as f64).sqrt();
    // equal rewards leave a rounding error of the mean, which must not become an advantage
    if rewards.iter().all(|r| r == &rewards[0]) {
        return vec![0.0; n];
    }
    rewards.iter().map(|&r| ((f64::from(r) - mean) / (deviation + 1e-6)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unbiased_deviation_and_no_variance() {
        let advantages = group_normalized(&[0.0, 1.0]);
        let want = 0.5 / (0.5f64.sqrt() + 1e-6);
        assert!((f64::from(advantages[1]) - want).abs() < 1e-6);
        assert_eq!(group_normalized(&[0.1; 5]), [0.0; 5]);
    }
}
