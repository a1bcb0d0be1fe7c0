//! Arithmetic of one operand (PTX ISA 8.8, 9.7.1 to 9.7.8).

use super::opcode::Opcode;
use super::operation::One;
use crate::numbers::{Word, flushed};
use crate::types::Type::{self, *};

/// A result computed in a type.
macro_rules! of {
    ($word:ty, |$a:ident| $result:expr) => {
        |a| {
            let $a = <$word>::of(a);
            Word::bits($result)
        }
    };
}

pub(super) fn one(opcode: &Opcode<'_>, kind: Type) -> Option<One> {
    Some(match (opcode.name(), kind) {
        ("neg", F32) => |a| a ^ 0x8000_0000,
        ("abs", F32) => |a| a & 0x7fff_ffff,
        ("neg", F64) => of!(f64, |a| -a),
        ("abs", F64) => of!(f64, |a| a.abs()),
        ("neg", BF16 | F16) => |a| a ^ 0x8000,
        ("abs", BF16 | F16) => |a| a & 0x7fff,
        ("neg", BF16x2 | F16x2) => |a| a ^ 0x8000_8000,
        ("abs", BF16x2 | F16x2) => |a| a & 0x7fff_7fff,
        ("neg", S16) => of!(i16, |a| a.wrapping_neg()),
        ("neg", S32) => of!(i32, |a| a.wrapping_neg()),
        ("neg", S64) => of!(i64, |a| a.wrapping_neg()),
        ("abs", S16) => of!(i16, |a| a.wrapping_abs()),
        ("abs", S32) => of!(i32, |a| a.wrapping_abs()),
        ("abs", S64) => of!(i64, |a| a.wrapping_abs()),
        ("not", Pred) => |a| a ^ 1,
        ("not", B16) => of!(u16, |a| !a),
        ("not", B32) => of!(u32, |a| !a),
        ("not", B64) => |a| !a,
        ("popc", B32) => of!(u32, |a| a.count_ones()),
        ("popc", B64) => of!(u64, |a| a.count_ones()),
        ("clz", B32) => of!(u32, |a| a.leading_zeros()),
        ("clz", B64) => of!(u64, |a| a.leading_zeros()),
        ("brev", B32) => of!(u32, |a| a.reverse_bits()),
        ("brev", B64) => of!(u64, |a| a.reverse_bits()),
        ("sqrt", F64) => of!(f64, |a| a.sqrt()),
        ("rcp", F64) => of!(f64, |a| 1.0 / a),
        (_, F32) if opcode.has("ftz") => return flushing(opcode.name()),
        ("sqrt", F32) => of!(f32, |a| a.sqrt()),
        ("rsqrt", F32) => of!(f32, |a| 1.0 / a.sqrt()),
        ("rcp", F32) => of!(f32, |a| 1.0 / a),
        ("ex2", F32) => of!(f32, |a| a.exp2()),
        ("lg2", F32) => of!(f32, |a| a.log2()),
        ("sin", F32) => of!(f32, |a| a.sin()),
        ("cos", F32) => of!(f32, |a| a.cos()),
        ("tanh", F32) => of!(f32, |a| a.tanh()),
        _ => return None,
    })
}

/// With subnormal operands and results flushed to zero (`.ftz`).
fn flushing(name: &str) -> Option<One> {
    Some(match name {
        "sqrt" => of!(f32, |a| flushed(flushed(a).sqrt())),
        "rsqrt" => of!(f32, |a| flushed(1.0 / flushed(a).sqrt())),
        "rcp" => of!(f32, |a| flushed(1.0 / flushed(a))),
        "ex2" => of!(f32, |a| flushed(flushed(a).exp2())),
        "lg2" => of!(f32, |a| flushed(flushed(a).log2())),
        "sin" => of!(f32, |a| flushed(flushed(a).sin())),
        "cos" => of!(f32, |a| flushed(flushed(a).cos())),
        _ => return None,
    })
}
