//! Pictures without tensors: from the bytes of a file to the rows of patches a vision tower reads.
//!
//! The way of a picture: [`decode`] reads a file into a [`Picture`], which keeps what decides how it is resized (its
//! channels, and whether it came from a palette); [`bound_pixels`] brings it between two pixel counts;
//! [`Picture::to_rgb`] settles the alpha channel; a [`Preprocessor`] turns the result into [`Patches`]. A
//! [`Corruption`] makes the masked twin that perception-aware objectives compare with; it works on the raw picture,
//! before any resize.
//!
//! Resizing and colour conversion follow Pillow bit for bit, because the reference trainers and processors use Pillow:
//! a picture that differs by one level gives other log-probabilities.

mod corruption;
mod decode;
mod error;
mod picture;
mod preprocess;
mod preprocessor_config;
mod resample;
mod resize;
mod size;

pub use corruption::{Blacken, Blank, BlankColor, Corruption, CorruptionConfig, GaussianBlur, GaussianNoise};
pub use decode::{Limits, decode};
pub use error::VisionError;
pub use picture::{Alpha, Picture, Pixels, Rgb};
pub use preprocess::{Patches, Preprocessor};
pub use size::{bound_pixels, bounded_size, smart_resize};
