//! Pillow's bicubic filter on interleaved samples, bit for bit (libImaging/Resample.c).
//!
//! Two passes, one per direction, each rounded to the samples' type; a pass whose size does not change is left out.
//! Because of that rounding the order matters: it is that of Pillow 13, in which a picture that loses much more height
//! than width has the vertical pass first. Older versions always begin with the horizontal pass, which gives other
//! levels for such pictures. An output sample is a weighted sum over the input samples within two (scaled) pixels of
//! its centre. Weights are computed in f64, normalised, and for 8-bit samples rounded to 22 fractional bits, so that
//! the sums are exact integers.

/// Fractional bits of a weight: 32 less 8 of a sample and 2 of head-room, because weights can be negative.
const PRECISION: u32 = 22;

/// Reach of the filter in input pixels when nothing is made smaller.
const SUPPORT: f64 = 2.0;

/// For each output position, where the input window starts and its weights.
struct Windows<W> {
    starts: Vec<usize>,
    counts: Vec<usize>,
    /// `[outputs, stride]`, zero beyond the count.
    weights: Vec<W>,
    stride: usize,
}

impl<W> Windows<W> {
    fn iter(&self) -> impl Iterator<Item = (usize, &[W])> {
        let bounds = self.starts.iter().zip(&self.counts);
        bounds.zip(self.weights.chunks_exact(self.stride)).map(|((&start, &n), weights)| (start, &weights[..n]))
    }
}

/// Keys's cubic with a = -1/2.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn windows(input: usize, output: usize) -> Windows<f64> {
    let scale = input as f64 / output as f64;
    let filter_scale = scale.max(1.0);
    let support = SUPPORT * filter_scale;
    let stride = support.ceil() as usize * 2 + 1;
    let mut windows = Windows {
        starts: Vec::with_capacity(output),
        counts: Vec::with_capacity(output),
        weights: vec![0.0; output * stride],
        stride,
    };
    let inverse = 1.0 / filter_scale;
    for (position, weights) in windows.weights.chunks_exact_mut(stride).enumerate() {
        let center = (position as f64 + 0.5) * scale;
        // A cast truncates and saturates: what would start before the picture starts at 0.
        let start = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(input);
        let weights = &mut weights[..end - start];
        let mut sum = 0.0;
        for (offset, weight) in weights.iter_mut().enumerate() {
            *weight = bicubic(((offset + start) as f64 - center + 0.5) * inverse);
            sum += *weight;
        }
        if sum != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        windows.starts.push(start);
        windows.counts.push(end - start);
    }
    windows
}

