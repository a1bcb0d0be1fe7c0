//! Advantages, losses with their gradients, divergences, filters and schedules against the PAPO repository's (`algorithms/*.json`).
//!
//! The log-probabilities of a case are a leaf, so that its gradient is the golden's; everything else is an [`Evidence`] made by
//! hand, cut into micro-batches as the case says.

use super::golden;
use burn::tensor::{Device, Tensor, TensorData};
use percept_algorithms::{
    Average, ClippedPolicy, ClippedPolicyConfig, Dapo, DapoConfig, GammaSchedule, Grpo, GrpoConfig, KlKind, Papo,
    PapoConfig, overlong_penalty, schedule,
};
use percept_core::{
    Counts, DecodeRow, Decoder, Evidence, Finish, FrozenPolicy, GroupOutcome, Image, Loss, Objective, Parameter,
    Policy, Progress, Prompt, Sampler, SamplingSpec, ScoreRequest, Scores, ScoringGroup, Tally, View, Weights,
};
use percept_ops::{KlEstimator, kl, masked_sum};
use percept_rollout::InProcess;
use percept_trainer::{Refill, RefillProgress};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

type Rows = Vec<Vec<f32>>;

/// Every case of a file, over all golden folders.
fn cases<T: DeserializeOwned>(file: &str) -> Vec<T> {
    #[derive(Deserialize)]
    struct File<T> {
        cases: Vec<T>,
    }
    let mut all = Vec::new();
    for folder in golden::folders("algorithms") {
        let path = folder.join(file);
        // A folder may hold some of the files; that none has a case is an error below.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let file: File<T> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        all.extend(file.cases);
    }
    assert!(!all.is_empty(), "no case of {file} was found in the goldens");
    all
}

/// The goldens' tolerance, 1e-5 relative + 1e-6 absolute, and how much of it was ever used.
#[derive(Default)]
struct Tolerance {
    absolute: f64,
    used: f64,
}

impl Tolerance {
    fn check(&mut self, what: impl Fn() -> String, found: f64, want: f64) {
        let difference = (found - want).abs();
        let used = difference / (1e-6 + 1e-5 * want.abs());
        // written so that a NaN fails
        assert!(used <= 1.0, "{}: {found}, not {want} ({used:.2} of the tolerance)", what());
        self.absolute = self.absolute.max(difference);
        self.used = self.used.max(used);
    }

    fn check_all(&mut self, what: &str, found: &[f32], want: &[f32]) {
        assert_eq!(found.len(), want.len(), "{what}: numbers");
        for (i, (found, want)) in found.iter().zip(want).enumerate() {
            self.check(|| format!("{what}[{i}]"), f64::from(*found), f64::from(*want));
        }
    }

    fn print(&self, name: &str) {
        println!("{name}: largest difference {:.1e}, {:.2} of the tolerance", self.absolute, self.used);
    }
}

fn device() -> Device {
    crate::device::current().autodiff()
}

fn tensor(rows: &[Vec<f32>]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), rows[0].len()]), &device())
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

fn outcome<'a>(rewards: &'a [f32], parts: &'a [(String, Vec<f32>)], lengths: &'a [usize]) -> GroupOutcome<'a> {
    GroupOutcome { rewards, parts, lengths, max_new_tokens: 64 }
}

/// What the reference gives to a group of equal rewards: the float32 mean of them can miss them by a rounding error, which the
/// division by std + 1e-6 makes an advantage (0.06 for three times 0.9). Percept gives 0 and does no work for such a group; the
/// golden must be this error to the last digits, and nothing else.
fn rounding_error(rewards: &[f32]) -> f32 {
    let n = rewards.len() as f32;
    let mean = rewards.iter().sum::<f32>() / n;
    let squares: f64 = rewards.iter().map(|&reward| (f64::from(reward) - f64::from(mean)).powi(2)).sum();
    let deviation = (squares / f64::from(n - 1.0)).sqrt() as f32;
    (rewards[0] - mean) / (deviation + 1e-6)
}

