//! Something to look at, made of a run directory.
//!
//! * [`html`]: one page of one or more runs: curves, where the time went, samples with their pictures, configurations.
//! * [`tensorboard`]: event files for TensorBoard.
//! * [`csv`]: the metrics as a table.
//! * [`compare`]: runs beside each other, with intervals and tests.
//!
//! The crate knows a run only by its files (`metrics.jsonl`, `samples.jsonl`, `config.toml`), so that it reads runs of
//! other machines, and runs that are still going on: a last line that is cut short is left out, with a note.
//!
//! ```
//! use percept_report::{csv, html};
//!
//! # let folder = tempfile::tempdir()?;
//! # let run = folder.path();
//! std::fs::write(run.join("metrics.jsonl"), "{\"step\":1,\"reward/overall\":0.5}\n{\"step\":2,\"rew")?;
//! let notes = csv::export(run, &run.join("metrics.csv"))?;
//! assert_eq!(std::fs::read_to_string(run.join("metrics.csv"))?, "step,reward/overall\n1,0.5\n");
//! assert!(notes[0].ends_with("the run is being written, or was stopped"));
//! html::export(&[run], &run.join("report.html"), &html::Options::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod compare;
pub mod csv;
mod error;
pub mod html;
mod kept;
mod lines;
mod metrics;
mod png;
mod run;
pub mod samples;
mod spread;
pub mod tensorboard;

pub use error::ReportError;
pub use metrics::Metrics;
pub use samples::Sample;
