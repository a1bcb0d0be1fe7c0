//! The same scoring and training with the prompt repeated for every response, as trainers without shared prompts do it.

use super::time;
use crate::cost::rates::finish;
use crate::lane::Lane;
use anyhow::ensure;
use burn::tensor::Tensor;
use percept_core::{Image, Policy, ScoreRequest, ScoringGroup};

/// Shared prompts beside repeated ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Padded {
    /// Milliseconds: shared, repeated.
    pub(super) scoring_ms: [f64; 2],
    pub(super) training_ms: [f64; 2],
    /// Operations of a training pass.
    pub(super) flops: [f64; 2],
    /// Largest difference between log-probabilities.
    pub(super) log_prob_difference: f64,
    /// Largest difference between gradients, as a share of the largest gradient.
    pub(super) gradient_difference: f64,
}

const REPEATS: usize = 3;
const REQUEST: ScoreRequest = ScoreRequest { temperature: 1.0, entropy: false, dropout: None };

/// The groups of the lane's last step.
pub(super) fn scoring_groups(lane: &Lane) -> Vec<ScoringGroup> {
    let scoring = |group: &percept_trainer::CollectedGroup| ScoringGroup {
        prompt: group.task.prompt.clone(),
        image: Image::Whole,
        responses: group.group.responses.iter().map(|response| response.tokens.clone().into()).collect(),
    };
    lane.groups.iter().map(scoring).collect()
}

/// Groups in batches of at most `micro_tokens` rows, in order; a group that is larger is halved until it fits or is one response.
pub(super) fn batches(groups: Vec<ScoringGroup>, micro_tokens: usize) -> Vec<Vec<ScoringGroup>> {
    let rows = |group: &ScoringGroup| {
        group.prompt.tokens.len() + group.responses.iter().map(|response| response.len() - 1).sum::<usize>()
    };
    let mut batches: Vec<Vec<ScoringGroup>> = Vec::new();
    let mut room = 0;
    let mut waiting: std::collections::VecDeque<ScoringGroup> = groups.into();
    while let Some(mut group) = waiting.pop_front() {
        if rows(&group) > micro_tokens && group.responses.len() > 1 {
            let rest = group.responses.split_off(group.responses.len().div_ceil(2));
            waiting.push_front(ScoringGroup { responses: rest, ..group.clone() });
            waiting.push_front(group);
            continue;
        }
        if rows(&group) > room {
            batches.push(Vec::new());
            room = micro_tokens;
        }
        room = room.saturating_sub(rows(&group));
        batches.last_mut().expect("a batch was begun").push(group);
    }
    batches
}

/// Times both, and compares what they compute.
pub(super) fn compare(lane: &Lane, micro_tokens: usize, flops: [f64; 2]) -> anyhow::Result<Padded> {
    let shared = scoring_groups(lane);
    let one = |group: &ScoringGroup| -> Vec<ScoringGroup> {
        let single =
            |response: &std::sync::Arc<[u32]>| ScoringGroup { responses: vec![response.clone()], ..group.clone() };
        group.responses.iter().map(single).collect()
    };
    let repeated: Vec<ScoringGroup> = shared.iter().flat_map(one).collect();
    let both = [shared, repeated].map(|groups| batches(groups, micro_tokens));
    let policy = lane.policy.freeze();
    let score = |batches: &[Vec<ScoringGroup>]| -> Vec<f32> {
        let values =
            batches.iter().map(|batch| policy.score(batch, REQUEST).into_data().try_to_vec().expect("float32"));
        values.collect::<Vec<Vec<f32>>>().concat()
    };
    let [log_probs, others] = both.each_ref().map(|batches| score(batches));
    ensure!(log_probs.len() == others.len(), "{} log-probabilities, and {}", log_probs.len(), others.len());
    let scoring_ms = both.each_ref().map(|batches| time(REPEATS, || drop(score(batches))));
    let training_ms = both.each_ref().map(|batches| time(REPEATS, || drop(gradients(&*lane.policy, batches))));
    let [own, other] = both.each_ref().map(|batches| gradients(&*lane.policy, batches));
    let mut largest = (0f64, 0f64);
    for (own, other) in own.into_iter().zip(other) {
        let (Some(own), Some(other)) = (own, other) else { continue };
        let number = |tensor: Tensor<2>| f64::from(tensor.abs().max().into_scalar::<f32>());
        largest.0 = largest.0.max(number(own.clone() - other));
        largest.1 = largest.1.max(number(own));
    }
    Ok(Padded {
        scoring_ms,
        training_ms,
        flops,
        log_prob_difference: largest_difference(&log_probs, &others),
        gradient_difference: largest.0 / largest.1,
    })
}

fn largest_difference(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

/// Gradients of the mean log-probability.
fn gradients(policy: &dyn Policy, batches: &[Vec<ScoringGroup>]) -> Vec<Option<Tensor<2>>> {
    let tokens: usize =
        batches.iter().flatten().flat_map(|group| &group.responses).map(|response| response.len()).sum();
    let mut sums: Vec<Option<Tensor<2>>> = policy.parameters().iter().map(|_| None).collect();
    let scale = policy.loss_scale();
    for batch in batches {
        let mut gradients = policy.score(batch, REQUEST).sum().mul_scalar(scale / tokens as f32).backward();
        for (parameter, sum) in policy.parameters().into_iter().zip(&mut sums) {
            let Some(gradient) = parameter.value.grad_remove(&mut gradients) else { continue };
            *sum = Some(match sum.take() {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        }
    }
    finish(&policy.device());
    sums
}
