//! What the trainer asks of the parts that it does not know: data, verification, storage.

use crate::{CollectedGroup, TrainError};
use percept_core::{PicturePatches, Policy, Task};
use std::path::Path;

/// Rows of a data set in the order of visits, as tasks.
pub trait TaskSource: Send {
    /// Rows of the data set.
    fn num_rows(&self) -> usize;

    /// The task at a visit; nothing when its row is to be skipped (too long, or bad and allowed to be).
    ///
    /// # Errors
    /// When the row is bad and must not be skipped.
    fn task(&mut self, visit: u64) -> Result<Option<Task>, TrainError>;

    /// A picture as the policy is shown it, as a PNG file, for samples; nothing where that cannot be told.
    fn png(&self, _picture: &PicturePatches) -> Option<Vec<u8>> {
        None
    }
}

/// A verified response.
#[derive(Clone, Debug, PartialEq)]
pub struct Grade {
    pub overall: f32,
    /// A score for each of [`Grader::names`].
    pub parts: Vec<f32>,
    /// The response as text.
    pub text: String,
}

/// Verification of responses by a rubric.
pub trait Grader: Send + Sync {
    /// Names of the rubric's parts.
    fn names(&self) -> Vec<String>;

    /// Grades of responses (token ids), in order.
    ///
    /// # Errors
    /// When a verifier fails and failing is not allowed.
    fn grade(&self, responses: &[(&Task, &[u32])]) -> Result<Vec<Grade>, TrainError>;

    /// The text of each token by itself, for samples; nothing where it is not known.
    fn pieces(&self, _response: &[u32]) -> Vec<String> {
        Vec::new()
    }
}

/// Looks at what a step samples, before anything is learned from it. It changes nothing.
pub trait Watch {
    /// A verified group, whether it is learned from or not.
    fn sampled(&mut self, step: u64, group: &CollectedGroup);

    /// The step samples no more; also when what it has is not enough.
    fn collected(&mut self, step: u64);
}

/// Nobody looks.
impl Watch for () {
    fn sampled(&mut self, _step: u64, _group: &CollectedGroup) {}

    fn collected(&mut self, _step: u64) {}
}

/// Writes a policy's weights, and all that belongs beside them, into a folder.
pub type SavePolicy = dyn Fn(&dyn Policy, &Path) -> Result<(), TrainError> + Send + Sync;
