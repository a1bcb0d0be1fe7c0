//! Tuples and intervals: `(1,2)`, `[0,inf)`.

use std::sync::LazyLock;

use regex::Regex;

use super::python;

const BRACKETS: [char; 4] = ['(', ')', '[', ']'];

/// The elements of a tuple or interval without inner brackets; anything else is one element, an empty text none.
pub(super) fn split(text: &str) -> Vec<String> {
    let text = python::strip_thousands(text);
    if text.is_empty() {
        return Vec::new();
    }
    let inside = text.strip_prefix(BRACKETS).and_then(|rest| rest.strip_suffix(BRACKETS));
    match inside {
        Some(inside) if !inside.is_empty() && !inside.contains(BRACKETS) => {
            inside.split(',').map(|element| python::strip(element).to_owned()).collect()
        }
        _ => vec![text.into_owned()],
    }
}

/// Whether two texts begin and end alike.
pub(super) fn same_ends(left: &str, right: &str) -> bool {
    left.chars().next() == right.chars().next() && left.chars().next_back() == right.chars().next_back()
}

/// Whether the text is a fraction of two whole numbers (mathruler `_is_frac`; one more character may follow each).
pub(super) fn is_fraction(text: &str) -> bool {
    static FRACTION: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^-?[0-9]+.?/0*[1-9][0-9]*.?\n?\z").expect("a valid pattern"));
    FRACTION.is_match(text)
}

#[cfg(test)]
mod tests {
    use super::{is_fraction, split};

    #[test]
    fn splits_at_commas_inside_brackets() {
        assert_eq!(split("(1,2]"), ["1", "2"]);
        assert_eq!(split("(344,955,4)"), ["344955", "4"]);
        assert_eq!(split("1,2"), ["1,2"]);
        assert_eq!(split("(1)+(2)"), ["(1)+(2)"]);
        assert_eq!(split("()"), ["()"]);
        assert!(split("").is_empty());
    }

    #[test]
    fn fractions_are_of_whole_numbers() {
        assert!(is_fraction("-3/4") && is_fraction("3/04"));
        assert!(!is_fraction("3/0") && !is_fraction("3.5/4") && !is_fraction("x/2"));
    }
}
