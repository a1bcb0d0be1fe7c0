//! `numeric`: whether the response's number is near enough to the answer.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::RewardError;
use crate::exact::Part;
use crate::verifier::{Explanation, Item, Verifier};

/// Scores 1 when `|given - truth| <= max(absolute, relative * |truth|)`, otherwise 0.
///
/// A number may have thousands separators (`12,345`), an exponent (`1.2e3`, `1.2\times 10^{3}`), be a fraction (`3/4`,
/// `\frac{3}{4}`) and have a unit or a currency sign beside it; of several numbers the last counts. When only one
/// side has a percent sign, either reading is right: `12%` is `0.12`, and it is `12`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Numeric {
    /// Which part of the response is read. Default: `boxed`.
    pub part: Part,
    /// The distance that is always forgiven. Default: 0.
    pub absolute: f64,
    /// The distance that is forgiven, as a share of the true number. Default: 1e-6.
    pub relative: f64,
}

impl Default for Numeric {
    fn default() -> Self {
        Self { part: Part::Boxed, absolute: 0.0, relative: 1e-6 }
    }
}

impl Numeric {
    /// What is wrong with the settings, if anything is.
    pub(crate) fn complaint(&self) -> Option<String> {
        [("absolute", self.absolute), ("relative", self.relative)]
            .into_iter()
            .find(|(_, value)| !(value.is_finite() && *value >= 0.0))
            .map(|(key, value)| format!("`{key}` must be a finite number of at least 0, found {value}"))
    }

    fn near(&self, given: f64, truth: f64) -> bool {
        (given - truth).abs() <= self.absolute.max(self.relative * truth.abs())
    }
}

impl Verifier for Numeric {
    fn verify(&self, item: &Item) -> Result<f32, RewardError> {
        let truth = Quantity::read(item.answer).ok_or_else(|| RewardError::Answer {
            verifier: "numeric",
            row: item.row.to_owned(),
            answer: item.answer.to_owned(),
            expected: "a number, such as 12, -0.5, 3/4, 1.2e3 or 12%",
        })?;
        let Some(given) = self.part.of(item.response).and_then(Quantity::read) else { return Ok(0.0) };
        let is_near = self.near(given.value, truth.value)
            || match (given.is_percentage, truth.is_percentage) {
                (true, false) => self.near(given.value / 100.0, truth.value),
                (false, true) => self.near(given.value, truth.value / 100.0),
                _ => false,
            };
        Ok(if is_near { 1.0 } else { 0.0 })
    }

    fn explain(&self, item: &Item) -> Option<Explanation> {
        let number = |text: &str| {
            let quantity = Quantity::read(text).ok_or_else(|| format!("`{}` holds no number", text.trim()))?;
            Ok(format!("{}{}", quantity.value, if quantity.is_percentage { " %" } else { "" }))
        };
        let read = self.part.read(item.response).and_then(number);
        Some(Explanation { wanted: format!("a number in {}", self.part.wanted()), read })
    }

    fn marks(&self) -> Vec<&'static str> {
        self.part.marks()
    }

    fn ideal(&self, answer: &str) -> Option<String> {
        Some(self.part.ideal(answer))
    }
}

/// A number as it is written, and whether a percent sign follows it.
#[derive(Debug, PartialEq)]
struct Quantity {
    value: f64,
    is_percentage: bool,
}

impl Quantity {
    /// The last number in a text.
    fn read(text: &str) -> Option<Self> {
        static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
            // Groups: sign; numerator, denominator; number, its divisor; exponent in two notations; percent.
            let digits = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+";
            Regex::new(&format!(
                r"(?x) (-)? [\ ]? (?:
                    frac \{{ [\ ]? (-?(?:{digits})) [\ ]? \}} \{{ [\ ]? ((?:{digits})) [\ ]? \}}
                  | ({digits}) (?: [\ ]? / [\ ]? ({digits}) )?
                    (?: [eE] ([-+]?[0-9]+) | [\ ]? (?:×|\*|times|cdot) [\ ]? 10 \^ \{{? ([-+]?[0-9]+) \}}? )?
                ) [\ ]? (%|percent)?"
            ))
            .expect("a valid pattern")
        });
        let plain = plain(text);
        let last = NUMBER.captures_iter(&plain).last()?;
        let number =
            |group: usize| last.get(group).and_then(|found| found.as_str().replace(',', "").parse::<f64>().ok());
        let value = match (number(2), number(3)) {
            (Some(above), Some(below)) => above / below,
            _ => number(4)? / number(5).unwrap_or(1.0) * 10f64.powf(number(6).or(number(7)).unwrap_or(0.0)),
        };
        let subtracts = last.get(1).is_some_and(|minus| subtracts(&plain[..minus.start()], &plain[minus.end()..]));
        let sign = if last.get(1).is_some() && !subtracts { -1.0 } else { 1.0 };
        value.is_finite().then_some(Self { value: sign * value, is_percentage: last.get(8).is_some() })
    }
}

