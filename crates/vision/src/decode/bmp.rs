//! BMP: palettes of 1, 4 and 8 bits (plain or run-length coded), and 16, 24 and 32 bits with or without channel masks.
//!
//! Modes are those of Pillow's BmpImagePlugin: a palette of black and white is bilevel, a gray ramp is gray; 32 bits
//! have alpha only when a mask says so. No decoder crate keeps these apart, and the format is small.

use super::{Limits, damaged, look_up, unpack};
use crate::error::VisionError;
use crate::picture::{Picture, Pixels};

const FORMAT: &str = "BMP";

#[derive(Clone, Copy, PartialEq)]
enum Compression {
    None,
    RunLength8,
    RunLength4,
    /// Red, green, blue, alpha.
    Masks([u32; 4]),
}

struct Header {
    width: usize,
    height: usize,
    /// Rows run from the bottom in most files.
    top_down: bool,
    bits: u16,
    compression: Compression,
    palette: Vec<[u8; 4]>,
    /// Where the samples begin.
    offset: usize,
}

/// Little-endian numbers at byte positions of a file that may end too early.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], VisionError> {
        let end = at.saturating_add(N);
        self.0.get(at..end).and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| cut_off(end, self.0.len()))
    }

    fn u16(&self, at: usize) -> Result<u16, VisionError> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32, VisionError> {
        self.bytes(at).map(u32::from_le_bytes)
    }
}

fn cut_off(expected: usize, found: usize) -> VisionError {
    damaged(FORMAT, format!("it is cut off: expected at least {expected} bytes, found {found}"))
}

pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    let header = header(bytes, limits)?;
    let data = bytes.get(header.offset..).ok_or_else(|| cut_off(header.offset, bytes.len()))?;
    match header.bits {
        1 | 4 | 8 => header.indexed(data),
        _ => header.direct(data),
    }
}

fn header(bytes: &[u8], limits: &Limits) -> Result<Header, VisionError> {
    let fields = Fields(bytes);
    let size = fields.u32(14)? as usize;
    let (width, height, top_down, bits) = match size {
        12 => (u32::from(fields.u16(18)?), u32::from(fields.u16(20)?), false, fields.u16(24)?),
        40 | 52 | 56 | 64 | 108 | 124 => {
            let height = fields.u32(22)?.cast_signed();
            (fields.u32(18)?, height.unsigned_abs(), height < 0, fields.u16(28)?)
        }
        _ => return Err(damaged(FORMAT, format!("header of {size} bytes: expected 12, 40, 52, 56, 64, 108 or 124"))),
    };
    limits.check(FORMAT, width.into(), height.into(), if bits <= 8 { 5 } else { 4 })?;
    if ![1, 4, 8, 16, 24, 32].contains(&bits) {
        return Err(damaged(FORMAT, format!("{bits} bits a pixel: expected 1, 4, 8, 16, 24 or 32")));
    }
    let compression = compression(&fields, size, bits)?;
    let (palette, palette_end) = if bits <= 8 { palette(&fields, size, bits)? } else { (Vec::new(), 14 + size) };
    let (width, height) = (width as usize, height as usize);
    // OS/2 files may leave the offset out.
    let offset = Some(fields.u32(10)? as usize).filter(|offset| *offset > 0).unwrap_or(palette_end);
    Ok(Header { width, height, top_down, bits, compression, palette, offset })
}

fn compression(fields: &Fields<'_>, header_size: usize, bits: u16) -> Result<Compression, VisionError> {
    let code = if header_size == 12 { 0 } else { fields.u32(30)? };
    match (code, bits) {
        // Without masks, 16 bits are 5 for each colour.
        (0, 16) => Ok(Compression::Masks([0x7c00, 0x3e0, 0x1f, 0])),
        (0, _) => Ok(Compression::None),
        (1, 8) => Ok(Compression::RunLength8),
        (2, 4) => Ok(Compression::RunLength4),
        (3, 16 | 24 | 32) => {
            // Inside longer headers or right behind the shortest, the masks begin at the same byte.
            let alpha = if header_size >= 56 { fields.u32(66)? } else { 0 };
            let masks = [fields.u32(54)?, fields.u32(58)?, fields.u32(62)?, alpha];
            let contiguous = |mask: &u32| (mask.count_ones() + mask.leading_zeros() + mask.trailing_zeros()) == 32;
            if masks[..3].contains(&0) || !masks.iter().all(|mask| *mask == 0 || contiguous(mask)) {
                return Err(damaged(FORMAT, format!("channel masks {masks:x?}: expected one run of bits in each")));
            }
            Ok(Compression::Masks(masks))
        }
        _ => Err(damaged(FORMAT, format!("compression {code} with {bits} bits a pixel is not supported"))),
    }
}

