//! `exact`: whether the response gives the answer word for word.

use serde::{Deserialize, Serialize};

use crate::error::RewardError;
use crate::response::last_boxed;
use crate::verifier::{Item, Verifier};

/// Which part of a response is its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The last `\boxed{}`; a response without one is wrong.
    #[default]
    Boxed,
    /// The last line that is not empty.
    LastLine,
    /// All of it.
    Whole,
}

impl Part {
    /// The part of the response, trimmed; `None` when it has none.
    pub(crate) fn of(self, response: &str) -> Option<&str> {
        match self {
            Self::Boxed => last_boxed(response),
            Self::LastLine => response.lines().rev().map(str::trim).find(|line| !line.is_empty()),
            Self::Whole => Some(response.trim()),
        }
    }
}

/// Scores 1 when the answer stands in the response as it is, white space at its ends aside; otherwise 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exact {
    /// Which part of the response is compared. Default: `boxed`.
    pub part: Part,
    /// Whether `Yes` is `yes`. Default: false.
    pub ignore_case: bool,
}

impl Verifier for Exact {
    fn verify(&self, item: &Item) -> Result<f32, RewardError> {
        let same = |given: &str| {
            let answer = item.answer.trim();
            if self.ignore_case { given.to_lowercase() == answer.to_lowercase() } else { given == answer }
        };
        Ok(if self.part.of(item.response).is_some_and(same) { 1.0 } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::{Exact, Part};
    use crate::verifier::{Item, Verifier};

    fn score(verifier: &Exact, response: &str, answer: &str) -> f32 {
        verifier.verify(&Item { problem: "", response, answer, row: "row 1" }).expect("a score")
    }

    #[test]
    fn compares_the_chosen_part() {
        let boxed = Exact::default();
        assert_eq!(score(&boxed, "\\boxed{ red }", "red\n"), 1.0);
        assert_eq!(score(&boxed, "red", "red"), 0.0);
        assert_eq!(score(&boxed, "\\boxed{Red}", "red"), 0.0);
        let line = Exact { part: Part::LastLine, ignore_case: true };
        assert_eq!(score(&line, "I think\n RED \n\n", "red"), 1.0);
        let whole = Exact { part: Part::Whole, ignore_case: false };
        assert_eq!(score(&whole, " red ", "red"), 1.0);
        assert_eq!(score(&whole, "is red", "red"), 0.0);
    }
}
