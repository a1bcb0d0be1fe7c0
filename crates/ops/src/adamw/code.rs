//! Eight bits for a number of a block: the bins of the dynamic tree of block-wise quantization (Dettmers et al., arXiv 2110.02861,
//! section 2), whose values are the bins' centres.
//!
//! Between 1e-7 and 1 there are seven decades, the one below 1 in 64 (signed) or 128 (unsigned) bins of equal width, each lower one in half
//! as many. A block's numbers are divided by its scale, by which its largest lies in the centre of the highest bin; so what shrinks
//! together (second moments without new gradients) shrinks by the scale, which is float32.

use burn::tensor::{DType, Int, Tensor};
use std::sync::LazyLock;

/// Numbers with a scale in common.
pub const BLOCK: usize = 256;
const DECADES: usize = 7;
const LOWEST: f32 = 1e-7;

/// What is encoded: first moments have signs, second moments have not, and are not 0 where there was a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Signed,
    Unsigned,
}

/// Lower ends of the bins, and their centres, by magnitude; magnitude 0 is zero.
struct Bins {
    ends: Vec<f32>,
    centres: Vec<f32>,
}

static SIGNED: LazyLock<Bins> = LazyLock::new(|| Bins::new(Code::Signed));
static UNSIGNED: LazyLock<Bins> = LazyLock::new(|| Bins::new(Code::Unsigned));

impl Bins {
    fn new(code: Code) -> Self {
        let (mut ends, mut centres) = (Vec::new(), vec![0.0]);
        for decade in 0..DECADES {
            let count = code.lowest() << decade;
            let unit = 10f64.powi(decade as i32 - 6);
            for bin in 0..count {
                let at = |part: f64| unit * (0.1 + 0.9 * (bin as f64 + part) / count as f64);
                ends.push(at(0.0) as f32);
                centres.push(at(0.5) as f32);
            }
        }
        Self { ends, centres }
    }

    fn of(code: Code) -> &'static Self {
        match code {
            Code::Signed => &SIGNED,
            Code::Unsigned => &UNSIGNED,
        }
    }

    fn top(&self) -> f32 {
        self.centres[self.centres.len() - 1]
    }
}

impl Code {
    /// Bins of the lowest decade.
    fn lowest(self) -> usize {
        match self {
            Self::Signed => 1,
            Self::Unsigned => 2,
        }
    }

    /// The scale of a block.
    pub(crate) fn scale(self, values: &[f32]) -> f32 {
        values.iter().fold(0.0f32, |largest, value| largest.max(value.abs())) / Bins::of(self).top()
    }

    /// Codes of a block's numbers.
    pub(crate) fn encode(self, values: &[f32], scale: f32, codes: &mut [u8]) {
        let bins = Bins::of(self);
        // a block of zeros, or of numbers too small to divide by
        let inverse = if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
        for (code, &value) in codes.iter_mut().zip(values) {
            let size = value.abs() * inverse;
            let magnitude = bins.ends.partition_point(|&end| end <= size) as u8;
            *code = match self {
                Self::Unsigned => magnitude.max(u8::from(size > 0.0)),
                Self::Signed => magnitude | if value < 0.0 && magnitude > 0 { 128 } else { 0 },
            };
        }
    }

    pub(crate) fn decode(self, codes: &[u8], scale: f32, values: &mut [f32]) {
        let centres = &Bins::of(self).centres;
        for (value, &code) in values.iter_mut().zip(codes) {
            *value = scale
                * match self {
                    Self::Unsigned => centres[usize::from(code)],
                    Self::Signed if code & 128 != 0 => -centres[usize::from(code & 127)],
                    Self::Signed => centres[usize::from(code)],
                };
        }
    }

