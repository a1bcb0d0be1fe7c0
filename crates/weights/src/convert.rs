//! Bytes of a file to f32, and f32 to bytes: little-endian, whatever the alignment.
//!
//! Rounding is to nearest, ties to even. Infinities and NaN pass; a finite number that would become infinite is an
//! error, because a weight that overflows in silence is another model.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::dtype::{Dtype, StoredDtype};

/// Why bytes did not become numbers, or numbers bytes.
#[derive(Debug, PartialEq)]
pub(crate) enum ConvertError {
    /// The stored format is no floating-point format read here.
    NotFloat,
    /// The finite number at this position becomes infinite in the other format.
    Overflow { position: usize, value: f64 },
}

/// Numbers converted at a time: a block stays in the first-level cache.
const BLOCK: usize = 4096;

/// Appends the numbers stored in `bytes` to `out`. Reads F32, F16, BF16 and F64.
pub(crate) fn decode(dtype: StoredDtype, bytes: &[u8], out: &mut Vec<f32>) -> Result<(), ConvertError> {
    match dtype {
        StoredDtype::F32 => out.extend(bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk))),
        // bf16 is the upper half of an f32, so that a shift is exact, NaN payloads included.
        StoredDtype::BF16 => out.extend(
            bytes.as_chunks::<2>().0.iter().map(|chunk| f32::from_bits(u32::from(u16::from_le_bytes(*chunk)) << 16)),
        ),
        StoredDtype::F16 => decode_f16(bytes, out),
        StoredDtype::F64 => return decode_f64(bytes, out),
        _ => return Err(ConvertError::NotFloat),
    }
    Ok(())
}

fn decode_f16(bytes: &[u8], out: &mut Vec<f32>) {
    let mut narrow = [f16::ZERO; BLOCK];
    let mut wide = [0.0f32; BLOCK];
    for block in bytes.as_chunks::<2>().0.chunks(BLOCK) {
        let (narrow, wide) = (&mut narrow[..block.len()], &mut wide[..block.len()]);
        for (slot, chunk) in narrow.iter_mut().zip(block) {
            *slot = f16::from_le_bytes(*chunk);
        }
        narrow.convert_to_f32_slice(wide);
        out.extend_from_slice(wide);
    }
}

fn decode_f64(bytes: &[u8], out: &mut Vec<f32>) -> Result<(), ConvertError> {
    for (position, chunk) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let value = f64::from_le_bytes(*chunk);
        let narrow = value as f32;
        if narrow.is_infinite() && value.is_finite() {
            return Err(ConvertError::Overflow { position, value });
        }
        out.push(narrow);
    }
    Ok(())
}

