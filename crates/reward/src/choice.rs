//! `choice`: whether the response picks the right option of a multiple-choice problem.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::RewardError;
use crate::response::{last_boxed, read_boxed};
use crate::verifier::{Explanation, Item, Verifier};

/// Scores 1 when the response picks exactly the options of the answer (`B`, or `A, C`), otherwise 0.
///
/// The pick is looked for in the last `\boxed{}`, otherwise after the last "answer" or "option" (`The answer is (B).`),
/// otherwise the whole response must be a pick. It may be written `B`, `(B)`, `B.`, `B) red`, `\text{B}`, `Option B`,
/// in small letters, or as the option's text when the problem lists its options one a line (`A. red`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Choice {
    /// The letters options may have. Default: `ABCDEFGH`.
    pub letters: String,
    /// Whether a `\boxed{}` is asked for. Default: false.
    pub boxed_only: bool,
}

impl Default for Choice {
    fn default() -> Self {
        Self { letters: "ABCDEFGH".to_owned(), boxed_only: false }
    }
}

impl Choice {
    /// What is wrong with the settings, if anything is.
    pub(crate) fn complaint(&self) -> Option<String> {
        let is_usable = !self.letters.is_empty() && self.letters.bytes().all(|b| b.is_ascii_uppercase());
        (!is_usable).then(|| format!("`letters` must be capital letters from A to Z, found `{}`", self.letters))
    }

    /// The options a text picks; empty when it picks none.
    fn picks(&self, text: &str, problem: &str) -> BTreeSet<char> {
        let text = bare(text);
        let letters = self.letters_of(&text);
        if letters.is_empty() { self.option_with_text(&text, problem).into_iter().collect() } else { letters }
    }

    /// `B`, `(B)`, `B. red`, `option B`, `A, C`, `A and C`, `AC`.
    fn letters_of(&self, text: &str) -> BTreeSet<char> {
        static LEAD: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"(?i)^(?:the )?(?:option|choice|answer)s?(?: is)?[ :]+").expect("a valid pattern")
        });
        let text = LEAD.replace(text, "");
        let text = text.trim().trim_end_matches('.');
        let one_word = |word: &str| {
            let word = word.trim_matches(|c: char| matches!(c, '(' | ')' | '[' | ']' | '.' | ':' | '*'));
            // Several letters in a row are several options only as capitals: `AD`, but not `bad`.
            let is_pick = word.len() == 1 || word.bytes().all(|b| b.is_ascii_uppercase());
            let letters: Option<BTreeSet<char>> =
                word.chars().map(|c| c.to_ascii_uppercase()).map(|c| self.letters.contains(c).then_some(c)).collect();
            letters.filter(|letters| is_pick && letters.len() == word.len() && !letters.is_empty())
        };
        let words = text.split([',', ';', ' ', '&']).filter(|word| !word.is_empty() && *word != "and");
        let all: Option<Vec<BTreeSet<char>>> = words.map(one_word).collect();
        match all {
            Some(sets) => sets.into_iter().flatten().collect(),
            // `B. red`, `(B) red`, `B: red`: the letter and its text.
            None => self.leading_letter(text).into_iter().collect(),
        }
    }

    /// The letter of `B. red`, `(B) red` or `B: red`.
    fn leading_letter(&self, text: &str) -> Option<char> {
        let (open, rest) = match text.strip_prefix('(') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut characters = rest.chars();
        let letter = characters.next().filter(|c| self.letters.contains(*c))?;
        let follows = characters.next()?;
        let is_marked = if open { follows == ')' } else { matches!(follows, '.' | ')' | ':') };
        // `A.5` is a number gone wrong, not an option.
        let separates = characters.next().is_none_or(|c| !c.is_ascii_digit() || follows != '.');
        (is_marked && separates).then_some(letter)
    }

    /// The option of the problem whose text this is.
    fn option_with_text(&self, text: &str, problem: &str) -> Option<char> {
        static OPTION: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"(?m)^\s*\(?([A-Z])[.):][ \t]*(\S.*)$").expect("a valid pattern"));
        let same = |option: &str| bare(option).eq_ignore_ascii_case(text);
        let mut letters = OPTION
            .captures_iter(problem)
            .filter(|option| same(option[2].trim_end().trim_end_matches('.')))
            .filter_map(|option| option[1].chars().next());
        let letter = letters.next().filter(|letter| self.letters.contains(*letter))?;
        // Two options with one text do not tell which.
        letters.next().is_none().then_some(letter)
    }

    /// Where the response's pick stands.
    fn place<'a>(&self, response: &'a str) -> Option<&'a str> {
        static ANNOUNCED: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"(?i)(?:answer|option|choice)(?: is)?[ :*]+([^\n]+)").expect("a valid pattern")
        });
        if let Some(boxed) = last_boxed(response) {
            return Some(boxed);
        }
        if self.boxed_only {
            return None;
        }
        let announced = ANNOUNCED.captures_iter(response).last().and_then(|found| found.get(1));
        Some(announced.map_or(response, |found| found.as_str()))
    }
}

