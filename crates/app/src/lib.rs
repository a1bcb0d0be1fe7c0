//! The command line: reads configuration, names devices, builds the parts, prints.
//!
//! A program of a researcher's own calls [`App::run`] with what it adds: `App::default().objective("mine", ...)`.

mod beginning;
mod bench;
mod cache;
mod categories;
pub mod check;
mod cli;
mod cost;
mod dashboard;
mod deadline;
pub mod device;
#[cfg(any(test, feature = "cuda"))]
mod device_math;
mod doctor;
mod evaluate;
mod fork;
mod grading;
mod hardware;
mod import;
mod init;
mod lane;
mod look;
mod messages;
mod notices;
mod objectives;
mod output;
mod parts;
mod plan;
mod quickstart;
mod reliance;
mod replay;
mod report;
mod sample;
mod shown;
mod source;
mod task;
mod train;

pub use objectives::{Objectives, Section};
pub use percept_reward::Registry as Verifiers;

use percept_core::Objective;
use percept_reward::{RewardError, Verifier};
use std::process::ExitCode;

/// The program with its registries of methods and verifiers.
#[derive(Default)]
pub struct App {
    pub(crate) objectives: Objectives,
    pub(crate) verifiers: Verifiers,
}

impl App {
    /// Adds an objective under a kind for `[objective] kind = "..."`.
    #[must_use]
    pub fn objective(
        mut self,
        kind: &'static str,
        build: impl Fn(&Section) -> anyhow::Result<Box<dyn Objective>> + Send + Sync + 'static,
    ) -> Self {
        self.objectives.add(kind, build);
        self
    }

    /// Adds a verifier under a kind for `[[reward.verifiers]] kind = "..."`.
    #[must_use]
    pub fn verifier(
        mut self,
        kind: &'static str,
        build: impl Fn(toml::Table) -> Result<Box<dyn Verifier>, RewardError> + Send + Sync + 'static,
    ) -> Self {
        self.verifiers = self.verifiers.with(kind, build);
        self
    }

    /// Reads the command line and carries it out; errors go to standard error, once, in words.
    pub fn run(self) -> ExitCode {
        messages::quiet_panics();
        notices::install();
        match cli::dispatch(&self) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("{}", messages::one_line(&error));
                ExitCode::FAILURE
            }
        }
    }
}
