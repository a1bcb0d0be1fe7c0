//! PTX text in pieces: comments, statements, lists, numbers.

/// The text with spaces in place of comments, every line where it was.
pub(super) fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").map_or(rest.len(), |end| end + 2);
            kept.extend(rest[..end].chars().filter(|&c| c == '\n'));
            rest = &rest[end..];
        } else {
            kept.push('/');
            rest = &rest[1..];
        }
    }
    kept.push_str(rest);
    kept
}

/// Reads text from front to back and counts its lines.
pub(super) struct Reader<'t> {
    rest: &'t str,
    /// Line of what comes next, from 1.
    pub(super) line: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, line: usize) -> Self {
        Self { rest: text, line }
    }

    /// What comes next, after white space.
    pub(super) fn peek(&mut self) -> &'t str {
        let space = self.rest.len() - self.rest.trim_start().len();
        self.take(space);
        self.rest
    }

    /// Takes so many bytes.
    pub(super) fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.bytes().filter(|&byte| byte == b'\n').count();
        self.rest = rest;
        taken
    }

    /// Takes what stands before one of these characters, which come next then.
    pub(super) fn until(&mut self, ends: &[char]) -> Result<&'t str, String> {
        let end = self.rest.find(ends).ok_or_else(|| format!("the text ends before one of {ends:?}"))?;
        Ok(self.take(end))
    }

    /// Takes a statement and the semicolon behind it.
    pub(super) fn statement(&mut self) -> Result<&'t str, String> {
        let statement = self.until(&[';'])?;
        self.take(1);
        Ok(statement)
    }

    /// Takes a body in braces, which come next; returns what is in them, and the line where that begins.
    pub(super) fn body(&mut self) -> Result<(&'t str, usize), String> {
        self.take(1);
        let line = self.line;
        let mut depth = 1;
        for (at, c) in self.rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let body = self.take(at);
                self.take(1);
                return Ok((body, line));
            }
        }
        Err("the text ends before the brace that closes a body".to_owned())
    }

    /// Takes a label and its colon, if one comes next.
    pub(super) fn label(&mut self) -> Option<&'t str> {
        let rest = self.peek();
        let end = rest.find(|c: char| !is_of_name(c)).filter(|&end| end > 0)?;
        // a scope operator as in `.shared::cta` has two colons
        let is_label = rest[end..].starts_with(':') && !rest[end..].starts_with("::");
        is_label.then(|| self.take(end + 1).trim_end_matches(':'))
    }
}

/// Whether a name can have this character.
fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$'
}

/// The parts of a list between commas that are in no brackets.
pub(super) fn list(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        parts.push(last);
    }
    parts
}

/// Words with one space between them.
pub(super) fn joined(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

/// The bits of a number (PTX ISA 8.8, 4.5): `12`, `-3`, `0x1F`, `0f3F800000`, `0d3FF0000000000000`.
pub(super) fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    for (prefixes, digits) in [(["0f", "0F"], 8), (["0d", "0D"], 16)] {
        let float = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix));
        if let Some(float) = float.filter(|float| float.len() == digits) {
            return u64::from_str_radix(float, 16).ok();
        }
    }
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let text = text.strip_suffix('U').unwrap_or(text);
    let magnitude = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok()?,
        None => return None,
    };
    Some(if is_negative { magnitude.wrapping_neg() } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_lines_stay() {
        assert_eq!(without_comments("a // b\nc /* d\n e */ f/g"), "a \nc \n f/g");
    }

    #[test]
    fn numbers_of_each_kind() {
        let known = [("12", 12), ("-3", (-3i64) as u64), ("0x1F", 31), ("7U", 7), ("0f3F800000", 0x3f80_0000)];
        for (text, value) in known {
            assert_eq!(number(text), Some(value), "{text}");
        }
        assert_eq!(number("0d3FF0000000000000"), Some(1f64.to_bits()));
        for text in ["", "-", "x", "0x", "%r1", "1x"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn lists_are_cut_outside_of_brackets() {
        assert_eq!(list("{%r1, %r2}, [%rd1+4], (a, b) "), ["{%r1, %r2}", "[%rd1+4]", "(a, b)"]);
    }
}
