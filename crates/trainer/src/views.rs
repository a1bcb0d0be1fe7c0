//! Log-probabilities of collected responses under weights that do not change in this step.

use crate::TrainError;
use crate::batch::{CollectedGroup, ViewNumbers, least_tokens, micro_batches};
use crate::portion::halving;
use percept_core::{FrozenPolicy, Image, Needs, ScoreRequest, View, Weights};

/// Fills in every view without gradient that an objective needs: `behavior` is the policy that sampled.
pub(crate) fn fill(
    groups: &mut [CollectedGroup],
    needs: &Needs,
    behavior: &FrozenPolicy,
    reference: Option<&FrozenPolicy>,
    temperature: f32,
    micro_tokens: &mut usize,
) -> Result<(), TrainError> {
    for &view in &needs.views {
        let policy = match view.weights {
            Weights::Live => continue,
            Weights::Behavior => behavior,
            Weights::Reference => reference.expect("a reference is loaded when the objective needs it"),
        };
        let request = ScoreRequest { temperature, entropy: needs.entropy, dropout: None };
        let part = |micro_tokens: usize| score(groups, policy, view.image, request, micro_tokens);
        let numbers = halving(&policy.device(), micro_tokens, least_tokens(groups.iter()), part)?;
        for (group, numbers) in groups.iter_mut().zip(numbers) {
            group.views.push((view, numbers));
        }
    }
    Ok(())
}

/// Scores all responses of all groups; nothing for groups that do not have the picture.
fn score(
    groups: &[CollectedGroup],
    policy: &FrozenPolicy,
    image: Image,
    request: ScoreRequest,
    micro_tokens: usize,
) -> Vec<Option<ViewNumbers>> {
    let mut results: Vec<Option<ViewNumbers>> = groups.iter().map(|_| None).collect();
    let shown: Vec<usize> =
        (0..groups.len()).filter(|&index| image == Image::Whole || groups[index].has_picture()).collect();
    let chosen: Vec<&CollectedGroup> = shown.iter().map(|&index| &groups[index]).collect();
    for batch in micro_batches(&chosen, micro_tokens) {
        let scoring: Vec<_> =
            batch.iter().map(|slice| chosen[slice.group].scoring(image, slice.responses.clone())).collect();
        let packed: Vec<f32> = policy.score(&scoring, request).into_data().try_to_vec().expect("float32");
        let columns = if request.entropy { 2 } else { 1 };
        let mut rows = packed.chunks_exact(columns);
        for (slice, scoring) in batch.iter().zip(&scoring) {
            let entry = results[shown[slice.group]].get_or_insert_with(|| ViewNumbers {
                log_probs: Vec::new(),
                entropies: request.entropy.then(Vec::new),
            });
            for response in &scoring.responses {
                let numbers: Vec<&[f32]> = rows.by_ref().take(response.len()).collect();
                entry.log_probs.push(numbers.iter().map(|row| row[0]).collect());
                if let Some(entropies) = &mut entry.entropies {
                    entropies.push(numbers.iter().map(|row| row[1]).collect());
                }
            }
        }
    }
    results
}

/// The name under which a view's time is reported.
pub(crate) fn phase(view: View) -> &'static str {
    match (view.weights, view.image) {
        (Weights::Reference, _) => "reference",
        (_, Image::Corrupted(_)) => "corrupted",
        _ => "behavior",
    }
}
