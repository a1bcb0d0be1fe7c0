//! The prompt computed once for its group is the same function as a batch that repeats it: in values, in gradients, however a
//! mini-batch is cut.

use crate::tiny::{batch, compare_gradients, cut, difference, host, methods, policy, scoring_groups, stream};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use percept_core::{Image, Parameter, Policy, Progress, Prompt, ScoreRequest, ScoringGroup};
use percept_models::qwen2_5_vl::Qwen25Vl;
use percept_trainer::{CollectedGroup, Metrics, Updater};
use std::sync::Arc;

/// Gradients of a loss by parameter.
fn backward(policy: &dyn Policy, loss: Tensor<1>) -> Vec<Vec<f32>> {
    let mut gradients = loss.backward();
    let gradient = |parameter: &Parameter| {
        let gradient = parameter.value.grad_remove(&mut gradients);
        host(gradient.unwrap_or_else(|| panic!("{}: no gradient", parameter.pieces[0].name)))
    };
    policy.parameters().into_iter().map(gradient).collect()
}

/// The padded batch's function, a sequence at a time: the prompt repeated before each response, every logit computed, burn's own
/// softmax. `[tokens, 2]`
fn one_by_one(policy: &Qwen25Vl, groups: &[ScoringGroup], temperature: f32) -> Tensor<2> {
    let mut parts = Vec::new();
    for group in groups {
        for response in &group.responses {
            let mut whole = Prompt::clone(&group.prompt);
            whole.tokens.extend_from_slice(response);
            if let Image::Corrupted(slot) = group.image {
                whole.pictures = whole.corrupted[slot].clone();
            }
            let before = group.prompt.tokens.len() - 1;
            let logits = policy.prompt_logits(&whole).narrow(0, before, response.len());
            let log_probs = log_softmax(logits.div_scalar(temperature), 1);
            let ids: Vec<i32> = response.iter().map(|&id| id as i32).collect();
            let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [response.len(), 1]), &policy.device());
            let entropy = (log_probs.clone().exp() * log_probs.clone()).sum_dim(1).neg();
            parts.push(Tensor::cat(vec![log_probs.gather(1, ids), entropy], 1));
        }
    }
    Tensor::cat(parts, 0)
}

/// The same groups, each response in one of its own.
fn alone(groups: &[ScoringGroup]) -> Vec<ScoringGroup> {
    let single = |group: &ScoringGroup| {
        let group = group.clone();
        let one = |response: &Arc<[u32]>| ScoringGroup { responses: vec![response.clone()], ..group.clone() };
        group.responses.iter().map(one).collect::<Vec<_>>()
    };
    groups.iter().flat_map(single).collect()
}

#[test]
fn a_groups_scores_are_those_of_each_response_alone() {
    let policy = policy(&Device::flex().autodiff(), 1);
    for (image, temperature) in [(Image::Whole, 1.0), (Image::Whole, 0.7), (Image::Corrupted(0), 1.0)] {
        let groups = scoring_groups(image);
        let request = ScoreRequest { temperature, entropy: true, dropout: None };
        // every token, and its entropy, weighs differently
        let weigh = |scores: Tensor<2>| {
            let mut stream = stream(5);
            let weights: Vec<f32> = (0..2 * scores.dims()[0]).map(|_| stream.normal() as f32).collect();
            let weights = Tensor::<2>::from_data(TensorData::new(weights, scores.dims()), &policy.device());
            (scores * weights).sum()
        };
        let together = policy.score(&groups, request);
        let apart = policy.score(&alone(&groups), request);
        let padded = one_by_one(&policy, &groups, temperature);
        let tokens: usize = groups.iter().flat_map(|group| &group.responses).map(|response| response.len()).sum();
        assert_eq!(together.dims(), [tokens, 2]);
        let expected = host(padded.clone());
        let gradients = backward(&policy, weigh(padded));
        for (name, scores) in [("together", together), ("apart", apart)] {
            let values = difference(&host(scores.clone()), &expected);
            assert!(values <= 1e-5, "{name}, {image:?}, temperature {temperature}: values differ by {values:e}");
            let share = compare_gradients(&backward(&policy, weigh(scores)), &gradients, &policy);
            println!("{name}, {image:?}, temperature {temperature}: values {values:e}, gradients {share:e}");
        }
        // log-probabilities alone are the first column
        let request = ScoreRequest { temperature, entropy: false, dropout: None };
        let column = host(policy.score(&groups, request));
        let first: Vec<f32> = expected.iter().step_by(2).copied().collect();
        assert!(difference(&column, &first) <= 1e-5, "{image:?}: without entropy");
    }
}

