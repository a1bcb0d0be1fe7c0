//! Names what is not finite: the weight or the number of the batch, the layer that first computes it, the row and the token.

use crate::batch::CollectedGroup;
use crate::optimizer::Gradients;
use crate::update::Updater;
use burn::tensor::Tensor;
use percept_core::{FrozenPolicy, Image, Parameter, Policy, ScoreRequest, ScoringGroup, Task, Weights};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where something is wrong; what could be named is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// A weight, a gradient or a number of the batch, with its place.
    pub tensor: Option<String>,
    /// The first piece of the model whose result is not finite.
    pub layer: Option<String>,
    /// File and row of the prompt.
    pub row: Option<String>,
    /// The response's number in its group, from 0.
    pub response: Option<usize>,
    /// The token's position in the response, from 0, and its id.
    pub token: Option<(usize, u32)>,
    /// The value, as text: JSON has no infinities.
    pub value: Option<String>,
}

impl Diagnosis {
    /// In one sentence.
    pub fn words(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.tensor.clone());
        parts.extend(self.value.as_ref().map(|value| format!("value {value}")));
        parts.extend(self.layer.as_ref().map(|layer| format!("first in {layer}")));
        parts.extend(self.row.clone());
        parts.extend(self.response.map(|response| format!("response {response}")));
        parts.extend(self.token.map(|(position, id)| format!("token {position} (id {id})")));
        if parts.is_empty() { "nothing by itself is out of order".to_owned() } else { parts.join(", ") }
    }

    /// A place in a group.
    fn at(group: &CollectedGroup, response: usize, token: Option<usize>) -> Self {
        let id = |position: usize| (position, group.group.responses[response].tokens[position]);
        Self { row: Some(group.task.place.clone()), response: Some(response), token: token.map(id), ..Self::default() }
    }
}

fn host(value: &Tensor<2>) -> Vec<f32> {
    let plain = if value.device().is_autodiff() { value.clone().inner() } else { value.clone() };
    plain.into_data().convert::<f32>().try_to_vec().expect("float32")
}

fn first_bad(values: &[f32]) -> Option<usize> {
    values.iter().position(|value| !value.is_finite())
}

/// Looks for what makes an update's loss or gradient not finite; costs a few passes over the batch.
pub fn diagnose(
    updater: &Updater,
    policy: &dyn Policy,
    groups: &[CollectedGroup],
    gradients: Option<&Gradients>,
) -> Diagnosis {
    weights(policy)
        .or_else(|| numbers(groups).or_else(|| pictures(groups)))
        .or_else(|| scores(updater, policy, groups))
        .or_else(|| gradients.and_then(|gradients| backward(updater, policy, groups, gradients)))
        .unwrap_or_default()
}

/// Why a policy has no probabilities for what follows a prompt; nothing when they are finite.
pub(crate) fn diagnose_sampling(policy: &FrozenPolicy, task: &Task) -> Option<Diagnosis> {
    let any: Arc<[u32]> = Arc::new([0]);
    let group = ScoringGroup { prompt: task.prompt.clone(), image: Image::Whole, responses: vec![any] };
    let row = Some(task.place.clone());
    weights(&**policy)
        .or_else(|| {
            let layer = Some(first_layer(policy, &group)?);
            Some(Diagnosis {
                tensor: Some("what the policy computes for a prompt".to_owned()),
                layer,
                ..Diagnosis::default()
            })
        })
        .map(|found| Diagnosis { row, ..found })
}

/// The first piece of the model whose result is not finite.
fn first_layer(policy: &FrozenPolicy, group: &ScoringGroup) -> Option<String> {
    let mut layer = None;
    policy.trace(group, &mut |name, result| {
        if layer.is_none() && first_bad(&host(&result)).is_some() {
            layer = Some(name.to_owned());
        }
    });
    layer
}

/// A weight that is not finite.
fn weights(policy: &dyn Policy) -> Option<Diagnosis> {
    policy.parameters().into_iter().find_map(|parameter| {
        let values = host(&parameter.value);
        let (name, value) = named(parameter, &values)?;
        Some(Diagnosis {
            tensor: Some(format!("weight {name}")),
            value: Some(value.to_string()),
            ..Diagnosis::default()
        })
    })
}

/// The tensor of the checkpoint, with row and column, and the value.
fn named(parameter: &Parameter, values: &[f32]) -> Option<(String, f32)> {
    let at = first_bad(values)?;
    let width = parameter.value.dims()[1];
    let piece = parameter.pieces.iter().find(|piece| piece.range.contains(&at)).unwrap_or(&parameter.pieces[0]);
    let inside = at.saturating_sub(piece.range.start);
    let place = if piece.shape.len() > 1 {
        format!("{} [{}, {}]", piece.name, inside / width, inside % width)
    } else {
        format!("{} [{inside}]", piece.name)
    };
    Some((place, values[at]))
}

