//! Every objective's loss with respect to what it sees, and what must not be in it.

use super::{compare, host, noise, number, slopes, tensor};
use burn::tensor::Tensor;
use percept_algorithms::{
    Average, Dapo, DapoConfig, EntropyKind, GammaSchedule, Grpo, GrpoConfig, KlKind, Papo, PapoConfig,
};
use percept_core::{Counts, Evidence, Image, Loss, Objective, Progress, Scores, Tally, View, Weights};
use percept_ops::pad_rows;
use std::ops::Range;

const TOKENS: usize = 6;
const LENGTHS: [usize; 4] = [6, 4, 5, 3];
const HAS_PICTURE: [f32; 4] = [1.0, 0.0, 1.0, 1.0];
const CORRECT: [f32; 4] = [1.0, 0.0, 1.0, 0.0];
const ADVANTAGES: [f32; 4] = [0.8, -0.6, 1.1, -1.3];
const AVERAGES: [Average; 4] =
    [Average::Token, Average::Sequence, Average::MicroBatchToken, Average::MicroBatchSequence];

/// Packed numbers of the responses' tokens. The first four can carry gradient.
#[derive(Clone)]
struct Batch {
    live: Vec<f32>,
    masked: Vec<f32>,
    live_entropy: Vec<f32>,
    masked_entropy: Vec<f32>,
    behavior: Vec<f32>,
    reference: Vec<f32>,
    /// What stands behind the responses' ends.
    padding: f32,
    progress: Progress,
}

const LIVE: usize = 0;
const MASKED: usize = 1;

fn num_tokens() -> usize {
    LENGTHS.iter().sum()
}

impl Batch {
    fn new() -> Self {
        // by token; all further from the edges of clips and corners than the steps of the differences
        let ratios = [-0.5, -0.1, 0.05, 0.1, 0.6, 1.5];
        let masks = [-1.6, -0.4, 0.5, 1.1, 3.5];
        let references = [0.3, -0.4, 1.2, -0.2];
        let n = num_tokens();
        let behavior: Vec<f32> = noise(n, 1).into_iter().map(|value| value - 2.5).collect();
        let plus = |a: &[f32], offset: &dyn Fn(usize) -> f32| -> Vec<f32> {
            a.iter().enumerate().map(|(i, value)| value + offset(i)).collect()
        };
        let live = plus(&behavior, &|i| ratios[(i * 5 + i / 7) % 6]);
        Self {
            masked: plus(&live, &|i| masks[i % 5] + 0.11 * (i / 5 % 2) as f32),
            live_entropy: noise(n, 2).into_iter().map(|value| 1.5 + value).collect(),
            masked_entropy: noise(n, 3).into_iter().map(|value| 2.5 + value).collect(),
            reference: plus(&live, &|i| references[i % 4]),
            live,
            behavior,
            padding: 0.0,
            progress: Progress { step: 3, total_steps: 20 },
        }
    }

    fn leaves(&self) -> [Vec<f32>; 4] {
        [self.live.clone(), self.masked.clone(), self.live_entropy.clone(), self.masked_entropy.clone()]
    }

    fn with(&self, leaf: usize, values: Vec<f32>) -> Self {
        let mut moved = self.clone();
        *[&mut moved.live, &mut moved.masked, &mut moved.live_entropy, &mut moved.masked_entropy][leaf] = values;
        moved
    }
}

fn mask() -> Vec<f32> {
    LENGTHS.iter().flat_map(|&length| (0..TOKENS).map(move |t| f32::from(t < length))).collect()
}

fn by_row(values: [f32; 4]) -> Tensor<2> {
    tensor(values.to_vec(), [4, 1])
}

fn tally(rows: Range<usize>) -> Tally {
    let sum = |of: [f32; 4]| -> usize { rows.clone().map(|row| LENGTHS[row] * of[row] as usize).sum() };
    let count = |of: [f32; 4]| rows.clone().filter(|&row| of[row] != 0.0).count();
    Tally {
        tokens: sum([1.0; 4]),
        rows: rows.len(),
        picture_tokens: sum(HAS_PICTURE),
        picture_rows: count(HAS_PICTURE),
        correct_tokens: sum(CORRECT),
        correct_rows: count(CORRECT),
    }
}

