//! Numbers as registers hold them: 64 bits a lane, the value in the lowest ones, what lies above not to be relied on.

/// Something a register can hold.
pub(crate) trait Word: Copy {
    /// Reads it from a register's lowest bits.
    fn of(bits: u64) -> Self;
    /// As a register holds it, zeros above.
    fn bits(self) -> u64;
}

macro_rules! integers {
    ($($integer:ty as $unsigned:ty),*) => { $(
        impl Word for $integer {
            #[inline]
            fn of(bits: u64) -> Self {
                bits as Self
            }
            #[inline]
            fn bits(self) -> u64 {
                self as $unsigned as u64
            }
        }
    )* };
}

integers!(u8 as u8, u16 as u16, u32 as u32, u64 as u64, i8 as u8, i16 as u16, i32 as u32, i64 as u64);

/// A predicate: the lowest bit.
impl Word for bool {
    #[inline]
    fn of(bits: u64) -> Self {
        bits & 1 == 1
    }
    #[inline]
    fn bits(self) -> u64 {
        self as u64
    }
}

impl Word for f32 {
    #[inline]
    fn of(bits: u64) -> Self {
        Self::from_bits(bits as u32)
    }
    #[inline]
    fn bits(self) -> u64 {
        self.to_bits() as u64
    }
}

impl Word for f64 {
    #[inline]
    fn of(bits: u64) -> Self {
        Self::from_bits(bits)
    }
    #[inline]
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// A bf16, computed with as f32 and rounded when it is written.
#[derive(Clone, Copy)]
pub(crate) struct BFloat16(pub(crate) f32);

impl Word for BFloat16 {
    #[inline]
    fn of(bits: u64) -> Self {
        Self(bf16(bits as u16))
    }
    #[inline]
    fn bits(self) -> u64 {
        bf16_bits(self.0) as u64
    }
}

/// An f16, computed with as f32 and rounded when it is written.
#[derive(Clone, Copy)]
pub(crate) struct Float16(pub(crate) f32);

impl Word for Float16 {
    #[inline]
    fn of(bits: u64) -> Self {
        Self(f16(bits as u16))
    }
    #[inline]
    fn bits(self) -> u64 {
        f16_bits(self.0) as u64
    }
}

/// The value of a bf16: the upper half of an f32.
#[inline]
pub fn bf16(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// The nearest bf16, ties to even; a NaN becomes 0x7fff (PTX ISA 8.8, `cvt.rn.bf16.f32`).
#[inline]
pub fn bf16_bits(value: f32) -> u16 {
    if value.is_nan() {
        return 0x7fff;
    }
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The value of an f16 (IEEE 754 binary16).
#[inline]
pub fn f16(bits: u16) -> f32 {
    let (sign, exponent, fraction) = ((bits as u32 & 0x8000) << 16, bits as u32 >> 10 & 31, bits as u32 & 1023);
    let magnitude = match exponent {
        0 => fraction as f32 * 2f32.powi(-24),
        31 if fraction == 0 => f32::INFINITY,
        31 => f32::NAN,
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    f32::from_bits(sign | magnitude.to_bits())
}

/// The nearest f16, ties to even; a NaN becomes 0x7fff (PTX ISA 8.8, `cvt.rn.f16.f32`).
#[inline]
pub fn f16_bits(value: f32) -> u16 {
    if value.is_nan() {
        return 0x7fff;
    }
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = value.abs();
    // halfway between the largest f16 and what would follow
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(-14);
    // how many of the last place's units; dividing by a power of two is exact
    let units = (magnitude / f32::from_bits(((exponent + 117) as u32) << 23)).round_ties_even() as u16;
    // a carry out of the fraction goes on into the exponent
    sign | ((((exponent + 14) as u16) << 10) + units)
}

/// The nearest tf32 in an f32's bits, ties away from zero (PTX ISA 8.8, `cvt.rna.tf32.f32`).
#[inline]
pub fn tf32_bits(value: f32) -> u32 {
    if value.is_nan() {
        return 0x7fff_ffff;
    }
    value.to_bits().wrapping_add(0x1000) & TF32
}

/// The bits that a tf32 has of an f32: matrix instructions read no others.
pub(crate) const TF32: u32 = 0xffff_e000;

/// Where rounding goes that is not to the nearest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toward {
    Zero,
    Down,
    Up,
}

/// `a b + c`, rounded once, in a direction (PTX ISA 8.8, `fma.rz`, `fma.rm`, `fma.rp`).
pub(crate) fn fma_toward(a: f32, b: f32, c: f32, toward: Toward) -> f32 {
    // the product of two f32 is exact in f64; the sum is rounded, and what that took away is exact again
    let (product, c) = (a as f64 * b as f64, c as f64);
    let sum = product + c;
    let near = sum as f32;
    if !near.is_finite() && !sum.is_finite() {
        return near;
    }
    let c_part = sum - product;
    let lost = (product - (sum - c_part)) + (c - c_part);
    let below = near as f64 > sum || (near as f64 == sum && lost < 0.0);
    let above = (near as f64) < sum || (near as f64 == sum && lost > 0.0);
    match toward {
        Toward::Down if below => near.next_down(),
        Toward::Up if above => near.next_up(),
        Toward::Zero if below && near > 0.0 => near.next_down(),
        Toward::Zero if above && near < 0.0 => near.next_up(),
        _ => near,
    }
}

/// Zero of the same sign in place of a subnormal (PTX ISA 8.8, `.ftz`).
#[inline]
pub(crate) fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}

/// The larger of two; of a number and a NaN the number; +0 is larger than -0 (PTX ISA 8.8, `max`).
#[inline]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b || b.is_nan() || (a == b && a.is_sign_positive()) { a } else { b }
}

/// The smaller of two; of a number and a NaN the number; -0 is smaller than +0 (PTX ISA 8.8, `min`).
#[inline]
pub(crate) fn smaller(a: f32, b: f32) -> f32 {
    if a < b || b.is_nan() || (a == b && a.is_sign_negative()) { a } else { b }
}

/// [`larger`] of f64.
#[inline]
pub(crate) fn larger_f64(a: f64, b: f64) -> f64 {
    if a > b || b.is_nan() || (a == b && a.is_sign_positive()) { a } else { b }
}

/// [`smaller`] of f64.
#[inline]
pub(crate) fn smaller_f64(a: f64, b: f64) -> f64 {
    if a < b || b.is_nan() || (a == b && a.is_sign_negative()) { a } else { b }
}

/// NaN where either is, else `choose` of both (PTX ISA 8.8, `.NaN`).
#[inline]
pub(crate) fn or_nan(choose: fn(f32, f32) -> f32, a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { choose(a, b) }
}
