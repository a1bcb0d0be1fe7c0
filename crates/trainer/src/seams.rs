//! What the trainer asks of the parts that it does not know: data, verification, storage.

use crate::TrainError;
use percept_core::{PicturePatches, Policy, Task};
use std::ops::Range;
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

    /// The tasks of several visits, in order; a source that can prepares them side by side.
    ///
    /// # Errors
    /// As [`TaskSource::task`], for the first bad row.
    fn tasks(&mut self, visits: Range<u64>) -> Result<Vec<Option<Task>>, TrainError> {
        visits.map(|visit| self.task(visit)).collect()
    }

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

/// Writes a policy's weights, and all that belongs beside them, into a folder.
pub type SavePolicy = dyn Fn(&dyn Policy, &Path) -> Result<(), TrainError> + Send + Sync;