#[test]
fn advantages() {
    #[derive(Deserialize)]
    struct Want {
        advantages: Rows,
    }
    #[derive(Deserialize)]
    struct Case {
        token_level_rewards: Rows,
        response_mask: Rows,
        group: Vec<String>,
        grpo: Want,
        dapo: Want,
    }
    let mut tolerance = Tolerance::default();
    let mut num_rounded = 0;
    let cases: Vec<Case> = cases("advantages.json");
    for (number, case) in cases.iter().enumerate() {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        case.group.iter().enumerate().for_each(|(row, name)| groups.entry(name).or_default().push(row));
        let papo = |base: Box<dyn Objective>| Box::new(Papo::new(PapoConfig::default(), base));
        let methods: [(&str, Box<dyn Objective>, &Want); 4] = [
            ("grpo", Box::new(Grpo::new(GrpoConfig::default())), &case.grpo),
            ("dapo", Box::new(Dapo::new(DapoConfig::default())), &case.dapo),
            ("papo_g", papo(Box::new(Grpo::new(GrpoConfig::default()))), &case.grpo),
            ("papo_d", papo(Box::new(Dapo::new(DapoConfig::default()))), &case.dapo),
        ];
        for (name, method, want) in methods {
            for rows in groups.values() {
                let rewards: Vec<f32> = rows.iter().map(|&row| case.token_level_rewards[row].iter().sum()).collect();
                let credit = method.credit(&outcome(&rewards, &[], &vec![1; rows.len()]));
                let rounding = if rewards.iter().all(|reward| reward == &rewards[0]) {
                    assert!(credit.iter().all(|&advantage| advantage == 0.0), "equal rewards, credit {credit:?}");
                    rounding_error(&rewards)
                } else {
                    0.0
                };
                num_rounded += usize::from(rounding != 0.0);
                for (&row, advantage) in rows.iter().zip(credit) {
                    // the trainer gives each token of a response the response's advantage
                    let advantage = advantage + rounding;
                    let found: Vec<f32> = case.response_mask[row].iter().map(|mask| mask * advantage).collect();
                    tolerance.check_all(&format!("case {number}, {name}, row {row}"), &found, &want.advantages[row]);
                }
            }
        }
    }
    tolerance.print("advantages");
    println!("{num_rounded} groups of equal rewards to which the reference gives its rounding error");
    println!("{} cases; skipped: rloo, remax, reinforce_plus_plus, dr_grpo", cases.len());
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

#[test]
fn group_filter() {
    #[derive(Deserialize)]
    struct Case {
        filter_key: String,
        prompts_needed: usize,
        filter_low: f64,
        filter_high: f64,
        max_tries: usize,
        chunks: Vec<Vec<Vec<f32>>>,
        decisions: Vec<Vec<bool>>,
        chunks_used: usize,
        batch: Option<Vec<[usize; 2]>>,
        error: Option<String>,
    }
    let cases: Vec<Case> = cases("group_filter.json");
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        let what = format!("case {number}");
        let (filter_low, filter_high, filter_key) = (case.filter_low, case.filter_high, case.filter_key.clone());
        let config = DapoConfig { filter_low, filter_high, filter_key, ..DapoConfig::default() };
        // PAPO admits what its base admits
        let papo = Papo::new(PapoConfig::default(), Box::new(Dapo::new(config.clone())));
        let methods: [Box<dyn Objective>; 2] = [Box::new(Dapo::new(config)), Box::new(papo)];
        let decide = |outcome: &GroupOutcome| {
            let [dapo, papo] = methods.each_ref().map(|method| method.admit(outcome));
            assert_eq!(dapo, papo, "case {number}: PAPO_D decides otherwise than DAPO");
            dapo
        };
        let admit = |scores: &Vec<f32>, want: bool| {
            // what the filter should not read speaks for the other decision
            let middle = 0.5 * (case.filter_low + case.filter_high) as f32;
            let others = vec![if want { case.filter_high as f32 + 1.0 } else { middle }; scores.len()];
            let lengths = vec![1; scores.len()];
            if case.filter_key == "overall" {
                return decide(&outcome(scores, &[("accuracy".to_owned(), others)], &lengths));
            }
            let parts = [("other".to_owned(), others.clone()), (case.filter_key.clone(), scores.clone())];
            decide(&outcome(&others, &parts, &lengths))
        };
        let mut refill = Refill::new(case.prompts_needed, case.max_tries).keep_rejected_chunk();
        let mut end = None;
        for (k, chunk) in case.chunks.iter().enumerate() {
            let wanted = case.decisions[k].iter();
            let decisions: Vec<bool> = chunk.iter().zip(wanted).map(|(scores, want)| admit(scores, *want)).collect();
            assert_eq!(decisions, case.decisions[k], "{what}: decisions of chunk {k}");
            let groups = decisions.into_iter().enumerate().map(|(prompt, admitted)| ([k, prompt], admitted));
            let progress = refill.push(groups.collect());
            if progress != RefillProgress::More {
                end = Some(progress);
                break;
            }
        }
        assert_eq!(refill.tries(), case.chunks_used, "{what}: chunks used");
        let error = match end {
            Some(RefillProgress::Full) => None,
            Some(_) => Some("too many tries"),
            None => Some("data ended"),
        };
        assert_eq!(error, case.error.as_deref(), "{what}");
        if error.is_none() {
            assert_eq!(Some(refill.into_groups()), case.batch, "{what}: the batch");
        }
        *outcomes.entry(error.unwrap_or("full")).or_default() += 1;
    }
    println!("{} cases: {outcomes:?}", cases.len());
}

