//! The second of the reference's two normalizers (PRM800K, Lightman et al. 2023; mathruler 0.1.0 `grader.py`
//! `_normalize`): units and currency go, LaTeX becomes plain text, everything is lower case.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::latex;
use super::python;
use super::surface::inside_text;

/// The unit words that are deleted, in the reference's order: `cm` goes before `centimeter` is looked for.
const UNITS: [&str; 16] = [
    "degree",
    "cm",
    "centimeter",
    "meter",
    "mile",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "year",
    "foot",
    "feet",
    "inch",
    "yard",
];

struct Patterns {
    units: Vec<Regex>,
    circle: Regex,
    comma: Regex,
    minus: Regex,
    mixed: Regex,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let pattern = |text: &str| Regex::new(text).expect("a valid pattern");
    Patterns {
        units: UNITS.iter().map(|unit| pattern(&format!(r"{unit}(?:es)?s? *(?:\^[0-9]+)?"))).collect(),
        circle: pattern(r"\^ *\\circ"),
        comma: pattern(r",\\! *"),
        minus: pattern(r"- *"),
        mixed: pattern(r"([0-9]) +([0-9])"),
    }
});

/// Normalizes an answer to a line of plain text that the algebra can read: `7 \frac34` becomes `7+3/4`.
pub(crate) fn normalize(answer: &str) -> String {
    let patterns = &*PATTERNS;
    let mut text = inside_text(answer).unwrap_or(answer).to_owned();
    let replacements = [
        ("\\%", "%"),
        ("\\$", "$"),
        ("$", ""),
        ("%", ""),
        (" or ", " , "),
        (" and ", " , "),
        ("million", "*10^6"),
        ("billion", "*10^9"),
        ("trillion", "*10^12"),
    ];
    for (from, to) in replacements {
        text = text.replace(from, to);
    }
    for unit in patterns.units.iter().chain([&patterns.circle]) {
        replace(&mut text, unit, "");
    }
    if text.starts_with('{') && text.ends_with('}') {
        text = text[1..text.len() - 1].to_owned();
    }
    replace(&mut text, &patterns.comma, "");
    if let Some(value) = python::float(&text).filter(|value| python::is_whole(*value)) {
        text = python::whole_digits(value.round_ties_even());
    }
    if text.contains('\\') {
        // LaTeX that cannot be read stays as it is.
        text = latex::to_expression(&text).unwrap_or(text);
    }
    replace(&mut text, &patterns.minus, "-");
    replace(&mut text, &patterns.mixed, "$1+$2");
    let text = text.replace([' ', '{', '}'], "").to_lowercase();
    if python::is_whole_text(&text)
        && let Some(value) = python::float(&text.replace(',', ""))
    {
        return python::whole_digits(value.trunc());
    }
    text
}

fn replace(text: &mut String, pattern: &Regex, with: &str) {
    if let Cow::Owned(changed) = pattern.replace_all(text, with) {
        *text = changed;
    }
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn drops_units_and_markup() {
        for (from, to) in [
            ("24 degrees", "24"),
            ("67 miles^2", "67"),
            ("24^ \\circ", "24"),
            ("24\\degree", "24"),
            ("4 billion", "4*10^9"),
            ("24 or 37", "24,37"),
            ("344,955", "344955"),
            ("24.0000000001", "24"),
            ("{24}", "24"),
            ("{", ""),
            ("7 3/4", "7+3/4"),
            ("4\\frac{3}{5}", "4+3/5"),
            ("\\textbf{(A)}", "(a)"),
            ("4\\pi\\text{ cm}^2", "4pi^2"),
            ("\\sqrt", "\\sqrt"),
        ] {
            assert_eq!(normalize(from), to, "{from}");
        }
    }
}
