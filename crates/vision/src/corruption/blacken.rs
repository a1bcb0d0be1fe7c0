//! Random blackening: each square cell of the raw picture turns black with some probability.
//!
//! The corruption of PAPO (arXiv 2507.06448; verl/trainer/papo_utils.py). Cells are counted in pixels of the raw
//! picture and do not line up with the vision tower's patches; those at the right and bottom borders are cut off. One
//! number is drawn per cell, row by row, so the share of black cells is itself random around the probability.
//!
//! Black is 0 in every channel, alpha included, as in the reference: with [`Alpha::Drop`](crate::Alpha::Drop) a cell is
//! black, with [`Alpha::OverWhite`](crate::Alpha::OverWhite) it is the white behind the picture; nothing is left of it
//! either way. The reference turns palette, bilevel and CMYK pictures into other pictures by accident (palette indices
//! become gray levels); here they keep their colours, and a cell of CMYK is all black ink.

use percept_random::Stream;

use super::Corruption;
use crate::picture::{Picture, Pixels};

/// Blackens cells of `patch_size` pixels, each with `probability`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blacken {
    /// Side of a cell in pixels of the raw picture.
    pub patch_size: usize,
    /// Of a cell to turn black.
    pub probability: f64,
}

pub(super) fn default_patch_size() -> usize {
    14
}

pub(super) fn default_probability() -> f64 {
    0.6
}

impl Default for Blacken {
    fn default() -> Self {
        Self { patch_size: default_patch_size(), probability: default_probability() }
    }
}

impl Corruption for Blacken {
    fn name(&self) -> &str {
        "blacken"
    }

    fn corrupt(&self, picture: &Picture, random: &mut Stream) -> Picture {
        self.blacken(picture, std::iter::repeat_with(|| random.uniform()))
    }
}

impl Blacken {
    /// Blackens the cells whose number is below the probability; one number in [0, 1) per cell, row by row.
    ///
    /// # Panics
    /// When there are fewer numbers than cells.
    pub fn blacken(&self, picture: &Picture, uniforms: impl IntoIterator<Item = f64>) -> Picture {
        let size = (picture.width(), picture.height());
        let columns = size.0.div_ceil(self.patch_size);
        let cells = columns * size.1.div_ceil(self.patch_size);
        let mut uniforms = uniforms.into_iter();
        let black: Vec<bool> = (0..cells)
            .map(|cell| {
                uniforms.next().unwrap_or_else(|| panic!("{cell} numbers for {cells} cells")) < self.probability
            })
            .collect();
        let is_black = |x: usize, y: usize| black[y / self.patch_size * columns + x / self.patch_size];
        let pixels = match picture.pixels().clone() {
            Pixels::Gray(samples) => Pixels::Gray(fill(samples, [0], size, is_black)),
            Pixels::Gray16(samples) => Pixels::Gray16(fill(samples, [0], size, is_black)),
            Pixels::GrayAlpha(samples) => Pixels::GrayAlpha(fill(samples, [0; 2], size, is_black)),
            Pixels::Rgb(samples) => Pixels::Rgb(fill(samples, [0; 3], size, is_black)),
            Pixels::Rgba(samples) => Pixels::Rgba(fill(samples, [0; 4], size, is_black)),
            Pixels::Cmyk(samples) => Pixels::Cmyk(fill(samples, [0, 0, 0, 255], size, is_black)),
        };
        picture.like(size.0, size.1, pixels)
    }
}

fn fill<T: Copy, const C: usize>(
    mut samples: Vec<T>,
    black: [T; C],
    (width, _): (usize, usize),
    is_black: impl Fn(usize, usize) -> bool,
) -> Vec<T> {
    for (y, row) in samples.chunks_exact_mut(width * C).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(C).enumerate() {
            if is_black(x, y) {
                pixel.copy_from_slice(&black);
            }
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Alpha;
    use percept_random::{Key, Purpose};

    #[test]
    fn cells_run_row_by_row_and_are_cut_at_the_border() {
        let picture = Picture::new(3, 3, Pixels::Gray(vec![9; 9]));
        let corruption = Blacken { patch_size: 2, probability: 0.5 };
        let blackened = corruption.blacken(&picture, [0.5, 0.49, 0.9, 0.0]);
        // The number equal to the probability leaves its cell.
        assert_eq!(blackened.pixels(), &Pixels::Gray(vec![9, 9, 0, 9, 9, 0, 9, 9, 0]));
    }

    #[test]
    fn black_is_black_in_every_mode() {
        let modes = [
            Pixels::Gray(vec![200; 4]),
            Pixels::Gray16(vec![200; 4]),
            Pixels::GrayAlpha(vec![200; 8]),
            Pixels::Rgb(vec![200; 12]),
            Pixels::Rgba(vec![200; 16]),
            Pixels::Cmyk(vec![20; 16]),
        ];
        for pixels in modes {
            let picture = Picture::new(2, 2, pixels);
            let blackened = Blacken { patch_size: 1, probability: 0.5 }.blacken(&picture, [0.1, 0.9, 0.9, 0.1]);
            let (before, after) = (picture.to_rgb(Alpha::Drop).data, blackened.to_rgb(Alpha::Drop).data);
            assert_eq!([&after[..3], &after[9..]], [[0; 3]; 2]);
            assert_eq!(after[3..9], before[3..9]);
        }
    }

    #[test]
    fn the_share_of_black_cells_is_about_the_probability() {
        let picture = Picture::new(1400, 1400, Pixels::Gray(vec![1; 1400 * 1400]));
        let mut stream = Key::new(1, Purpose::Corruption).stream();
        let rgb = Blacken::default().corrupt(&picture, &mut stream).to_rgb(Alpha::Drop).data;
        let share = rgb.iter().filter(|x| **x == 0).count() as f64 / rgb.len() as f64;
        assert!((share - 0.6).abs() < 0.02, "{share}");
    }

    #[test]
    #[should_panic(expected = "3 numbers for 4 cells")]
    fn numbers_must_suffice() {
        let picture = Picture::new(28, 28, Pixels::Gray(vec![1; 28 * 28]));
        Blacken::default().blacken(&picture, [0.1; 3]);
    }
}
