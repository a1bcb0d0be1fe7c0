//! PAPO: any objective, plus a reward for answers that depend on the picture. PAPO_G = PAPO over GRPO, PAPO_D = PAPO over DAPO.
//!
//! L = L_base - gamma KL_prcp + eta_1 H(live, picture) + eta_2 H(behavior, masked picture), arXiv 2507.06448, eq. 2, with
//! KL_prcp = e^d - d - 1, d = log pi(o | masked) - log pi(o | picture).
//!
//! Where the paper and its code differ, the code is followed, since it is what the paper's numbers come from:
//! * The ratio stands as in the code: this is the k3 estimator of KL(pi || pi_masked); the paper's printed r - log r - 1 is not.
//! * The masked branch is a constant, computed once per collected batch with the weights that sampled. `masked_gradient` lets
//!   gradient through both branches instead.
//! * "Entropy" is the mean negative log-likelihood of the sampled tokens, added with a plus sign (the paper's sign is a misprint),
//!   always a token mean. The masked one has no gradient unless the branch has. `entropy = "full"` takes the softmax's entropy.
//! * k3 is clamped at 10, from d = 2.61 on: no gradient beyond, and the share of such tokens is a metric.
//!
//! Rows without a picture have no part in the divergence and the masked entropy, nor in their means. With `perception_every` above 1
//! (not in the paper) the same holds for all but one of so many prompts: both terms are estimated from fewer prompts, and the masked pass
//! costs that much less.

use crate::average::{Average, Scope};
use crate::range::{OutOfRange, at_least_zero, in_range};
use crate::schedule;
use crate::surrogate::KlKind;
use burn::tensor::{Int, Tensor};
use percept_core::{
    Evidence, GroupOutcome, Image, Loss, Metric, Needs, Objective, Progress, Reduction, Scores, View, Weights,
};
use percept_ops::kl;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// How gamma goes over the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GammaSchedule {
    #[default]
    Fixed,
    /// To `gamma_end` over the first `gamma_anneal_fraction` of the steps; the entropy terms shrink in proportion.
    Linear,
}

/// What an entropy term measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntropyKind {
    /// Negative log-likelihood of the sampled tokens (the reference).
    #[default]
    Sampled,
    /// Entropy of the whole softmax.
    Full,
}

/// Keys of `[objective]` that belong to the decorator; the others are the base's. `average` belongs to both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PapoConfig {
    pub gamma: f64,
    pub gamma_schedule: GammaSchedule,
    pub gamma_end: f64,
    pub gamma_anneal_fraction: f64,
    pub perception_estimator: KlKind,
    /// eta_1
    pub entropy_coefficient: f64,
    /// eta_2
    pub masked_entropy_coefficient: f64,
    pub entropy: EntropyKind,
    /// Whether the masked branch carries gradient.
    pub masked_gradient: bool,
    /// Only this fraction of each response's tokens counts, those with the largest divergence; all when absent.
    pub token_mask_top_p: Option<f64>,
    /// Upper bound of a token's divergence; none when absent.
    pub kl_prcp_clip: Option<f64>,
    /// One of so many prompts is scored with its masked picture, in turn: the terms are means over these.
    pub perception_every: usize,
    pub average: Average,
}

impl PapoConfig {
    /// The decorator's own keys.
    pub const KEYS: [&'static str; 12] = [
        "gamma",
        "gamma_schedule",
        "gamma_end",
        "gamma_anneal_fraction",
        "perception_estimator",
        "entropy_coefficient",
        "masked_entropy_coefficient",
        "entropy",
        "masked_gradient",
        "token_mask_top_p",
        "kl_prcp_clip",
        "perception_every",
    ];

    /// PAPO_G's published coefficients: gamma 0.02 beside a reference KL (3B; the 7B run adds 0.05 for both entropies).
    pub fn over_grpo() -> Self {
        Self { gamma: 0.02, ..Self::default() }
    }

    /// PAPO_D's published coefficients: gamma 0.01 without reference, both entropy terms at 0.03.
    pub fn over_dapo() -> Self {
        Self { entropy_coefficient: 0.03, masked_entropy_coefficient: 0.03, ..Self::default() }
    }

