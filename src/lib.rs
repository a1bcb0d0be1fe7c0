//! Percept trains vision-language models with verifiable rewards, in Rust, on burn.
//!
//! The four seams, side by side: [`Policy`] (what does the network believe?), [`Sampler`] (which responses does it give?),
//! [`Verifier`] (was the response right?) and [`Objective`] (what should the policy learn?). A program of your own adds an
//! implementation and calls the same command line:
//!
//! ```no_run
//! # fn mine() -> Box<dyn percept::Objective> { unimplemented() }
//! # fn unimplemented() -> Box<dyn percept::Objective> { std::process::exit(1) }
//! fn main() -> std::process::ExitCode {
//!     percept::App::default().objective("mine", |_section| Ok(mine())).run()
//! }
//! ```

pub use percept_app::{App, Section, check, device as devices};
pub use percept_core::{Objective, Policy, Sampler};
pub use percept_reward::Verifier;

/// Objectives that ship with Percept, and what they are built from.
pub use percept_algorithms as algorithms;
/// The vocabulary: prompts, responses, views, evidence, losses.
pub use percept_core as core;
/// Tensor mathematics.
pub use percept_ops as ops;
/// Verifiers and rubrics.
pub use percept_reward as reward;
/// Pictures and their corruption.
pub use percept_vision as vision;
