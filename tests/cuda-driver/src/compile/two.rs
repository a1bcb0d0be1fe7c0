//! Arithmetic of two operands (PTX ISA 8.8, 9.7.1 to 9.7.8).

use super::opcode::Opcode;
use super::operation::Two;
use crate::numbers::{BFloat16, Float16, Word, larger, larger_f64, or_nan, smaller, smaller_f64};
use crate::types::Type::{self, *};

/// A result computed in a type.
macro_rules! of {
    ($word:ty, |$a:ident, $b:ident| $result:expr) => {
        |a, b| {
            let ($a, $b) = (<$word>::of(a), <$word>::of(b));
            Word::bits($result)
        }
    };
}

/// A result computed in f32 and rounded, of one half precision number or of the two in a register.
macro_rules! half {
    ($half:ident, |$a:ident, $b:ident| $result:expr) => {
        |a, b| {
            let ($a, $b) = ($half::of(a).0, $half::of(b).0);
            $half($result).bits()
        }
    };
}
macro_rules! halves {
    ($half:ident, |$a:ident, $b:ident| $result:expr) => {
        |a, b| {
            let each = |a, b| {
                let ($a, $b) = ($half::of(a).0, $half::of(b).0);
                $half($result).bits()
            };
            each(a, b) | each(a >> 16, b >> 16) << 16
        }
    };
}

pub(super) fn two(opcode: &Opcode<'_>, kind: Type) -> Option<Two> {
    match kind {
        F32 | F64 | BF16 | F16 | BF16x2 | F16x2 => float(opcode, kind),
        Pred | B16 | B32 | B64 => bits(opcode.name(), kind),
        _ if matches!(opcode.name(), "mul" | "shr") => product(opcode, kind),
        _ => integer(opcode.name(), kind),
    }
}

fn float(opcode: &Opcode<'_>, kind: Type) -> Option<Two> {
    Some(match (opcode.name(), kind) {
        ("add", F32) => of!(f32, |a, b| a + b),
        ("sub", F32) => of!(f32, |a, b| a - b),
        ("mul", F32) => of!(f32, |a, b| a * b),
        ("div", F32) => of!(f32, |a, b| a / b),
        ("max", F32) if opcode.has("NaN") => of!(f32, |a, b| or_nan(larger, a, b)),
        ("min", F32) if opcode.has("NaN") => of!(f32, |a, b| or_nan(smaller, a, b)),
        ("max", F32) => of!(f32, |a, b| larger(a, b)),
        ("min", F32) => of!(f32, |a, b| smaller(a, b)),
        ("copysign", F32) => of!(f32, |a, b| b.copysign(a)),
        ("add", F64) => of!(f64, |a, b| a + b),
        ("sub", F64) => of!(f64, |a, b| a - b),
        ("mul", F64) => of!(f64, |a, b| a * b),
        ("div", F64) => of!(f64, |a, b| a / b),
        ("max", F64) => of!(f64, |a, b| larger_f64(a, b)),
        ("min", F64) => of!(f64, |a, b| smaller_f64(a, b)),
        ("copysign", F64) => of!(f64, |a, b| b.copysign(a)),
        ("add", BF16) => half!(BFloat16, |a, b| a + b),
        ("sub", BF16) => half!(BFloat16, |a, b| a - b),
        ("mul", BF16) => half!(BFloat16, |a, b| a * b),
        ("max", BF16) => half!(BFloat16, |a, b| larger(a, b)),
        ("min", BF16) => half!(BFloat16, |a, b| smaller(a, b)),
        ("add", F16) => half!(Float16, |a, b| a + b),
        ("sub", F16) => half!(Float16, |a, b| a - b),
        ("mul", F16) => half!(Float16, |a, b| a * b),
        ("max", F16) => half!(Float16, |a, b| larger(a, b)),
        ("min", F16) => half!(Float16, |a, b| smaller(a, b)),
        ("add", BF16x2) => halves!(BFloat16, |a, b| a + b),
        ("sub", BF16x2) => halves!(BFloat16, |a, b| a - b),
        ("mul", BF16x2) => halves!(BFloat16, |a, b| a * b),
        ("max", BF16x2) => halves!(BFloat16, |a, b| larger(a, b)),
        ("min", BF16x2) => halves!(BFloat16, |a, b| smaller(a, b)),
        ("add", F16x2) => halves!(Float16, |a, b| a + b),
        ("sub", F16x2) => halves!(Float16, |a, b| a - b),
        ("mul", F16x2) => halves!(Float16, |a, b| a * b),
        ("max", F16x2) => halves!(Float16, |a, b| larger(a, b)),
        ("min", F16x2) => halves!(Float16, |a, b| smaller(a, b)),
        _ => return None,
    })
}

/// Logic and shifts; a shift by the width or more gives what all bits shifted out leave.
fn bits(name: &str, kind: Type) -> Option<Two> {
    Some(match (name, kind) {
        ("and", _) => |a, b| a & b,
        ("or", _) => |a, b| a | b,
        ("xor", _) => |a, b| a ^ b,
        ("shl", B16) => |a, b| u16::of(a).checked_shl(b as u32).unwrap_or(0).bits(),
        ("shl", B32) => |a, b| u32::of(a).checked_shl(b as u32).unwrap_or(0).bits(),
        ("shl", B64) => |a, b| a.checked_shl(b as u32).unwrap_or(0),
        ("shr", B16) => |a, b| u16::of(a).checked_shr(b as u32).unwrap_or(0).bits(),
        ("shr", B32) => |a, b| u32::of(a).checked_shr(b as u32).unwrap_or(0).bits(),
        ("shr", B64) => |a, b| a.checked_shr(b as u32).unwrap_or(0),
        _ => return None,
    })
}

