//! Rewards: was the response right?
//!
//! A [`Verifier`] judges one response. A [`Rubric`] weighs several of them, runs them in parallel under a deadline, and
//! gives each response one reward. PAPO's rubric, `0.9 * accuracy + 0.1 * format`, is the default. Which verifiers a
//! rubric has is configuration ([`RubricConfig`]); a [`Registry`] turns names of kinds into verifiers and takes new
//! kinds from outside.
//!
//! ```
//! use percept_reward::{Item, Registry, RubricConfig};
//!
//! let rubric = Registry::default().rubric(&RubricConfig::default())?;
//! let response = "<think>3 and 4</think> It is \\boxed{\\frac{14}{2}}.";
//! let item = Item { problem: "How many?", response, answer: "7", row: "row 0" };
//! let verdicts = rubric.grade(&[item])?;
//! assert_eq!(rubric.names().collect::<Vec<_>>(), ["accuracy", "format"]);
//! // Not 1: the reference wants whole numbers computed.
//! assert_eq!((verdicts[0].overall, verdicts[0].parts.as_slice()), (0.1, [0.0, 1.0].as_slice()));
//! # Ok::<(), percept_reward::RewardError>(())
//! ```

mod choice;
mod command;
mod config;
mod deadline;
mod error;
mod exact;
mod examine;
mod format;
mod math;
mod numeric;
mod registry;
mod response;
mod rubric;
mod verifier;

pub use choice::Choice;
pub use command::{Command, CommandConfig};
pub use config::{OnError, RubricConfig, VerifierConfig};
pub use error::RewardError;
pub use exact::{Exact, Part};
pub use examine::{Ideal, Opinion};
pub use format::{Format, Style};
pub use math::{Math, is_correct};
pub use numeric::Numeric;
pub use registry::Registry;
pub use response::{last_boxed, tighten};
pub use rubric::{Rubric, Verdict};
pub use verifier::{Explanation, Item, Verifier};