/// Rows 1 and 2 stand in micro-batches of their own: one has no picture, the other nothing else.
const CUTS: [Range<usize>; 3] = [0..1, 1..2, 2..4];

struct Computed {
    loss: f64,
    /// Of live, masked, and both entropies; nothing where there is none.
    gradients: [Option<Vec<f32>>; 4],
    metrics: std::collections::HashMap<&'static str, f64>,
}

/// The loss of the whole batch, cut into micro-batches.
fn compute(objective: &dyn Objective, batch: &Batch, cuts: &[Range<usize>]) -> Computed {
    let needs = objective.needs();
    let live_masked = View { weights: Weights::Live, image: Image::Corrupted(0) };
    let behavior_masked = View { weights: Weights::Behavior, image: Image::Corrupted(0) };
    let masked_has_gradient = needs.views.contains(&live_masked);
    let leaves: [Tensor<2>; 4] = std::array::from_fn(|i| {
        let leaf = tensor(batch.leaves()[i].clone(), [num_tokens(), 1]);
        // a frozen policy's numbers are constants: only live views are leaves
        if i % 2 == 0 || masked_has_gradient { leaf.require_grad() } else { leaf }
    });
    let mask = tensor(mask(), [4, TOKENS]);
    let behind = mask.clone().equal_scalar(0.0);
    // live views come from `pad_rows`, whose zeros keep what lies behind a response out of the policy's gradient
    let padded = |leaf: &Tensor<2>| pad_rows(leaf.clone(), &LENGTHS, TOKENS).mask_fill(behind.clone(), batch.padding);
    let constant = |values: &[f32]| padded(&tensor(values.to_vec(), [num_tokens(), 1]));
    let entropy = |leaf: usize| needs.entropy.then(|| padded(&leaves[leaf]));
    let behavior = constant(&batch.behavior);
    let masked = Scores { log_probs: padded(&leaves[1]), entropy: entropy(3) };
    let reference = Scores { log_probs: constant(&batch.reference), entropy: None };
    let live = Scores { log_probs: padded(&leaves[0]), entropy: entropy(2) };
    let advantage = by_row(ADVANTAGES).expand([4, TOKENS]) * mask.clone();
    let mut total: Option<Tensor<1>> = None;
    let mut metrics = std::collections::HashMap::new();
    for rows in cuts {
        let cut = |all: Tensor<2>| all.slice([rows.clone()]);
        let scores =
            |all: &Scores| Scores { log_probs: cut(all.log_probs.clone()), entropy: all.entropy.clone().map(cut) };
        let views = [(View::REFERENCE, &reference), (live_masked, &masked), (behavior_masked, &masked)];
        let views = views.into_iter().filter(|(view, _)| needs.views.contains(view));
        let evidence = Evidence {
            live: scores(&live),
            behavior: Scores { log_probs: cut(behavior.clone()), entropy: None },
            views: views.map(|(view, all)| (view, scores(all))).collect(),
            advantage: cut(advantage.clone()),
            mask: cut(mask.clone()),
            has_picture: cut(by_row(HAS_PICTURE)),
            correct: cut(by_row(CORRECT)),
            counts: Counts { mini_batch: tally(0..4), micro_batch: tally(rows.clone()), num_micro_batches: cuts.len() },
            progress: batch.progress,
        };
        let Loss { value, metrics: parts } = objective.loss(&evidence);
        for part in parts {
            *metrics.entry(part.name).or_insert(0.0) += number(part.value);
        }
        total = Some(match total {
            Some(sum) => sum + value,
            None => value,
        });
    }
    let total = total.expect("a micro-batch");
    let loss = number(total.clone());
    let all = total.backward();
    Computed { loss, gradients: leaves.map(|leaf| leaf.grad(&all).map(host)), metrics }
}

