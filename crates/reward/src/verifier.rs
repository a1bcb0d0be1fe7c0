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

/// What a verifier looks for in a response, and what it took from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What it looks for, as words behind "looks for": `the last \boxed{}`.
    pub wanted: String,
    /// What it compares with the answer; or what the response lacks, as a sentence.
    pub read: Result<String, String>,
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

    /// How it reads a response: for people, and to find out why no response is right. `None`: it does not say.
    fn explain(&self, _item: &Item) -> Option<Explanation> {
        None
    }

    /// Strings without which a response scores nothing, so that a prompt has to ask for them.
    fn marks(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// A response that gives this answer in the form that it looks for, and must get full marks. `None`: it names no form.
    fn ideal(&self, _answer: &str) -> Option<String> {
        None
    }

    /// Ends what is running: the rubric is dropped, or stops on an error. Calls in progress may fail; later ones are
    /// served again.
    fn interrupt(&self) {}
}
