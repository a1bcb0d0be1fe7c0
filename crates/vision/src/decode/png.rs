//! PNG, every colour type and depth.
//!
//! Modes are those of Pillow's PngImagePlugin: gray of 1 bit is bilevel, of 2 and 4 bits is stretched to 8, of 16 bits
//! stays; colour and alpha of 16 bits keep their high byte; gray with alpha of 16 bits becomes RGBA.

use std::io::Cursor;

use png::{BitDepth, ColorType, Transformations};

use super::{Limits, damaged, look_up, unpack};
use crate::error::VisionError;
use crate::picture::{Picture, Pixels};

const FORMAT: &str = "PNG";

/// A decoded frame, still in the file's samples.
struct Frame {
    size: (usize, usize),
    depth: BitDepth,
    row_bytes: usize,
    bytes: Vec<u8>,
    /// The tRNS chunk.
    transparency: Option<Vec<u8>>,
}

pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    let mut decoder =
        png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: limits.max_bytes_as_usize() });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let info = decoder.read_header_info().map_err(|error| damaged(FORMAT, error))?;
    // What is stored is at most a byte more a sample than the file's depth.
    let bytes_per_pixel = (info.color_type.samples() * usize::from(info.bit_depth as u8).max(8) / 8) as u64;
    let expanded = if info.color_type == ColorType::Indexed { 4 } else { 0 };
    limits.check(FORMAT, info.width.into(), info.height.into(), bytes_per_pixel + expanded)?;
    let mut reader = decoder.read_info().map_err(|error| damaged(FORMAT, error))?;
    let size = reader.output_buffer_size().ok_or_else(|| damaged(FORMAT, "its size overflows"))?;
    let mut samples = vec![0; size];
    let output = reader.next_frame(&mut samples).map_err(|error| damaged(FORMAT, error))?;
    let info = reader.info();
    let frame = Frame {
        size: (output.width as usize, output.height as usize),
        depth: output.bit_depth,
        row_bytes: output.line_size,
        bytes: samples,
        transparency: info.trns.as_ref().map(|trns| trns.to_vec()),
    };
    match output.color_type {
        ColorType::Indexed => frame.indexed(info.palette.as_deref().unwrap_or_default()),
        ColorType::Grayscale => frame.gray(),
        ColorType::Rgb => frame.rgb(),
        ColorType::GrayscaleAlpha => Ok(frame.gray_alpha()),
        ColorType::Rgba => Ok(frame.rgba()),
    }
}

impl Frame {
    fn picture(&self, pixels: Pixels) -> Picture {
        Picture::new(self.size.0, self.size.1, pixels)
    }

    fn indexed(self, palette: &[u8]) -> Result<Picture, VisionError> {
        let alphas = self.transparency.iter().flatten().copied().chain(std::iter::repeat(255));
        let colors = palette.as_chunks::<3>().0;
        let palette: Vec<[u8; 4]> = colors.iter().zip(alphas).map(|(&[r, g, b], a)| [r, g, b, a]).collect();
        let indices = unpack(&self.bytes, self.row_bytes, self.size.0, self.depth as usize);
        look_up(FORMAT, self.size, &indices, &palette)
    }

    fn gray(self) -> Result<Picture, VisionError> {
        let key = self.transparent_samples::<1>()?.map(|[gray]| gray);
        if self.depth == BitDepth::Sixteen {
            let picture = self.picture(Pixels::Gray16(self.wide_samples().collect()));
            return Ok(match key {
                Some(gray) => picture.with_transparent_color([gray; 3]),
                None => picture,
            });
        }
        // 1, 2 and 4 bits are stretched to 0..=255.
        let depth = self.depth as usize;
        let stretch = (255 / ((1 << depth) - 1)) as u8;
        let samples = unpack(&self.bytes, self.row_bytes, self.size.0, depth);
        let picture = self.picture(Pixels::Gray(samples.into_iter().map(|gray| gray * stretch).collect()));
        let picture = if depth == 1 { picture.with_index() } else { picture };
        Ok(match key {
            Some(gray) => picture.with_transparent_color([gray.saturating_mul(u16::from(stretch)); 3]),
            None => picture,
        })
    }