    /// # Errors
    /// When a coefficient is out of the range in which its term means something.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let share = |value: f64| value > 0.0 && value <= 1.0;
        at_least_zero("gamma", self.gamma)?;
        at_least_zero("gamma_end", self.gamma_end)?;
        let fraction = self.gamma_anneal_fraction;
        in_range("gamma_anneal_fraction", fraction, share(fraction), "more than 0 and at most 1")?;
        at_least_zero("entropy_coefficient", self.entropy_coefficient)?;
        at_least_zero("masked_entropy_coefficient", self.masked_entropy_coefficient)?;
        in_range("perception_every", self.perception_every as f64, self.perception_every > 0, "at least 1")?;
        if let Some(top_p) = self.token_mask_top_p {
            in_range("token_mask_top_p", top_p, share(top_p), "more than 0 and at most 1")?;
        }
        match self.kl_prcp_clip {
            Some(bound) => in_range("kl_prcp_clip", bound, bound > 0.0, "more than 0; without the key there is none"),
            None => Ok(()),
        }
    }

    /// Gamma in force at a step, and the factor of the entropy terms.
    pub fn gamma_at(&self, progress: Progress) -> (f64, f64) {
        match self.gamma_schedule {
            GammaSchedule::Fixed => (self.gamma, 1.0),
            GammaSchedule::Linear => {
                let fraction = self.gamma_anneal_fraction;
                let now = schedule::linear(self.gamma, self.gamma_end, progress.total_steps, fraction, progress.step);
                (now, if self.gamma == 0.0 { 1.0 } else { now / self.gamma })
            }
        }
    }
}

impl Default for PapoConfig {
    fn default() -> Self {
        Self {
            gamma: 0.01,
            gamma_schedule: GammaSchedule::Fixed,
            gamma_end: 0.0,
            gamma_anneal_fraction: 0.5,
            perception_estimator: KlKind::K3,
            entropy_coefficient: 0.0,
            masked_entropy_coefficient: 0.0,
            entropy: EntropyKind::Sampled,
            masked_gradient: false,
            token_mask_top_p: None,
            kl_prcp_clip: None,
            perception_every: 1,
            average: Average::Token,
        }
    }
}

/// See the module's documentation.
pub struct Papo {
    config: PapoConfig,
    base: Box<dyn Objective>,
}

impl Papo {
    /// # Panics
    /// When a coefficient is out of its range: see [`PapoConfig::check`].
    pub fn new(config: PapoConfig, base: Box<dyn Objective>) -> Self {
        config.check().unwrap_or_else(|error| panic!("{error}"));
        Self { config, base }
    }

    fn masked_view(&self) -> View {
        let weights = if self.config.masked_gradient { Weights::Live } else { Weights::Behavior };
        View { weights, image: Image::Corrupted(0) }
    }

    /// The divergence of each token, after the optional token mask and clip. `[rows, tokens]`
    fn divergence(&self, live: Tensor<2>, masked: Tensor<2>, mask: Tensor<2>) -> Tensor<2> {
        let mut divergence = kl(live, masked, self.config.perception_estimator.into());
        if let Some(top_p) = self.config.token_mask_top_p {
            let threshold = row_quantile(divergence.clone().detach(), mask, 1.0 - top_p);
            let dropped = divergence.clone().lower(threshold.expand(divergence.dims()));
            divergence = divergence.mask_fill(dropped, 0.0);
        }
        match self.config.kl_prcp_clip {
            Some(bound) => divergence.clamp(0.0, bound),
            None => divergence,
        }
    }

    fn entropy(&self, scores: &Scores) -> Tensor<2> {
        match self.config.entropy {
            EntropyKind::Sampled => scores.log_probs.clone().neg(),
            EntropyKind::Full => scores.entropy.clone().expect("needs() asks for entropies"),
        }
    }
}

