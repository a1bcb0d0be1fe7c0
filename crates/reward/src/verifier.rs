//! The seam: what a verifier is given, and what it answers.

use std::time::Duration;

use crate::error::RewardError;

/// One response to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The problem as the data set states it, before any format prompt.
    pub problem: &'a str,
    /// What the policy wrote.
    pub response: &'a str,
    /// The true answer.
    pub answer: &'a str,
    /// Where the problem comes from, for messages: `train.parquet row 17`.
    pub row: &'a str,
}

/// Says how good a response is. This is what a researcher implements for a task of their own.
///
/// Several threads ask at once. The same item should always get the same score.
pub trait Verifier: Send + Sync {
    /// The score, usually between 0 (wrong) and 1 (right); it must be finite.
    ///
    /// # Errors
    /// When there is no score. A wrong answer is a score, not an error. Errors that are not of this crate go through
    /// [`RewardError::failed`].
    fn verify(&self, item: &Item) -> Result<f32, RewardError>;

    /// How long one item may take before the rubric gives up on it, when the verifier knows better than the rubric's
    /// `timeout_seconds`.
    fn time_limit(&self) -> Option<Duration> {
        None
    }

    /// How many items it judges at once, when that is not one for each of the machine's threads.
    fn workers(&self) -> Option<usize> {
        None
    }

    /// Ends what is running: the rubric is dropped, or stops on an error. Calls in progress may fail; later ones are
    /// served again.
    fn interrupt(&self) {}
}