fn grpo(average: Average) -> GrpoConfig {
    GrpoConfig { average, kl_coefficient: 0.3, ..GrpoConfig::default() }
}

fn papo(average: Average) -> PapoConfig {
    PapoConfig {
        gamma: 0.4,
        entropy_coefficient: 0.2,
        masked_entropy_coefficient: 0.3,
        average,
        ..PapoConfig::default()
    }
}

fn over_grpo(config: PapoConfig) -> Box<dyn Objective> {
    let base = Grpo::new(grpo(config.average));
    Box::new(Papo::new(config, Box::new(base)))
}

/// Names and objectives; the coefficients are large, so that every term counts in the differences.
fn objectives() -> Vec<(String, Box<dyn Objective>)> {
    let mut all: Vec<(String, Box<dyn Objective>)> = Vec::new();
    for average in AVERAGES {
        all.push((format!("grpo, {average:?}"), Box::new(Grpo::new(grpo(average)))));
        let imitation = GrpoConfig { imitation_coefficient: 0.5, ..grpo(average) };
        all.push((format!("grpo with imitation, {average:?}"), Box::new(Grpo::new(imitation))));
        all.push((format!("dapo, {average:?}"), Box::new(Dapo::new(DapoConfig { average, ..DapoConfig::default() }))));
        all.push((format!("papo over grpo, {average:?}"), over_grpo(papo(average))));
        let moving = PapoConfig { masked_gradient: true, ..papo(average) };
        all.push((format!("papo with both branches, {average:?}"), over_grpo(moving)));
    }
    let base = || Box::new(Dapo::new(DapoConfig::default()));
    all.push(("papo over dapo".to_owned(), Box::new(Papo::new(papo(Average::Token), base()))));
    for kind in [KlKind::K1, KlKind::K2, KlKind::Abs] {
        let config = GrpoConfig { kl_estimator: kind, ..grpo(Average::Token) };
        all.push((format!("grpo, {kind:?}"), Box::new(Grpo::new(config))));
        let config = PapoConfig { perception_estimator: kind, ..papo(Average::Token) };
        all.push((format!("papo, {kind:?}"), over_grpo(config)));
    }
    let both = PapoConfig { masked_gradient: true, ..papo(Average::Token) };
    let options = [
        ("token mask", PapoConfig { token_mask_top_p: Some(0.5), ..both.clone() }),
        ("clip", PapoConfig { kl_prcp_clip: Some(0.6), ..both.clone() }),
        ("full entropy", PapoConfig { entropy: EntropyKind::Full, ..both.clone() }),
        ("annealing", PapoConfig { gamma_schedule: GammaSchedule::Linear, gamma_end: 0.1, ..both }),
    ];
    all.extend(options.into_iter().map(|(name, config)| (format!("papo, {name}"), over_grpo(config))));
    all
}

#[test]
fn losses_have_the_slope_of_their_gradient() {
    let batch = Batch::new();
    let mut worst = 0.0f64;
    let mut num_branches = 0;
    for (name, objective) in objectives() {
        let found = compute(&*objective, &batch, &CUTS);
        assert!(found.gradients[LIVE].is_some(), "{name}: no gradient");
        for (leaf, gradient) in found.gradients.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let value = |moved: Vec<f32>| compute(&*objective, &batch.with(leaf, moved), &CUTS).loss;
            let slopes = slopes(0.02, &batch.leaves()[leaf], value);
            worst = worst.max(compare(&format!("{name}, leaf {leaf}"), gradient, &slopes, 2e-3));
            num_branches += 1;
        }
    }
    println!("{num_branches} gradients: largest difference {worst:.1e} of the largest slope");
}

