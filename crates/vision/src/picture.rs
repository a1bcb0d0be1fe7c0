//! A decoded picture, with what decides how it is resized and how it becomes RGB.

/// The samples of a picture, row-major, channels interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// 1 channel.
    Gray(Vec<u8>),
    /// 1 channel of 16 bits.
    Gray16(Vec<u16>),
    /// 2 channels.
    GrayAlpha(Vec<u8>),
    /// 3 channels.
    Rgb(Vec<u8>),
    /// 4 channels, alpha not premultiplied.
    Rgba(Vec<u8>),
    /// 4 channels; 0 is no ink.
    Cmyk(Vec<u8>),
}

impl Pixels {
    pub fn num_channels(&self) -> usize {
        match self {
            Pixels::Gray(_) | Pixels::Gray16(_) => 1,
            Pixels::GrayAlpha(_) => 2,
            Pixels::Rgb(_) => 3,
            Pixels::Rgba(_) | Pixels::Cmyk(_) => 4,
        }
    }

    /// Samples in all channels together.
    pub fn num_samples(&self) -> usize {
        match self {
            Pixels::Gray16(samples) => samples.len(),
            Pixels::Gray(samples)
            | Pixels::GrayAlpha(samples)
            | Pixels::Rgb(samples)
            | Pixels::Rgba(samples)
            | Pixels::Cmyk(samples) => samples.len(),
        }
    }
}

/// What happens to transparency on the way to RGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alpha {
    /// Blended over white, as transformers 5 does.
    OverWhite,
    /// Forgotten, as Pillow's `convert("RGB")` does, and with it EasyR1 and PAPO.
    Drop,
}

/// A picture of three 8-bit channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    pub width: usize,
    pub height: usize,
    /// `[height, width, 3]`.
    pub data: Vec<u8>,
}

impl Rgb {
    /// The picture as a PNG file.
    pub fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.data)?;
            writer.finish()
        });
        // nothing of the world takes part: the sizes agree and the target is memory
        written.expect("a PNG is written to memory");
        bytes
    }
}

/// A decoded picture.
///
/// Palette and bilevel pictures are stored with their colours looked up and [`Picture::is_indexed`] set: Pillow resizes
/// them by nearest neighbour, which commutes with the look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Pixels,
    indexed: bool,
    transparent: Option<[u16; 3]>,
}

impl Picture {
    /// A picture of `width` x `height`.
    ///
    /// # Panics
    /// When a side is 0 or the number of samples does not fit.
    pub fn new(width: usize, height: usize, pixels: Pixels) -> Self {
        assert!(width > 0 && height > 0, "a picture of {width}x{height}");
        let (expected, found) = (width * height * pixels.num_channels(), pixels.num_samples());
        assert_eq!(found, expected, "samples of a {width}x{height} picture");
        Self { width, height, pixels, indexed: false, transparent: None }
    }

    /// The same picture, to be resized by nearest neighbour because its colours came from a palette.
    pub fn with_index(self) -> Self {
        Self { indexed: true, ..self }
    }