/// Products and shifts that know a sign.
fn product(opcode: &Opcode<'_>, kind: Type) -> Option<Two> {
    let part = opcode.one_of(&["lo", "hi", "wide"]).unwrap_or("");
    Some(match (opcode.name(), part, kind) {
        ("mul", "lo", U16 | S16) => of!(u16, |a, b| a.wrapping_mul(b)),
        ("mul", "lo", U32 | S32) => of!(u32, |a, b| a.wrapping_mul(b)),
        ("mul", "lo", U64 | S64) => of!(u64, |a, b| a.wrapping_mul(b)),
        ("mul", "wide", U16) => of!(u16, |a, b| a as u32 * b as u32),
        ("mul", "wide", S16) => of!(i16, |a, b| a as i32 * b as i32),
        ("mul", "wide", U32) => of!(u32, |a, b| a as u64 * b as u64),
        ("mul", "wide", S32) => of!(i32, |a, b| a as i64 * b as i64),
        ("mul", "hi", U32) => of!(u32, |a, b| ((a as u64 * b as u64) >> 32) as u32),
        ("mul", "hi", S32) => of!(i32, |a, b| ((a as i64 * b as i64) >> 32) as i32),
        ("mul", "hi", U64) => of!(u64, |a, b| ((a as u128 * b as u128) >> 64) as u64),
        ("mul", "hi", S64) => of!(i64, |a, b| ((a as i128 * b as i128) >> 64) as i64),
        ("shr", "", U16 | U32 | U64) => return bits("shr", [B16, B32, B64][kind.bytes() / 4]),
        ("shr", "", S16) => |a, b| (i16::of(a) >> u32::of(b).min(15)).bits(),
        ("shr", "", S32) => |a, b| (i32::of(a) >> u32::of(b).min(31)).bits(),
        ("shr", "", S64) => |a, b| (i64::of(a) >> u32::of(b).min(63)).bits(),
        _ => return None,
    })
}

/// What division by zero gives is not said: all ones, and the dividend for the remainder, as the hardware does.
fn integer(name: &str, kind: Type) -> Option<Two> {
    Some(match (name, kind) {
        ("add", U16 | S16) => of!(u16, |a, b| a.wrapping_add(b)),
        ("sub", U16 | S16) => of!(u16, |a, b| a.wrapping_sub(b)),
        ("add", U32 | S32) => of!(u32, |a, b| a.wrapping_add(b)),
        ("sub", U32 | S32) => of!(u32, |a, b| a.wrapping_sub(b)),
        ("add", U64 | S64) => of!(u64, |a, b| a.wrapping_add(b)),
        ("sub", U64 | S64) => of!(u64, |a, b| a.wrapping_sub(b)),
        ("div", U16) => of!(u16, |a, b| a.checked_div(b).unwrap_or(u16::MAX)),
        ("div", S16) => of!(i16, |a, b| if b == 0 { -1 } else { a.wrapping_div(b) }),
        ("div", U32) => of!(u32, |a, b| a.checked_div(b).unwrap_or(u32::MAX)),
        ("div", S32) => of!(i32, |a, b| if b == 0 { -1 } else { a.wrapping_div(b) }),
        ("div", U64) => of!(u64, |a, b| a.checked_div(b).unwrap_or(u64::MAX)),
        ("div", S64) => of!(i64, |a, b| if b == 0 { -1 } else { a.wrapping_div(b) }),
        ("rem", U16) => of!(u16, |a, b| a.checked_rem(b).unwrap_or(a)),
        ("rem", S16) => of!(i16, |a, b| if b == 0 { a } else { a.wrapping_rem(b) }),
        ("rem", U32) => of!(u32, |a, b| a.checked_rem(b).unwrap_or(a)),
        ("rem", S32) => of!(i32, |a, b| if b == 0 { a } else { a.wrapping_rem(b) }),
        ("rem", U64) => of!(u64, |a, b| a.checked_rem(b).unwrap_or(a)),
        ("rem", S64) => of!(i64, |a, b| if b == 0 { a } else { a.wrapping_rem(b) }),
        ("max", U16) => of!(u16, |a, b| a.max(b)),
        ("min", U16) => of!(u16, |a, b| a.min(b)),
        ("max", S16) => of!(i16, |a, b| a.max(b)),
        ("min", S16) => of!(i16, |a, b| a.min(b)),
        ("max", U32) => of!(u32, |a, b| a.max(b)),
        ("min", U32) => of!(u32, |a, b| a.min(b)),
        ("max", S32) => of!(i32, |a, b| a.max(b)),
        ("min", S32) => of!(i32, |a, b| a.min(b)),
        ("max", U64) => of!(u64, |a, b| a.max(b)),
        ("min", U64) => of!(u64, |a, b| a.min(b)),
        ("max", S64) => of!(i64, |a, b| a.max(b)),
        ("min", S64) => of!(i64, |a, b| a.min(b)),
        _ => return None,
    })
}
