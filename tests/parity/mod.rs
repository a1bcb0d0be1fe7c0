//! Numbers of the reference implementations.
//!
//! Each test goes through every case it finds, in the repository's own `tests/golden` and in the folder that `PERCEPT_GOLDEN` names.

pub(crate) mod algorithms;
mod config;
pub mod golden;
mod images;
pub(crate) mod models;
mod prompt;
mod reward;
mod tensors;
pub(crate) mod train_step;
mod weights;
