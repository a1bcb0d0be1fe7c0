//! JSON lines of a run that may still be going on, or was killed: the last line may be cut short.

use crate::ReportError;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Where a line stands, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) path: &'a Path,
    pub(crate) line: usize,
}

impl Place<'_> {
    /// The error of a key that holds something else.
    pub(crate) fn field(
        self,
        key: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
        advice: &'static str,
    ) -> ReportError {
        ReportError::Field {
            path: self.path.to_owned(),
            line: self.line,
            key: key.to_owned(),
            expected: expected.into(),
            found: found.into(),
            advice,
        }
    }
}

/// Hands each line of a file to `take`, one at a time. Returns a note when the last line was left out because it is damaged.
///
/// # Errors
/// When the disk refuses, when a line before the last is damaged, when a line is JSON of another kind, or when `take` fails.
pub(crate) fn for_each<T: DeserializeOwned>(
    path: &Path,
    mut take: impl FnMut(Place, T) -> Result<(), ReportError>,
) -> Result<Option<String>, ReportError> {
    let mut reader = BufReader::new(File::open(path).map_err(ReportError::read(path))?);
    let (mut line, mut bytes) = (0, Vec::new());
    loop {
        bytes.clear();
        line += 1;
        if reader.read_until(b'\n', &mut bytes).map_err(ReportError::read(path))? == 0 {
            return Ok(None);
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let place = Place { path, line };
        match serde_json::from_slice(&bytes) {
            Ok(value) => take(place, value)?,
            Err(error) if error.is_data() => return Err(wrong_kind(place, &bytes, &error)),
            Err(error) => {
                let is_last = reader.fill_buf().map_err(ReportError::read(path))?.is_empty();
                if !is_last {
                    return Err(ReportError::Damaged { path: path.to_owned(), line, reason: error.to_string() });
                }
                return Ok(Some(format!(
                    "{}:{line}: the last line is cut short and was left out: the run is being written, or was stopped",
                    path.display()
                )));
            }
        }
    }
}

/// What serde says about a value of the wrong kind, with the key when it names one.
fn wrong_kind(place: Place, bytes: &[u8], error: &serde_json::Error) -> ReportError {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    let advice = "is this a file of the version of Percept that reads it?";
    if let Some(key) = reason.split('`').nth(1).filter(|_| reason.starts_with("missing field")) {
        return place.field(key, "a value", "nothing", advice);
    }
    let (found, expected) = match reason.trim_start_matches("invalid type: ").rsplit_once(", expected ") {
        Some((found, expected)) => (found, expected),
        None => ("another kind", reason),
    };
    place.field(&key_at(bytes, error.column()), expected, found, advice)
}

/// The last key that begins before a column: serde does not tell which field it was reading.
fn key_at(bytes: &[u8], column: usize) -> String {
    let before = String::from_utf8_lossy(&bytes[..column.min(bytes.len())]).into_owned();
    let keys = before.match_indices("\":").filter_map(|(end, _)| {
        let key = before[..end].rsplit_once('"')?.1;
        (!key.is_empty()).then(|| key.to_owned())
    });
    keys.last().unwrap_or_else(|| "the line".to_owned())
}

#[cfg(test)]
mod tests {
    use super::for_each;
    use crate::ReportError;
    use serde::Deserialize;
    use std::path::PathBuf;

    #[derive(Deserialize)]
    struct Row {
        step: u64,
    }

    fn read(text: &[u8]) -> Result<(Vec<u64>, Option<String>), ReportError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path: PathBuf = folder.path().join("rows.jsonl");
        std::fs::write(&path, text).expect("written");
        let mut steps = Vec::new();
        let note = for_each(&path, |_, row: Row| {
            steps.push(row.step);
            Ok(())
        })?;
        Ok((steps, note))
    }

    #[test]
    fn a_damaged_last_line_is_left_out_with_a_note() {
        let (steps, note) = read(b"{\"step\": 1}\n\n{\"step\": 2}\n{\"step\": 3, \"rew").expect("read");
        assert_eq!(steps, [1, 2]);
        assert!(note.expect("a note").contains("rows.jsonl:4"));
        // cut in the middle of a character, and what a power failure leaves
        for end in [&b"{\"step\": 3, \"a\": \"\xe2\x82"[..], b"\0\0\0\0"] {
            let (steps, note) = read(&[b"{\"step\": 1}\n", end].concat()).expect("read");
            assert_eq!((steps, note.is_some()), (vec![1], true));
        }
        // whole, but for the line's end
        assert_eq!(read(b"{\"step\": 1}\n{\"step\": 2}").expect("read"), (vec![1, 2], None));
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_an_error_with_its_number() {
        let error = read(b"{\"step\": 1}\n{\"step\": 2, \"rew\n{\"step\": 3}\n").expect_err("damaged").to_string();
        assert!(error.contains("rows.jsonl:2: expected one JSON object a line"), "{error}");
    }

    #[test]
    fn a_value_of_another_kind_is_told_with_its_key() {
        let error = read(b"{\"a\": [1], \"step\": \"one\"}\n").expect_err("a text").to_string();
        assert!(error.contains("rows.jsonl:1: step: expected u64, found string \"one\""), "{error}");
        let error = read(b"{\"a\": 1}\n").expect_err("missing").to_string();
        assert!(error.contains("rows.jsonl:1: step: expected a value, found nothing"), "{error}");
    }
}