    fn rgb(self) -> Result<Picture, VisionError> {
        let key = self.transparent_samples::<3>()?;
        if self.depth != BitDepth::Sixteen {
            let picture = self.picture(Pixels::Rgb(self.bytes.clone()));
            return Ok(match key {
                Some(color) => picture.with_transparent_color(color),
                None => picture,
            });
        }
        let Some(key) = key else { return Ok(self.picture(Pixels::Rgb(self.high_bytes().collect()))) };
        // The transparent colour is one of 16 bits: it has to be found before the low bytes go.
        let wide: Vec<u16> = self.wide_samples().collect();
        let with_alpha = |color: &[u16; 3]| {
            let [r, g, b] = color.map(|x| (x >> 8) as u8);
            [r, g, b, if *color == key { 0 } else { 255 }]
        };
        Ok(self.picture(Pixels::Rgba(wide.as_chunks::<3>().0.iter().flat_map(with_alpha).collect())))
    }

    fn gray_alpha(self) -> Picture {
        if self.depth != BitDepth::Sixteen {
            return self.picture(Pixels::GrayAlpha(self.bytes.clone()));
        }
        let samples: Vec<u8> = self.high_bytes().collect();
        let rgba = samples.as_chunks::<2>().0.iter().flat_map(|&[gray, a]| [gray, gray, gray, a]);
        self.picture(Pixels::Rgba(rgba.collect()))
    }

    fn rgba(self) -> Picture {
        let wide = self.depth == BitDepth::Sixteen;
        self.picture(Pixels::Rgba(if wide { self.high_bytes().collect() } else { self.bytes.clone() }))
    }

    fn wide_samples(&self) -> impl Iterator<Item = u16> {
        self.bytes.as_chunks::<2>().0.iter().map(|&bytes| u16::from_be_bytes(bytes))
    }

    fn high_bytes(&self) -> impl Iterator<Item = u8> {
        self.bytes.iter().copied().step_by(2)
    }

