//! Drawing of flat shapes with smooth edges, and PNG.

use super::config::Shape;

/// Samples along each side of a pixel: the share of them inside a shape is its weight there.
const SAMPLES: i32 = 4;

/// A picture of 8-bit RGB, row by row.
pub(super) struct Canvas {
    size: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    pub fn new(size: usize, background: [u8; 3]) -> Self {
        Self { size, pixels: background.repeat(size * size) }
    }

    /// Draws a shape about (`x`, `y`), in pixels, that reaches `radius` from there.
    pub fn draw(&mut self, shape: Shape, x: f64, y: f64, radius: f64, colour: [u8; 3]) {
        let limit = self.size as f64;
        let span = |centre: f64| {
            let first = (centre - radius).floor().clamp(0.0, limit) as usize;
            first..(centre + radius).ceil().clamp(0.0, limit) as usize
        };
        for row in span(y) {
            for column in span(x) {
                let weight = i32::from(coverage(shape, column as f64 - x, row as f64 - y, radius));
                let full = SAMPLES * SAMPLES;
                let pixel = &mut self.pixels[3 * (row * self.size + column)..][..3];
                for (value, paint) in pixel.iter_mut().zip(colour) {
                    let mixed = i32::from(*value) * (full - weight) + i32::from(paint) * weight;
                    *value = ((mixed + full / 2) / full) as u8;
                }
            }
        }
    }

    /// The picture as a PNG file.
    pub fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.size as u32, self.size as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.pixels)?;
            writer.finish()
        });
        // Nothing of the world takes part: the sizes agree and the target is memory.
        written.expect("a PNG of the canvas's own size is written to memory");
        bytes
    }
}

/// How many of a pixel's samples lie inside the shape; (`left`, `top`) is the pixel's corner seen from the shape's centre.
fn coverage(shape: Shape, left: f64, top: f64, radius: f64) -> u8 {
    let sample = |i: i32| (f64::from(i) + 0.5) / f64::from(SAMPLES);
    let inside = |x: f64, y: f64| match shape {
        Shape::Circle => x * x + y * y <= radius * radius,
        // The same area as the circle, so that size tells nothing about shape.
        Shape::Square => x.abs().max(y.abs()) <= 0.886 * radius,
        Shape::Triangle => y <= 0.85 * radius && 1.85 * x.abs() <= y + radius,
    };
    let hits = (0..SAMPLES * SAMPLES).filter(|i| inside(left + sample(i % SAMPLES), top + sample(i / SAMPLES)));
    hits.count() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The painted area, in pixels, from how far each pixel went from white to black.
    fn area(shape: Shape, x: f64, y: f64, radius: f64) -> f64 {
        let mut canvas = Canvas::new(40, [255; 3]);
        canvas.draw(shape, x, y, radius, [0; 3]);
        canvas.pixels.iter().step_by(3).map(|&value| 1.0 - f64::from(value) / 255.0).sum()
    }

    #[test]
    fn painted_areas_are_those_of_geometry() {
        let radius = 12.3;
        for (x, y) in [(20.0, 20.0), (19.3, 21.7), (13.1, 26.4)] {
            let expected = [
                (Shape::Circle, std::f64::consts::PI * radius * radius),
                (Shape::Square, (2.0 * 0.886 * radius).powi(2)),
                (Shape::Triangle, 1.85 * radius * radius),
            ];
            for (shape, exact) in expected {
                let painted = area(shape, x, y, radius);
                assert!((painted / exact - 1.0).abs() < 0.03, "{shape:?}: {painted} for {exact}");
            }
        }
    }

    #[test]
    fn edges_are_smooth_and_the_outside_is_untouched() {
        let mut canvas = Canvas::new(40, [240; 3]);
        canvas.draw(Shape::Circle, 20.0, 20.0, 10.0, [200, 40, 40]);
        let pixel = |x: usize, y: usize| &canvas.pixels[3 * (40 * y + x)..][..3];
        assert_eq!(pixel(20, 20), [200, 40, 40]);
        assert_eq!(pixel(5, 20), [240; 3]);
        let shades: std::collections::BTreeSet<u8> = canvas.pixels.iter().skip(1).step_by(3).copied().collect();
        assert!(shades.len() > 6, "{shades:?}");
    }

    #[test]
    fn shapes_may_reach_beyond_the_picture() {
        assert!(area(Shape::Square, 0.0, 39.0, 9.0) > 40.0);
    }

    #[test]
    fn png_holds_the_pixels() {
        let mut canvas = Canvas::new(31, [230, 240, 250]);
        canvas.draw(Shape::Triangle, 14.2, 16.1, 9.0, [10, 20, 30]);
        let png = canvas.png();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (31, 31, png::ColorType::Rgb));
        assert_eq!(pixels, canvas.pixels);
    }
}
