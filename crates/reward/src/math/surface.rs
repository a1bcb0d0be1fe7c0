//! The first of the reference's two normalizers: string rules of the MATH data set (Hendrycks et al. 2021,
//! `math_equivalence`; mathruler 0.1.0 `math_normalize.py`).

use std::sync::LazyLock;

use regex::Regex;

use super::python;

/// The longest integer the reference's interpreter converts from text.
const LONGEST_INTEGER: usize = 4300;

/// A string the rules do not foresee: the reference then compares the answer as it is.
struct Unforeseen;

/// Normalizes an answer: `\dfrac12` becomes `\frac{1}{2}`, `x = 5` becomes `5`, units after a number go.
pub(crate) fn normalize(answer: &str) -> String {
    let answer = python::strip(answer);
    let answer = inside_text(answer).map_or(answer, python::strip);
    apply_rules(answer).unwrap_or_else(|Unforeseen| answer.to_owned())
}

/// The inside of a `\text{...}` that spans the whole string.
pub(crate) fn inside_text(text: &str) -> Option<&str> {
    static OUTER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\\text\{(.+?)\}\n?\z").expect("a valid pattern"));
    Some(OUTER.captures(text)?.get(1)?.as_str())
}

fn apply_rules(answer: &str) -> Result<String, Unforeseen> {
    let mut text = answer.to_owned();
    let removals = [
        ("\n", ""),
        ("\\!", ""),
        ("\\\\", "\\"),
        ("tfrac", "frac"),
        ("dfrac", "frac"),
        ("\\left", ""),
        ("\\right", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
    ];
    for (from, to) in removals {
        text = text.replace(from, to);
    }
    let text = without_units(&text)?.replace("\\%", "").replace('%', "");
    let mut text = text.replace(" .", " 0.").replace("{.", "{0.");
    if text.is_empty() {
        return Ok(text);
    }
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    let text = without_short_left_side(&text);
    let text = braced_roots(text)?.replace(' ', "");
    let text = braced_fractions(&text)?;
    let text = if text == "0.5" { "\\frac{1}{2}".to_owned() } else { text };
    Ok(slash_to_fraction(text))
}

/// Drops everything from `\text{ ` on, which only describes units.
fn without_units(text: &str) -> Result<&str, Unforeseen> {
    let mut pieces = text.split("\\text{ ");
    let number = pieces.next().unwrap_or_default();
    match pieces.count() {
        0 | 1 => Ok(number),
        _ => Err(Unforeseen),
    }
}

/// `5` of `x=5`, when there is one `=` and at most two characters before it.
fn without_short_left_side(text: &str) -> &str {
    match text.split_once('=') {
        Some((left, right)) if !right.contains('=') && left.chars().count() <= 2 => right,
        _ => text,
    }
}

/// `\sqrt3` to `\sqrt{3}`.
fn braced_roots(text: &str) -> Result<String, Unforeseen> {
    let mut pieces = text.split("\\sqrt");
    let mut result = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let first = piece.chars().next().ok_or(Unforeseen)?;
        result.push_str("\\sqrt");
        if first == '{' {
            result.push_str(piece);
        } else {
            result.extend(['{', first, '}']);
            result.push_str(&piece[first.len_utf8()..]);
        }
    }
    Ok(result)
}

/// `\frac12` to `\frac{1}{2}` and `\frac1{72}` to `\frac{1}{72}`, but not `\frac{72}1`.
fn braced_fractions(text: &str) -> Result<String, Unforeseen> {
    let mut pieces = text.split("\\frac");
    let mut result = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let mut characters = piece.chars();
        let first = characters.next().ok_or(Unforeseen)?;
        result.push_str("\\frac");
        if first == '{' {
            result.push_str(piece);
            continue;
        }
        let Some(second) = characters.next() else { return Ok(text.to_owned()) };
        result.extend(['{', first, '}']);
        if second == '{' {
            result.push(second);
        } else {
            result.extend(['{', second, '}']);
        }
        result.push_str(characters.as_str());
    }
    Ok(result)
}

/// `3/5` to `\frac{3}{5}`, for two integers written as Python would print them.
fn slash_to_fraction(text: String) -> String {
    match text.split_once('/') {
        Some((above, below)) if is_canonical_integer(above) && is_canonical_integer(below) => {
            format!("\\frac{{{above}}}{{{below}}}")
        }
        _ => text,
    }
}

fn is_canonical_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let leads = digits.as_bytes().first();
    text == "0"
        || (leads.is_some_and(|b| *b != b'0')
            && digits.len() <= LONGEST_INTEGER
            && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn rewrites_to_one_form() {
        for (from, to) in [
            ("\\tfrac35", "\\frac{3}{5}"),
            ("3/5", "\\frac{3}{5}"),
            ("0.5", "\\frac{1}{2}"),
            (".5 ", "\\frac{1}{2}"),
            ("x = 24", "24"),
            ("ABC=24", "ABC=24"),
            ("\\sqrt3", "\\sqrt{3}"),
            ("5\\text{ cm}", "5"),
            ("\\text{ A }", "A"),
            ("30^\\circ", "30"),
            ("\\left(1,2\\right)", "(1,2)"),
            ("24\\%", "24"),
            ("007/1", "007/1"),
        ] {
            assert_eq!(normalize(from), to, "{from}");
        }
    }

    #[test]
    fn leaves_what_it_does_not_foresee() {
        assert_eq!(normalize("x=\\frac"), "x=\\frac");
        assert_eq!(normalize("\\dfrac 1"), "\\frac1");
        assert_eq!(normalize("a\\text{ cm}\\text{ m}"), "a\\text{ cm}\\text{ m}");
    }
}
