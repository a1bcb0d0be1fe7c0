//! What can go wrong with a picture or with the description of how to prepare it.

use std::path::PathBuf;

/// An error of this crate. The bytes of a picture have no name here: whoever read them adds file, row and field.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    #[error("not a picture: expected PNG, JPEG, WebP, BMP or GIF, found {found}")]
    UnknownFormat { found: String },

    #[error("{format} picture cannot be decoded: {reason}")]
    Decode { format: &'static str, reason: String },

    #[error(
        "{format} picture of {width}x{height} = {} pixels, expected 1 to {max_pixels}: refused before decoding, \
         as it may be a decompression bomb (raise max_pixels if it is meant)", width * height
    )]
    TooManyPixels { format: &'static str, width: u64, height: u64, max_pixels: u64 },

    #[error(
        "{format} picture of {width}x{height} needs {bytes} bytes decoded, expected at most {max_bytes}: \
         refused before decoding (raise max_bytes if it is meant)"
    )]
    TooManyBytes { format: &'static str, width: u64, height: u64, bytes: u64, max_bytes: u64 },

    #[error(
        "picture of height {height} and width {width} has an aspect ratio of {:.1}: \
         absolute aspect ratio must be smaller than 200", ratio(*height, *width)
    )]
    AspectRatio { height: usize, width: usize },

    #[error("picture of {width}x{height} would be resized to {new_width}x{new_height}: both sides must be at least 1")]
    EmptyResize { width: usize, height: usize, new_width: usize, new_height: usize },

    #[error(
        "picture of {width}x{height} would be resized to {new_width}x{new_height}, expected at most {max_pixels} pixels: \
         lower min_pixels, or patch_size and merge_size"
    )]
    HugeResize { width: usize, height: usize, new_width: usize, new_height: usize, max_pixels: u64 },

    #[error("picture of {width}x{height} is empty: both sides must be at least 1")]
    EmptyPicture { width: usize, height: usize },

    #[error("{key}: expected {expected}, found {found}")]
    Setting { key: String, expected: String, found: String },

    #[error("{}: {source}", path.display())]
    InFile { path: PathBuf, source: Box<VisionError> },

    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },

    #[error("{}: not valid JSON: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },

    #[error(
        "{}: no preprocessor_config.json, and no processor_config.json with an `image_processor`; \
         is this a vision-language checkpoint folder?", folder.display()
    )]
    NoPreprocessor { folder: PathBuf },
}

fn ratio(height: usize, width: usize) -> f64 {
    height.max(width) as f64 / height.min(width) as f64
}
