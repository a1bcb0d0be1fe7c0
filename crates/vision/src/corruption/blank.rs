//! A picture of one colour: nothing to see but its size.

use percept_random::Stream;
use serde::{Deserialize, Serialize};

use super::Corruption;
use crate::picture::{Alpha, Picture, Pixels};

/// The colour of a blank picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlankColor {
    #[default]
    Black,
    White,
    /// The mean of the picture over white, channel by channel, rounded.
    Mean,
}

/// Replaces the picture by one of a single colour; draws nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blank {
    pub color: BlankColor,
}

impl Corruption for Blank {
    fn name(&self) -> &str {
        "blank"
    }

    fn corrupt(&self, picture: &Picture, _random: &mut Stream) -> Picture {
        let color = match self.color {
            BlankColor::Black => [0; 3],
            BlankColor::White => [255; 3],
            BlankColor::Mean => mean(picture),
        };
        let (width, height) = (picture.width(), picture.height());
        Picture::new(width, height, Pixels::Rgb(color.repeat(width * height)))
    }
}

fn mean(picture: &Picture) -> [u8; 3] {
    let rgb = picture.to_rgb(Alpha::OverWhite).data;
    let count = (rgb.len() / 3) as u64;
    std::array::from_fn(|channel| {
        let sum: u64 = rgb.iter().skip(channel).step_by(3).map(|&x| u64::from(x)).sum();
        ((sum + count / 2) / count) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use percept_random::{Key, Purpose};

    #[test]
    fn one_color_of_the_same_size() {
        let picture = Picture::new(2, 1, Pixels::Rgb(vec![0, 10, 255, 1, 20, 254]));
        let blank = |color| {
            let blank = Blank { color }.corrupt(&picture, &mut Key::new(0, Purpose::Corruption).stream());
            blank.to_rgb(Alpha::Drop).data
        };
        assert_eq!(blank(BlankColor::Black), [0; 6]);
        assert_eq!(blank(BlankColor::White), [255; 6]);
        assert_eq!(blank(BlankColor::Mean), [1, 15, 255, 1, 15, 255]);
    }
}
