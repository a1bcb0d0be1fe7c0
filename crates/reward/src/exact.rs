//! `exact`: whether the response gives the answer word for word.

use serde::{Deserialize, Serialize};

use crate::error::RewardError;
use crate::response::{last_boxed, read_boxed};
use crate::verifier::{Explanation, Item, Verifier};

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

    /// The same, or what the response lacks.
    pub(crate) fn read(self, response: &str) -> Result<&str, String> {
        match self {
            Self::Boxed => read_boxed(response),
            Self::LastLine | Self::Whole => {
                self.of(response).filter(|part| !part.is_empty()).ok_or_else(|| "it is empty".to_owned())
            }
        }
    }

    /// Itself in words.
    pub(crate) fn wanted(self) -> &'static str {
        match self {
            Self::Boxed => "the last \\boxed{}",
            Self::LastLine => "the last line",
            Self::Whole => "the whole response",
        }
    }

    /// What a prompt must ask for.
    pub(crate) fn marks(self) -> Vec<&'static str> {
        if self == Self::Boxed { vec!["\\boxed"] } else { Vec::new() }
    }

    /// A response whose part is this answer.
    pub(crate) fn ideal(self, answer: &str) -> String {
        if self == Self::Boxed { format!("\\boxed{{{answer}}}") } else { answer.to_owned() }
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

    fn explain(&self, item: &Item) -> Option<Explanation> {
        let read = self.part.read(item.response).map(str::to_owned);
        Some(Explanation { wanted: self.part.wanted().to_owned(), read })
    }

    fn marks(&self) -> Vec<&'static str> {
        self.part.marks()
    }

    fn ideal(&self, answer: &str) -> Option<String> {
        Some(self.part.ideal(answer))
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
