//! Losses with their gradients, and divergences.
//!
//! The log-probabilities of a case are a leaf, so that its gradient is the golden's; everything else is an [`Evidence`] made by
//! hand, cut into micro-batches as the case says.

use super::{Rows, Tolerance, cases, tensor};
use burn::tensor::{Device, Tensor, TensorData};
use percept_algorithms::{
    Average, ClippedPolicy, ClippedPolicyConfig, Dapo, DapoConfig, GammaSchedule, Grpo, GrpoConfig, KlKind, Papo,
    PapoConfig,
};
use percept_core::{Counts, Evidence, Image, Loss, Objective, Progress, Scores, Tally, View, Weights};
use percept_ops::{KlEstimator, kl, masked_sum};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

fn device() -> Device {
    crate::device::current().autodiff()
}

fn column(values: &[f32]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len(), 1]), &device())
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("float32")
}

fn number(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.into_data().try_to_vec::<f32>().expect("float32")[0])
}

/// What an objective sees of some rows of a batch, with the log-probabilities as a leaf.
struct Micro {
    evidence: Evidence,
    leaf: Tensor<2>,
}

/// A batch of a golden, before it is cut.
struct Whole<'a> {
    live: &'a Rows,
    behavior: &'a Rows,
    views: Vec<(View, &'a Rows)>,
    advantages: &'a Rows,
    mask: &'a Rows,
    correct: Vec<f32>,
    progress: Progress,
}

impl Whole<'_> {
    /// Goldens have no rows without a picture.
    fn tally(&self, rows: Range<usize>) -> Tally {
        let tokens = |row: usize| self.mask[row].iter().filter(|&&mask| mask != 0.0).count();
        let all: usize = rows.clone().map(tokens).sum();
        let right: Vec<usize> = rows.clone().filter(|&row| self.correct[row] != 0.0).map(tokens).collect();
        Tally {
            tokens: all,
            rows: rows.len(),
            picture_tokens: all,
            picture_rows: rows.len(),
            correct_tokens: right.iter().sum(),
            correct_rows: right.len(),
        }
    }

    fn cut(&self, micro_batch: usize) -> Vec<Micro> {
        let total = self.live.len();
        let starts = (0..total).step_by(micro_batch);
        let num_micro_batches = starts.len();
        let micro = |start: usize| {
            let rows = start..total.min(start + micro_batch);
            let scores = |values: &Rows| Scores { log_probs: tensor(&values[rows.clone()]), entropy: None };
            let leaf = tensor(&self.live[rows.clone()]).require_grad();
            let evidence = Evidence {
                live: Scores { log_probs: leaf.clone(), entropy: None },
                behavior: scores(self.behavior),
                views: self.views.iter().map(|(view, values)| (*view, scores(values))).collect(),
                advantage: tensor(&self.advantages[rows.clone()]),
                mask: tensor(&self.mask[rows.clone()]),
                has_picture: column(&vec![1.0; rows.len()]),
                correct: column(&self.correct[rows.clone()]),
                counts: Counts {
                    mini_batch: self.tally(0..total),
                    micro_batch: self.tally(rows.clone()),
                    num_micro_batches,
                },
                progress: self.progress,
            };
            Micro { evidence, leaf }
        };
        starts.map(micro).collect()
    }
}

/// The loss of a batch: the micro-batches' values and metrics, and the gradient of their sum.
#[derive(Default)]
struct Found {
    values: Vec<f64>,
    metrics: Vec<HashMap<&'static str, f64>>,
    gradient: Vec<f32>,
}

fn run(micro_batches: Vec<Micro>, loss: impl Fn(&Evidence) -> Loss) -> Found {
    let mut found = Found::default();
    for Micro { evidence, leaf } in micro_batches {
        let Loss { value, metrics } = loss(&evidence);
        found.values.push(number(value.clone()));
        found.metrics.push(metrics.into_iter().map(|metric| (metric.name, number(metric.value))).collect());
        let gradients = value.backward();
        found.gradient.extend(host(leaf.grad(&gradients).expect("the loss depends on the log-probabilities")));
    }
    found
}

/// The reference's averages and Percept's: over micro-batches, and over the whole batch.
fn averages(mode: &str) -> [Average; 2] {
    match mode {
        "token" => [Average::MicroBatchToken, Average::Token],
        "seq" => [Average::MicroBatchSequence, Average::Sequence],
        other => panic!("unknown loss_avg_mode {other}"),
    }
}

fn kl_kind(penalty: &str) -> KlKind {
    match penalty {
        "kl" => KlKind::K1,
        "mse" => KlKind::K2,
        "low_var_kl" => KlKind::K3,
        "abs" => KlKind::Abs,
        other => panic!("unknown penalty {other}"),
    }
}

const START: Progress = Progress { step: 0, total_steps: 1 };