    /// [`Self::scale`] and [`Self::encode`] on a device, four codes in a number.
    ///
    /// # Shapes
    /// `values` `[blocks, 256]`; packed codes `[blocks, 64]`, scales `[blocks, 1]`.
    pub(crate) fn encode_on_device(self, values: Tensor<2>) -> (Tensor<2, Int>, Tensor<2>) {
        let [blocks, _] = values.dims();
        let lowest = self.lowest() as f32;
        let scales = values.clone().abs().max_dim(1).div_scalar(Bins::of(self).top());
        let size = values.clone().abs() / scales.clone().clamp_min(f32::MIN_POSITIVE);
        let decade = size.clone().clamp_min(LOWEST).log().div_scalar(std::f32::consts::LN_10).floor();
        let decade = decade.add_scalar(DECADES as f32).clamp(0.0, (DECADES - 1) as f32);
        let count = exp2(decade.clone()).mul_scalar(lowest);
        let part = size.clone() * exp10(decade.neg().add_scalar(6.0));
        let bin = (part.sub_scalar(0.1).div_scalar(0.9) * count.clone()).floor();
        let bin = bin.max_pair(Tensor::zeros_like(&count)).min_pair(count.clone().sub_scalar(1.0));
        let magnitude = bin + count.sub_scalar(lowest - 1.0);
        let code = match self {
            Self::Unsigned => magnitude.mask_fill(size.equal_elem(0.0), 0.0),
            Self::Signed => {
                let negative = values.lower_elem(0.0).float().mul_scalar(128.0);
                (magnitude + negative).mask_fill(size.lower_elem(LOWEST), 0.0)
            }
        };
        (pack(code.int().cast(DType::I32), blocks), scales)
    }

    /// What [`Self::encode_on_device`] packed.
    pub(crate) fn decode_on_device(self, packed: Tensor<2, Int>, scales: Tensor<2>) -> Tensor<2> {
        let codes = unpack(packed);
        let lowest = self.lowest() as f32;
        let (magnitude, sign) = match self {
            Self::Unsigned => (codes, None),
            Self::Signed => {
                let negative = codes.clone().greater_equal_elem(128.0).float();
                (codes - negative.clone().mul_scalar(128.0), Some(negative.mul_scalar(-2.0).add_scalar(1.0)))
            }
        };
        let zero = magnitude.clone().equal_elem(0.0);
        // the bin's number among all, from `lowest` on, tells the decade; half a bin more keeps logarithms away from whole numbers
        let number = magnitude.add_scalar(lowest - 1.0);
        let decade =
            number.clone().add_scalar(0.5).clamp_min(1.0).div_scalar(lowest).log().div_scalar(std::f32::consts::LN_2);
        let decade = decade.floor();
        let count = exp2(decade.clone()).mul_scalar(lowest);
        let part = (number - count.clone()).add_scalar(0.5) / count;
        let value = part.mul_scalar(0.9).add_scalar(0.1) * exp10(decade.sub_scalar(6.0));
        let value = value.mask_fill(zero, 0.0) * scales;
        match sign {
            Some(sign) => value * sign,
            None => value,
        }
    }
}

/// 2 to a small whole power.
fn exp2(power: Tensor<2>) -> Tensor<2> {
    // rounded: the exponential is not exact everywhere
    power.mul_scalar(std::f32::consts::LN_2).exp().round()
}

fn exp10(power: Tensor<2>) -> Tensor<2> {
    power.mul_scalar(std::f32::consts::LN_10).exp()
}

/// Four codes in a number; the highest byte is less 128, so that all of it fits.
fn pack(codes: Tensor<2, Int>, blocks: usize) -> Tensor<2, Int> {
    let four = codes.reshape([blocks, BLOCK / 4, 4]);
    let byte = |i: usize| four.clone().narrow(2, i, 1).reshape([blocks, BLOCK / 4]);
    let highest = byte(3).sub_scalar(128).mul_scalar(1 << 24);
    byte(0) + byte(1).mul_scalar(1 << 8) + byte(2).mul_scalar(1 << 16) + highest
}

fn unpack(packed: Tensor<2, Int>) -> Tensor<2> {
    let [blocks, words] = packed.dims();
    let byte = |i: u32| {
        let shifted = packed.clone().bitwise_right_shift_scalar(8 * i as i32);
        let byte = if i == 3 { shifted.add_scalar(128) } else { shifted.bitwise_and_scalar(255) };
        byte.float().reshape([blocks, words, 1])
    };
    Tensor::cat((0..4).map(byte).collect(), 2).reshape([blocks, 4 * words])
}