    /// The transparent colour of a picture with `C` channels, in the file's own samples. Of samples up to 8 bits the
    /// decoder keeps one byte each.
    fn transparent_samples<const C: usize>(&self) -> Result<Option<[u16; C]>, VisionError> {
        let Some(bytes) = &self.transparency else { return Ok(None) };
        let values: Vec<u16> = match self.depth {
            BitDepth::Sixteen => bytes.as_chunks::<2>().0.iter().map(|&pair| u16::from_be_bytes(pair)).collect(),
            _ => bytes.iter().map(|&byte| u16::from(byte)).collect(),
        };
        let count = values.len();
        let values = <[u16; C]>::try_from(values);
        values.map(Some).map_err(|_| damaged(FORMAT, format!("tRNS chunk: expected {C} samples, found {count}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Alpha;

    /// A PNG of one row.
    fn encoded(color: ColorType, depth: BitDepth, width: u32, data: &[u8], palette: &[u8], trns: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if !palette.is_empty() {
            encoder.set_palette(palette.to_vec());
        }
        if !trns.is_empty() {
            encoder.set_trns(trns.to_vec());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    fn open(bytes: &[u8]) -> Picture {
        decode(bytes, &Limits::default()).unwrap()
    }

    #[test]
    fn gray_of_every_depth() {
        use BitDepth::*;
        let gray = |depth, width, data: &[u8], trns: &[u8]| {
            open(&encoded(ColorType::Grayscale, depth, width, data, &[], trns))
        };
        let bilevel = gray(One, 3, &[0b0110_0000], &[]);
        assert_eq!((bilevel.pixels(), bilevel.is_indexed()), (&Pixels::Gray(vec![0, 255, 255]), true));
        let two = gray(Two, 4, &[0b0001_1011], &[0, 2]);
        assert_eq!((two.pixels(), two.is_indexed()), (&Pixels::Gray(vec![0, 85, 170, 255]), false));
        assert_eq!(two.to_rgb(Alpha::OverWhite).data[6..9], [255; 3]);
        assert_eq!(gray(Four, 2, &[0x1f], &[]).pixels(), &Pixels::Gray(vec![17, 255]));
        let deep = gray(Sixteen, 2, &[1, 2, 0, 9], &[1, 2]);
        assert_eq!(deep.pixels(), &Pixels::Gray16(vec![258, 9]));
        assert_eq!(deep.to_rgb(Alpha::OverWhite).data, [255, 255, 255, 9, 9, 9]);
        let alpha = open(&encoded(ColorType::GrayscaleAlpha, Sixteen, 1, &[8, 1, 7, 2], &[], &[]));
        assert_eq!(alpha.pixels(), &Pixels::Rgba(vec![8, 8, 8, 7]));
        let alpha = open(&encoded(ColorType::GrayscaleAlpha, Eight, 1, &[8, 7], &[], &[]));
        assert_eq!(alpha.pixels(), &Pixels::GrayAlpha(vec![8, 7]));
    }

    #[test]
    fn color_of_every_depth() {
        use BitDepth::*;
        let key = [0, 1, 0, 2, 0, 3];
        let rgb = open(&encoded(ColorType::Rgb, Eight, 2, &[1, 2, 3, 4, 5, 6], &[], &key));
        assert_eq!(rgb.pixels(), &Pixels::Rgb(vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(rgb.to_rgb(Alpha::OverWhite).data, [255, 255, 255, 4, 5, 6]);
        let wide = [9, 1, 8, 2, 7, 3, 9, 1, 8, 2, 7, 4];
        let plain = open(&encoded(ColorType::Rgb, Sixteen, 2, &wide, &[], &[]));
        assert_eq!(plain.pixels(), &Pixels::Rgb(vec![9, 8, 7, 9, 8, 7]));
        let keyed = open(&encoded(ColorType::Rgb, Sixteen, 2, &wide, &[], &wide[..6]));
        assert_eq!(keyed.pixels(), &Pixels::Rgba(vec![9, 8, 7, 0, 9, 8, 7, 255]));
        let rgba = open(&encoded(ColorType::Rgba, Sixteen, 1, &[1, 0, 2, 0, 3, 0, 4, 0], &[], &[]));
        assert_eq!(rgba.pixels(), &Pixels::Rgba(vec![1, 2, 3, 4]));
    }

    #[test]
    fn palettes_with_and_without_transparency() {
        let palette = [10, 20, 30, 40, 50, 60];
        let opaque = open(&encoded(ColorType::Indexed, BitDepth::One, 2, &[0b0100_0000], &palette, &[]));
        assert_eq!((opaque.pixels(), opaque.is_indexed()), (&Pixels::Rgb(palette.to_vec()), true));
        let clear = open(&encoded(ColorType::Indexed, BitDepth::Eight, 2, &[1, 0], &palette, &[0]));
        assert_eq!(clear.pixels(), &Pixels::Rgba(vec![40, 50, 60, 255, 10, 20, 30, 0]));
        assert_eq!(clear.to_rgb(Alpha::OverWhite).data, [40, 50, 60, 255, 255, 255]);
    }

    #[test]
    fn cut_off_and_damaged_files_are_errors() {
        let data: Vec<u8> = (0..900u32).map(|i| (i * i) as u8).collect();
        let whole = encoded(ColorType::Rgb, BitDepth::Eight, 300, &data, &[], &[]);
        open(&whole);
        for end in [4, 20, 40, whole.len() / 2, whole.len() - 20] {
            let error = decode(&whole[..end], &Limits::default()).unwrap_err().to_string();
            assert!(error.starts_with("PNG picture cannot be decoded"), "{end}: {error}");
        }
        let mut damaged = whole.clone();
        damaged[60] ^= 0xff;
        assert!(decode(&damaged, &Limits::default()).is_err());
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        let mut bomb = Vec::new();
        let mut encoder = png::Encoder::new(&mut bomb, 50_000, 50_000);
        encoder.set_color(ColorType::Grayscale);
        encoder.set_depth(BitDepth::One);
        drop(encoder.write_header().unwrap());
        assert!(matches!(decode(&bomb, &Limits::default()), Err(VisionError::TooManyPixels { width: 50_000, .. })));
        let roomy = Limits { max_pixels: u64::MAX, ..Limits::default() };
        assert!(matches!(decode(&bomb, &roomy), Err(VisionError::TooManyBytes { .. })));
    }
}
