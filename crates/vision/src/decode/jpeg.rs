//! JPEG: gray, colour and CMYK.
//!
//! Levels can differ by a few from Pillow's, whose libjpeg-turbo rounds otherwise. CMYK files hold inverted ink, as
//! Adobe writes them and Pillow assumes; YCCK is turned into CMYK.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{Limits, damaged};
use crate::error::VisionError;
use crate::picture::{Picture, Pixels};

const FORMAT: &str = "JPEG";

pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    // Sizes are checked by `limits`; a JPEG's sides have 16 bits.
    let options = DecoderOptions::default().set_max_width(usize::from(u16::MAX)).set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| damaged(FORMAT, error))?;
    let info = decoder.info().ok_or_else(|| damaged(FORMAT, "it has no frame header"))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    limits.check(FORMAT, width as u64, height as u64, u64::from(info.components.max(3)))?;
    if !has_end(bytes) {
        // The decoder would fill what is missing with gray.
        return Err(damaged(FORMAT, "it is cut off (no end marker after the picture data)"));
    }
    let stored = decoder.input_colorspace().ok_or_else(|| damaged(FORMAT, "it has no colour space"))?;
    let wanted = match stored {
        ColorSpace::Luma | ColorSpace::CMYK | ColorSpace::YCCK => stored,
        _ => ColorSpace::RGB,
    };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    // On rare damaged files (inconsistent sampling factors) zune-jpeg panics: one bad row must not end a run.
    let samples = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decoder.decode()))
        .map_err(|_| damaged(FORMAT, "the decoder gave up on it; its headers contradict each other"))?
        .map_err(|error| damaged(FORMAT, error))?;
    let expected = width * height * wanted.num_components();
    if samples.len() != expected {
        return Err(damaged(FORMAT, format!("expected {expected} samples, found {}", samples.len())));
    }
    let pixels = match wanted {
        ColorSpace::Luma => Pixels::Gray(samples),
        ColorSpace::CMYK => Pixels::Cmyk(samples.into_iter().map(|x| 255 - x).collect()),
        ColorSpace::YCCK => Pixels::Cmyk(samples.as_chunks::<4>().0.iter().flat_map(cmyk_of_ycck).collect()),
        _ => Pixels::Rgb(samples),
    };
    Ok(Picture::new(width, height, pixels))
}

/// Whether an end marker follows the beginning of the first scan. Segments before it are jumped over: a thumbnail among
/// them has an end marker of its own.
fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xff, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
        }
        if *marker == 0xda {
            return bytes.get(at..).is_some_and(|scan| scan.windows(2).any(|pair| pair == [0xff, 0xd9]));
        }
    }
    false
}

/// JFIF's colour transform on inverted ink; the result is ink, 0 for none.
fn cmyk_of_ycck(&[y, cb, cr, k]: &[u8; 4]) -> [u8; 4] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    let level = |x: f32| x.round().clamp(0.0, 255.0) as u8;
    let (r, g, b) = (y + 1.402 * cr, y - 0.344_136_3 * cb - 0.714_136_3 * cr, y + 1.772 * cb);
    [level(r), level(g), level(b), 255 - k]
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn pictures_are_near_pillow() {
        fixtures::check("gray.jpg", 1);
        fixtures::check("color.jpg", 3);
        fixtures::check("progressive.jpg", 3);
        fixtures::check("cmyk.jpg", 3);
        fixtures::check("ycck.jpg", 3);
    }

    #[test]
    fn modes_are_kept() {
        let open = |name| decode(&fixtures::read(name), &Limits::default()).unwrap();
        assert!(matches!(open("gray.jpg").pixels(), Pixels::Gray(_)));
        assert!(matches!(open("color.jpg").pixels(), Pixels::Rgb(_)));
        assert!(matches!(open("cmyk.jpg").pixels(), Pixels::Cmyk(_)));
    }

    #[test]
    fn cut_off_files_and_bombs_are_errors() {
        let whole = fixtures::read("color.jpg");
        for end in [3, 30, whole.len() / 2, whole.len() - 2] {
            let error = decode(&whole[..end], &Limits::default()).unwrap_err().to_string();
            assert!(error.starts_with("JPEG picture cannot be decoded"), "{end}: {error}");
        }
        let limits = Limits { max_pixels: 10, ..Limits::default() };
        assert!(matches!(decode(&whole, &limits), Err(VisionError::TooManyPixels { .. })));
    }
}
