//! `math`: whether the last `\boxed{}` of a response equals the answer, judged as PAPO judges it.
//!
//! The reference is mathruler 0.1.0 `grade_answer`: equal after either of two normalizers, or equal element by element
//! as mathematics. It is strict where a mathematician would not be (`\frac{6}{8}` is not `\frac{3}{4}`, `2^4` is not
//! `16`: an unreduced fraction or an uncomputed integer is no final answer) and this is kept, because the reward is
//! part of the method that is reproduced.

mod algebra;
mod latex;
pub(crate) mod python;
mod surface;
mod tuple;
mod units;

use serde::{Deserialize, Serialize};

use crate::error::RewardError;
use crate::response::{last_boxed, read_boxed, tighten};
use crate::verifier::{Explanation, Item, Verifier};

/// Scores 1 when the response's last `\boxed{}` equals the answer, otherwise 0. It has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Math {}

impl Verifier for Math {
    fn verify(&self, item: &Item) -> Result<f32, RewardError> {
        let response = tighten(item.response);
        // As in the reference, a response without a box has answered "None".
        let given = last_boxed(&response).unwrap_or("None");
        Ok(if is_correct(given, item.answer) { 1.0 } else { 0.0 })
    }

    fn explain(&self, item: &Item) -> Option<Explanation> {
        let read = read_boxed(&tighten(item.response)).map(str::to_owned);
        Some(Explanation { wanted: "the last \\boxed{}".to_owned(), read })
    }

    fn marks(&self) -> Vec<&'static str> {
        vec!["\\boxed"]
    }

    fn ideal(&self, answer: &str) -> Option<String> {
        Some(format!("\\boxed{{{answer}}}"))
    }
}

/// Whether a final answer is the true one: mathruler's `grade_answer(given, truth)`.
///
/// The reference gives up on some inputs with an error or after a time limit; those are not correct here.
pub fn is_correct(given: &str, truth: &str) -> bool {
    if surface::normalize(truth) == surface::normalize(given) {
        return true;
    }
    let (truth, given) = (units::normalize(truth), units::normalize(given));
    if truth == given {
        return true;
    }
    if given.is_empty() {
        return false;
    }
    let (truths, givens) = (tuple::split(&truth), tuple::split(&given));
    // Of tuples and intervals, the brackets must be the same.
    if truths.len() > 1 && !tuple::same_ends(&truth, &given) {
        return false;
    }
    !truths.is_empty()
        && truths.len() == givens.len()
        && truths.iter().zip(&givens).all(|(truth, given)| same_element(truth, given))
}

fn same_element(truth: &str, given: &str) -> bool {
    if tuple::is_fraction(truth) && tuple::is_fraction(given) {
        return truth == given;
    }
    python::is_whole_text(truth) == python::is_whole_text(given) && algebra::equal(truth, given)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Math, is_correct};
    use crate::verifier::{Item, Verifier};

    #[test]
    fn answers_are_judged_as_by_the_reference() {
        for (given, truth, verdict) in [
            ("24", "24", true),
            ("6/8", "3/4", false),
            ("2^4", "16", false),
            ("(3/5,24)", "(\\frac{3}{5},24)", true),
            ("[24,61]", "(24,61)", false),
            ("[96,133]", "(96,133)", true),
            ("(24,37)", "[24,37]", false),
            ("24,37", "37,24", false),
            ("-2\\frac{3}{4}", "-\\frac{11}{4}", false),
            ("\\textbf{(A)}", "A", true),
            ("A.", "A", false),
            ("", "", true),
            ("24", "", false),
            ("", "24", false),
        ] {
            assert_eq!(is_correct(given, truth), verdict, "{given} for {truth}");
        }
    }

    #[test]
    fn a_response_without_a_box_answers_none() {
        let item = |response, answer| Item { problem: "", response, answer, row: "row 1" };
        assert_eq!(Math {}.verify(&item("5", "5")).ok(), Some(0.0));
        assert_eq!(Math {}.verify(&item("5", "None")).ok(), Some(1.0));
        assert_eq!(Math {}.verify(&item("\\boxed{1 / 2}", "1/2")).ok(), Some(1.0));
    }

    proptest! {
        #[test]
        fn never_panics_and_is_prompt(given in any::<String>(), truth in "[-a-z0-9\\\\{}()\\[\\],.^/*+ $%é٤]{0,80}") {
            let start = std::time::Instant::now();
            is_correct(&given, &truth);
            is_correct(&truth, &given);
            prop_assert!(is_correct(&truth, &truth));
            prop_assert!(start.elapsed().as_secs_f64() < 1.0);
        }

        #[test]
        fn latex_never_panics(pieces in prop::collection::vec(0usize..16, 0..60)) {
            let words = ["\\frac", "\\sqrt", "{", "}", "[", "]", "1", "x", "\\begin{pmatrix}", "\\end{pmatrix}", "&",
                "\\\\", "\\(", "\\)", " ", "\\text"];
            let text: String = pieces.iter().map(|i| words[*i]).collect();
            is_correct(&text, "5");
            is_correct("x", &text);
        }
    }
}