#[test]
fn micro_batches_do_not_change_an_update() {
    let device = Device::flex();
    let policy = policy(&device.clone().autodiff(), 1);
    let groups = batch(&device);
    for (name, objective) in methods() {
        let (gradients, metrics) = cut(&policy, &*objective, &groups, usize::MAX);
        let clipped = metrics.get("objective/clip_fraction_high").expect("a metric");
        assert!(clipped > 0.0 && clipped < 1.0, "{name}: the batch shows both sides of the clip, not {clipped}");
        // each response alone; a few together; the first group whole and the next beside it
        for micro_tokens in [1, 30, 50] {
            let (found, numbers) = cut(&policy, &*objective, &groups, micro_tokens);
            let share = compare_gradients(&found, &gradients, &policy);
            assert_eq!(numbers.0.keys().collect::<Vec<_>>(), metrics.0.keys().collect::<Vec<_>>(), "{name}");
            let mut worst = 0.0f64;
            for (metric, found) in &numbers.0 {
                let expected = metrics.get(metric).expect("compared above");
                let off = (found - expected).abs();
                assert!(
                    off <= 1e-5 * expected.abs() + 1e-6,
                    "{name}, {micro_tokens}: {metric} {found}, not {expected}"
                );
                worst = worst.max(off);
            }
            println!("{name}, micro-batches of {micro_tokens} tokens: gradients {share:e}, metrics {worst:e}");
        }
    }
}

#[test]
fn rows_without_a_picture_have_no_part_in_perception() {
    let device = Device::flex();
    let policy = policy(&device.clone().autodiff(), 1);
    let groups = batch(&device);
    let (seen, blind): (Vec<_>, Vec<_>) = groups.iter().cloned().partition(CollectedGroup::has_picture);
    assert!(!seen.is_empty() && !blind.is_empty(), "both kinds of groups");
    for (name, objective) in methods().into_iter().filter(|(name, _)| name.starts_with("papo")) {
        let (_, all) = cut(&policy, &*objective, &groups, usize::MAX);
        let (_, pictures) = cut(&policy, &*objective, &seen, usize::MAX);
        for metric in ["kl_prcp", "kl_prcp_variance", "masked_entropy", "masked_likelier_fraction"] {
            let read = |metrics: &Metrics| metrics.get(&format!("objective/{metric}")).expect("a metric");
            let (found, expected) = (read(&all), read(&pictures));
            assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{name}: {metric} {found}, not {expected}");
            assert!(expected > 0.0, "{name}: {metric} is {expected}");
        }
        // a batch without any picture divides by no picture's tokens
        let updater = Updater {
            objective: &*objective,
            temperature: 1.0,
            prompts_per_update: blind.len(),
            micro_tokens: usize::MAX,
            recompute: false,
            learning_rate: 0.0,
            progress: Progress { step: 0, total_steps: 1 },
        };
        let (gradients, numbers, _) = updater.gradients(&policy, &blind);
        let (norm, metrics) = numbers.read(&gradients, true);
        assert!(norm.is_finite() && norm > 0.0, "{name}: norm {norm}");
        assert_eq!(metrics.get("objective/kl_prcp"), Some(0.0), "{name}");
        assert!(metrics.0.values().all(|value| value.is_finite()), "{name}: {metrics:?}");
    }
}