/// Whether the minus between two texts subtracts, as in `3-5` and `3 - 5`, and is no sign, as in `is -5`.
fn subtracts(before: &str, after: &str) -> bool {
    let ends = |c: char| c.is_ascii_digit() || matches!(c, ')' | '}');
    before.ends_with(|c: char| c.is_alphanumeric() || ends(c))
        || (after.starts_with(' ') && before.trim_end().ends_with(ends))
}

/// The text without LaTeX's spacing and with one kind of minus.
fn plain(text: &str) -> String {
    let mut text = text.to_owned();
    for (from, to) in [
        ("{,}", ","),
        (",\\!", ","),
        ("\\,", " "),
        ("\\ ", " "),
        ("\\!", ""),
        ("dfrac", "frac"),
        ("tfrac", "frac"),
        ("\\", ""),
        ("−", "-"),
        ("$", ""),
        ("^{2}", ""),
        ("^{3}", ""),
        ("^2", ""),
        ("^3", ""),
    ] {
        // A unit's exponent is no number, a power of ten's is.
        if from.starts_with('^') && text.contains("10^") {
            continue;
        }
        text = text.replace(from, to);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Numeric, Quantity};
    use crate::exact::Part;
    use crate::verifier::{Item, Verifier};

    #[test]
    fn reads_numbers_as_people_write_them() {
        for (text, value) in [
            ("12", 12.0),
            ("-12.5 cm", -12.5),
            ("−3", -3.0),
            ("12,345.5", 12345.5),
            ("12{,}345", 12345.0),
            ("$1,000,000", 1e6),
            ("\\$24", 24.0),
            (".5", 0.5),
            ("3/4", 0.75),
            ("-\\dfrac{3}{4}", -0.75),
            ("1.2e-3", 0.0012),
            ("1.2\\times 10^{3} m", 1200.0),
            ("6 \\text{ m}^2", 6.0),
            ("x = 7", 7.0),
            ("between 3-5", 5.0),
            ("24^\\circ", 24.0),
        ] {
            let read = Quantity::read(text).map(|quantity| quantity.value);
            assert!(read.is_some_and(|read| (read - value).abs() < 1e-12), "{text}: {read:?}");
        }
        for text in ["", "none", "1/0", "-"] {
            assert_eq!(Quantity::read(text), None, "{text}");
        }
    }

    fn score(verifier: &Numeric, response: &str, answer: &str) -> Option<f32> {
        verifier.verify(&Item { problem: "", response, answer, row: "row 1" }).ok()
    }

    #[test]
    fn tolerances_and_percentages() {
        let strict = Numeric { part: Part::Whole, ..Numeric::default() };
        assert_eq!(score(&strict, "3.1416", "3.14159"), Some(0.0));
        let loose = Numeric { relative: 0.01, ..strict.clone() };
        assert_eq!(score(&loose, "3.14", "3.14159"), Some(1.0));
        assert_eq!(score(&loose, "about 3.2", "3.14159"), Some(0.0));
        let absolute = Numeric { absolute: 0.5, relative: 0.0, ..strict.clone() };
        assert_eq!(score(&absolute, "0.5", "0"), Some(1.0));
        assert_eq!(score(&strict, "12%", "0.12"), Some(1.0));
        assert_eq!(score(&strict, "12", "12\\%"), Some(1.0));
        assert_eq!(score(&strict, "12%", "0.12%"), Some(0.0));
        assert_eq!(score(&strict, "no idea", "5"), Some(0.0));
        assert_eq!(score(&Numeric::default(), "5", "5"), Some(0.0));
        assert_eq!(score(&strict, "5", "five"), None);
    }

    proptest! {
        #[test]
        fn reads_what_is_printed(value in -1e9f64..1e9) {
            let read = Quantity::read(&format!("the answer is {value} km")).map(|quantity| quantity.value);
            prop_assert_eq!(read, Some(value));
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = Quantity::read(&text);
        }
    }
}