#[test]
fn a_rejected_chunk_is_kept_for_the_comparison_only() {
    let mut refill = Refill::new(3, 0).keep_rejected_chunk();
    assert_eq!(refill.push(vec![(0, true), (1, false)]), RefillProgress::More);
    assert_eq!(refill.push(vec![(2, false), (3, false)]), RefillProgress::Full);
    assert_eq!(refill.into_groups(), [0, 2, 3]);
    // what a run does: rejected groups never come back
    let mut refill = Refill::new(3, 2);
    assert_eq!(refill.push(vec![(0, true), (1, false)]), RefillProgress::More);
    assert_eq!(refill.push(vec![(2, false), (3, false)]), RefillProgress::TooManyTries);
    assert_eq!(refill.into_groups(), [0]);
}

#[test]
fn overlong_penalties() {
    #[derive(Deserialize)]
    struct Case {
        length: usize,
        max_length: usize,
        buffer: usize,
        penalty: f64,
    }
    let mut tolerance = Tolerance::default();
    let cases: Vec<Case> = cases("overlong.json");
    for case in &cases {
        let Case { length, max_length, buffer, penalty } = *case;
        let what = || format!("{length} of {max_length}, buffer {buffer}");
        tolerance.check(what, overlong_penalty(length, max_length, buffer), penalty);
        // in a group: as if the rewards were given with the penalty taken off
        let factor = 0.5;
        let dapo = |overlong_buffer_tokens| {
            Dapo::new(DapoConfig { overlong_buffer_tokens, overlong_factor: factor, ..DapoConfig::default() })
        };
        let (rewards, lengths) = ([0.25, 1.0, 0.5], [length, 0, 0]);
        let shaped = [0.25 + (factor * penalty) as f32, 1.0, 0.5];
        let with = GroupOutcome { rewards: &rewards, parts: &[], lengths: &lengths, max_new_tokens: max_length };
        let without = GroupOutcome { rewards: &shaped, ..with };
        tolerance.check_all(&what(), &dapo(Some(buffer)).credit(&with), &dapo(None).credit(&without));
    }
    tolerance.print("overlong");
    println!("{} cases", cases.len());
}

#[test]
fn schedules() {
    #[derive(Deserialize)]
    #[serde(tag = "kind", rename_all = "snake_case")]
    enum Case {
        Annealing {
            start_value: f64,
            end_value: f64,
            training_steps: u64,
            annealing_ratio: f64,
            coef_used: Vec<f64>,
            entropy_discount: Vec<f64>,
        },
        Adaptive {
            init: f64,
            target: f64,
            horizon: f64,
            n_steps: u64,
            observed_kl: Vec<f64>,
            coef_used: Vec<f64>,
        },
        /// Compared in `config.rs`.
        LrFactor {},
    }
    // these are f64 on both sides: the same formula, up to its last bits
    let close = |what: &str, step: usize, found: f64, want: f64| {
        assert!((found - want).abs() <= 1e-12 * want.abs() + 1e-15, "{what}, step {step}: {found}, not {want}");
    };
    let mut num_cases = [0, 0];
    for case in cases::<Case>("schedules.json") {
        match case {
            Case::Annealing {
                start_value,
                end_value,
                training_steps,
                annealing_ratio,
                coef_used,
                entropy_discount,
            } => {
                let config = PapoConfig {
                    gamma: start_value,
                    gamma_schedule: GammaSchedule::Linear,
                    gamma_end: end_value,
                    gamma_anneal_fraction: annealing_ratio,
                    ..PapoConfig::default()
                };
                assert_eq!(coef_used.len(), entropy_discount.len());
                for (step, (coefficient, discount)) in coef_used.into_iter().zip(entropy_discount).enumerate() {
                    let at = step as u64;
                    let found = schedule::linear(start_value, end_value, training_steps, annealing_ratio, at);
                    close("annealing", step, found, coefficient);
                    let found = config.gamma_at(Progress { step: at, total_steps: training_steps });
                    close("gamma", step, found.0, coefficient);
                    close("entropy discount", step, found.1, discount);
                }
                num_cases[0] += 1;
            }
            Case::Adaptive { init, target, horizon, n_steps, observed_kl, coef_used } => {
                assert!(!coef_used.is_empty());
                let mut coefficient = init;
                for (step, want) in coef_used.into_iter().enumerate() {
                    close("adaptive", step, coefficient, want);
                    if let Some(&observed) = observed_kl.get(step) {
                        coefficient = schedule::adaptive(coefficient, observed, target, horizon, n_steps);
                    }
                }
                num_cases[1] += 1;
            }
            Case::LrFactor {} => {}
        }
    }
    assert!(num_cases.iter().all(|&count| count > 0), "annealing and adaptive cases: {num_cases:?}");
    println!("annealing and adaptive cases: {num_cases:?}");
}

