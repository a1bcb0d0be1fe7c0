//! A verifier of your own: right answers earn more when the response is short.
//!
//! score = 0 for a wrong answer; for a right one 1 up to `free_characters`, falling in a straight line to 0 at `max_characters`.
//!
//! After `cargo run --release -- quickstart`, train its warm start with this rubric instead:
//!
//! ```text
//! cargo run --release --example custom_verifier -- train runs/quickstart/run.toml \
//!     --set model.checkpoint=runs/quickstart/run/sft/$(cat runs/quickstart/run/sft/latest) --set trainer.run_dir=runs/short_answer \
//!     --set 'reward.verifiers=[{name="accuracy", kind="math", weight=0.7}, {name="short", kind="short_answer", weight=0.3}]'
//! ```
//!
//! or in a run of your own:
//!
//! ```toml
//! [[reward.verifiers]]
//! name = "accuracy"
//! kind = "math"
//! weight = 0.7
//!
//! [[reward.verifiers]]
//! name = "short"
//! kind = "short_answer"
//! weight = 0.3
//! max_characters = 400
//! ```

use percept::Verifier;
use percept::reward::{Item, Registry, RewardError, is_correct, last_boxed};
use serde::Deserialize;
use std::process::ExitCode;

/// The keys that belong to `kind = "short_answer"`, and the verifier itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ShortAnswer {
    /// A right response of at most this many characters earns the whole score.
    free_characters: usize,
    /// A response of this many characters or more earns nothing.
    max_characters: usize,
}

impl Default for ShortAnswer {
    fn default() -> Self {
        Self { free_characters: 40, max_characters: 120 }
    }
}

impl ShortAnswer {
    /// The keys of the configuration, checked before training.
    fn new(table: toml::Table) -> Result<Self, RewardError> {
        let verifier: Self = Registry::settings("short_answer", table)?;
        if verifier.free_characters < verifier.max_characters {
            return Ok(verifier);
        }
        Err(RewardError::Settings {
            name: "short_answer".to_owned(),
            kind: "short_answer".to_owned(),
            message: format!(
                "`free_characters` must be below `max_characters`, found {} and {}",
                verifier.free_characters, verifier.max_characters
            ),
        })
    }
}

impl Verifier for ShortAnswer {
    // Called from several threads; the same item always gets the same score. A wrong answer is a score, not an error.
    fn verify(&self, item: &Item) -> Result<f32, RewardError> {
        if !last_boxed(item.response).is_some_and(|given| is_correct(given, item.answer)) {
            return Ok(0.0);
        }
        let length = item.response.chars().count().clamp(self.free_characters, self.max_characters);
        Ok((self.max_characters - length) as f32 / (self.max_characters - self.free_characters) as f32)
    }
}

fn main() -> ExitCode {
    percept::App::default().verifier("short_answer", |table| Ok(Box::new(ShortAnswer::new(table)?))).run()
}
