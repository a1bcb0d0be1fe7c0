//! An objective of your own, registered beside Percept's and run by the same command line.
//!
//! RLOO (REINFORCE with a leave-one-out baseline; Ahmadian et al., arXiv 2402.14740): each response of a group is compared
//! with the mean reward of the others,
//!
//! L = -mean over responses of A_i sum_t w_it log pi(token t), A_i = R_i - mean of R_j over j != i.
//!
//! w = min(pi / pi_behavior, `weight_limit`), a constant, keeps the gradient right when a step makes several updates
//! (truncated importance sampling).
//!
//! ```text
//! cargo run --release --example custom_objective -- quickstart --objective my_rloo --dir runs/my_rloo
//! ```
//!
//! or, in a run of your own, `[objective] kind = "my_rloo"` and `cargo run --release --example custom_objective -- train RUN.toml`.

use percept::Objective;
use percept::core::{Evidence, GroupOutcome, Loss, Metric, Needs};
use serde::Deserialize;
use std::process::ExitCode;

/// `[objective] kind = "my_rloo"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RlooConfig {
    /// Upper bound of a token's importance weight.
    weight_limit: f64,
}

impl Default for RlooConfig {
    fn default() -> Self {
        Self { weight_limit: 2.0 }
    }
}

/// See the module's documentation.
struct Rloo {
    config: RlooConfig,
}

impl Objective for Rloo {
    fn needs(&self) -> Needs {
        // nothing beyond the live and the sampling policy's log-probabilities: no reference model is loaded
        Needs::default()
    }

    fn credit(&self, outcome: &GroupOutcome) -> Vec<f32> {
        let sum: f32 = outcome.rewards.iter().sum();
        let others = (outcome.rewards.len() - 1) as f32;
        outcome.rewards.iter().map(|reward| reward - (sum - reward) / others).collect()
    }

    fn learns_without_advantage(&self, _has_picture: bool) -> bool {
        // a group whose responses all got the same reward costs no backward pass
        false
    }

    fn loss(&self, evidence: &Evidence) -> Loss {
        let live = evidence.live.log_probs.clone();
        let ratio = (live.clone().detach() - evidence.behavior.log_probs.clone()).exp();
        let weight = ratio.clamp_max(self.config.weight_limit);
        // sums over tokens are divided by counts of the mini-batch, so that cutting it into micro-batches changes nothing
        let counts = evidence.counts.mini_batch;
        let by_response = evidence.mask.clone().div_scalar(counts.rows as f32);
        let by_token = evidence.mask.clone().div_scalar(counts.tokens as f32);
        let mean_weight = evidence.sum(weight.clone(), by_token.clone());
        let nll = evidence.sum(live.clone().neg(), by_token);
        let value = evidence.sum((evidence.advantage.clone() * weight * live).neg(), by_response);
        let metrics = vec![
            Metric::part("objective/policy_loss", value.clone()),
            Metric::part("objective/importance_weight", mean_weight),
            Metric::part("objective/nll", nll),
        ];
        Loss { value, metrics }
    }
}

fn main() -> ExitCode {
    percept::App::default().objective("my_rloo", |section| Ok(Box::new(Rloo { config: section.parse()? }))).run()
}
