//! Estimators of a Kullback-Leibler divergence from log-probabilities of sampled tokens.
//!
//! Schulman, "Approximating KL Divergence" (2020); clamps as in EasyR1/PAPO `core_algos.py:compute_kl`.

use burn::tensor::Tensor;

/// Per-token estimators of KL(live || other) for tokens sampled from `live`; d = other - live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KlEstimator {
    /// -d: unbiased, may be negative.
    K1,
    /// d^2 / 2: low variance, biased.
    K2,
    /// e^d - d - 1 >= 0: unbiased, with d clamped to [-20, 20] and the result to [-10, 10].
    K3,
    /// |d|
    Abs,
}

/// The estimator for each token.
///
/// # Shapes
/// `live`, `other` `[rows, tokens]`; result the same.
pub fn kl(live: Tensor<2>, other: Tensor<2>, estimator: KlEstimator) -> Tensor<2> {
    match estimator {
        KlEstimator::K1 => live - other,
        KlEstimator::K2 => {
            let d = other - live;
            (d.clone() * d).mul_scalar(0.5)
        }
        KlEstimator::K3 => {
            let d = (other - live).clamp(-20.0, 20.0);
            (d.clone().exp() - d).sub_scalar(1.0).clamp(-10.0, 10.0)
        }
        KlEstimator::Abs => (live - other).abs(),
    }
}
