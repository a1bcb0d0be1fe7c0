//! Data sets without tensors: rows of a problem, an answer and pictures, from parquet and JSON-lines files, and the order
//! in which a run visits them.
//!
//! - [`DataSet`] opens files or folders and reads one [`Row`] at a time; contents stay on disk, so memory does not grow with
//!   the data.
//! - [`Visits`] says which row comes when, as a pure function of (seed, epoch, position), so a resumed run sees what the
//!   uninterrupted one would have seen.
//! - [`Swaps`] gives each row another row's pictures, as a pure function of (seed, epoch).
//! - [`shapes`] draws a synthetic visual task whose rows have true labels, in the layout that the readers read.

mod columns;
mod config;
mod dataset;
mod error;
mod files;
mod json_lines;
mod pages;
mod parquet_file;
pub mod shapes;
mod swaps;
mod visits;
mod windows;

pub use config::DataConfig;
pub use dataset::{DataSet, ImageSource, Place, Row};
pub use error::DataError;
pub use swaps::{Swaps, fingerprint};
pub use visits::Visits;