fn integer_windows(input: usize, output: usize) -> Windows<i32> {
    let Windows { starts, counts, weights, stride } = windows(input, output);
    let round = |weight: f64| {
        let half = if weight < 0.0 { -0.5 } else { 0.5 };
        (half + weight * f64::from(1u32 << PRECISION)) as i32
    };
    Windows { starts, counts, weights: weights.into_iter().map(round).collect(), stride }
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Half a unit, so that the shift in [`clip`] rounds.
const HALF: i32 = 1 << (PRECISION - 1);

/// Whether the vertical pass comes first: the height shrinks, by more than twice what the width loses (or the width
/// grows).
fn is_vertical_first((width, height): (usize, usize), (new_width, new_height): (usize, usize)) -> bool {
    let loss = |before: usize, after: usize| before as i64 - after as i64;
    let (height_loss, width_loss) = (loss(height, new_height), loss(width, new_width));
    height_loss > 0 && height_loss > 2 * width_loss
}

/// `[height, width, C]` to `[new_height, new_width, C]`.
pub(crate) fn bicubic_u8<const C: usize>(samples: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    let narrow = |samples: &[u8]| match from.0 == to.0 {
        true => samples.to_vec(),
        false => across::<C>(samples, from.0, to.0, &integer_windows(from.0, to.0)),
    };
    let flatten = |samples: Vec<u8>, width: usize| match from.1 == to.1 {
        true => samples,
        false => down(&samples, width * C, &integer_windows(from.1, to.1)),
    };
    if is_vertical_first(from, to) {
        narrow(&flatten(samples.to_vec(), from.0))
    } else {
        flatten(narrow(samples), to.0)
    }
}

/// The horizontal pass. Samples are widened to lanes of four once a row, so that a tap is one vector operation.
#[inline(always)]
fn across_lanes<const C: usize>(samples: &[u8], width: usize, new_width: usize, windows: &Windows<i32>) -> Vec<u8> {
    let mut out = vec![0; samples.len() / width * new_width];
    let mut lanes = vec![[0i32; 4]; width];
    for (row, out_row) in samples.chunks_exact(width * C).zip(out.chunks_exact_mut(new_width * C)) {
        for (lane, pixel) in lanes.iter_mut().zip(row.chunks_exact(C)) {
            for channel in 0..C {
                lane[channel] = i32::from(pixel[channel]);
            }
        }
        for ((start, weights), pixel) in windows.iter().zip(out_row.chunks_exact_mut(C)) {
            let mut sums = [HALF; 4];
            for (lane, weight) in lanes[start..start + weights.len()].iter().zip(weights) {
                for channel in 0..4 {
                    sums[channel] += lane[channel] * weight;
                }
            }
            for channel in 0..C {
                pixel[channel] = clip(sums[channel]);
            }
        }
    }
    out
}

/// The vertical pass, on rows of `row` samples: a weighted sum of whole rows.
#[inline(always)]
fn down_rows(samples: &[u8], row: usize, windows: &Windows<i32>) -> Vec<u8> {
    let mut out = Vec::with_capacity(row * windows.starts.len());
    let mut sums = vec![0i32; row];
    for (start, weights) in windows.iter() {
        sums.fill(HALF);
        for (line, &weight) in samples[start * row..].chunks_exact(row).zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(line) {
                *sum += i32::from(sample) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| clip(sum)));
    }
    out
}

/// The passes once more for processors with AVX2: the x86-64 baseline has no 32-bit vector multiplication, and integer
/// sums are the same on either path.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Windows, across_lanes, down_rows};

    #[target_feature(enable = "avx2")]
    pub fn across<const C: usize>(samples: &[u8], width: usize, new_width: usize, windows: &Windows<i32>) -> Vec<u8> {
        across_lanes::<C>(samples, width, new_width, windows)
    }

    #[target_feature(enable = "avx2")]
    pub fn down(samples: &[u8], row: usize, windows: &Windows<i32>) -> Vec<u8> {
        down_rows(samples, row, windows)
    }
}

fn across<const C: usize>(samples: &[u8], width: usize, new_width: usize, windows: &Windows<i32>) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature the function is compiled for.
        return unsafe { avx2::across::<C>(samples, width, new_width, windows) };
    }
    across_lanes::<C>(samples, width, new_width, windows)
}

fn down(samples: &[u8], row: usize, windows: &Windows<i32>) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature the function is compiled for.
        return unsafe { avx2::down(samples, row, windows) };
    }
    down_rows(samples, row, windows)
}

/// One 16-bit channel: sums in f64, rounded and clipped.
pub(crate) fn bicubic_u16(samples: &[u16], from: (usize, usize), to: (usize, usize)) -> Vec<u16> {
    if is_vertical_first(from, to) {
        across_u16(&down_u16(samples, from.0, from.1, to.1), from.0, to.0)
    } else {
        down_u16(&across_u16(samples, from.0, to.0), to.0, from.1, to.1)
    }
}

fn across_u16(samples: &[u16], width: usize, new_width: usize) -> Vec<u16> {
    if new_width == width {
        return samples.to_vec();
    }
    let windows = windows(width, new_width);
    let rows = samples.chunks_exact(width);
    rows.flat_map(|row| windows.iter().map(|(start, weights)| weighted(weights, row[start..].iter()))).collect()
}