/// The palette and where it ends.
fn palette(fields: &Fields<'_>, header_size: usize, bits: u16) -> Result<(Vec<[u8; 4]>, usize), VisionError> {
    let stated = if header_size == 12 { 0 } else { fields.u32(46)? as usize };
    let count = if stated == 0 { 1 << bits } else { stated };
    if count > 65_536 {
        return Err(damaged(FORMAT, format!("palette of {count} colours: expected at most 65536")));
    }
    let entry_size = if header_size == 12 { 3 } else { 4 };
    let start = 14 + header_size;
    let entry = |index: usize| {
        let [b, g, r] = fields.bytes(start + index * entry_size)?;
        Ok([r, g, b, 255])
    };
    let palette = (0..count.min(1 << bits)).map(entry).collect::<Result<_, VisionError>>()?;
    Ok((palette, start + count * entry_size))
}

impl Header {
    fn indexed(self, data: &[u8]) -> Result<Picture, VisionError> {
        let indices = match self.compression {
            Compression::RunLength8 => self.run_lengths::<8>(data)?,
            Compression::RunLength4 => self.run_lengths::<4>(data)?,
            _ => {
                let row_bytes = self.row_bytes();
                unpack(self.rows(data, row_bytes)?, row_bytes, self.width, usize::from(self.bits))
            }
        };
        let indices = self.top_first(indices, self.width);
        let is_ramp = |step: usize| {
            self.palette
                .iter()
                .enumerate()
                .all(|(i, [r, g, b, _])| [r, g, b].iter().all(|&&x| usize::from(x) == i * step))
        };
        match self.palette.len() {
            2 if is_ramp(255) => {
                let samples = indices.into_iter().map(|index| if index == 0 { 0 } else { 255 }).collect();
                Ok(Picture::new(self.width, self.height, Pixels::Gray(samples)).with_index())
            }
            3.. if is_ramp(1) => Ok(Picture::new(self.width, self.height, Pixels::Gray(indices))),
            _ => look_up(FORMAT, (self.width, self.height), &indices, &self.palette),
        }
    }

    fn direct(self, data: &[u8]) -> Result<Picture, VisionError> {
        let (row_bytes, pixel_bytes) = (self.row_bytes(), usize::from(self.bits / 8));
        let masks = match self.compression {
            Compression::Masks(masks) => masks,
            _ => [0xff_0000, 0xff00, 0xff, 0],
        };
        let channels = if masks[3] == 0 { 3 } else { 4 };
        let mut samples = Vec::with_capacity(self.width * self.height * channels);
        for row in self.rows(data, row_bytes)?.chunks_exact(row_bytes) {
            for pixel in row.chunks_exact(pixel_bytes).take(self.width) {
                let value = pixel.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
                samples.extend(masks[..channels].iter().map(|&mask| channel(value, mask)));
            }
        }
        let samples = self.top_first(samples, self.width * channels);
        let pixels = if channels == 4 { Pixels::Rgba(samples) } else { Pixels::Rgb(samples) };
        Ok(Picture::new(self.width, self.height, pixels))
    }

    /// Rows are padded to four bytes.
    fn row_bytes(&self) -> usize {
        (self.width * usize::from(self.bits)).div_ceil(32) * 4
    }

    fn rows<'a>(&self, data: &'a [u8], row_bytes: usize) -> Result<&'a [u8], VisionError> {
        let expected = row_bytes * self.height;
        data.get(..expected).ok_or_else(|| cut_off(self.offset + expected, self.offset + data.len()))
    }

    fn top_first<T: Copy>(&self, samples: Vec<T>, row: usize) -> Vec<T> {
        if self.top_down { samples } else { samples.chunks_exact(row).rev().flatten().copied().collect() }
    }

    /// Runs of one index, stretches of single ones, ends of rows and jumps; what is skipped has index 0.
    fn run_lengths<const BITS: usize>(&self, data: &[u8]) -> Result<Vec<u8>, VisionError> {
        let mut indices = vec![0; self.width * self.height];
        let (mut x, mut y, mut at) = (0, 0, 0);
        let ended = || cut_off(self.offset + data.len() + 1, self.offset + data.len());
        while y < self.height {
            let (&count, &value) = data.get(at).zip(data.get(at + 1)).ok_or_else(ended)?;
            at += 2;
            // What a row does not hold is dropped.
            let mut put = |x: usize, index: u8| {
                if x < self.width {
                    indices[y * self.width + x] = index;
                }
            };
            let nibble = |byte: u8, i: usize| if BITS == 8 { byte } else { byte >> (4 * (1 - i % 2)) & 15 };
            match (count, value) {
                (0, 0) => (x, y) = (0, y + 1),
                (0, 1) => break,
                (0, 2) => {
                    let (&right, &up) = data.get(at).zip(data.get(at + 1)).ok_or_else(ended)?;
                    (x, y, at) = (x + usize::from(right), y + usize::from(up), at + 2);
                }
                (0, count) => {
                    let count = usize::from(count);
                    let stretch = data.get(at..at + (count * BITS).div_ceil(8)).ok_or_else(ended)?;
                    (0..count).for_each(|i| put(x + i, nibble(stretch[i * BITS / 8], i)));
                    (x, at) = (x + count, at + stretch.len().next_multiple_of(2));
                }
                (count, value) => {
                    (0..usize::from(count)).for_each(|i| put(x + i, nibble(value, i)));
                    x += usize::from(count);
                }
            }
        }
        Ok(indices)
    }
}

