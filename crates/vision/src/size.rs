//! How large a picture becomes: EasyR1's bounds on the pixel count, then the processor's multiples of a factor.

use crate::error::VisionError;
use crate::picture::Picture;

/// No picture is made larger than what Pillow takes for a decompression bomb, whatever the bounds ask for.
const MOST_PIXELS: u64 = 178_956_970;

/// Height and width that the Qwen2-VL image processor resizes to: multiples of `factor` with about the same aspect
/// ratio and a pixel count between `min_pixels` and `max_pixels`.
///
/// Reference: `smart_resize` of transformers' `qwen2_vl` image processor; f64, rounded half to even.
///
/// # Errors
/// When a side is 0, one side is more than 200 times the other, or the result has more than 178,956,970 pixels.
pub fn smart_resize(
    height: usize,
    width: usize,
    factor: usize,
    min_pixels: u64,
    max_pixels: u64,
) -> Result<(usize, usize), VisionError> {
    if height == 0 || width == 0 {
        return Err(VisionError::EmptyPicture { width, height });
    }
    let (h, w, f) = (height as f64, width as f64, factor as f64);
    if h.max(w) / h.min(w) > 200.0 {
        return Err(VisionError::AspectRatio { height, width });
    }
    let (min, max, area) = (min_pixels as f64, max_pixels as f64, h * w);
    let mut new_h = (h / f).round_ties_even() * f;
    let mut new_w = (w / f).round_ties_even() * f;
    if new_h * new_w > max {
        let beta = (area / max).sqrt();
        new_h = f.max((h / beta / f).floor() * f);
        new_w = f.max((w / beta / f).floor() * f);
    } else if new_h * new_w < min {
        let beta = (min / area).sqrt();
        new_h = (h * beta / f).ceil() * f;
        new_w = (w * beta / f).ceil() * f;
    }
    if new_h < 1.0 || new_w < 1.0 {
        // Only when `min_pixels` is too small to lift a side that rounds to 0.
        let (new_width, new_height) = (new_w as usize, new_h as usize);
        return Err(VisionError::EmptyResize { width, height, new_width, new_height });
    }
    let (new_width, new_height) = (new_w as usize, new_h as usize);
    if new_h * new_w > MOST_PIXELS as f64 {
        return Err(VisionError::HugeResize { width, height, new_width, new_height, max_pixels: MOST_PIXELS });
    }
    Ok((new_height, new_width))
}

/// Width and height after one bound is applied: scaled by `sqrt(bound / pixels)`, and truncated.
fn scaled_to(bound: u64, (width, height): (usize, usize)) -> Result<(usize, usize), VisionError> {
    let factor = (bound as f64 / (width as u64 * height as u64) as f64).sqrt();
    let (new_width, new_height) = ((width as f64 * factor) as usize, (height as f64 * factor) as usize);
    if new_width == 0 || new_height == 0 {
        return Err(VisionError::EmptyResize { width, height, new_width, new_height });
    }
    if bound > MOST_PIXELS {
        return Err(VisionError::HugeResize { width, height, new_width, new_height, max_pixels: MOST_PIXELS });
    }
    Ok((new_width, new_height))
}

fn num_pixels((width, height): (usize, usize)) -> u64 {
    width as u64 * height as u64
}

/// Width and height of the last of the resizes that [`bound_pixels`] does.
///
/// # Errors
/// When a side would become 0, or the picture larger than 178,956,970 pixels.
pub fn bounded_size(
    size: (usize, usize),
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
) -> Result<(usize, usize), VisionError> {
    let smaller = match max_pixels {
        Some(max) if num_pixels(size) > max => scaled_to(max, size)?,
        _ => size,
    };
    match min_pixels {
        Some(min) if num_pixels(smaller) < min => scaled_to(min, smaller),
        _ => Ok(smaller),
    }
}

/// The picture with its pixel count brought down to `max_pixels`, then up to `min_pixels`; an absent bound is no bound.
///
/// Each bound resizes in the picture's own mode. Reference: `process_image` of EasyR1 and PAPO (verl/utils/dataset.py),
/// up to its conversion to RGB, which is [`Picture::to_rgb`] with [`crate::Alpha::Drop`].
///
/// # Errors
/// When a side would become 0, or the picture larger than 178,956,970 pixels.
pub fn bound_pixels(
    picture: &Picture,
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
) -> Result<Picture, VisionError> {
    let size = (picture.width(), picture.height());
    let (width, height) = bounded_size(size, None, max_pixels)?;
    let smaller = picture.resize(width, height);
    let (width, height) = bounded_size((width, height), min_pixels, None)?;
    Ok(smaller.resize(width, height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Pixels;

    #[test]
    fn sides_become_multiples_of_the_factor() {
        assert_eq!(smart_resize(336, 252, 28, 3136, 1_003_520).unwrap(), (336, 252));
        // 14 is half a factor: half to even rounds it to 0, and the lower bound lifts it.
        assert_eq!(smart_resize(14, 140, 28, 3136, 1_003_520).unwrap(), (28, 196));
        assert_eq!(smart_resize(3000, 4000, 28, 3136, 1_003_520).unwrap(), (840, 1148));
    }

    #[test]
    fn thin_and_empty_pictures_are_refused() {
        let error = smart_resize(1, 201, 28, 3136, 1_003_520).unwrap_err().to_string();
        assert!(error.contains("absolute aspect ratio must be smaller than 200"), "{error}");
        assert!(smart_resize(1, 200, 28, 3136, 1_003_520).is_ok());
        assert!(matches!(smart_resize(0, 9, 28, 0, 9), Err(VisionError::EmptyPicture { .. })));
        assert!(matches!(smart_resize(3, 90, 28, 0, 100_000), Err(VisionError::EmptyResize { .. })));
    }

    #[test]
    fn nothing_is_enlarged_without_bound() {
        for (factor, min) in [(28, u64::MAX), (28, 1 << 30), (1 << 20, 1), (1 << 62, 1)] {
            let error = smart_resize(30, 40, factor, min, u64::MAX).unwrap_err();
            assert!(matches!(error, VisionError::HugeResize { width: 40, height: 30, .. }), "{error}");
        }
        let error = bounded_size((4, 3), Some(1 << 40), None).unwrap_err().to_string();
        assert!(error.starts_with("picture of 4x3 would be resized to 1210") && error.contains("178956970"), "{error}");
        assert!(bounded_size((4, 3), Some(1 << 20), None).is_ok());
    }

    #[test]
    fn bounds_apply_one_after_the_other() {
        assert_eq!(bounded_size((100, 100), None, None).unwrap(), (100, 100));
        assert_eq!(bounded_size((100, 100), Some(10_000), Some(10_000)).unwrap(), (100, 100));
        assert_eq!(bounded_size((200, 100), None, Some(5_000)).unwrap(), (100, 50));
        assert_eq!(bounded_size((200, 100), Some(20_000), Some(5_000)).unwrap(), (200, 100));
        assert!(bounded_size((1000, 1), None, Some(10)).is_err());
    }

    #[test]
    fn a_picture_between_the_bounds_is_untouched() {
        let picture = Picture::new(3, 2, Pixels::Gray(vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(bound_pixels(&picture, Some(6), Some(6)).unwrap(), picture);
        let larger = bound_pixels(&picture, Some(24), None).unwrap();
        assert_eq!((larger.width(), larger.height()), (6, 4));
    }
}