/// Hands the bytes of `values` in `dtype` to `write`, a block at a time, so that no second copy of a tensor exists.
///
/// The inner error is an overflow; nothing of the block with it has been written.
pub(crate) fn encode<E>(
    dtype: Dtype,
    values: &[f32],
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Result<(), ConvertError>, E> {
    let mut bytes = Vec::with_capacity(BLOCK * dtype.size());
    for (number, block) in values.chunks(BLOCK).enumerate() {
        bytes.clear();
        if let Some(place) = encode_block(dtype, block, &mut bytes) {
            let overflow = ConvertError::Overflow { position: number * BLOCK + place, value: f64::from(block[place]) };
            return Ok(Err(overflow));
        }
        write(&bytes)?;
    }
    Ok(Ok(()))
}

/// Appends one block's bytes; the place of the first finite number that became infinite, if one did.
fn encode_block(dtype: Dtype, block: &[f32], bytes: &mut Vec<u8>) -> Option<usize> {
    match dtype {
        Dtype::F32 => {
            bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
            None
        }
        Dtype::F16 => {
            let mut narrow = [f16::ZERO; BLOCK];
            let narrow = &mut narrow[..block.len()];
            narrow.convert_from_f32_slice(block);
            bytes.extend(narrow.iter().flat_map(|value| value.to_le_bytes()));
            narrow.iter().zip(block).position(|(narrow, wide)| narrow.is_infinite() && wide.is_finite())
        }
        Dtype::BF16 => {
            bytes.extend(block.iter().flat_map(|value| bf16_bits(*value).to_le_bytes()));
            block.iter().position(|wide| wide.is_finite() && bf16_bits(*wide) & 0x7fff == 0x7f80)
        }
    }
}

/// bf16 nearest to `value`, ties to even: adding just under half of the last kept bit (or half, when that bit is odd)
/// carries into it exactly when rounding up is due. A NaN keeps its sign and upper payload, made quiet.
fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet_nan = (bits >> 16) | 0x0040;
    (if value.is_nan() { quiet_nan } else { rounded }) as u16
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::*;

    fn encoded(dtype: Dtype, values: &[f32]) -> Result<Vec<u8>, ConvertError> {
        let mut bytes = Vec::new();
        let written = encode::<()>(dtype, values, |block| {
            bytes.extend_from_slice(block);
            Ok(())
        });
        written.expect("the sink takes everything").map(|()| bytes)
    }

    fn decoded(dtype: StoredDtype, bytes: &[u8]) -> Result<Vec<f32>, ConvertError> {
        let mut values = Vec::new();
        decode(dtype, bytes, &mut values).map(|()| values)
    }

    fn bits16(dtype: Dtype, value: f32) -> u16 {
        let bytes = encoded(dtype, &[value]).expect("fits");
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    #[test]
    fn bf16_rounds_ties_to_even() {
        // 1.0 is 0x3f80, the next bf16 0x3f81: half-way between them goes down to even, half-way above 0x3f81 up.
        assert_eq!(bits16(Dtype::BF16, f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(bits16(Dtype::BF16, f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(bits16(Dtype::BF16, f32::from_bits(0x3f80_8001)), 0x3f81);
        assert_eq!(bits16(Dtype::BF16, f32::from_bits(0x3f81_7fff)), 0x3f81);
        assert_eq!(bits16(Dtype::BF16, f32::from_bits(0xbf80_8000)), 0xbf80);
        // A carry through the whole mantissa reaches the exponent; a subnormal rounds like any other.
        assert_eq!(bits16(Dtype::BF16, f32::from_bits(0x3fff_ffff)), 0x4000);
        assert_eq!(bits16(Dtype::BF16, f32::from_bits(0x0000_8000)), 0x0000);
        assert_eq!(bits16(Dtype::BF16, f32::from_bits(0x0000_8001)), 0x0001);
        assert_eq!(bits16(Dtype::BF16, -0.0), 0x8000);
    }

    #[test]
    fn f16_rounds_ties_to_even_down_to_subnormals() {
        assert_eq!(bits16(Dtype::F16, 1.0 + 2f32.powi(-11)), 0x3c00);
        assert_eq!(bits16(Dtype::F16, 1.0 + 3.0 * 2f32.powi(-11)), 0x3c02);
        assert_eq!(bits16(Dtype::F16, 2f32.powi(-24)), 0x0001);
        assert_eq!(bits16(Dtype::F16, 2f32.powi(-25)), 0x0000, "half of the least subnormal ties to zero");
        assert_eq!(bits16(Dtype::F16, 3.0 * 2f32.powi(-25)), 0x0002);
        assert_eq!(bits16(Dtype::F16, 65504.0), 0x7bff);
    }

    #[test]
    fn every_f16_is_read_as_its_value() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let values = decoded(StoredDtype::F16, &bytes).expect("f16");
        for (bits, value) in (0..=u16::MAX).zip(values) {
            let (sign, exponent, mantissa) = (bits >> 15, (bits >> 10) & 31, f64::from(bits & 1023));
            let magnitude = match exponent {
                31 if mantissa == 0.0 => f64::INFINITY,
                31 => {
                    assert!(value.is_nan(), "{bits:#06x} is NaN, read as {value}");
                    continue;
                }
                0 => mantissa * 2f64.powi(-24),
                normal => (1024.0 + mantissa) * 2f64.powi(i32::from(normal) - 25),
            };
            let expected = if sign == 1 { -magnitude } else { magnitude } as f32;
            assert_eq!(value.to_bits(), expected.to_bits(), "{bits:#06x}: {expected} read as {value}");
        }
    }

    #[test]
    fn every_bf16_survives_reading_and_writing() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let values = decoded(StoredDtype::BF16, &bytes).expect("bf16");
        let again = encoded(Dtype::BF16, &values).expect("fits");
        for (bits, pair) in (0..=u16::MAX).zip(again.as_chunks::<2>().0) {
            let signalling = bits & 0x7f80 == 0x7f80 && bits & 0x7f != 0;
            assert_eq!(u16::from_le_bytes(*pair), if signalling { bits | 0x40 } else { bits });
        }
    }

    #[test]
    fn infinities_and_nan_pass_but_overflow_is_an_error() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let bytes = encoded(dtype, &[f32::INFINITY, f32::NEG_INFINITY, f32::NAN]).expect("pass");
            let values = decoded(dtype.stored(), &bytes).expect("float");
            assert_eq!(values[..2], [f32::INFINITY, f32::NEG_INFINITY]);
            assert!(values[2].is_nan());
        }
        let mut values = vec![0.0; BLOCK + 3];
        values[BLOCK + 1] = 65520.0;
        let overflow = ConvertError::Overflow { position: BLOCK + 1, value: 65520.0 };
        assert_eq!(encoded(Dtype::F16, &values), Err(overflow));
        assert!(matches!(encoded(Dtype::BF16, &[f32::MAX]), Err(ConvertError::Overflow { position: 0, .. })));
        assert!(encoded(Dtype::F32, &[f32::MAX]).is_ok());
        assert!(matches!(
            decoded(StoredDtype::F64, &1e39f64.to_le_bytes()),
            Err(ConvertError::Overflow { position: 0, .. })
        ));
    }

    #[test]
    fn f64_is_rounded_and_integers_are_refused() {
        let bytes: Vec<u8> = [0.1f64, f64::INFINITY, -2.5].into_iter().flat_map(f64::to_le_bytes).collect();
        assert_eq!(decoded(StoredDtype::F64, &bytes), Ok(vec![0.1f32, f32::INFINITY, -2.5]));
        assert_eq!(decoded(StoredDtype::I64, &bytes), Err(ConvertError::NotFloat));
    }

    proptest! {
        #[test]
        fn agrees_with_half_on_any_bits(bits in proptest::collection::vec(any::<u32>(), 0..200)) {
            for bits in bits {
                let value = f32::from_bits(bits);
                prop_assert_eq!(bf16_bits(value), bf16::from_f32(value).to_bits());
            }
        }

        #[test]
        fn f32_keeps_every_bit(bits in proptest::collection::vec(any::<u32>(), 0..9000)) {
            let values: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            let again = decoded(StoredDtype::F32, &encoded(Dtype::F32, &values).expect("fits")).expect("f32");
            prop_assert_eq!(again.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), bits);
        }
    }
}
