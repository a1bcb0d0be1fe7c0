//! One thing that is wrong.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// The run learns less than it could.
    Warning,
    /// The run learns nothing, or something else than is meant.
    Error,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What was seen, what it comes from, and what to try. The texts are sentences without their last full stop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// A name for programs; docs/doctor.md lists them.
    pub code: &'static str,
    pub severity: Severity,
    /// With numbers.
    pub seen: String,
    pub cause: String,
    /// In words.
    pub remedy: String,
    /// Overrides that do it, `section.key=value`; none where no key does.
    pub set: Vec<String>,
}

impl Finding {
    pub(crate) fn new(
        code: &'static str,
        severity: Severity,
        seen: impl Into<String>,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (seen, cause, remedy) = (seen.into(), cause.into(), remedy.into());
        Self { code, severity, seen, cause, remedy, set: Vec::new() }
    }

    /// With an override that does what the remedy says.
    pub(crate) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.set.push(format!("{key}={value}"));
        self
    }

    /// The overrides as they stand on a command line.
    pub fn flags(&self) -> String {
        let quoted = |set: &String| {
            let plain = set.chars().all(|c| c.is_ascii_alphanumeric() || "_-./=:,+@".contains(c));
            if plain { format!("--set {set}") } else { format!("--set '{}'", set.replace('\'', "'\\''")) }
        };
        self.set.iter().map(quoted).collect::<Vec<_>>().join(" ")
    }

    /// All of it on one line.
    pub fn line(&self) -> String {
        let flags = if self.set.is_empty() { String::new() } else { format!(": {}", self.flags()) };
        format!("{}. {}. {}{flags}", self.seen, self.cause, self.remedy)
    }
}

/// Whether an error among these has one of the codes.
pub(crate) fn has_error(findings: &[Finding], codes: &[&str]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error && codes.contains(&finding.code))
}

/// `3 of 8 responses (38 %)`.
pub(crate) fn share(part: usize, all: usize, noun: &str) -> String {
    let plural = if all == 1 { "" } else { "s" };
    if all == 0 {
        return format!("no {noun}s");
    }
    format!("{part} of {all} {noun}{plural} ({:.0} %)", 100.0 * part as f64 / all as f64)
}

/// Words with commas and an `and`.
pub(crate) fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A text on one line, without what would move a terminal's cursor: it may be anything that a policy wrote.
pub fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace(char::is_control, "\u{fffd}")
}

/// The beginning of a text on one line.
pub(crate) fn excerpt(text: &str, longest: usize) -> String {
    let line = one_line(text);
    if line.chars().count() <= longest {
        return line;
    }
    let cut: String = line.chars().take(longest).collect();
    format!("{} ...", cut.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_pasted() {
        let finding = Finding::new("x", Severity::Error, "Seen", "Cause", "Try").set("a.b", 3).set("c.d", "it's");
        assert_eq!(finding.line(), "Seen. Cause. Try: --set a.b=3 --set 'c.d=it'\\''s'");
        let bare = Finding::new("x", Severity::Note, "Seen", "Cause", "Try");
        assert_eq!(bare.line(), "Seen. Cause. Try");
    }

    #[test]
    fn words_and_numbers() {
        assert_eq!(share(3, 8, "response"), "3 of 8 responses (38 %)");
        assert_eq!(share(1, 1, "row"), "1 of 1 row (100 %)");
        assert_eq!(share(0, 0, "row"), "no rows");
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
        assert_eq!(excerpt("a\n b  c", 9), "a b c");
        assert_eq!(excerpt("äbc def", 4), "äbc ...");
        assert_eq!(one_line("a\u{1b}[2J\tb\n"), "a\u{fffd}[2J b");
    }
}
