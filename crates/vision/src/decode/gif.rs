//! GIF, the first frame on its screen.
//!
//! As in Pillow's GifImagePlugin: where the frame does not cover the screen, the transparent colour shows, else the
//! palette's first; a palette that is a gray ramp makes a gray picture, resized as such.

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::{Limits, damaged, look_up};
use crate::error::VisionError;
use crate::picture::{Picture, Pixels};

const FORMAT: &str = "GIF";

pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.check_frame_consistency(true);
    if let Some(max_bytes) = std::num::NonZeroU64::new(limits.max_bytes) {
        options.set_memory_limit(MemoryLimit::Bytes(max_bytes));
    }
    let mut decoder = options.read_info(bytes).map_err(|error| damaged(FORMAT, error))?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    limits.check(FORMAT, width as u64, height as u64, 5)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.read_next_frame().map_err(|error| damaged(FORMAT, error))?;
    let frame = frame.ok_or_else(|| damaged(FORMAT, "it has no frame"))?;
    let palette = frame.palette.clone().or(global).ok_or_else(|| damaged(FORMAT, "it has no palette"))?;

    let mut screen = vec![frame.transparent.unwrap_or(0); width * height];
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let frame_width = usize::from(frame.width);
    if frame_width > 0 {
        for (row, line) in frame.buffer.chunks_exact(frame_width).zip(screen.chunks_exact_mut(width).skip(top)) {
            line[left..left + frame_width].copy_from_slice(row);
        }
    }

    let colors = palette.as_chunks::<3>().0;
    if colors.iter().enumerate().all(|(index, color)| color.iter().all(|&x| usize::from(x) == index)) {
        let picture = Picture::new(width, height, Pixels::Gray(screen));
        return Ok(match frame.transparent {
            Some(gray) => picture.with_transparent_color([u16::from(gray); 3]),
            None => picture,
        });
    }
    let opacity = |index: usize| if frame.transparent.is_some_and(|t| usize::from(t) == index) { 0 } else { 255 };
    let palette: Vec<[u8; 4]> =
        colors.iter().enumerate().map(|(index, &[r, g, b])| [r, g, b, opacity(index)]).collect();
    look_up(FORMAT, (width, height), &screen, &palette)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Alpha;
    use gif::{Encoder, Frame};

    fn encoded(width: u16, height: u16, palette: &[u8], frame: Frame<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, width, height, palette).unwrap();
        encoder.write_frame(&frame).unwrap();
        encoder.write_frame(&Frame { width: 1, height: 1, buffer: vec![0].into(), ..Frame::default() }).unwrap();
        drop(encoder);
        bytes
    }

    const PALETTE: [u8; 12] = [10, 20, 30, 1, 2, 3, 200, 100, 0, 7, 7, 7];

    #[test]
    fn the_first_frame_lies_on_its_screen() {
        let frame = Frame { left: 1, top: 1, width: 2, height: 1, buffer: vec![1, 2].into(), ..Frame::default() };
        let picture = decode(&encoded(3, 2, &PALETTE, frame.clone()), &Limits::default()).unwrap();
        let expected = vec![10, 20, 30, 10, 20, 30, 10, 20, 30, 10, 20, 30, 1, 2, 3, 200, 100, 0];
        assert_eq!((picture.pixels(), picture.is_indexed()), (&Pixels::Rgb(expected), true));
        let clear = Frame { transparent: Some(2), ..frame };
        let picture = decode(&encoded(3, 2, &PALETTE, clear), &Limits::default()).unwrap();
        let white = picture.to_rgb(Alpha::OverWhite).data;
        assert_eq!((&white[..12], &white[12..15], &white[15..]), (&[255; 12][..], &[1, 2, 3][..], &[255; 3][..]));
        assert_eq!(picture.to_rgb(Alpha::Drop).data[..3], [200, 100, 0]);
    }

    #[test]
    fn a_gray_ramp_is_a_gray_picture() {
        let ramp: Vec<u8> = (0..=255).flat_map(|gray| [gray; 3]).collect();
        let frame = Frame { width: 2, height: 1, buffer: vec![9, 250].into(), ..Frame::default() };
        let picture = decode(&encoded(2, 1, &ramp, frame), &Limits::default()).unwrap();
        assert_eq!((picture.pixels(), picture.is_indexed()), (&Pixels::Gray(vec![9, 250]), false));
    }

    #[test]
    fn cut_off_files_and_bombs_are_errors() {
        let buffer: Vec<u8> = (0..64 * 64u32).map(|i| (i * i % 4) as u8).collect();
        let frame = Frame { width: 64, height: 64, buffer: buffer.into(), ..Frame::default() };
        let whole = encoded(64, 64, &PALETTE, frame);
        for end in [8, 20, whole.len() / 2] {
            let error = decode(&whole[..end], &Limits::default()).unwrap_err().to_string();
            assert!(error.starts_with("GIF picture cannot be decoded"), "{end}: {error}");
        }
        let limits = Limits { max_pixels: 64 * 63, ..Limits::default() };
        assert!(matches!(decode(&whole, &limits), Err(VisionError::TooManyPixels { .. })));
    }
}
