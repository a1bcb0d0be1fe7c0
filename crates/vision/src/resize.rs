//! Resizing a picture as Pillow's `Image.resize` does by default, which depends on the picture's mode.

use crate::picture::{Picture, Pixels, Rgb, multiply_255};
use crate::resample::{bicubic_u8, bicubic_u16};

impl Rgb {
    /// Bicubic, to `width` x `height`; bit for bit Pillow's.
    ///
    /// # Panics
    /// When a side is 0.
    pub fn resize(&self, width: usize, height: usize) -> Rgb {
        assert!(width > 0 && height > 0, "a picture resized to {width}x{height}");
        let data = bicubic_u8::<3>(&self.data, (self.width, self.height), (width, height));
        Rgb { width, height, data }
    }
}

impl Picture {
    /// To `width` x `height`: nearest neighbour where colours came from a palette, bicubic elsewhere, on premultiplied
    /// samples where there is alpha; bit for bit Pillow's.
    ///
    /// # Panics
    /// When a side is 0.
    pub fn resize(&self, width: usize, height: usize) -> Picture {
        assert!(width > 0 && height > 0, "a picture resized to {width}x{height}");
        let (from, to) = ((self.width(), self.height()), (width, height));
        if from == to {
            // Also keeps alpha from a round trip through premultiplication.
            return self.clone();
        }
        let pixels =
            if self.is_indexed() { nearest(self.pixels(), from, to) } else { bicubic(self.pixels(), from, to) };
        self.like(width, height, pixels)
    }
}

fn bicubic(pixels: &Pixels, from: (usize, usize), to: (usize, usize)) -> Pixels {
    match pixels {
        Pixels::Gray(samples) => Pixels::Gray(bicubic_u8::<1>(samples, from, to)),
        Pixels::Gray16(samples) => Pixels::Gray16(bicubic_u16(samples, from, to)),
        Pixels::Rgb(samples) => Pixels::Rgb(bicubic_u8::<3>(samples, from, to)),
        Pixels::Cmyk(samples) => Pixels::Cmyk(bicubic_u8::<4>(samples, from, to)),
        Pixels::GrayAlpha(samples) => Pixels::GrayAlpha(bicubic_alpha::<2>(samples, from, to)),
        Pixels::Rgba(samples) => Pixels::Rgba(bicubic_alpha::<4>(samples, from, to)),
    }
}

/// The last of `C` channels is alpha: the others are weighed by it, and divided by it again afterwards.
fn bicubic_alpha<const C: usize>(samples: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    let mut premultiplied = samples.to_vec();
    for pixel in premultiplied.as_chunks_mut::<C>().0 {
        let alpha = pixel[C - 1];
        pixel[..C - 1].iter_mut().for_each(|x| *x = multiply_255(*x, alpha));
    }
    let mut resized = bicubic_u8::<C>(&premultiplied, from, to);
    for pixel in resized.as_chunks_mut::<C>().0 {
        let alpha = u32::from(pixel[C - 1]);
        if alpha != 0 && alpha != 255 {
            pixel[..C - 1].iter_mut().for_each(|x| *x = (255 * u32::from(*x) / alpha).min(255) as u8);
        }
    }
    resized
}

fn nearest(pixels: &Pixels, from: (usize, usize), to: (usize, usize)) -> Pixels {
    match pixels {
        Pixels::Gray(samples) => Pixels::Gray(pick::<_, 1>(samples, from, to)),
        Pixels::Gray16(samples) => Pixels::Gray16(pick::<_, 1>(samples, from, to)),
        Pixels::GrayAlpha(samples) => Pixels::GrayAlpha(pick::<_, 2>(samples, from, to)),
        Pixels::Rgb(samples) => Pixels::Rgb(pick::<_, 3>(samples, from, to)),
        Pixels::Rgba(samples) => Pixels::Rgba(pick::<_, 4>(samples, from, to)),
        Pixels::Cmyk(samples) => Pixels::Cmyk(pick::<_, 4>(samples, from, to)),
    }
}

fn pick<T: Copy, const C: usize>(samples: &[T], from: (usize, usize), to: (usize, usize)) -> Vec<T> {
    let columns = nearest_positions(from.0, to.0);
    let mut out = Vec::with_capacity(C * to.0 * to.1);
    for row in nearest_positions(from.1, to.1) {
        let row = samples[row * from.0 * C..][..from.0 * C].as_chunks::<C>().0;
        out.extend(columns.iter().flat_map(|&column| row[column]));
    }
    out
}

/// The input position of each output position. The coordinate is a running sum, as in libImaging/Geometry.c: a product
/// would round differently now and then.
fn nearest_positions(input: usize, output: usize) -> Vec<usize> {
    let step = input as f64 / output as f64;
    let mut coordinate = step * 0.5;
    let mut next = || {
        let position = (coordinate as usize).min(input - 1);
        coordinate += step;
        position
    };
    (0..output).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_size_is_the_same_picture() {
        let picture = Picture::new(2, 1, Pixels::Rgba(vec![200, 100, 50, 3, 9, 9, 9, 0]));
        assert_eq!(picture.resize(2, 1), picture);
    }

    #[test]
    fn nearest_neighbour_invents_no_color() {
        let picture = Picture::new(3, 2, Pixels::Gray(vec![0, 255, 0, 255, 0, 255])).with_index();
        let resized = picture.resize(7, 5);
        let Pixels::Gray(samples) = resized.pixels() else { panic!("{resized:?}") };
        assert!(samples.iter().all(|x| [0, 255].contains(x)));
        assert_eq!(samples[..7], [0, 0, 255, 255, 255, 0, 0]);
        assert!(resized.is_indexed());
    }

    #[test]
    fn a_transparent_neighbour_lends_no_color() {
        let picture = Picture::new(2, 1, Pixels::Rgba(vec![255, 0, 0, 255, 0, 255, 0, 0]));
        let resized = picture.resize(1, 1);
        // Without premultiplication red and green would mix.
        assert_eq!(resized.pixels(), &Pixels::Rgba(vec![255, 0, 0, 128]));
    }

    #[test]
    #[should_panic(expected = "resized to 0x4")]
    fn an_empty_size_is_a_mistake() {
        Picture::new(1, 1, Pixels::Gray(vec![0])).resize(0, 4);
    }
}