/// Codes as bytes, and back: what checkpoints hold.
pub(crate) fn bytes(packed: &[i32]) -> Vec<u8> {
    packed.iter().flat_map(|word| (*word as u32 ^ (1 << 31)).to_le_bytes()).collect()
}

pub(crate) fn words(bytes: &[u8]) -> Vec<i32> {
    let word = |four: &[u8]| (u32::from_le_bytes([four[0], four[1], four[2], four[3]]) ^ (1 << 31)) as i32;
    bytes.chunks_exact(4).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// Numbers of very different sizes, zeros among them.
    fn values(code: Code, blocks: usize) -> Vec<f32> {
        let number = |i: usize| {
            let x = (i as f32 * 0.618_034).fract() * 2.0 - 1.0;
            let size = 10f32.powi((i * 7 % 13) as i32 - 12);
            match code {
                _ if i.is_multiple_of(29) => 0.0,
                Code::Signed => x * size,
                Code::Unsigned => x.abs() * size,
            }
        };
        (0..blocks * BLOCK).map(number).collect()
    }

    fn round_trip(code: Code, values: &[f32]) -> (Vec<u8>, f32, Vec<f32>) {
        let scale = code.scale(values);
        let (mut codes, mut decoded) = (vec![0; values.len()], vec![0.0; values.len()]);
        code.encode(values, scale, &mut codes);
        code.decode(&codes, scale, &mut decoded);
        (codes, scale, decoded)
    }

    #[test]
    fn errors_are_half_a_bin() {
        for (code, bins) in [(Code::Signed, 64.0), (Code::Unsigned, 128.0)] {
            let values = values(code, 1);
            let (_, scale, decoded) = round_trip(code, &values);
            let largest = values.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            for (&value, &found) in values.iter().zip(&decoded) {
                let half = 0.5 * 0.9 / bins * largest * 1.01;
                // a decade lower: bins a fifth as wide
                let allowed = if value.abs() < 0.09 * largest { half / 5.0 } else { half };
                assert!((value - found).abs() <= allowed, "{code:?}: {value} became {found}");
                assert!(value * found >= 0.0, "{code:?}: {value} became {found}");
                assert!(code == Code::Signed || (found == 0.0) == (value == 0.0), "{value} became {found}");
            }
            // what was decoded is encoded alike, and the largest is kept
            let (codes, _, _) = round_trip(code, &values);
            let mut again = vec![0; codes.len()];
            code.encode(&decoded, scale, &mut again);
            assert_eq!(codes, again);
        }
        assert_eq!(round_trip(Code::Signed, &[0.0; BLOCK]).2, [0.0; BLOCK]);
    }

    #[test]
    fn a_device_codes_as_the_host_does() {
        let device = Device::flex();
        for code in [Code::Signed, Code::Unsigned] {
            let values = values(code, 3);
            let tensor = Tensor::<2>::from_data(TensorData::new(values.clone(), [3, BLOCK]), &device);
            let (packed, scales) = code.encode_on_device(tensor);
            let found = bytes(&packed.clone().into_data().try_to_vec::<i32>().expect("i32"));
            assert_eq!(words(&found), packed.clone().into_data().try_to_vec::<i32>().expect("i32"));
            let decoded: Vec<f32> = code.decode_on_device(packed, scales).into_data().try_to_vec().expect("float32");
            let mut moved = 0;
            for (block, values) in values.chunks(BLOCK).enumerate() {
                let (codes, scale, _) = round_trip(code, values);
                let mine = &found[block * BLOCK..(block + 1) * BLOCK];
                for (a, b) in mine.iter().zip(&codes) {
                    assert!(a.abs_diff(*b) <= 1, "{code:?}: {a}, not {b}");
                    moved += usize::from(a != b);
                }
                let mut expected = vec![0.0; BLOCK];
                code.decode(mine, scale, &mut expected);
                for (a, b) in decoded[block * BLOCK..].iter().zip(expected) {
                    assert!((a - b).abs() <= 2e-6 * b.abs(), "{code:?}: {a}, not {b}");
                }
            }
            assert!(moved <= 4, "{code:?}: {moved} codes differ");
        }
    }
}
