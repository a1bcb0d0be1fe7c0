//! Event files for TensorBoard.
//!
//! [`export`] turns a run directory into one: every metric as a scalar, samples as texts and pictures. [`EventWriter`]
//! writes events of one's own. Framing and messages are written here and need neither TensorFlow nor Python.

mod crc;
#[cfg(test)]
mod decode;
mod export;
mod protobuf;
mod writer;

pub use export::{Exported, FILE_NAME, export};
pub use writer::{EventWriter, Moment, Picture};
