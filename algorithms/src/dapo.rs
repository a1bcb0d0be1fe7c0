//! DAPO: GRPO's loss without reference, a higher upper clip, and dynamic sampling.
//!
//! Groups are admitted when their mean score lies strictly between two bounds, so that none passes or fails as a whole; rejected
//! groups are replaced by others. Optionally, responses near the length limit are punished softly (eq. 13).
//! arXiv 2503.14476; bounds and defaults as in PAPO's runs, which filter on accuracy in (0.01, 0.99).

use crate::advantage::group_normalized;
use crate::average::Average;
use crate::range::{OutOfRange, at_least_zero, in_range};
use crate::surrogate::{ClippedPolicy, ClippedPolicyConfig, KlKind};
use percept_core::{Evidence, GroupOutcome, Loss, Needs, Objective};
use serde::{Deserialize, Serialize};

/// `[objective] kind = "dapo"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DapoConfig {
    pub clip_low: f64,
    pub clip_high: f64,
    pub clip_dual: f64,
    pub average: Average,
    pub kl_coefficient: f64,
    pub kl_estimator: KlKind,
    pub imitation_coefficient: f64,
    /// A group is admitted when the mean of `filter_key` lies strictly between these.
    pub filter_low: f64,
    pub filter_high: f64,
    /// A verifier's name, or "overall".
    pub filter_key: String,
    /// Responses longer than max_new_tokens less this lose up to `overlong_factor`; none when absent.
    pub overlong_buffer_tokens: Option<usize>,
    pub overlong_factor: f64,
}

impl Default for DapoConfig {
    fn default() -> Self {
        Self {
            clip_low: 0.2,
            clip_high: 0.28,
            clip_dual: 3.0,
            average: Average::Token,
            kl_coefficient: 0.0,
            kl_estimator: KlKind::K3,
            imitation_coefficient: 0.0,
            filter_low: 0.01,
            filter_high: 0.99,
            filter_key: "accuracy".to_owned(),
            overlong_buffer_tokens: None,
            overlong_factor: 1.0,
        }
    }
}

impl DapoConfig {
    fn policy(&self) -> ClippedPolicyConfig {
        ClippedPolicyConfig {
            clip_low: self.clip_low,
            clip_high: self.clip_high,
            clip_dual: self.clip_dual,
            average: self.average,
            kl_coefficient: self.kl_coefficient,
            kl_estimator: self.kl_estimator,
            imitation_coefficient: self.imitation_coefficient,
        }
    }

    /// # Errors
    /// When a value is out of the range in which the method means something.
    pub fn check(&self) -> Result<(), OutOfRange> {
        self.policy().check()?;
        let (low, high) = (self.filter_low, self.filter_high);
        in_range("filter_low", low, low.is_finite(), "finite")?;
        in_range("filter_high", high, high.is_finite() && high > low, "finite and more than `objective.filter_low`")?;
        if let Some(buffer) = self.overlong_buffer_tokens {
            in_range("overlong_buffer_tokens", buffer as f64, buffer > 0, "1 or more; without the key there is none")?;
        }
        at_least_zero("overlong_factor", self.overlong_factor)
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Dapo {
    config: DapoConfig,
    policy: ClippedPolicy,
}

impl Dapo {
    /// # Panics
    /// When a value is out of its range: see [`DapoConfig::check`].
    pub fn new(config: DapoConfig) -> Self {
        config.check().unwrap_or_else(|error| panic!("{error}"));
        Self { policy: ClippedPolicy::new(config.policy()), config }
    }
}

/// 0 up to `max_length - buffer` tokens, then falling linearly to -1 at `max_length`, and -1 beyond (DAPO, eq. 13).
pub fn overlong_penalty(length: usize, max_length: usize, buffer: usize) -> f64 {
    let start = max_length as f64 - buffer as f64;
    if length as f64 <= start {
        0.0
    } else if length <= max_length {
        (start - length as f64) / buffer as f64
    } else {
        -1.0
    }
}

impl Objective for Dapo {
    fn needs(&self) -> Needs {
        self.policy.needs()
    }

    fn credit(&self, outcome: &GroupOutcome) -> Vec<f32> {
        let Some(buffer) = self.config.overlong_buffer_tokens else { return group_normalized(outcome.rewards) };
        let penalty =
            |length: &usize| self.config.overlong_factor * overlong_penalty(*length, outcome.max_new_tokens, buffer);
        let shaped: Vec<f32> = outcome
            .rewards
            .iter()
            .zip(outcome.lengths)
            .map(|(reward, length)| reward + penalty(length) as f32)
            .collect();
        group_normalized(&shaped)
    }

    fn admit(&self, outcome: &GroupOutcome) -> bool {
        let scores = outcome.part(&self.config.filter_key).expect("parts_read names the filter's key");
        let mean = scores.iter().map(|&score| f64::from(score)).sum::<f64>() / scores.len() as f64;
        self.config.filter_low < mean && mean < self.config.filter_high
    }

    fn parts_read(&self) -> Vec<String> {
        vec![self.config.filter_key.clone()]
    }

    fn learns_without_advantage(&self, _: bool) -> bool {
        self.policy.learns_without_advantage()
    }

    fn loss(&self, evidence: &Evidence) -> Loss {
        self.policy.loss(evidence)
    }
}
