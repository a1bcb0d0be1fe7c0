//! What a response says: the text after the reference's clean-up, and its last `\boxed{}`.

use crate::math::python;

/// Removes the white space around `<`, `>` and `/`, as the reference does before it looks at a response
/// (PAPO `examples/reward_function/math.py`: `re.sub(r"\s*(<|>|/)\s*", r"\1", response)`).
///
/// It does so everywhere, inside formulas too, so that `< think >` passes for `<think>`.
pub fn tighten(response: &str) -> String {
    let mut text = String::with_capacity(response.len());
    let mut characters = response.chars().peekable();
    while let Some(c) = characters.next() {
        if matches!(c, '<' | '>' | '/') {
            text.truncate(text.trim_end_matches(python::is_space).len());
            while characters.next_if(|next| python::is_space(*next)).is_some() {}
        }
        text.push(c);
    }
    text
}

/// The content of the last `\boxed{`, stripped; `None` when there is none or its braces do not balance.
pub fn last_boxed(text: &str) -> Option<&str> {
    const OPEN: &str = "\\boxed{";
    let content = &text[text.rfind(OPEN)? + OPEN.len()..];
    let mut depth = 0usize;
    for (at, byte) in content.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(python::strip(&content[..at])),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The content of the last `\boxed{}`, or what is wrong with it in words.
pub(crate) fn read_boxed(text: &str) -> Result<&str, String> {
    last_boxed(text).ok_or_else(|| {
        let opened = text.contains("\\boxed{");
        let lacks = if opened { "the braces of the last \\boxed{} do not balance" } else { "there is no \\boxed{}" };
        lacks.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::{last_boxed, tighten};

    #[test]
    fn tightens_around_angle_brackets_and_slashes() {
        assert_eq!(tighten(" < think >\n a < \t/ think> b / c "), "<think>a</think>b/c ");
        assert_eq!(tighten("a  b"), "a  b");
        assert_eq!(tighten("<\u{1f}>"), "<>");
    }

    #[test]
    fn finds_the_last_box() {
        assert_eq!(last_boxed("\\boxed{1} and \\boxed{ \\frac{1}{2} }!"), Some("\\frac{1}{2}"));
        assert_eq!(last_boxed("\\boxed{\\boxed{5}}"), Some("5"));
        assert_eq!(last_boxed("\\boxed{}"), Some(""));
        assert_eq!(last_boxed("\\boxed{1} \\boxed{2"), None);
        assert_eq!(last_boxed("5"), None);
    }
}
