//! Making the masked twin of a picture that perception-aware objectives compare with.
//!
//! A corruption works on the raw picture, before any resize, and keeps its size, so that both twins have the same
//! patches and tokens. It is drawn once per prompt and visit and shared by the group: the caller names the stream.

mod blacken;
mod blank;
mod gaussian_blur;
mod gaussian_noise;

use percept_random::Stream;
use serde::{Deserialize, Serialize};

use crate::picture::{Picture, Pixels, clip_gray16};

pub use blacken::Blacken;
pub use blank::{Blank, BlankColor};
pub use gaussian_blur::GaussianBlur;
pub use gaussian_noise::GaussianNoise;

/// A way to take information out of a picture.
pub trait Corruption: Send + Sync {
    /// Its `kind` in a configuration.
    fn name(&self) -> &str;

    /// A picture of the same size.
    fn corrupt(&self, picture: &Picture, random: &mut Stream) -> Picture;
}

/// Which corruption, told apart by `kind`; the other keys default to the reference's values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CorruptionConfig {
    Blacken {
        #[serde(default = "blacken::default_patch_size")]
        patch_size: usize,
        #[serde(default = "blacken::default_probability")]
        probability: f64,
    },
    Blank {
        #[serde(default)]
        color: BlankColor,
    },
    GaussianNoise {
        #[serde(default = "gaussian_noise::default_deviation")]
        deviation: f64,
    },
    GaussianBlur {
        #[serde(default = "gaussian_blur::default_radius")]
        radius: f32,
    },
}

impl Default for CorruptionConfig {
    /// The reference: random blackening of 14-pixel cells with probability 0.6.
    fn default() -> Self {
        let Blacken { patch_size, probability } = Blacken::default();
        Self::Blacken { patch_size, probability }
    }
}

impl CorruptionConfig {
    /// The corruption.
    ///
    /// # Errors
    /// When a number is out of its range.
    pub fn build(&self) -> Result<Box<dyn Corruption>, crate::VisionError> {
        match *self {
            Self::Blacken { patch_size, probability } => {
                check("patch_size", patch_size > 0, "at least 1 (pixels)", patch_size)?;
                check("probability", (0.0..=1.0).contains(&probability), "a number from 0 to 1", probability)?;
                Ok(Box::new(Blacken { patch_size, probability }))
            }
            Self::Blank { color } => Ok(Box::new(Blank { color })),
            Self::GaussianNoise { deviation } => {
                let fits = deviation.is_finite() && deviation >= 0.0;
                check("deviation", fits, "a number of levels, 0 or more", deviation)?;
                Ok(Box::new(GaussianNoise { deviation }))
            }
            Self::GaussianBlur { radius } => {
                check("radius", (0.0..=1000.0).contains(&radius), "a number of pixels from 0 to 1000", radius)?;
                Ok(Box::new(GaussianBlur { radius }))
            }
        }
    }
}

fn check(key: &str, fits: bool, expected: &str, found: impl ToString) -> Result<(), crate::VisionError> {
    if fits {
        return Ok(());
    }
    let (key, expected, found) = (key.to_string(), expected.to_string(), found.to_string());
    Err(crate::VisionError::Setting { key, expected, found })
}

/// The samples a filter can work on: 8-bit and interleaved; 16-bit gray is clipped to what of it is ever seen.
fn eight_bit(pixels: &Pixels) -> Pixels {
    match pixels {
        Pixels::Gray16(samples) => Pixels::Gray(samples.iter().map(|&gray| clip_gray16(gray)).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percept_random::{Key, Purpose};

    fn parse(text: &str) -> Result<CorruptionConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn the_kind_alone_is_the_reference() {
        assert_eq!(parse("kind = 'blacken'").unwrap(), CorruptionConfig::default());
        assert_eq!(parse("kind = 'blank'").unwrap(), CorruptionConfig::Blank { color: BlankColor::Black });
        assert_eq!(parse("kind = 'gaussian_noise'").unwrap(), CorruptionConfig::GaussianNoise { deviation: 189.0 });
        assert_eq!(parse("kind = 'gaussian_blur'").unwrap(), CorruptionConfig::GaussianBlur { radius: 6.0 });
        let mean = parse("kind = 'blank'\ncolor = 'mean'").unwrap();
        assert_eq!(mean, CorruptionConfig::Blank { color: BlankColor::Mean });
        assert_eq!(parse(&toml::to_string(&mean).unwrap()).unwrap(), mean);
    }

    #[test]
    fn unknown_keys_and_impossible_numbers_are_errors() {
        assert!(parse("kind = 'blur'").is_err());
        assert!(parse("kind = 'blacken'\nblack_prob = 0.6").unwrap_err().to_string().contains("black_prob"));
        for text in [
            "kind = 'blacken'\nprobability = 1.5",
            "kind = 'blacken'\npatch_size = 0",
            "kind = 'gaussian_noise'\ndeviation = -1.0",
            "kind = 'gaussian_blur'\nradius = nan",
        ] {
            let error = parse(text).unwrap().build().err().expect(text).to_string();
            assert!(error.contains("expected"), "{error}");
        }
    }

    #[test]
    fn every_kind_keeps_the_size_of_every_mode_and_depends_on_the_stream_alone() {
        let (width, height) = (33, 20);
        let samples = |channels: usize| (0..width * height * channels).map(|i| (i * 7 % 256) as u8).collect::<Vec<_>>();
        let modes = [
            Pixels::Gray(samples(1)),
            Pixels::Gray16((0..width * height).map(|i| i as u16).collect()),
            Pixels::GrayAlpha(samples(2)),
            Pixels::Rgb(samples(3)),
            Pixels::Rgba(samples(4)),
            Pixels::Cmyk(samples(4)),
        ];
        for kind in ["blacken", "blank", "gaussian_noise", "gaussian_blur"] {
            let corruption = parse(&format!("kind = '{kind}'")).unwrap().build().unwrap();
            assert_eq!(corruption.name(), kind);
            for pixels in &modes {
                let picture = Picture::new(width, height, pixels.clone());
                let key = Key::new(3, Purpose::Corruption).prompt(5);
                let corrupted = corruption.corrupt(&picture, &mut key.stream());
                assert_eq!((corrupted.width(), corrupted.height()), (width, height));
                assert_ne!(corrupted, picture, "{kind}");
                assert_eq!(corrupted, corruption.corrupt(&picture, &mut key.stream()), "{kind}");
            }
        }
    }
}
