//! `metrics.jsonl` as one table of comma-separated values.
//!
//! The first column is `step`, the others are all names that any step has, in alphabetical order. A cell is empty where
//! the step does not have the number, and `nan` where it was not finite.

use crate::{Metrics, ReportError, run};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// Writes the metrics of a run as a CSV file. Returns the notes of reading.
///
/// # Errors
/// When `metrics.jsonl` cannot be read, or the file not be written.
pub fn export(run: &Path, out: &Path) -> Result<Vec<String>, ReportError> {
    let metrics = Metrics::read(run)?;
    run::write_whole(out, |file| file.write_all(table(&metrics).as_bytes()))?;
    Ok(metrics.notes)
}

/// The table as text.
pub fn table(metrics: &Metrics) -> String {
    let mut text = "step".to_owned();
    for name in metrics.columns.keys() {
        text.push(',');
        text.push_str(&quoted(name));
    }
    text.push('\n');
    for (at, step) in metrics.steps.iter().enumerate() {
        text.push_str(&step.to_string());
        for column in metrics.columns.values() {
            text.push(',');
            match column[at] {
                Some(value) if value.is_nan() => text.push_str("nan"),
                Some(value) => write!(text, "{value}").expect("a string takes everything"),
                None => {}
            }
        }
        text.push('\n');
    }
    text
}

/// A name as RFC 4180 writes it.
fn quoted(name: &str) -> Cow<'_, str> {
    if name.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", name.replace('"', "\"\"")).into()
    } else {
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::export;

    #[test]
    fn one_table_has_every_column_in_a_stable_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let lines = "{\"step\":0,\"validation/overall\":0.25}\n{\"step\":1,\"b\":0.1,\"a\":1e-7}\n{\"step\":2,\"a,\\\"c\":3,\"b\":null}\n{\"st";
        std::fs::write(folder.path().join("metrics.jsonl"), lines).expect("written");
        let out = folder.path().join("tables/metrics.csv");
        let notes = export(folder.path(), &out).expect("exported");
        assert_eq!(notes.len(), 1);
        let expected = "step,a,\"a,\"\"c\",b,validation/overall\n0,,,,0.25\n1,0.0000001,,0.1,\n2,,3,nan,\n";
        assert_eq!(std::fs::read_to_string(out).expect("the table"), expected);
    }
}