impl Verifier for Choice {
    fn verify(&self, item: &Item) -> Result<f32, RewardError> {
        let truth = self.picks(item.answer, item.problem);
        if truth.is_empty() {
            return Err(RewardError::Answer {
                verifier: "choice",
                row: item.row.to_owned(),
                answer: item.answer.to_owned(),
                expected: "an option such as B, (B) or A,C, or the text of one that the problem lists",
            });
        }
        let given = self.place(item.response).map(|text| self.picks(text, item.problem));
        Ok(if given == Some(truth) { 1.0 } else { 0.0 })
    }

    fn explain(&self, item: &Item) -> Option<Explanation> {
        let wanted = match self.boxed_only {
            true => "an option in the last \\boxed{}",
            false => "an option in the last \\boxed{}, or behind \"answer\" or \"option\", or alone",
        };
        let picks = |text: &str| {
            let picks: Vec<String> = self.picks(text, item.problem).into_iter().map(String::from).collect();
            if picks.is_empty() { Err(format!("`{}` picks no option", text.trim())) } else { Ok(picks.join(", ")) }
        };
        let read = match self.place(item.response) {
            Some(text) => picks(text),
            None => read_boxed(item.response).and_then(picks),
        };
        Some(Explanation { wanted: wanted.to_owned(), read })
    }

    fn marks(&self) -> Vec<&'static str> {
        if self.boxed_only { vec!["\\boxed"] } else { Vec::new() }
    }

    fn ideal(&self, answer: &str) -> Option<String> {
        Some(format!("\\boxed{{{answer}}}"))
    }
}

/// The text without LaTeX commands, braces, dollars and white space at its ends.
fn bare(text: &str) -> String {
    static COMMAND: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\\[a-zA-Z]+|[{}$]").expect("a valid pattern"));
    COMMAND.replace_all(text, "").trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Choice;
    use crate::verifier::{Item, Verifier};

    const PROBLEM: &str = "Which colour?\nA. red\nB. dark blue\n(C) green\nD: red and blue.\n";

    fn score(response: &str, answer: &str) -> f32 {
        let item = Item { problem: PROBLEM, response, answer, row: "row 1" };
        Choice::default().verify(&item).expect("a score")
    }

    #[test]
    fn reads_the_pick_however_it_is_written() {
        for response in [
            "\\boxed{B}",
            "\\boxed{(B)}",
            "\\boxed{B.}",
            "\\boxed{\\text{B}}",
            "\\boxed{\\textbf{(B)}}",
            "\\boxed{b}",
            "\\boxed{B. dark blue}",
            "\\boxed{B) dark blue}",
            "\\boxed{Option B}",
            "\\boxed{dark blue}",
            "\\boxed{B: it}",
            "The answer is (B).",
            "Answer: B",
            "answer: **B**",
            "B",
            "(B)",
            "Dark Blue",
            "Not A.\nThe answer is B",
            "first \\boxed{A} then \\boxed{B}",
            "\\boxed{$B$}",
        ] {
            assert_eq!(score(response, "B"), 1.0, "{response}");
        }
        for response in [
            "\\boxed{A}",
            "\\boxed{AB}",
            "\\boxed{A, B}",
            "",
            "I do not know",
            "\\boxed{blue}",
            "\\boxed{}",
            "\\boxed{bad}",
            "Bob said so",
            "\\boxed{Z}",
        ] {
            assert_eq!(score(response, "B"), 0.0, "{response}");
        }
    }

    #[test]
    fn several_options_are_a_set() {
        for response in ["\\boxed{A, C}", "\\boxed{CA}", "\\boxed{C and A}", "\\boxed{(A),(C)}"] {
            assert_eq!(score(response, "A,C"), 1.0, "{response}");
        }
        assert_eq!(score("\\boxed{A}", "AC"), 0.0);
    }

    #[test]
    fn the_answer_must_be_an_option() {
        let item = Item { problem: PROBLEM, response: "\\boxed{A}", answer: "42", row: "val.parquet row 3" };
        let error = Choice::default().verify(&item).expect_err("42 is no option");
        assert!(error.to_string().starts_with("val.parquet row 3: "), "{error}");
        let boxed_only = Choice { boxed_only: true, ..Choice::default() };
        let item = Item { answer: "A", response: "The answer is A", ..item };
        assert_eq!(boxed_only.verify(&item).ok(), Some(0.0));
        assert!(Choice { letters: "a1".into(), ..boxed_only }.complaint().is_some());
    }

    proptest! {
        #[test]
        fn never_panics(response in any::<String>(), problem in any::<String>()) {
            let item = Item { problem: &problem, response: &response, answer: "A", row: "row 1" };
            prop_assert!(Choice::default().verify(&item).is_ok());
        }
    }
}
