//! From the bytes of a file to a [`Picture`], as Pillow opens it.
//!
//! Sizes are checked against [`Limits`] from the header alone, before memory is taken: a file of a few kilobytes can
//! claim billions of pixels. Orientation tags and colour profiles are ignored, as in Pillow's `Image.open`.

mod bmp;
#[cfg(test)]
mod fixtures;
mod gif;
mod jpeg;
mod png;
mod webp;

use crate::error::VisionError;
use crate::picture::Picture;

/// What a picture may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Width times height.
    pub max_pixels: u64,
    /// Bytes of the decoded samples.
    pub max_bytes: u64,
}

impl Default for Limits {
    /// Pillow's bound on pixels (at which it warns), and 1 GiB.
    fn default() -> Self {
        Self { max_pixels: 178_956_970, max_bytes: 1 << 30 }
    }
}

impl Limits {
    /// Checks a header's claim.
    fn check(&self, format: &'static str, width: u64, height: u64, bytes_per_pixel: u64) -> Result<(), VisionError> {
        // Headers hold at most 32 bits a side, so the product fits.
        let num_pixels = width * height;
        let Limits { max_pixels, max_bytes } = *self;
        if num_pixels == 0 || num_pixels > max_pixels {
            return Err(VisionError::TooManyPixels { format, width, height, max_pixels });
        }
        match num_pixels.checked_mul(bytes_per_pixel) {
            Some(bytes) if bytes <= max_bytes => Ok(()),
            bytes => {
                let bytes = bytes.unwrap_or(u64::MAX);
                Err(VisionError::TooManyBytes { format, width, height, bytes, max_bytes })
            }
        }
    }

    /// For decoders that count their own memory.
    fn max_bytes_as_usize(&self) -> usize {
        usize::try_from(self.max_bytes).unwrap_or(usize::MAX)
    }
}

/// Decodes a PNG, JPEG, WebP, BMP or GIF picture (of an animation, the first frame); the format is read from its first
/// bytes.
///
/// # Errors
/// When the bytes are none of these, are damaged or cut off, or exceed the limits.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => png::decode(bytes, limits),
        [0xff, 0xd8, 0xff, ..] => jpeg::decode(bytes, limits),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp::decode(bytes, limits),
        [b'B', b'M', ..] => bmp::decode(bytes, limits),
        [b'G', b'I', b'F', b'8', ..] => gif::decode(bytes, limits),
        _ => Err(VisionError::UnknownFormat { found: describe(bytes) }),
    }
}

fn describe(bytes: &[u8]) -> String {
    match bytes {
        [] => "no bytes".to_string(),
        _ => format!("{} bytes beginning with \"{}\"", bytes.len(), bytes[..bytes.len().min(12)].escape_ascii()),
    }
}

/// A decoder's complaint.
fn damaged(format: &'static str, reason: impl ToString) -> VisionError {
    VisionError::Decode { format, reason: reason.to_string() }
}

/// Colours looked up in a palette of RGBA, which keeps its alpha only when some entry is not opaque.
fn look_up(
    format: &'static str,
    (width, height): (usize, usize),
    indices: &[u8],
    palette: &[[u8; 4]],
) -> Result<Picture, VisionError> {
    use crate::picture::Pixels;
    // An index beyond the palette is black, as Pillow fills its palettes up.
    let mut full = [[0, 0, 0, 255]; 256];
    let count = palette.len().min(256);
    full[..count].copy_from_slice(&palette[..count]);
    if palette.is_empty() {
        return Err(damaged(format, "palette picture without a palette"));
    }
    let pixels = if full.iter().all(|color| color[3] == 255) {
        Pixels::Rgb(indices.iter().flat_map(|&index| [0, 1, 2].map(|c| full[usize::from(index)][c])).collect())
    } else {
        Pixels::Rgba(indices.iter().flat_map(|&index| full[usize::from(index)]).collect())
    };
    Ok(Picture::new(width, height, pixels).with_index())
}

/// Samples of fewer than 8 bits, packed from the high bits of each byte, rows padded to bytes.
fn unpack(packed: &[u8], row_bytes: usize, width: usize, bits: usize) -> Vec<u8> {
    let mask = ((1u16 << bits) - 1) as u8;
    let per_byte = 8 / bits;
    packed
        .chunks_exact(row_bytes)
        .flat_map(|row| (0..width).map(move |x| row[x / per_byte] >> (8 - bits * (x % per_byte + 1)) & mask))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_picture_is_named() {
        let error = decode(b"<html>\n<body>", &Limits::default()).unwrap_err().to_string();
        assert_eq!(
            error,
            "not a picture: expected PNG, JPEG, WebP, BMP or GIF, found 13 bytes beginning with \"<html>\\n<body\""
        );
        assert!(decode(b"", &Limits::default()).unwrap_err().to_string().contains("found no bytes"));
    }

    #[test]
    fn limits_name_both_numbers() {
        let limits = Limits { max_pixels: 100, max_bytes: 250 };
        assert!(limits.check("PNG", 10, 10, 2).is_ok());
        let error = limits.check("PNG", 10, 11, 1).unwrap_err().to_string();
        assert!(error.contains("10x11 = 110 pixels, expected 1 to 100"), "{error}");
        let error = limits.check("PNG", 10, 10, 3).unwrap_err().to_string();
        assert!(error.contains("300 bytes decoded, expected at most 250"), "{error}");
        assert!(limits.check("PNG", 0, 10, 1).is_err());
        assert!(limits.check("PNG", u64::from(u32::MAX), u64::from(u32::MAX), 8).is_err());
    }

    #[test]
    fn packed_samples_come_out_in_order() {
        assert_eq!(unpack(&[0b1010_0000, 0b0100_0000], 1, 3, 1), [1, 0, 1, 0, 1, 0]);
        assert_eq!(unpack(&[0b0001_1011], 1, 4, 2), [0, 1, 2, 3]);
        assert_eq!(unpack(&[0x12, 0x30], 2, 3, 4), [1, 2, 3]);
        assert_eq!(unpack(&[200, 7], 2, 2, 8), [200, 7]);
    }
}
