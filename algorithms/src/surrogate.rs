//! The clipped policy loss and the divergence to the reference that GRPO and DAPO share.
//!
//! Per token, r = pi_live / pi_behavior: L = max(-A r, -A clip(r, 1 - low, 1 + high)), and for A < 0 at most -A dual
//! (dual clip, arXiv 1912.09729). Clipping happens in log space. Reference: PAPO `core_algos.py:compute_policy_loss`.

use crate::average::{Average, Scope};
use crate::range::{OutOfRange, at_least_zero, in_range};
use burn::tensor::Tensor;
use percept_core::{Evidence, Loss, Metric, Needs, View};
use percept_ops::{KlEstimator, kl};
use serde::{Deserialize, Serialize};

/// Which estimator of the divergence; see [`KlEstimator`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlKind {
    K1,
    K2,
    #[default]
    K3,
    Abs,
}

impl From<KlKind> for KlEstimator {
    fn from(kind: KlKind) -> Self {
        match kind {
            KlKind::K1 => Self::K1,
            KlKind::K2 => Self::K2,
            KlKind::K3 => Self::K3,
            KlKind::Abs => Self::Abs,
        }
    }
}

/// Coefficients of [`ClippedPolicy`]; the defaults are GRPO's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClippedPolicyConfig {
    pub clip_low: f64,
    pub clip_high: f64,
    pub clip_dual: f64,
    pub average: Average,
    /// Of the divergence to the reference in the loss; 0 switches it, and the reference model, off.
    pub kl_coefficient: f64,
    pub kl_estimator: KlKind,
    /// Of the likelihood of right responses (the reference's `use_sft_loss`); 0: none.
    pub imitation_coefficient: f64,
}

impl ClippedPolicyConfig {
    /// # Errors
    /// When a coefficient is out of the range in which the loss means something.
    pub fn check(&self) -> Result<(), OutOfRange> {
        in_range("clip_low", self.clip_low, (0.0..1.0).contains(&self.clip_low), "0 or more and less than 1")?;
        at_least_zero("clip_high", self.clip_high)?;
        in_range("clip_dual", self.clip_dual, self.clip_dual > 1.0, "more than 1 (inf is off)")?;
        at_least_zero("kl_coefficient", self.kl_coefficient)?;
        at_least_zero("imitation_coefficient", self.imitation_coefficient)
    }
}

impl Default for ClippedPolicyConfig {
    fn default() -> Self {
        Self {
            clip_low: 0.2,
            clip_high: 0.3,
            clip_dual: 3.0,
            average: Average::Token,
            kl_coefficient: 0.01,
            kl_estimator: KlKind::K3,
            imitation_coefficient: 0.0,
        }
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct ClippedPolicy {
    config: ClippedPolicyConfig,
}

impl ClippedPolicy {
    /// # Panics
    /// When a coefficient is out of its range: see [`ClippedPolicyConfig::check`].
    pub fn new(config: ClippedPolicyConfig) -> Self {
        config.check().unwrap_or_else(|error| panic!("{error}"));
        Self { config }
    }

    pub fn needs(&self) -> Needs {
        let reference = (self.config.kl_coefficient != 0.0).then_some(View::REFERENCE);
        Needs { views: reference.into_iter().collect(), ..Needs::default() }
    }

    /// Whether a term acts on tokens whose advantage is 0.
    pub fn learns_without_advantage(&self) -> bool {
        self.config.kl_coefficient != 0.0 || self.config.imitation_coefficient != 0.0
    }

    pub fn loss(&self, evidence: &Evidence) -> Loss {
        let config = &self.config;
        let live = evidence.live.log_probs.clone();
        let weights = config.average.weights(evidence, Scope::All);
        let by_token = config.average.by_token().weights(evidence, Scope::All);
        let mut metrics = Vec::new();
        let mut part = |name, values: Tensor<2>, weights: &Tensor<2>| {
            let sum = evidence.sum(values, weights.clone());
            metrics.push(Metric::part(name, sum.clone()));
            sum
        };
        let difference = (live.clone() - evidence.behavior.log_probs.clone()).clamp(-20.0, 20.0);
        let tokens = surrogate(difference.clone(), evidence.advantage.clone(), config);
        part("objective/behavior_kl", difference.neg(), &by_token);
        part("objective/clip_fraction_high", tokens.clipped, &by_token);
        part("objective/clip_fraction_low", tokens.dual_clipped, &by_token);
        part("objective/nll", live.clone().neg(), &weights);
        let mut value = part("objective/policy_loss", tokens.loss, &weights);
        if config.kl_coefficient != 0.0 {
            let reference = evidence.view(View::REFERENCE).log_probs.clone();
            let divergence =
                part("objective/reference_kl", kl(live.clone(), reference, config.kl_estimator.into()), &weights);
            value = value + divergence.mul_scalar(config.kl_coefficient);
        }
        if config.imitation_coefficient != 0.0 {
            // always a token mean, as the reference's
            let right = config.average.by_token().weights(evidence, Scope::Correct);
            let likelihood = part("objective/imitation_nll", live.neg(), &right);
            value = value + likelihood.mul_scalar(config.imitation_coefficient);
        }
        Loss { value, metrics }
    }
}

struct Surrogate {
    loss: Tensor<2>,
    /// 1 where the upper clip decides.
    clipped: Tensor<2>,
    /// 1 where the dual clip decides.
    dual_clipped: Tensor<2>,
}

/// # Shapes
/// `difference` (live - behavior) and `advantage` `[rows, tokens]`; results the same.
fn surrogate(difference: Tensor<2>, advantage: Tensor<2>, config: &ClippedPolicyConfig) -> Surrogate {
    let (low, high) = ((1.0 - config.clip_low).ln(), (1.0 + config.clip_high).ln());
    let free = advantage.clone().neg() * difference.clone().exp();
    let clipped = advantage.clone().neg() * difference.clamp(low, high).exp();
    let is_clipped = free.clone().lower(clipped.clone());
    let higher = free.mask_where(is_clipped.clone(), clipped);
    let bound = advantage.clone().mul_scalar(-config.clip_dual);
    let is_dual = higher.clone().greater(bound.clone()).bool_and(advantage.lower_scalar(0.0));
    Surrogate {
        loss: higher.mask_where(is_dual.clone(), bound),
        clipped: is_clipped.float(),
        dual_clipped: is_dual.float(),
    }
}