/// The bits under a mask, stretched to 0..=255 and truncated.
fn channel(value: u32, mask: u32) -> u8 {
    let shift = mask.trailing_zeros();
    let (value, most) = (u64::from((value & mask) >> shift), u64::from(mask >> shift));
    (value * 255 / most) as u8
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    /// A file with a 40-byte header; `extra` holds masks or palette.
    fn file(width: u32, height: i32, bits: u16, compression: u32, extra: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = b"BM".to_vec();
        let offset = 54 + extra.len() as u32;
        for word in [0, 0, offset, 40, width, height.cast_unsigned()] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(1u16.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        let colors = if bits <= 8 { extra.len() as u32 / 4 } else { 0 };
        for word in [compression, data.len() as u32, 0, 0, colors, 0] {
            bytes.extend(word.to_le_bytes());
        }
        [&bytes, extra, data].concat()
    }

    fn open(bytes: &[u8]) -> Picture {
        decode(bytes, &Limits::default()).unwrap()
    }

    const PALETTE: [u8; 12] = [3, 2, 1, 0, 6, 5, 4, 0, 9, 8, 7, 0];

    #[test]
    fn files_of_pillow_come_back() {
        for name in ["rgb.bmp", "gray.bmp", "palette.bmp", "bilevel.bmp"] {
            fixtures::check(name, 0);
        }
        assert!(open(&fixtures::read("palette.bmp")).is_indexed());
        assert!(matches!(open(&fixtures::read("gray.bmp")).pixels(), Pixels::Gray(_)));
        assert!(open(&fixtures::read("bilevel.bmp")).is_indexed());
    }

    #[test]
    fn rows_run_from_the_bottom_unless_the_height_is_negative() {
        let data = [1, 2, 3, 0, 4, 5, 6, 0];
        assert_eq!(open(&file(1, 2, 24, 0, &[], &data)).pixels(), &Pixels::Rgb(vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(open(&file(1, -2, 24, 0, &[], &data)).pixels(), &Pixels::Rgb(vec![3, 2, 1, 6, 5, 4]));
    }

    #[test]
    fn masks_choose_the_bits() {
        let word = 0xfc01u16.to_le_bytes();
        let data = [word[0], word[1], 0, 0];
        let masks = [0xf800u32, 0x7e0, 0x1f].map(u32::to_le_bytes).concat();
        assert_eq!(open(&file(1, 1, 16, 3, &masks, &data)).pixels(), &Pixels::Rgb(vec![255, 129, 8]));
        // Without masks there are five bits each, and the topmost is unused.
        assert_eq!(open(&file(1, 1, 16, 0, &[], &data)).pixels(), &Pixels::Rgb(vec![255, 0, 8]));
        let masks = [0xffu32, 0xff00, 0xff0000].map(u32::to_le_bytes).concat();
        assert_eq!(open(&file(1, 1, 32, 3, &masks, &[1, 2, 3, 4])).pixels(), &Pixels::Rgb(vec![1, 2, 3]));
        assert!(decode(&file(1, 1, 32, 3, &[5; 12], &[1, 2, 3, 4]), &Limits::default()).is_err());
    }

    #[test]
    fn run_lengths_fill_rows() {
        let color = |indices: &[usize]| -> Vec<u8> {
            indices.iter().flat_map(|i| [3 * i + 1, 3 * i + 2, 3 * i + 3]).map(|x| x as u8).collect()
        };
        // Bottom row: run of three 1; top row: one skipped, then the stretch 2 1 2; padded.
        let data = [3, 1, 0, 0, 0, 2, 1, 0, 0, 3, 2, 1, 2, 0, 0, 1];
        let eight = open(&file(4, 2, 8, 1, &PALETTE, &data));
        assert_eq!(eight.pixels(), &Pixels::Rgb(color(&[0, 2, 1, 2, 1, 1, 1, 0])));
        let four = open(&file(4, 1, 4, 2, &PALETTE, &[4, 0x12, 0, 1]));
        assert_eq!(four.pixels(), &Pixels::Rgb(color(&[1, 2, 1, 2])));
        assert!(decode(&file(4, 1, 8, 1, &PALETTE, &[3, 1, 0]), &Limits::default()).is_err());
    }

    #[test]
    fn cut_off_files_and_bombs_are_errors() {
        let whole = fixtures::read("rgb.bmp");
        for end in [10, 30, 60, whole.len() - 1] {
            let error = decode(&whole[..end], &Limits::default()).unwrap_err().to_string();
            assert!(error.contains("it is cut off"), "{end}: {error}");
        }
        let bomb = file(100_000, 100_000, 24, 0, &[], &[]);
        assert!(matches!(decode(&bomb, &Limits::default()), Err(VisionError::TooManyPixels { .. })));
        assert!(decode(&file(1, 1, 7, 0, &[], &[0; 4]), &Limits::default()).is_err());
    }
}
