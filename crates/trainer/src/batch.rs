//! A collected batch: verified, credited, with the log-probabilities of every view that carries no gradient.

use percept_core::{Group, Image, ScoringGroup, Tally, Task, View};
use std::sync::Arc;

/// A group with all that is known of its responses.
#[derive(Clone, Debug)]
pub struct CollectedGroup {
    pub task: Arc<Task>,
    pub group: Group,
    pub rewards: Vec<f32>,
    /// Scores by rubric part and response.
    pub parts: Vec<(String, Vec<f32>)>,
    pub texts: Vec<String>,
    /// Tokens of each response.
    pub lengths: Vec<usize>,
    pub advantages: Vec<f32>,
    /// 1 for responses verified as right.
    pub correct: Vec<f32>,
    /// Views without gradient: log-probabilities (and entropies) by response and token; nothing for a group without a picture in
    /// views of a corrupted one.
    pub views: Vec<(View, Option<ViewNumbers>)>,
}

/// Numbers by response and token.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewNumbers {
    pub log_probs: Vec<Vec<f32>>,
    pub entropies: Option<Vec<Vec<f32>>>,
}

impl CollectedGroup {
    /// Whether the prompt has a picture, and the twins of it that were asked for.
    pub fn has_picture(&self) -> bool {
        let prompt = &self.group.prompt;
        !prompt.pictures.is_empty() && prompt.corrupted.iter().all(|twins| !twins.is_empty())
    }

    /// The group with one of its responses.
    pub(crate) fn only(&self, response: usize) -> Self {
        let one = |values: &[f32]| vec![values[response]];
        let mut group = self.group.clone();
        group.responses = vec![group.responses[response].clone()];
        let numbers = |numbers: &ViewNumbers| ViewNumbers {
            log_probs: vec![numbers.log_probs[response].clone()],
            entropies: numbers.entropies.as_ref().map(|entropies| vec![entropies[response].clone()]),
        };
        Self {
            task: self.task.clone(),
            group,
            rewards: one(&self.rewards),
            parts: self.parts.iter().map(|(name, scores)| (name.clone(), one(scores))).collect(),
            texts: self.texts.get(response).cloned().into_iter().collect(),
            lengths: vec![self.lengths[response]],
            advantages: one(&self.advantages),
            correct: one(&self.correct),
            views: self.views.iter().map(|(view, own)| (*view, own.as_ref().map(numbers))).collect(),
        }
    }

    /// The group as it is scored: all its responses, or some.
    pub(crate) fn scoring(&self, image: Image, responses: std::ops::Range<usize>) -> ScoringGroup {
        let responses = self.group.responses[responses].iter().map(|response| response.tokens.clone().into());
        ScoringGroup { prompt: self.group.prompt.clone(), image, responses: responses.collect() }
    }

    /// Tokens and rows of some of its responses.
    pub(crate) fn tally(&self, responses: std::ops::Range<usize>) -> Tally {
        let tokens = self.group.responses[responses.clone()].iter().map(|response| response.tokens.len()).sum();
        let rows = responses.len();
        let pictures = usize::from(self.has_picture());
        let right = responses.filter(|&response| self.correct[response] != 0.0);
        let right: Vec<usize> = right.map(|response| self.group.responses[response].tokens.len()).collect();
        Tally {
            tokens,
            rows,
            picture_tokens: tokens * pictures,
            picture_rows: rows * pictures,
            correct_tokens: right.iter().sum(),
            correct_rows: right.len(),
        }
    }
}

/// What a step learns from.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub groups: Vec<CollectedGroup>,
}

/// Some responses of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) group: usize,
    pub(crate) responses: std::ops::Range<usize>,
}

/// Tokens of the largest piece that is not cut: a prompt with one response.
pub(crate) fn least_tokens<'a>(groups: impl Iterator<Item = &'a CollectedGroup>) -> usize {
    let piece = |group: &CollectedGroup| {
        let longest = group.group.responses.iter().map(|response| response.tokens.len() - 1).max().unwrap_or(0);
        group.group.prompt.tokens.len() + longest
    };
    groups.map(piece).max().unwrap_or(1)
}

/// Cuts groups into micro-batches of at most `micro_tokens` packed tokens, prompts of similar length together: where rows are padded, as
/// on accelerators, little is padded. Losses are sums over a mini-batch, so the order changes nothing that is learned. A group larger than that is cut, and its prompt
/// computed once for each part; a single response larger than that stands alone.
pub(crate) fn micro_batches(groups: &[&CollectedGroup], micro_tokens: usize) -> Vec<Vec<Slice>> {
    let mut batches: Vec<Vec<Slice>> = Vec::new();
    let mut room = 0usize;
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&index| groups[index].group.prompt.tokens.len());
    for index in order {
        let group = groups[index];
        let prompt = group.group.prompt.tokens.len();
        let lengths: Vec<usize> = group.group.responses.iter().map(|response| response.tokens.len() - 1).collect();
        let whole = prompt + lengths.iter().sum::<usize>();
        if whole <= room {
            room -= whole;
            let batch = batches.last_mut().expect("there is room only in a batch");
            batch.push(Slice { group: index, responses: 0..lengths.len() });
            continue;
        }
        let mut first = 0;
        while first < lengths.len() {
            let mut used = prompt + lengths[first];
            let mut next = first + 1;
            while next < lengths.len() && used + lengths[next] <= micro_tokens {
                used += lengths[next];
                next += 1;
            }
            batches.push(vec![Slice { group: index, responses: first..next }]);
            room = micro_tokens.saturating_sub(used);
            first = next;
        }
    }
    batches
}
