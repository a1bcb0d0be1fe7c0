//! Gaussian blur, as Pillow's `ImageFilter.GaussianBlur` does it, bit for bit.
//!
//! Pillow approximates the Gaussian by three passes of an extended box blur in each direction (libImaging/BoxBlur.c,
//! after Gwosdek and others, "Theoretical foundations of Gaussian convolution by extended box filtering", 2011): a box
//! of whole radius r with two more samples at the ends that count in part. The border is continued by its last sample.
//! Sums are fixed point with 24 fractional bits, and every pass is rounded to 8 bits. All channels are blurred, alpha
//! too.

use percept_random::Stream;

use super::{Corruption, eight_bit};
use crate::picture::{Picture, Pixels};

/// Blurs with a deviation of `radius` pixels of the raw picture; draws nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianBlur {
    pub radius: f32,
}

const NUM_PASSES: usize = 3;

/// Fractional bits of the sums.
const PRECISION: u32 = 24;

pub(super) fn default_radius() -> f32 {
    6.0
}

impl Default for GaussianBlur {
    fn default() -> Self {
        Self { radius: default_radius() }
    }
}

impl Corruption for GaussianBlur {
    fn name(&self) -> &str {
        "gaussian_blur"
    }

    fn corrupt(&self, picture: &Picture, _random: &mut Stream) -> Picture {
        let size = (picture.width(), picture.height());
        let pixels = match eight_bit(picture.pixels()) {
            Pixels::Gray(samples) => Pixels::Gray(self.blur::<1>(samples, size)),
            Pixels::GrayAlpha(samples) => Pixels::GrayAlpha(self.blur::<2>(samples, size)),
            Pixels::Rgb(samples) => Pixels::Rgb(self.blur::<3>(samples, size)),
            Pixels::Rgba(samples) => Pixels::Rgba(self.blur::<4>(samples, size)),
            Pixels::Cmyk(samples) => Pixels::Cmyk(self.blur::<4>(samples, size)),
            Pixels::Gray16(_) => unreachable!("16-bit gray has been clipped to 8 bits"),
        };
        picture.like(size.0, size.1, pixels)
    }
}

impl GaussianBlur {
    fn blur<const C: usize>(&self, samples: Vec<u8>, (width, height): (usize, usize)) -> Vec<u8> {
        if self.radius == 0.0 {
            return samples;
        }
        let filter = ExtendedBox::of_deviation(self.radius);
        let rows = filter.repeat_over_rows::<C>(samples, width);
        let columns = filter.repeat_over_rows::<C>(transposed::<C>(&rows, width, height), height);
        transposed::<C>(&columns, height, width)
    }
}

/// A box whose two outermost samples count in part.
struct ExtendedBox {
    radius: usize,
    weight: u32,
    outer_weight: u32,
}

impl ExtendedBox {
    /// Three of them together have this deviation. Arithmetic is in f32, where Pillow's is.
    fn of_deviation(deviation: f32) -> Self {
        let variance = deviation * deviation / NUM_PASSES as f32;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
        let part = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
            / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
        let radius = whole + part;
        let weight = ((1u32 << PRECISION) as f32 / (radius * 2.0 + 1.0)) as u32;
        let radius = radius as usize;
        Self { radius, weight, outer_weight: ((1 << PRECISION) - (radius as u32 * 2 + 1) * weight) / 2 }
    }

    fn repeat_over_rows<const C: usize>(&self, mut samples: Vec<u8>, width: usize) -> Vec<u8> {
        let mut extended = vec![[0; C]; width + 2 * (self.radius + 1)];
        for row in samples.chunks_exact_mut(width * C) {
            let (row, _) = row.as_chunks_mut::<C>();
            for _ in 0..NUM_PASSES {
                self.pass(row, &mut extended);
            }
        }
        samples
    }

    /// One pass over a row; `extended` has room for its continuation by a box's reach at either end.
    fn pass<const C: usize>(&self, row: &mut [[u8; C]], extended: &mut [[u8; C]]) {
        let reach = self.radius + 1;
        extended[..reach].fill(row[0]);
        extended[reach..reach + row.len()].copy_from_slice(row);
        extended[reach + row.len()..].fill(row[row.len() - 1]);

        let mut sums = [0u32; C];
        for pixel in &extended[..2 * self.radius + 1] {
            (0..C).for_each(|channel| sums[channel] += u32::from(pixel[channel]));
        }
        // The box around a pixel, with the two pixels beyond it: from left to right.
        for (pixel, window) in row.iter_mut().zip(extended.windows(2 * reach + 1)) {
            let (left, newest, right) = (window[0], window[2 * reach - 1], window[2 * reach]);
            for channel in 0..C {
                sums[channel] = sums[channel] + u32::from(newest[channel]) - u32::from(left[channel]);
                let outer = u32::from(left[channel]) + u32::from(right[channel]);
                let total = sums[channel] * self.weight + outer * self.outer_weight;
                pixel[channel] = ((total + (1 << (PRECISION - 1))) >> PRECISION) as u8;
            }
        }
    }
}

fn transposed<const C: usize>(samples: &[u8], width: usize, height: usize) -> Vec<u8> {
    let (pixels, _) = samples.as_chunks::<C>();
    (0..width).flat_map(|x| (0..height).flat_map(move |y| pixels[y * width + x])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_spreads_as_in_pillow() {
        // Pillow 13: Image.fromarray(row).filter(GaussianBlur(radius)) of a 9x1 picture.
        let mut row = vec![0; 9];
        row[4] = 255;
        assert_eq!(GaussianBlur { radius: 1.0 }.blur::<1>(row.clone(), (9, 1)), [0, 1, 14, 60, 103, 60, 14, 1, 0]);
        assert_eq!(GaussianBlur { radius: 6.0 }.blur::<1>(row.clone(), (9, 1)), [21; 9]);
        assert_eq!(GaussianBlur { radius: 0.0 }.blur::<1>(row.clone(), (9, 1)), row);
    }

    #[test]
    fn both_directions_and_all_channels_are_blurred() {
        let mut samples = vec![0; 15 * 9 * 3];
        samples[(4 * 15 + 7) * 3 + 1] = 255;
        let blurred = GaussianBlur { radius: 1.5 }.blur::<3>(samples, (15, 9));
        let green = |x: usize, y: usize| blurred[(y * 15 + x) * 3 + 1];
        assert_eq!(green(6, 4), green(7, 3));
        assert_eq!(green(8, 4), green(7, 5));
        assert!(green(7, 4) > green(6, 4) && green(6, 4) > green(5, 4));
        assert!(blurred.iter().step_by(3).all(|x| *x == 0));
    }
}
