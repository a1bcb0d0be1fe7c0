//! A synthetic visual task: pictures of coloured shapes on a grid, with questions whose answers are known.
//!
//! A row is a pure function of (seed, split, index): splits draw from streams of their own, and a longer split begins with
//! the rows of a shorter one. Answers are balanced: each run of as many rows as there are answers has every answer once, so
//! that whoever does not look does no better than guessing.
//!
//! - [`TaskConfig`]: what is asked and drawn; the default asks for the number of red circles.
//! - [`example`]: one row.
//! - [`write_task`]: train, validation and test files that [`crate::DataSet`] reads.

mod config;
mod raster;
mod scene;
mod write;

pub use config::{Colour, Kind, Shape, Split, TaskConfig, TaskFormat, Thing};
pub use scene::{Example, example};
pub use write::{SplitSummary, TaskSummary, write_task};