#[test]
pub(crate) fn policy_loss() {
    #[derive(Deserialize)]
    struct Case {
        kind: String,
        old_log_probs: Rows,
        log_probs: Rows,
        advantages: Rows,
        response_mask: Rows,
        clip_ratio_low: f64,
        clip_ratio_high: f64,
        clip_ratio_dual: f64,
        loss_avg_mode: String,
        loss: f64,
        metrics: PolicyMetrics,
        grad_log_probs: Rows,
    }
    let mut tolerance = Tolerance::default();
    let cases: Vec<Case> = cases("policy_loss.json");
    for (number, case) in cases.iter().enumerate() {
        for average in averages(&case.loss_avg_mode) {
            let what = format!("case {number} ({}), {average:?}", case.kind);
            let policy = ClippedPolicy::new(ClippedPolicyConfig {
                clip_low: case.clip_ratio_low,
                clip_high: case.clip_ratio_high,
                clip_dual: case.clip_ratio_dual,
                average,
                kl_coefficient: 0.0,
                kl_estimator: KlKind::K3,
                imitation_coefficient: 0.0,
            });
            let whole = Whole {
                live: &case.log_probs,
                behavior: &case.old_log_probs,
                views: Vec::new(),
                advantages: &case.advantages,
                mask: &case.response_mask,
                correct: vec![0.0; case.log_probs.len()],
                progress: START,
            };
            let found = run(whole.cut(case.log_probs.len()), |evidence| policy.loss(evidence));
            tolerance.check(|| format!("{what}: loss"), found.values[0], case.loss);
            tolerance.check_all(&format!("{what}: gradient"), &found.gradient, &case.grad_log_probs.concat());
            case.metrics.check(&mut tolerance, &what, &found.metrics[0], 1.0);
        }
    }
    tolerance.print("policy_loss");
    println!("{} cases; skipped: paper_variants.json (Dr.GRPO, GSPO, CISPO)", cases.len());
}

#[derive(Deserialize)]
struct PolicyMetrics {
    ppo_kl: f64,
    entropy_loss: f64,
    pg_clipfrac_higher: f64,
    pg_clipfrac_lower: f64,
}

impl PolicyMetrics {
    /// Percept's metrics are parts of the mean over `parts` micro-batches.
    fn check(&self, tolerance: &mut Tolerance, what: &str, found: &HashMap<&'static str, f64>, parts: f64) {
        let pairs = [
            ("objective/behavior_kl", self.ppo_kl),
            ("objective/nll", self.entropy_loss),
            ("objective/clip_fraction_high", self.pg_clipfrac_higher),
            ("objective/clip_fraction_low", self.pg_clipfrac_lower),
        ];
        for (name, want) in pairs {
            tolerance.check(|| format!("{what}: {name}"), found[name] * parts, want);
        }
    }
}