#[test]
fn cutting_a_batch_changes_nothing_but_the_references_averages() {
    let batch = Batch::new();
    for (name, objective) in objectives() {
        let whole = compute(&*objective, &batch, std::slice::from_ref(&(0..4)));
        let parts = compute(&*objective, &batch, &CUTS);
        let same = (whole.loss - parts.loss).abs() <= 1e-6 + 1e-5 * whole.loss.abs();
        assert_eq!(same, !name.contains("MicroBatch"), "{name}: {} whole, {} in parts", whole.loss, parts.loss);
    }
}

#[test]
fn the_masked_branch_has_gradient_when_it_is_told_to() {
    let batch = Batch::new();
    for average in AVERAGES {
        let constant = compute(&*over_grpo(papo(average)), &batch, &CUTS);
        let moving = PapoConfig { masked_gradient: true, ..papo(average) };
        let moving = compute(&*over_grpo(moving), &batch, &CUTS);
        assert!(constant.gradients[MASKED].is_none(), "{average:?}: a constant has a gradient");
        let branch = moving.gradients[MASKED].as_ref().expect("a gradient through the masked branch");
        assert!(branch.iter().any(|&slope| slope != 0.0), "{average:?}: only zeros");
        assert_eq!(constant.gradients[LIVE], moving.gradients[LIVE], "{average:?}: the live branch is the same");
        assert_eq!(constant.loss, moving.loss, "{average:?}: and so is the value");
    }
}

/// Tokens of rows with a picture, and the row of each.
fn picture_tokens() -> Vec<(usize, usize)> {
    let rows = (0..4).flat_map(|row| vec![row; LENGTHS[row]]);
    rows.enumerate().filter(|(_, row)| HAS_PICTURE[*row] != 0.0).collect()
}

#[test]
fn rows_without_a_picture_have_no_part_in_the_perception_terms() {
    let batch = Batch::new();
    let pictures = picture_tokens();
    let without = |values: &[f32], fill: f32| -> Vec<f32> {
        let shown: Vec<usize> = pictures.iter().map(|(token, _)| *token).collect();
        values.iter().enumerate().map(|(i, value)| if shown.contains(&i) { *value } else { fill }).collect()
    };
    for average in [Average::Token, Average::Sequence] {
        let config = PapoConfig { masked_gradient: true, entropy: EntropyKind::Full, ..papo(average) };
        let objective = over_grpo(config.clone());
        let found = compute(&*objective, &batch, &CUTS);
        for fill in [0.0, -7.0, f32::NAN, f32::INFINITY] {
            let mut other = batch.clone();
            other.masked = without(&batch.masked, fill);
            other.masked_entropy = without(&batch.masked_entropy, fill);
            let other = compute(&*objective, &other, &CUTS);
            assert_eq!(found.loss, other.loss, "{average:?}: {fill} where there is no picture");
            // the trainer puts zeros there; a number that is none would be in the derivative of the difference
            if fill.is_finite() {
                assert_eq!(found.gradients[LIVE], other.gradients[LIVE], "{average:?}: {fill} without a picture");
            }
        }
        // the means, by hand, over tokens (or rows) with a picture only
        let k3 = |token: usize| {
            let d = f64::from(batch.masked[token]) - f64::from(batch.live[token]);
            (d.exp() - d - 1.0).min(10.0)
        };
        let mean = |value: &dyn Fn(usize) -> f64, by_row: bool| -> f64 {
            let rows = HAS_PICTURE.iter().sum::<f32>();
            let weight =
                |row: usize| if by_row { LENGTHS[row] as f64 * f64::from(rows) } else { pictures.len() as f64 };
            pictures.iter().map(|&(token, row)| value(token) / weight(row)).sum()
        };
        let divergence = mean(&k3, average == Average::Sequence);
        let entropy = mean(&|token| f64::from(batch.masked_entropy[token]), false);
        assert!((found.metrics["objective/kl_prcp"] - divergence).abs() < 1e-5, "{average:?}: {divergence}");
        assert!((found.metrics["objective/masked_entropy"] - entropy).abs() < 1e-5, "{average:?}: {entropy}");
        let base = compute(&Grpo::new(grpo(average)), &batch, &CUTS).loss;
        let live = batch.live_entropy.iter().map(|&value| f64::from(value)).sum::<f64>() / num_tokens() as f64;
        let want = base - config.gamma * divergence
            + config.entropy_coefficient * live
            + config.masked_entropy_coefficient * entropy;
        assert!((found.loss - want).abs() < 1e-5, "{average:?}: loss {}, by hand {want}", found.loss);
    }
}