/// A policy that says what it is told to: prompt `id` is answered by `script[id]`.
struct Scripted(Arc<Vec<Vec<u32>>>);

impl Scripted {
    fn decoder(&self) -> ScriptedDecoder {
        ScriptedDecoder { script: self.0.clone(), rows: HashMap::new() }
    }
}

struct ScriptedDecoder {
    script: Arc<Vec<Vec<u32>>>,
    /// The script's row of each prompt.
    rows: HashMap<usize, usize>,
}

const VOCABULARY: usize = 64;

impl ScriptedDecoder {
    fn logits(tokens: impl Iterator<Item = u32>) -> Tensor<2> {
        let rows: Rows =
            tokens.map(|token| (0..VOCABULARY).map(|id| f32::from(id == token as usize)).collect()).collect();
        tensor(&rows).inner()
    }
}

impl Decoder for ScriptedDecoder {
    fn prefill(&mut self, prompts: &[(usize, &Prompt)]) -> Tensor<2> {
        self.rows.extend(prompts.iter().map(|(name, prompt)| (*name, prompt.id as usize)));
        Self::logits(prompts.iter().map(|(_, prompt)| self.script[prompt.id as usize][0]))
    }

    fn step(&mut self, rows: &[DecodeRow]) -> Tensor<2> {
        Self::logits(rows.iter().map(|row| self.script[self.rows[&row.prompt]][row.length + 1]))
    }

    fn forget(&mut self, prompt: usize) {
        self.rows.remove(&prompt);
    }
}

impl Policy for Scripted {
    fn device(&self) -> Device {
        Device::flex()
    }

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn parameters(&self) -> Vec<&Parameter> {
        Vec::new()
    }

    fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        Vec::new()
    }

    fn freeze(&self) -> FrozenPolicy {
        FrozenPolicy::new(Box::new(Self(self.0.clone())))
    }

    fn score(&self, _groups: &[ScoringGroup], _request: ScoreRequest) -> Tensor<2> {
        unreachable!("sampling scores nothing")
    }

    fn decoder(&self, _rows: usize, _tokens: usize) -> Box<dyn Decoder + '_> {
        Box::new(Scripted::decoder(self))
    }
}

/// The reference masks what its sampler gave; Percept's sampler ends a response where that mask ends.
#[test]
fn a_response_ends_with_its_first_stop_token() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stops {
        One(u32),
        Many(Vec<u32>),
    }
    #[derive(Deserialize)]
    struct Case {
        response_ids: Vec<Vec<u32>>,
        eos_token_ids: Stops,
        response_mask: Rows,
    }
    let cases: Vec<Case> = cases("response_mask.json");
    for (number, case) in cases.iter().enumerate() {
        let stop_tokens = match &case.eos_token_ids {
            Stops::One(id) => vec![*id],
            Stops::Many(ids) => ids.clone(),
        };
        assert!(
            case.response_ids.concat().iter().all(|&id| (id as usize) < VOCABULARY),
            "case {number}: a larger vocabulary"
        );
        let policy = Scripted(Arc::new(case.response_ids.clone())).freeze();
        let prompt = |id| Prompt { id, tokens: vec![0], pictures: Vec::new(), corrupted: Vec::new() };
        let prompts: Vec<Arc<Prompt>> = (0..case.response_ids.len() as u64).map(|id| Arc::new(prompt(id))).collect();
        let max_new_tokens = case.response_ids[0].len();
        let spec = SamplingSpec {
            responses_per_prompt: 1,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens,
            stop_tokens: stop_tokens.clone(),
            banned_tokens: Vec::new(),
            seed: 0,
            step: 0,
            evaluation: false,
        };
        // fewer places than rows: waiting rows must not get the wrong mask either
        let groups = InProcess::new(2).sample(&policy, &prompts, &spec).expect("responses");
        for (row, group) in groups.iter().enumerate() {
            let response = &group.responses[0];
            let length = response.tokens.len();
            let mask: Vec<f32> = (0..max_new_tokens).map(|t| f32::from(t < length)).collect();
            assert_eq!(mask, case.response_mask[row], "case {number}, row {row}");
            assert_eq!(response.tokens, case.response_ids[row][..length], "case {number}, row {row}");
            let stopped = stop_tokens.contains(&response.tokens[length - 1]);
            assert_eq!(response.finish == Finish::Stop, stopped, "case {number}, row {row}: why it ended");
        }
    }
    println!("{} cases", cases.len());
}
