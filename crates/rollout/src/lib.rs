//! Samplers: which responses the policy gives.

mod choose;
mod engine;

pub use choose::{Banned, Choice, choose};
pub use engine::InProcess;
