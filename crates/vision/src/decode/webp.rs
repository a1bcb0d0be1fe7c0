//! WebP, lossy and lossless; of an animation, the first frame.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::{Limits, damaged};
use crate::error::VisionError;
use crate::picture::{Picture, Pixels};

const FORMAT: &str = "WebP";

pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|error| damaged(FORMAT, error))?;
    let (width, height) = decoder.dimensions();
    limits.check(FORMAT, width.into(), height.into(), 4)?;
    decoder.set_memory_limit(limits.max_bytes_as_usize());
    let size = decoder.output_buffer_size().ok_or_else(|| damaged(FORMAT, "its size overflows"))?;
    let mut samples = vec![0; size];
    if decoder.is_animated() {
        decoder.read_frame(&mut samples).map_err(|error| damaged(FORMAT, error))?;
    } else {
        decoder.read_image(&mut samples).map_err(|error| damaged(FORMAT, error))?;
    }
    let pixels = if decoder.has_alpha() { Pixels::Rgba(samples) } else { Pixels::Rgb(samples) };
    Ok(Picture::new(width as usize, height as usize, pixels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_webp::{ColorType, WebPEncoder};

    fn encoded(color: ColorType, width: u32, height: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        WebPEncoder::new(&mut bytes).encode(data, width, height, color).unwrap();
        bytes
    }

    #[test]
    fn lossless_samples_come_back() {
        let data: Vec<u8> = (0..5 * 3 * 4).map(|i| (i * 11) as u8).collect();
        let rgba = decode(&encoded(ColorType::Rgba8, 5, 3, &data), &Limits::default()).unwrap();
        assert_eq!(rgba.pixels(), &Pixels::Rgba(data.clone()));
        let rgb = decode(&encoded(ColorType::Rgb8, 5, 4, &data), &Limits::default()).unwrap();
        assert_eq!((rgb.width(), rgb.height(), rgb.pixels()), (5, 4, &Pixels::Rgb(data)));
    }

    #[test]
    fn lossy_pictures_are_near_pillow() {
        super::super::fixtures::check("lossy.webp", 2);
    }

    #[test]
    fn cut_off_files_and_bombs_are_errors() {
        let data: Vec<u8> = (0..300u32).map(|i| (i * i) as u8).collect();
        let whole = encoded(ColorType::Rgb8, 10, 10, &data);
        for end in [12, 25, whole.len() / 2] {
            let error = decode(&whole[..end], &Limits::default()).unwrap_err().to_string();
            assert!(error.starts_with("WebP picture cannot be decoded"), "{end}: {error}");
        }
        let limits = Limits { max_pixels: 99, ..Limits::default() };
        assert!(matches!(decode(&whole, &limits), Err(VisionError::TooManyPixels { .. })));
    }
}