fn down_u16(samples: &[u16], width: usize, height: usize, new_height: usize) -> Vec<u16> {
    if new_height == height {
        return samples.to_vec();
    }
    let windows = windows(height, new_height);
    let column = |start: usize, x: usize| samples[start * width + x..].iter().step_by(width);
    let row = |(start, weights)| (0..width).map(move |x| weighted(weights, column(start, x)));
    windows.iter().flat_map(row).collect()
}

fn weighted<'a>(weights: &[f64], samples: impl Iterator<Item = &'a u16>) -> u16 {
    let sum: f64 = weights.iter().zip(samples).fold(0.0, |sum, (weight, &sample)| sum + f64::from(sample) * weight);
    // A cast truncates, and saturates at the ends of 16 bits.
    if sum >= 0.0 { (sum + 0.5) as u16 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 37 % 251) as u8).collect()
    }

    #[test]
    fn a_constant_stays_constant() {
        for (from, to) in [((5, 7), (3, 11)), ((64, 3), (1, 1)), ((2, 2), (9, 8))] {
            assert!(bicubic_u8::<3>(&vec![201; from.0 * from.1 * 3], from, to).iter().all(|&x| x == 201));
            assert!(bicubic_u16(&vec![40_000; from.0 * from.1], from, to).iter().all(|&x| x == 40_000));
        }
    }

    #[test]
    fn channels_do_not_mix() {
        let (from, to) = ((13, 9), (7, 20));
        let interleaved = ramp(from.0 * from.1 * 3);
        let resized = bicubic_u8::<3>(&interleaved, from, to);
        for channel in 0..3 {
            let plane: Vec<u8> = interleaved.iter().skip(channel).step_by(3).copied().collect();
            let expected = bicubic_u8::<1>(&plane, from, to);
            assert!(resized.iter().skip(channel).step_by(3).eq(&expected), "channel {channel}");
        }
    }

    #[test]
    fn the_vector_path_equals_the_plain_one() {
        let samples = ramp(31 * 17 * 4);
        let windows = integer_windows(31, 12);
        assert_eq!(across::<4>(&samples, 31, 12, &windows), across_lanes::<4>(&samples, 31, 12, &windows));
        let windows = integer_windows(17, 40);
        assert_eq!(down(&samples, 31 * 4, &windows), down_rows(&samples, 31 * 4, &windows));
    }

    #[test]
    fn the_order_of_passes_is_pillows() {
        // Decided by comparing Pillow 13 with its own single passes on 3,500 random sizes; these lie at the border.
        for (from, to, vertical) in [
            ((85, 140), (44, 57), true),
            ((80, 42), (68, 19), false),
            ((57, 89), (15, 9), false),
            ((57, 89), (15, 4), true),
            ((50, 60), (100, 59), true),
            ((50, 60), (10, 90), false),
            ((50, 60), (90, 61), false),
        ] {
            assert_eq!(is_vertical_first(from, to), vertical, "{from:?} to {to:?}");
        }
        // Pillow 13 on a picture of 3x8; with the horizontal pass first the first two levels are 119 and 110.
        let tall: Vec<u8> = (0..24u32).map(|i| (i * i * 5 % 256) as u8).collect();
        assert_eq!(bicubic_u8::<1>(&tall, (3, 8), (2, 2)), [120, 109, 111, 128]);
        let tall: Vec<u16> = (0..24u32).map(|i| (i * i * 2503 % 65536) as u16).collect();
        assert_eq!(bicubic_u16(&tall, (3, 8), (2, 2)), [24340, 38199, 39110, 27832]);
        assert_eq!(bicubic_u16(&tall, (3, 8), (5, 9))[..8], [0, 0, 1542, 6262, 9204, 18387, 23579, 34175]);
        assert_eq!(bicubic_u16(&[0, 65535, 65535], (3, 1), (6, 1)), [0, 12437, 51027, 65535, 65535, 65535]);
    }

    #[test]
    fn an_edge_overshoots_and_is_clipped() {
        // Pillow 13: Image.fromarray of this row, resized to 8x1.
        let resized = bicubic_u8::<1>(&[0, 0, 255, 255], (4, 1), (8, 1));
        assert_eq!(resized, [0, 0, 0, 52, 203, 255, 255, 255]);
    }
}