#[test]
fn gamma_anneals_from_its_value_to_its_end() {
    let at = |step: u64, config: PapoConfig| {
        let batch = Batch { progress: Progress { step, total_steps: 20 }, ..Batch::new() };
        compute(&*over_grpo(config), &batch, &CUTS)
    };
    let linear = PapoConfig { gamma_schedule: GammaSchedule::Linear, ..papo(Average::Token) };
    let (start, fixed) = (at(0, linear.clone()), at(0, papo(Average::Token)));
    assert_eq!((start.loss, &start.gradients), (fixed.loss, &fixed.gradients), "step 0 is the fixed schedule");
    // half of the steps is where it ends: nothing of PAPO is left, its entropy terms neither
    let base = compute(&Grpo::new(grpo(Average::Token)), &Batch::new(), &CUTS);
    for step in [10, 19, 20, 1000] {
        let end = at(step, linear.clone());
        assert_eq!(end.loss, base.loss, "step {step}");
        assert_eq!(end.gradients[LIVE], base.gradients[LIVE], "step {step}");
    }
    assert_ne!(at(9, linear.clone()).loss, base.loss, "the last step before the end");
    let halfway =
        PapoConfig { gamma: 0.2, entropy_coefficient: 0.1, masked_entropy_coefficient: 0.15, ..linear.clone() };
    let halfway = PapoConfig { gamma_schedule: GammaSchedule::Fixed, ..halfway };
    assert!((at(5, linear).loss - at(5, halfway).loss).abs() < 1e-6, "halfway, all three are half");
}

#[test]
fn numbers_behind_a_response_do_not_leak() {
    let batch = Batch::new();
    for (name, objective) in objectives() {
        let clean = compute(&*objective, &batch, &CUTS);
        for padding in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
            let dirty = compute(&*objective, &Batch { padding, ..batch.clone() }, &CUTS);
            assert_eq!(clean.loss, dirty.loss, "{name}: {padding} behind the responses");
            assert_eq!(clean.gradients, dirty.gradients, "{name}: {padding} behind the responses");
            for (metric, value) in &clean.metrics {
                assert_eq!(*value, dirty.metrics[metric], "{name}: {metric}, {padding} behind the responses");
            }
        }
    }
}

/// Tokens whose gradient the upper clip, the dual clip or the divergence's clamp takes away.
#[test]
fn clipped_tokens_have_no_gradient() {
    let batch = Batch::new();
    let policy = Dapo::new(DapoConfig::default());
    let gradient = compute(&policy, &batch, &CUTS).gradients[LIVE].clone().expect("a gradient");
    let rows: Vec<usize> = (0..4).flat_map(|row| vec![row; LENGTHS[row]]).collect();
    let mut num_clipped = [0; 3];
    for (token, slope) in gradient.into_iter().enumerate() {
        let ratio = f64::from(batch.live[token] - batch.behavior[token]).exp();
        let advantage = ADVANTAGES[rows[token]];
        let clipped = [advantage > 0.0 && ratio > 1.28, advantage < 0.0 && ratio < 0.8, advantage < 0.0 && ratio > 3.0];
        assert_eq!(
            slope == 0.0,
            clipped.contains(&true),
            "token {token}: ratio {ratio}, advantage {advantage}, {slope}"
        );
        clipped.iter().zip(&mut num_clipped).for_each(|(clipped, count)| *count += usize::from(*clipped));
    }
    assert!(num_clipped.iter().all(|&count| count > 0), "every kind of clip is tried: {num_clipped:?}");
}
