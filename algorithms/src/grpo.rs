//! GRPO: group-normalized advantages, a clipped policy loss, and a divergence to the reference in the loss.
//!
//! J = E[ mean_t min(r_t A, clip(r_t, 1 - low, 1 + high) A) ] - beta KL(pi || pi_ref), A = (R - mean) / (std + 1e-6).
//! DeepSeekMath, arXiv 2402.03300, eq. 3. The defaults are those of PAPO's runs: token mean (not the printed sequence mean), clip
//! 0.2/0.3, dual clip 3, beta 0.01 with the k3 estimator.

use crate::advantage::group_normalized;
use crate::surrogate::{ClippedPolicy, ClippedPolicyConfig};
use percept_core::{Evidence, GroupOutcome, Loss, Needs, Objective};

/// `[objective] kind = "grpo"`: the policy's coefficients and nothing else.
pub type GrpoConfig = ClippedPolicyConfig;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Grpo {
    policy: ClippedPolicy,
}

impl Grpo {
    /// # Panics
    /// When a coefficient is out of its range: see [`GrpoConfig::check`].
    pub fn new(config: GrpoConfig) -> Self {
        Self { policy: ClippedPolicy::new(config) }
    }
}

impl Objective for Grpo {
    fn needs(&self) -> Needs {
        self.policy.needs()
    }

    fn credit(&self, outcome: &GroupOutcome) -> Vec<f32> {
        group_normalized(outcome.rewards)
    }

    fn learns_without_advantage(&self, _: bool) -> bool {
        self.policy.learns_without_advantage()
    }

    fn loss(&self, evidence: &Evidence) -> Loss {
        self.policy.loss(evidence)
    }
}
