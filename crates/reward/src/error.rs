//! What can go wrong between a response and its reward.

use std::error::Error;

/// Everything that can go wrong in this crate. Each message names the row or the key and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewardError {
    /// An external program did not answer in time; it was killed, and the next item gets a fresh one.
    #[error("{row}: `{program}` did not answer within {seconds} s (make the program faster, or raise timeout_seconds)")]
    Timeout { program: String, row: String, seconds: f64 },

    /// An external program ended instead of answering.
    #[error("{row}: `{program}` ended without answering ({status}){}", quoted(.stderr))]
    Died { program: String, row: String, status: String, stderr: String },

    /// An external program's answer is not a reply.
    #[error(
        "{row}: `{program}` answered {reason}; expected one line {{\"id\": {id}, \"score\": a number}}, got: {line}"
    )]
    Nonsense { program: String, row: String, id: u64, reason: String, line: String },

    /// An external program cannot be started.
    #[error("cannot start `{program}`: {source} (is it installed and executable? a path is relative to {directory})")]
    Start { program: String, directory: String, source: std::io::Error },

    /// A verifier inside this program exceeded the rubric's limit.
    #[error("{row}: verifier `{verifier}` did not answer within {seconds} s (reward.timeout_seconds)")]
    Hung { verifier: String, row: String, seconds: f64 },

    /// A verifier inside this program panicked.
    #[error("{row}: verifier `{verifier}` panicked: {message}")]
    Panicked { verifier: String, row: String, message: String },

    /// A verifier's score is not a finite number.
    #[error("{row}: verifier `{verifier}` gave the score {score}; expected a finite number")]
    Score { verifier: String, row: String, score: f32 },

    /// The true answer is not one the verifier can compare with.
    #[error("{row}: verifier `{verifier}` cannot use the answer `{answer}`: expected {expected}")]
    Answer { verifier: &'static str, row: String, answer: String, expected: &'static str },

    /// A verifier of one's own failed.
    #[error("{row}: {source}")]
    Failed { row: String, source: Box<dyn Error + Send + Sync> },

    /// The configuration names a kind that nobody registered.
    #[error("verifier `{name}`: unknown kind `{kind}`; {advice}")]
    UnknownKind { name: String, kind: String, advice: String },

    /// A verifier's own keys are wrong.
    #[error("verifier `{name}` (kind `{kind}`): {message}")]
    Settings { name: String, kind: String, message: String },

    /// The rubric as a whole makes no sense.
    #[error("[reward] {key}: expected {expected}, found {found}")]
    Rubric { key: String, expected: &'static str, found: String },
}

impl RewardError {
    /// Wraps an error of a verifier of one's own.
    pub fn failed(row: &str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { row: row.to_owned(), source: source.into() }
    }

    /// Whether it is about one item, so that `on_error = "zero"` may score it 0. A verifier that cannot be had at all
    /// is not: every reward would silently be 0.
    pub fn concerns_one_item(&self) -> bool {
        !matches!(self, Self::Start { .. } | Self::UnknownKind { .. } | Self::Settings { .. } | Self::Rubric { .. })
    }
}

fn quoted(stderr: &str) -> String {
    match stderr.trim() {
        "" => ", and wrote nothing to stderr".to_owned(),
        text => format!("; the end of its stderr:\n{text}"),
    }
}
