//! What Python calls a space, a number and a digit. The reference is a Python program, and its verdict on an answer
//! such as `４` (full-width), `1_000` or `1e400` follows from these rules.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// The zero of every script that writes decimal numbers (Unicode general category Nd); each is followed by 1 to 9.
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620,
    0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0,
    0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60,
    0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// How far from a whole number a value may be and still pass for one.
const WHOLE: f64 = 1e-7;

/// `str.isspace` of one character: Unicode white space, and the four ASCII separators.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `float(text)`, or `None` where Python raises `ValueError`.
pub(crate) fn float(text: &str) -> Option<f64> {
    let text = ascii_digits(strip(text));
    let bytes = text.as_bytes();
    let separates =
        |i: usize| i > 0 && bytes[i - 1].is_ascii_digit() && bytes.get(i + 1).is_some_and(|next| next.is_ascii_digit());
    if bytes.iter().enumerate().any(|(i, b)| *b == b'_' && !separates(i)) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// Whether `value` is within 1e-7 of a whole number.
pub(crate) fn is_whole(value: f64) -> bool {
    value.is_finite() && (value - value.round_ties_even()).abs() <= WHOLE
}

/// A whole `f64` in decimal digits, all of them, without a minus before zero.
pub(crate) fn whole_digits(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.0}") }
}

/// Removes the commas of `12,345,678`-like numbers and leaves those of tuples.
///
/// As in the reference, one pass consumes the character after a group, so long numbers keep some of their commas.
pub(crate) fn strip_thousands(text: &str) -> Cow<'_, str> {
    static GROUP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\d),(\d\d\d)($|\D)").expect("a valid pattern"));
    let mut current = Cow::Borrowed(text);
    loop {
        match GROUP.replace_all(&current, "$1$2$3") {
            Cow::Borrowed(_) => return current,
            Cow::Owned(next) => current = Cow::Owned(next),
        }
    }
}

/// Whether the text is a number within 1e-7 of a whole one, thousands separators allowed.
pub(crate) fn is_whole_text(text: &str) -> bool {
    float(&strip_thousands(text)).is_some_and(is_whole)
}

fn ascii_digits(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let to_ascii = |c: char| {
        let at = ZEROS.partition_point(|zero| *zero <= c as u32);
        let digit = at.checked_sub(1).map(|at| c as u32 - ZEROS[at]).filter(|digit| *digit < 10);
        digit.and_then(|digit| char::from_digit(digit, 10)).unwrap_or(c)
    };
    Cow::Owned(text.chars().map(to_ascii).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_as_python_does() {
        for (text, value) in [("24", 24.0), (" .5 ", 0.5), ("7.", 7.0), ("1_000", 1000.0), ("٤", 4.0), ("４.５", 4.5)]
        {
            assert_eq!(float(text), Some(value), "{text}");
        }
        assert_eq!(float("1e400"), Some(f64::INFINITY));
        assert!(float("NaN").is_some_and(f64::is_nan));
        for text in ["", "_1", "1_", "1__0", "1,000", "½", "x", "."] {
            assert_eq!(float(text), None, "{text}");
        }
    }

    #[test]
    fn whole_numbers_have_a_tolerance() {
        assert!(is_whole(24.0000000001) && is_whole(6.2e-8));
        assert!(!is_whole(24.5) && !is_whole(f64::INFINITY) && !is_whole(f64::NAN));
        assert_eq!(whole_digits(-0.0), "0");
        assert_eq!(whole_digits(1e22), "10000000000000000000000");
    }

    #[test]
    fn commas_of_thousands_go() {
        assert_eq!(strip_thousands("344,955.5"), "344955.5");
        assert_eq!(strip_thousands("1,000,000"), "1000000");
        assert_eq!(strip_thousands("1,000,000,000"), "1000,000000");
        assert_eq!(strip_thousands("7,53"), "7,53");
        assert_eq!(strip_thousands("(1,2)"), "(1,2)");
    }
}
