//! Gaussian noise on every colour sample.
//!
//! Noise of the given deviation, in levels of 0..=255, is added to each sample; the sum is clipped and truncated. The
//! default deviation is that of VPPO's reference (verl/workers/perc_utils.py). Alpha is left alone.

use percept_random::Stream;

use super::{Corruption, eight_bit};
use crate::picture::{Picture, Pixels, pixels, rgb_of_cmyk};

/// Adds noise of `deviation` levels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianNoise {
    pub deviation: f64,
}

pub(super) fn default_deviation() -> f64 {
    189.0
}

impl Default for GaussianNoise {
    fn default() -> Self {
        Self { deviation: default_deviation() }
    }
}

impl Corruption for GaussianNoise {
    fn name(&self) -> &str {
        "gaussian_noise"
    }

    fn corrupt(&self, picture: &Picture, random: &mut Stream) -> Picture {
        let mut noisy = |samples: Vec<u8>, channels: usize, colors: usize| {
            let mut samples = samples;
            for pixel in samples.chunks_exact_mut(channels) {
                for sample in &mut pixel[..colors] {
                    let value = f64::from(*sample) + self.deviation * random.normal();
                    *sample = value.clamp(0.0, 255.0) as u8;
                }
            }
            samples
        };
        let pixels = match eight_bit(picture.pixels()) {
            Pixels::Gray(samples) => Pixels::Gray(noisy(samples, 1, 1)),
            Pixels::GrayAlpha(samples) => Pixels::GrayAlpha(noisy(samples, 2, 1)),
            Pixels::Rgb(samples) => Pixels::Rgb(noisy(samples, 3, 3)),
            Pixels::Rgba(samples) => Pixels::Rgba(noisy(samples, 4, 3)),
            // Noise is on what is seen, not on ink.
            Pixels::Cmyk(ink) => {
                Pixels::Rgb(noisy(pixels::<4>(&ink).flat_map(|&ink| rgb_of_cmyk(ink)).collect(), 3, 3))
            }
            Pixels::Gray16(_) => unreachable!("16-bit gray has been clipped to 8 bits"),
        };
        picture.like(picture.width(), picture.height(), pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percept_random::{Key, Purpose};

    #[test]
    fn noise_has_its_deviation_and_leaves_alpha() {
        let picture = Picture::new(100, 100, Pixels::GrayAlpha([128, 77].repeat(10_000)));
        let noisy = GaussianNoise { deviation: 10.0 }.corrupt(&picture, &mut Key::new(2, Purpose::Corruption).stream());
        let Pixels::GrayAlpha(samples) = noisy.pixels() else { panic!("{noisy:?}") };
        assert!(samples.iter().skip(1).step_by(2).all(|alpha| *alpha == 77));
        let grays: Vec<f64> = samples.iter().step_by(2).map(|x| f64::from(*x)).collect();
        let mean = grays.iter().sum::<f64>() / 1e4;
        let deviation = (grays.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e4).sqrt();
        // Truncation takes half a level from the mean.
        assert!((mean - 127.5).abs() < 0.4 && (deviation - 10.0).abs() < 0.3, "mean {mean}, deviation {deviation}");
    }
}
