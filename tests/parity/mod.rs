//! Numbers of the reference implementations.
//!
//! Each test goes through every case it finds, in the repository's own `tests/golden` and in the folder that `PERCEPT_GOLDEN` names.

mod algorithms;
mod config;
pub mod golden;
mod images;
mod models;
mod prompt;
mod reward;
mod tensors;
mod train_step;
mod weights;