    /// The same picture with one colour counted as transparent (a gray level stands in all three places).
    pub fn with_transparent_color(self, color: [u16; 3]) -> Self {
        Self { transparent: Some(color), ..self }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    /// Whether the colours came from a palette (or are two), so that a resize must not invent new ones.
    pub fn is_indexed(&self) -> bool {
        self.indexed
    }

    /// The same kind of picture with other samples, of another size.
    pub(crate) fn like(&self, width: usize, height: usize, pixels: Pixels) -> Self {
        let picture = Self::new(width, height, pixels);
        Self { indexed: self.indexed, transparent: self.transparent, ..picture }
    }

    /// Three 8-bit channels.
    ///
    /// As Pillow does it: gray is repeated, 16-bit gray is clipped at 255 (not scaled), CMYK is multiplied out.
    pub fn to_rgb(&self, alpha: Alpha) -> Rgb {
        let mut data = Vec::with_capacity(3 * self.width * self.height);
        match &self.pixels {
            Pixels::Gray(samples) => data.extend(samples.iter().flat_map(|&gray| [gray; 3])),
            Pixels::Gray16(samples) => data.extend(samples.iter().flat_map(|&gray| [clip_gray16(gray); 3])),
            Pixels::GrayAlpha(samples) => {
                data.extend(pixels::<2>(samples).flat_map(|&[gray, a]| settle([gray; 3], a, alpha)));
            }
            Pixels::Rgb(samples) => data.extend_from_slice(samples),
            Pixels::Rgba(samples) => {
                data.extend(pixels::<4>(samples).flat_map(|&[r, g, b, a]| settle([r, g, b], a, alpha)));
            }
            Pixels::Cmyk(samples) => data.extend(pixels::<4>(samples).flat_map(|&ink| rgb_of_cmyk(ink))),
        }
        if let (Alpha::OverWhite, Some(color)) = (alpha, self.transparent) {
            self.whiten(color, &mut data);
        }
        Rgb { width: self.width, height: self.height, data }
    }

    /// Pixels of the transparent colour become white; the comparison is on the picture's own samples.
    fn whiten(&self, color: [u16; 3], data: &mut [u8]) {
        let rgb = data.chunks_exact_mut(3);
        match &self.pixels {
            Pixels::Gray(samples) => {
                rgb.zip(samples).filter(|(_, gray)| u16::from(**gray) == color[0]).for_each(|(rgb, _)| rgb.fill(255));
            }
            Pixels::Gray16(samples) => {
                rgb.zip(samples).filter(|(_, gray)| **gray == color[0]).for_each(|(rgb, _)| rgb.fill(255));
            }
            Pixels::Rgb(_) => {
                rgb.filter(|rgb| rgb.iter().zip(color).all(|(&x, c)| u16::from(x) == c)).for_each(|rgb| rgb.fill(255));
            }
            Pixels::GrayAlpha(_) | Pixels::Rgba(_) | Pixels::Cmyk(_) => {}
        }
    }
}

/// A picture is gray of 16 bits only on paper for Pillow, whose conversions clip it.
pub(crate) fn clip_gray16(gray: u16) -> u8 {
    gray.min(255) as u8
}

/// The samples of `C` interleaved channels, pixel by pixel.
pub(crate) fn pixels<const C: usize>(samples: &[u8]) -> impl Iterator<Item = &[u8; C]> {
    samples.as_chunks::<C>().0.iter()
}

fn settle(color: [u8; 3], a: u8, alpha: Alpha) -> [u8; 3] {
    match alpha {
        Alpha::Drop => color,
        Alpha::OverWhite => color.map(|x| over_white(x, a)),
    }
}

/// Pillow's `alpha_composite` (libImaging/AlphaComposite.c) on an opaque white background: fixed point with 7 extra
/// bits.
fn over_white(x: u8, a: u8) -> u8 {
    let (x, a) = (u32::from(x), u32::from(a));
    let blended = (x * a + 255 * (255 - a)) * 128 + 128 * 128;
    ((((blended >> 8) + blended) >> 8) >> 7) as u8
}

/// Pillow's CMYK to RGB (libImaging/Convert.c): `(255 - k) - ink * (255 - k) / 255`.
pub(crate) fn rgb_of_cmyk([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let rest = 255 - k;
    [c, m, y].map(|ink| rest.saturating_sub(multiply_255(ink, rest)))
}

/// `a * b / 255`, rounded (Pillow's MULDIV255).
pub(crate) fn multiply_255(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gray_is_repeated_and_16_bits_are_clipped() {
        let gray = Picture::new(2, 1, Pixels::Gray(vec![7, 200]));
        assert_eq!(gray.to_rgb(Alpha::OverWhite).data, [7, 7, 7, 200, 200, 200]);
        let deep = Picture::new(3, 1, Pixels::Gray16(vec![100, 256, 65535]));
        assert_eq!(deep.to_rgb(Alpha::Drop).data, [100, 100, 100, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn alpha_is_blended_over_white_or_dropped() {
        let picture = Picture::new(3, 1, Pixels::Rgba(vec![10, 20, 30, 255, 10, 20, 30, 0, 10, 20, 30, 128]));
        assert_eq!(picture.to_rgb(Alpha::Drop).data, [10, 20, 30, 10, 20, 30, 10, 20, 30]);
        // (10 * 128 + 255 * 127) / 255 = 132.02, and so on.
        assert_eq!(picture.to_rgb(Alpha::OverWhite).data, [10, 20, 30, 255, 255, 255, 132, 137, 142]);
        let gray = Picture::new(1, 1, Pixels::GrayAlpha(vec![0, 51]));
        assert_eq!(gray.to_rgb(Alpha::OverWhite).data, [204; 3]);
    }

    #[test]
    fn blending_is_the_rounded_quotient() {
        for x in 0..=255u8 {
            for a in 0..=255u8 {
                let exact = (f64::from(x) * f64::from(a) + 255.0 * (255.0 - f64::from(a))) / 255.0;
                assert_eq!(f64::from(over_white(x, a)), exact.round(), "{x} with alpha {a}");
            }
        }
    }

    #[test]
    fn a_transparent_color_is_white_only_over_white() {
        let picture = Picture::new(2, 1, Pixels::Rgb(vec![1, 2, 3, 1, 2, 4])).with_transparent_color([1, 2, 3]);
        assert_eq!(picture.to_rgb(Alpha::Drop).data, [1, 2, 3, 1, 2, 4]);
        assert_eq!(picture.to_rgb(Alpha::OverWhite).data, [255, 255, 255, 1, 2, 4]);
        let deep = Picture::new(2, 1, Pixels::Gray16(vec![300, 301])).with_transparent_color([300; 3]);
        assert_eq!(deep.to_rgb(Alpha::OverWhite).data, [255; 6]);
        let gray = Picture::new(2, 1, Pixels::Gray(vec![0, 9])).with_transparent_color([0; 3]);
        assert_eq!(gray.to_rgb(Alpha::OverWhite).data, [255, 255, 255, 9, 9, 9]);
    }

    #[test]
    fn ink_takes_light_away() {
        assert_eq!(rgb_of_cmyk([0, 0, 0, 0]), [255, 255, 255]);
        assert_eq!(rgb_of_cmyk([0, 0, 0, 255]), [0, 0, 0]);
        assert_eq!(rgb_of_cmyk([255, 0, 128, 0]), [0, 255, 127]);
    }

    #[test]
    #[should_panic(expected = "samples of a 2x2 picture")]
    fn samples_must_fit_the_size() {
        Picture::new(2, 2, Pixels::Rgb(vec![0; 11]));
    }
}