/// A number of a response that the batch came with.
pub(super) fn numbers(groups: &[CollectedGroup]) -> Option<Diagnosis> {
    let by_response = |group: &CollectedGroup, what: &str, values: &[f32]| {
        let response = first_bad(values)?;
        let (tensor, value) = (Some(what.to_owned()), Some(values[response].to_string()));
        Some(Diagnosis { tensor, value, ..Diagnosis::at(group, response, None) })
    };
    let by_token = |group: &CollectedGroup, what: &str, rows: &mut dyn Iterator<Item = &[f32]>| {
        let (response, token, value) =
            rows.enumerate().find_map(|(response, row)| first_bad(row).map(|token| (response, token, row[token])))?;
        let (tensor, value) = (Some(what.to_owned()), Some(value.to_string()));
        Some(Diagnosis { tensor, value, ..Diagnosis::at(group, response, Some(token)) })
    };
    groups.iter().find_map(|group| {
        let sampled = &mut group.group.responses.iter().map(|response| &response.log_probs[..]);
        by_response(group, "reward", &group.rewards)
            .or_else(|| by_response(group, "advantage", &group.advantages))
            .or_else(|| by_token(group, "log-probability of the sampler", sampled))
            .or_else(|| {
                group.views.iter().find_map(|(view, numbers)| {
                    let rows = &mut numbers.as_ref()?.log_probs.iter().map(Vec::as_slice);
                    by_token(group, &format!("log-probability of {:?} x {:?}", view.weights, view.image), rows)
                })
            })
    })
}

/// A picture's patch. Not looked for at every update: pictures are most of a batch, and what is wrong in one is in the loss.
fn pictures(groups: &[CollectedGroup]) -> Option<Diagnosis> {
    groups.iter().find_map(|group| {
        let prompt = &group.group.prompt;
        let mut all = prompt.pictures.iter().chain(prompt.corrupted.iter().flatten());
        let value = all.find_map(|picture| Some(picture.rows[first_bad(&picture.rows)?]))?;
        Some(Diagnosis {
            tensor: Some("a picture's patches".to_owned()),
            value: Some(value.to_string()),
            row: Some(group.task.place.clone()),
            ..Diagnosis::default()
        })
    })
}

/// A log-probability that the policy computes, and the layer it comes from.
fn scores(updater: &Updater, policy: &dyn Policy, groups: &[CollectedGroup]) -> Option<Diagnosis> {
    let frozen = policy.freeze();
    let live = updater.objective.needs().views.into_iter().filter(|view| view.weights == Weights::Live);
    let images: Vec<Image> = std::iter::once(Image::Whole).chain(live.map(|view| view.image)).collect();
    groups.iter().find_map(|group| {
        let shown = images.iter().filter(|&&image| image == Image::Whole || group.has_picture());
        shown.into_iter().find_map(|&image| {
            let values = live_scores(updater, &frozen, group, image);
            let (response, token) =
                values.iter().enumerate().find_map(|(response, row)| Some((response, first_bad(row)?)))?;
            let whole = group.scoring(image, 0..group.group.responses.len());
            let layer = first_layer(&frozen, &whole);
            Some(Diagnosis {
                tensor: Some(format!("log-probability of the policy, picture {image:?}")),
                layer: Some(layer.unwrap_or_else(|| "the output head".to_owned())),
                value: Some(values[response][token].to_string()),
                ..Diagnosis::at(group, response, Some(token))
            })
        })
    })
}

/// Log-probabilities by response and token.
fn live_scores(updater: &Updater, frozen: &FrozenPolicy, group: &CollectedGroup, image: Image) -> Vec<Vec<f32>> {
    let request = ScoreRequest { temperature: updater.temperature, entropy: false, dropout: None };
    let values = host(&frozen.score(&[group.scoring(image, 0..group.group.responses.len())], request));
    let mut values = values.as_slice();
    let lengths = group.group.responses.iter().map(|response| response.tokens.len());
    lengths
        .map(|length| {
            let (own, rest) = values.split_at(length);
            values = rest;
            own.to_vec()
        })
        .collect()
}

/// A gradient that is not finite though everything before it is: the first on the way back, and the response it comes from.
fn backward(
    updater: &Updater,
    policy: &dyn Policy,
    groups: &[CollectedGroup],
    gradients: &Gradients,
) -> Option<Diagnosis> {
    let bad = |gradients: &Gradients| {
        let pairs = policy.parameters().into_iter().zip(gradients);
        // parameters stand in the order of the forward pass
        pairs.rev().find_map(|(parameter, gradient)| named(parameter, &host(gradient.as_ref()?)))
    };
    let (name, value) = bad(gradients)?;
    let found = Diagnosis {
        tensor: Some(format!("gradient of {name}")),
        value: Some(value.to_string()),
        ..Diagnosis::default()
    };
    let of = |group: CollectedGroup| bad(&updater.gradients(policy, &[group]).0);
    let Some(group) = groups.iter().find(|group| of((*group).clone()).is_some()) else { return Some(found) };
    let alone = (0..group.rewards.len()).find(|&response| of(group.only(response)).is_some());
    Some(Diagnosis { row: Some(group.task.place.clone()), response: alone, ..found })
}

/// The token whose probability grew the most since it was sampled.
pub(crate) fn largest_ratio(updater: &Updater, policy: &dyn Policy, groups: &[CollectedGroup]) -> Diagnosis {
    let frozen = policy.freeze();
    let mut largest: Option<(f32, Diagnosis)> = None;
    for group in groups {
        let live = live_scores(updater, &frozen, group, Image::Whole);
        for (response, (live, sampled)) in live.iter().zip(&group.group.responses).enumerate() {
            for (token, (live, then)) in live.iter().zip(&sampled.log_probs).enumerate() {
                if largest.as_ref().is_none_or(|(value, _)| live - then > *value) {
                    let words = format!("log-probability {then:.3} when sampled, {live:.3} now");
                    let place = Diagnosis::at(group, response, Some(token));
                    largest = Some((live - then, Diagnosis { tensor: Some(words), ..place }));
                }
            }
        }
    }
    largest.map(|(_, place)| place).unwrap_or_default()
}
