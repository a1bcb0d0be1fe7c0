//! What the policy should learn from verified responses.

use crate::evidence::{Evidence, Loss};
use crate::view::Needs;

/// One group's verified responses.
#[derive(Clone, Copy, Debug)]
pub struct GroupOutcome<'a> {
    /// Overall rewards.
    pub rewards: &'a [f32],
    /// Names and scores of the rubric's parts, one score a response.
    pub parts: &'a [(String, Vec<f32>)],
    /// Tokens of each response.
    pub lengths: &'a [usize],
    /// The limit of new tokens.
    pub max_new_tokens: usize,
}

impl GroupOutcome<'_> {
    /// The scores of a part of the rubric, or the overall rewards for `"overall"`.
    pub fn part(&self, name: &str) -> Option<&[f32]> {
        if name == "overall" {
            return Some(self.rewards);
        }
        self.parts.iter().find(|(part, _)| part == name).map(|(_, scores)| scores.as_slice())
    }
}

/// A method: pure functions from what was observed to what should be minimized.
pub trait Objective: Send + Sync {
    /// Which views the loss compares, beyond the live and behavior log-probabilities on the whole picture.
    fn needs(&self) -> Needs;

    /// One group's rewards become one advantage for each response.
    fn credit(&self, outcome: &GroupOutcome) -> Vec<f32>;

    /// Whether the group is learned from. Rejected groups are replaced by others, a bounded number of times.
    fn admit(&self, _outcome: &GroupOutcome) -> bool {
        true
    }

    /// Names of rubric parts that [`Objective::admit`] reads; checked before training.
    fn parts_read(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether a response whose advantage is 0 can still have a gradient (a divergence or entropy term), where its prompt has a
    /// picture and its corrupted twins, and where it has none (see [`Evidence::has_picture`]).
    fn learns_without_advantage(&self, _has_picture: bool) -> bool {
        true
    }

    /// The loss of a micro-batch and its metrics. Never reads back from the device.
    fn loss(&self, evidence: &Evidence) -> Loss;
}
