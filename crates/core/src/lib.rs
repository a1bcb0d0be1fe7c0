//! The vocabulary of Percept: prompts, responses, groups, views, evidence and losses, and the traits at its seams.
//!
//! No input or output, no model and no algorithm live here. The fourth trait, `Verifier`, stands in `percept-reward`, which
//! knows no tensor; the facade crate `percept` shows all four side by side.

mod evidence;
mod objective;
mod policy;
mod sampler;
mod task;
mod view;

pub use evidence::{Counts, Evidence, Loss, Metric, Progress, Reduction, Tally};
pub use objective::{GroupOutcome, Objective};
pub use policy::{
    Activations, DecodeRow, Decoder, FrozenPolicy, Parameter, Piece, Policy, ScoreRequest, ScoringGroup, Tape,
};
pub use sampler::{Sampler, SamplerError, SamplingSpec};
pub use task::{Finish, Group, PicturePatches, Prompt, Response, Task};
pub use view::{Image, Needs, Scores, View, Weights};
