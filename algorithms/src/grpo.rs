//! GRPO: group-normalized advantages, a clipped policy loss, and a divergence to the reference in the loss.
//!
//! J = E[ mean_t min(r_t A, clip(r_t, 1 - low, 1 + high) A) ] - beta KL(pi || pi_ref), A = (R - mean) / (std + 1e-6).
//! DeepSeekMath, arXiv 2402.03300, eq. 3. The defaults are those of PAPO's runs: token mean (not the printed sequence mean), clip
//! 0.2/0.3, dual clip 3, beta 0.01 with the k3 estimator.

use crate::advantage::group_normalized;
use crate::average::Average;
use crate::surrogate::{ClippedPolicy, ClippedPolicyConfig, KlKind};
use percept_core::{Evidence, GroupOutcome, Loss, Needs, Objective};
use serde::{Deserialize, Serialize};

/// `[objective] kind = "grpo"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpoConfig {
    pub clip_low: f64,
    pub clip_high: f64,
    pub clip_dual: f64,
    pub average: Average,
    /// Of the divergence to the reference; 0 switches it, and the reference model, off.
    pub kl_coefficient: f64,
    pub kl_estimator: KlKind,
    pub imitation_coefficient: f64,
}

impl Default for GrpoConfig {
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
pub struct Grpo {
    policy: ClippedPolicy,
}

impl Grpo {
    pub fn new(config: GrpoConfig) -> Self {
        let GrpoConfig { clip_low, clip_high, clip_dual, average, kl_coefficient, kl_estimator, imitation_coefficient } =
            config;
        let policy = ClippedPolicyConfig {
            clip_low,
            clip_high,
            clip_dual,
            average,
            kl_coefficient,
            kl_estimator,
            imitation_coefficient,
        };
        Self { policy: ClippedPolicy::new(policy) }
    }
}

impl Objective for Grpo {
    fn needs(&self) -> Needs {
        self.policy.needs()
    }

    fn credit(&self, outcome: &GroupOutcome) -> Vec<f32> {
        group_normalized(outcome.rewards)
    }

    fn learns_without_advantage(&self) -> bool {
        self.policy.learns_without_advantage()
    }

    fn loss(&self, evidence: &Evidence) -> Loss {
        self.policy.loss(evidence)
    }
}