#[test]
pub(crate) fn divergences() {
    #[derive(Deserialize)]
    struct Case {
        kl_penalty: String,
        log_probs: Rows,
        other_log_probs: Rows,
        values: serde_json::Value,
        grad_log_probs: Rows,
        mean_mask: Option<Rows>,
        token_mean: Option<f64>,
        seq_mean: Option<f64>,
    }
    let mut tolerance = Tolerance::default();
    let (mut compared, mut skipped) = (0, 0);
    for (number, case) in cases::<Case>("kl.json").into_iter().enumerate() {
        if case.kl_penalty == "full" {
            skipped += 1;
            continue;
        }
        let what = format!("case {number} ({})", case.kl_penalty);
        let want: Rows = serde_json::from_value(case.values).expect("a row of values for each row");
        let leaf = tensor(&case.log_probs).require_grad();
        let estimator = KlEstimator::from(kl_kind(&case.kl_penalty));
        let values = kl(leaf.clone(), tensor(&case.other_log_probs), estimator);
        tolerance.check_all(&format!("{what}: values"), &host(values.clone()), &want.concat());
        let gradient = leaf.grad(&values.clone().sum().backward()).expect("a gradient");
        tolerance.check_all(&format!("{what}: gradient"), &host(gradient), &case.grad_log_probs.concat());
        if let Some(mask) = &case.mean_mask {
            let mask = tensor(mask);
            let rows = mask.dims()[0] as f32;
            let by_token = mask.clone() / mask.clone().sum().add_scalar(1e-8).reshape([1, 1]);
            let by_row = mask.clone() / mask.clone().sum_dim(1).add_scalar(1e-8).mul_scalar(rows);
            for (weights, want) in [(by_token, case.token_mean), (by_row, case.seq_mean)] {
                let want = want.expect("both means stand beside mean_mask");
                tolerance.check(|| format!("{what}: mean"), self::number(masked_sum(values.clone(), weights)), want);
            }
        }
        compared += 1;
    }
    assert!(compared > 0, "every case was skipped");
    tolerance.print("kl");
    println!("{compared} cases; skipped: full ({skipped} cases)");
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TotalConfig {
    #[serde(rename = "use_torch_compile")]
    _use_torch_compile: bool,
    ppo_epochs: usize,
    clip_ratio_low: f64,
    clip_ratio_high: f64,
    clip_ratio_dual: f64,
    loss_avg_mode: String,
    use_kl_loss: bool,
    kl_penalty: String,
    kl_coef: f64,
    use_kl_prcp: bool,
    kl_prcp_penalty: String,
    kl_prcp_coef: f64,
    use_kl_prcp_token_level_mask: bool,
    kl_prcp_token_level_mask_top_p: f64,
    use_kl_prcp_clipping: bool,
    kl_prcp_clipping: f64,
    use_aug_entropy_loss: bool,
    aug_entropy_loss_coef: f64,
    use_ori_entropy_loss: bool,
    ori_entropy_loss_coef: f64,
    use_sft_loss: bool,
    sft_loss_coef: f64,
    kl_prcp_coef_now: f64,
}

impl TotalConfig {
    /// GRPO and DAPO with the same coefficients, each under PAPO when the case is.
    fn objectives(&self, average: Average) -> [(&'static str, Box<dyn Objective>); 2] {
        assert_eq!(self.ppo_epochs, 1, "a batch is learned from once");
        let when = |on: bool, coefficient: f64| if on { coefficient } else { 0.0 };
        let kl_coefficient = when(self.use_kl_loss, self.kl_coef);
        let imitation_coefficient = when(self.use_sft_loss, self.sft_loss_coef);
        let (clip_low, clip_high, clip_dual) = (self.clip_ratio_low, self.clip_ratio_high, self.clip_ratio_dual);
        let kl_estimator = kl_kind(&self.kl_penalty);
        let grpo =
            GrpoConfig { clip_low, clip_high, clip_dual, average, kl_coefficient, kl_estimator, imitation_coefficient };
        let dapo = DapoConfig {
            clip_low,
            clip_high,
            clip_dual,
            average,
            kl_coefficient,
            kl_estimator,
            imitation_coefficient,
            ..DapoConfig::default()
        };
        let bases: [(&str, Box<dyn Objective>); 2] =
            [("over GRPO", Box::new(Grpo::new(grpo))), ("over DAPO", Box::new(Dapo::new(dapo)))];
        if !self.use_kl_prcp {
            assert!(!self.use_aug_entropy_loss && !self.use_ori_entropy_loss, "entropy terms belong to PAPO");
            return bases;
        }
        let papo = PapoConfig {
            gamma: self.kl_prcp_coef,
            // one step that ends at the coefficient in force, so that the entropy terms are discounted as the reference's
            gamma_schedule: GammaSchedule::Linear,
            gamma_end: self.kl_prcp_coef_now,
            gamma_anneal_fraction: 1.0,
            perception_estimator: kl_kind(&self.kl_prcp_penalty),
            entropy_coefficient: when(self.use_ori_entropy_loss, self.ori_entropy_loss_coef),
            masked_entropy_coefficient: when(self.use_aug_entropy_loss, self.aug_entropy_loss_coef),
            token_mask_top_p: self.use_kl_prcp_token_level_mask.then_some(self.kl_prcp_token_level_mask_top_p),
            kl_prcp_clip: self.use_kl_prcp_clipping.then_some(self.kl_prcp_clipping),
            average,
            ..PapoConfig::default()
        };
        bases.map(|(name, base)| (name, Box::new(Papo::new(papo.clone(), base)) as Box<dyn Objective>))
    }
}

#[derive(Deserialize)]
struct PerMicroBatch {
    pg_loss: Vec<f64>,
    pg_clipfrac_higher: Vec<f64>,
    pg_clipfrac_lower: Vec<f64>,
    entropy_loss: Vec<f64>,
    ppo_kl: Vec<f64>,
}

#[derive(Deserialize)]
struct Total {
    preset: String,
    kind: String,
    config: TotalConfig,
    micro_batch: usize,
    log_probs: Rows,
    old_log_probs: Rows,
    ref_log_probs: Rows,
    aug_log_probs: Rows,
    advantages: Rows,
    response_mask: Rows,
    correct: Vec<f32>,
    loss: f64,
    per_micro_batch: PerMicroBatch,
    last_micro_batch: BTreeMap<String, f64>,
    grad_log_probs: Rows,
}

impl Total {
    fn whole(&self) -> Whole<'_> {
        let masked = View { weights: Weights::Behavior, image: Image::Corrupted(0) };
        let reference = self.config.use_kl_loss.then_some((View::REFERENCE, &self.ref_log_probs));
        let masked = self.config.use_kl_prcp.then_some((masked, &self.aug_log_probs));
        Whole {
            live: &self.log_probs,
            behavior: &self.old_log_probs,
            // only what the case uses: an objective that reads more would panic
            views: reference.into_iter().chain(masked).collect(),
            advantages: &self.advantages,
            mask: &self.response_mask,
            correct: self.correct.clone(),
            progress: Progress { step: 1, total_steps: 1 },
        }
    }

    fn same_batch(&self, other: &Self) -> bool {
        let inputs = |case: &Self| {
            let tensors = [&case.log_probs, &case.old_log_probs, &case.ref_log_probs, &case.aug_log_probs];
            (tensors.map(|rows| rows.concat()), case.advantages.concat(), case.response_mask.concat())
        };
        self.preset == other.preset && self.kind == other.kind && inputs(self) == inputs(other)
    }

    /// The loss and its gradient, which are sums over micro-batches.
    fn check(&self, tolerance: &mut Tolerance, what: &str, found: &Found) {
        tolerance.check(|| format!("{what}: loss"), found.values.iter().sum(), self.loss);
        tolerance.check_all(&format!("{what}: gradient"), &found.gradient, &self.grad_log_probs.concat());
    }

    /// What the reference logs, of micro-batches that are averaged one by one.
    fn check_micro_batches(&self, tolerance: &mut Tolerance, what: &str, found: &Found) {
        let (want, parts) = (&self.per_micro_batch, found.values.len() as f64);
        assert_eq!(found.values.len(), want.pg_loss.len(), "{what}: micro-batches");
        for (i, (value, metrics)) in found.values.iter().zip(&found.metrics).enumerate() {
            let what = format!("{what}, micro-batch {i}");
            tolerance.check(|| format!("{what}: loss"), value * parts, want.pg_loss[i]);
            let metrics_want = PolicyMetrics {
                ppo_kl: want.ppo_kl[i],
                entropy_loss: want.entropy_loss[i],
                pg_clipfrac_higher: want.pg_clipfrac_higher[i],
                pg_clipfrac_lower: want.pg_clipfrac_lower[i],
            };
            metrics_want.check(tolerance, &what, metrics, parts);
        }
        let last = found.metrics.last().expect("a micro-batch");
        let gamma = self.config.kl_prcp_coef_now;
        for (name, &want) in &self.last_micro_batch {
            let found = match name.as_str() {
                "kl_loss" => last["objective/reference_kl"] * parts,
                // logged with a minus sign by the reference
                "kl_prcp_loss" => -last["objective/kl_prcp"] * parts,
                "aug_entropy_loss" => last["objective/masked_entropy"] * parts,
                "ori_entropy_loss" => last["objective/entropy"] * parts,
                "sft_loss" => last["objective/imitation_nll"] * parts,
                "kl_coef" => self.config.kl_coef,
                "kl_prcp_coef" => gamma,
                "kl_prcp_coef_annealing_discount" => gamma / self.config.kl_prcp_coef,
                "aug_entropy_loss_coef" => self.config.aug_entropy_loss_coef,
                "ori_entropy_loss_coef" => self.config.ori_entropy_loss_coef,
                "sft_coef" => self.config.sft_loss_coef,
                other => panic!("{what}: the reference logs {other}, which nothing is compared with"),
            };
            tolerance.check(|| format!("{what}, last micro-batch: {name}"), found, want);
        }
    }
}

#[test]
pub(crate) fn total_loss() {
    let mut tolerance = Tolerance::default();
    let cases: Vec<Total> = cases("total_loss.json");
    let mut presets: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        *presets.entry(&case.preset).or_default() += 1;
        let [by_micro_batch, by_mini_batch] = averages(&case.config.loss_avg_mode);
        let rows = case.log_probs.len();
        for (name, objective) in case.config.objectives(by_micro_batch) {
            let what = format!("case {number} ({}, {}, {name})", case.preset, case.kind);
            let found = run(case.whole().cut(case.micro_batch), |evidence| objective.loss(evidence));
            case.check(&mut tolerance, &what, &found);
            case.check_micro_batches(&mut tolerance, &what, &found);
        }
        if case.micro_batch != rows {
            continue;
        }
        // Percept's own average is the plain mean over the batch, however the batch is cut
        let cuts = cases.iter().filter(|other| other.same_batch(case)).map(|other| other.micro_batch);
        for micro_batch in cuts.chain([1, rows]) {
            for (name, objective) in case.config.objectives(by_mini_batch) {
                let what =
                    format!("case {number} ({}, {}, {name}), {rows} rows by {micro_batch}", case.preset, case.kind);
                let found = run(case.whole().cut(micro_batch), |evidence| objective.loss(evidence));
                case.check(&mut tolerance, &what, &found);
            }
        }
    }
    tolerance.print("total_loss");
    println!("{} cases: {presets:?}", cases.len());
}
