//! Samplers: which responses the policy gives.

mod choose;
mod device_choice;
mod engine;

pub use choose::{Banned, Choice, choose};
pub use engine::InProcess;