/// Each row's quantile over the tokens of the mask, linearly interpolated at rank q (n - 1), q in float32. `[rows, 1]`
fn row_quantile(values: Tensor<2>, mask: Tensor<2>, q: f64) -> Tensor<2> {
    // torch does not round q (n - 1) before it takes the fraction off: with q = 0.6 and n = 21 the threshold lies a bit above the
    // token at rank 12, which is dropped. The halves of q, 12 bits each, make the product exact in float32, too.
    let high = f32::from_bits((q as f32).to_bits() & 0xffff_f000);
    let last = mask.clone().sum_dim(1).sub_scalar(1.0).clamp_min(0.0);
    let (coarse, fine) = (last.clone().mul_scalar(high), last.clone().mul_scalar(q as f32 - high));
    let below = (coarse.clone() + fine.clone()).floor();
    let fraction = coarse - below.clone() + fine;
    let above = below.clone().add_scalar(1.0).min_pair(last);
    let sorted = values.mask_fill(mask.equal_scalar(0.0), f32::INFINITY).sort(1);
    let at = |rank: Tensor<2>| -> Tensor<2> {
        let index: Tensor<2, Int> = rank.int();
        sorted.clone().gather(1, index)
    };
    let (low, high) = (at(below), at(above));
    low.clone() + (high - low) * fraction
}

impl Objective for Papo {
    fn needs(&self) -> Needs {
        let mut needs = self.base.needs();
        needs.views.push(self.masked_view());
        needs.corrupted_every = NonZeroUsize::new(self.config.perception_every).expect("checked: at least 1");
        let has_entropy = self.config.entropy_coefficient != 0.0 || self.config.masked_entropy_coefficient != 0.0;
        needs.entropy |= has_entropy && self.config.entropy == EntropyKind::Full;
        needs
    }

    fn credit(&self, outcome: &GroupOutcome) -> Vec<f32> {
        self.base.credit(outcome)
    }

    fn admit(&self, outcome: &GroupOutcome) -> bool {
        self.base.admit(outcome)
    }

    fn parts_read(&self) -> Vec<String> {
        self.base.parts_read()
    }

    fn learns_without_advantage(&self, has_picture: bool) -> bool {
        let config = &self.config;
        let of_pictures = config.gamma != 0.0 || config.masked_entropy_coefficient != 0.0;
        let own = config.entropy_coefficient != 0.0 || (has_picture && of_pictures);
        own || self.base.learns_without_advantage(has_picture)
    }

    fn loss(&self, evidence: &Evidence) -> Loss {
        let config = &self.config;
        let Loss { mut value, mut metrics } = self.base.loss(evidence);
        let (gamma, discount) = config.gamma_at(evidence.progress);
        let masked = evidence.view(self.masked_view());
        let live = evidence.live.log_probs.clone();
        let by_token = config.average.by_token();
        let by_token_pictures = by_token.weights(evidence, Scope::Pictures);

        let divergence = self.divergence(live.clone(), masked.log_probs.clone(), evidence.picture_mask());
        let weights = config.average.weights(evidence, Scope::Pictures);
        let square = evidence.sum(divergence.clone() * divergence.clone(), weights.clone()).detach();
        let variance = Reduction::VarianceOf("objective/kl_prcp");
        metrics.push(Metric { name: "objective/kl_prcp_variance", value: square, reduction: variance });
        let difference = masked.log_probs.clone() - live;
        let clamped = divergence.clone().greater_equal_scalar(10.0).float();
        metrics
            .push(Metric::part("objective/kl_prcp_clamped_fraction", evidence.sum(clamped, by_token_pictures.clone())));
        let likelier = difference.greater_scalar(0.0).float();
        metrics.push(Metric::part(
            "objective/masked_likelier_fraction",
            evidence.sum(likelier, by_token_pictures.clone()),
        ));
        let divergence = evidence.sum(divergence, weights);
        metrics.push(Metric::part("objective/kl_prcp", divergence.clone()));
        value = value - divergence.mul_scalar(gamma);

        let entropy = evidence.sum(self.entropy(&evidence.live), by_token.weights(evidence, Scope::All));
        metrics.push(Metric::part("objective/entropy", entropy.clone()));
        if config.entropy_coefficient != 0.0 {
            value = value + entropy.mul_scalar(config.entropy_coefficient * discount);
        }
        let entropy = evidence.sum(self.entropy(masked), by_token_pictures);
        metrics.push(Metric::part("objective/masked_entropy", entropy.clone()));
        if config.masked_entropy_coefficient != 0.0 {
            value = value + entropy.mul_scalar(config.masked_entropy_coefficient * discount);
        }
        Loss { value, metrics }
    }
}
