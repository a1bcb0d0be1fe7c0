//! Arithmetic of three operands (PTX ISA 8.8, 9.7.1 to 9.7.9).

use super::opcode::Opcode;
use super::operation::Three;
use crate::numbers::{BFloat16, Float16, Toward, Word, fma_toward};
use crate::types::Type::{self, *};

/// A result computed in a type.
macro_rules! of {
    ($word:ty, |$a:ident, $b:ident, $c:ident| $result:expr) => {
        |a, b, c| {
            let ($a, $b, $c) = (<$word>::of(a), <$word>::of(b), <$word>::of(c));
            Word::bits($result)
        }
    };
}

pub(super) fn three(opcode: &Opcode<'_>, kind: Type) -> Option<Three> {
    let mode = opcode.one_of(&["rz", "rm", "rp", "lo", "wide", "clamp", "wrap"]).unwrap_or("");
    Some(match (opcode.name(), mode, kind) {
        ("mad", "", F32) => of!(f32, |a, b, c| a.mul_add(b, c)),
        ("fma", "rz", F32) => of!(f32, |a, b, c| fma_toward(a, b, c, Toward::Zero)),
        ("fma", "rm", F32) => of!(f32, |a, b, c| fma_toward(a, b, c, Toward::Down)),
        ("fma", "rp", F32) => of!(f32, |a, b, c| fma_toward(a, b, c, Toward::Up)),
        ("mad", "", F64) => of!(f64, |a, b, c| a.mul_add(b, c)),
        ("fma", "", BF16) => bf16_fma,
        ("fma", "", F16) => f16_fma,
        ("fma", "", BF16x2) => |a, b, c| bf16_fma(a, b, c) | bf16_fma(a >> 16, b >> 16, c >> 16) << 16,
        ("fma", "", F16x2) => |a, b, c| f16_fma(a, b, c) | f16_fma(a >> 16, b >> 16, c >> 16) << 16,
        ("mad", "lo", U16 | S16) => of!(u16, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        ("mad", "lo", U32 | S32) => of!(u32, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        ("mad", "lo", U64 | S64) => of!(u64, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        ("mad", "wide", U32) => |a, b, c| (u32::of(a) as u64 * u32::of(b) as u64).wrapping_add(c),
        ("mad", "wide", S32) => |a, b, c| (i32::of(a) as i64 * i32::of(b) as i64).wrapping_add(c as i64) as u64,
        ("bfe", "", U32) => |a, from, count| extract(u32::of(a) as u64, from, count),
        ("bfe", "", U64) => extract,
        ("bfe", "", S32) => |a, from, count| extract_signed(i32::of(a) as i64, 31, from, count) as i32 as u32 as u64,
        ("bfe", "", S64) => |a, from, count| extract_signed(a as i64, 63, from, count) as u64,
        ("prmt", "", B32) => bytes,
        ("selp", "", _) => |a, b, predicate| if bool::of(predicate) { a } else { b },
        ("shf", "wrap", B32) if opcode.has("l") => |a, b, c| (pair(a, b) << (c & 31)) >> 32,
        ("shf", "wrap", B32) if opcode.has("r") => |a, b, c| u32::of(pair(a, b) >> (c & 31)).bits(),
        ("shf", "clamp", B32) if opcode.has("l") => |a, b, c| (pair(a, b) << u32::of(c).min(32)) >> 32,
        ("shf", "clamp", B32) if opcode.has("r") => |a, b, c| u32::of(pair(a, b) >> u32::of(c).min(32)).bits(),
        _ => return None,
    })
}

fn bf16_fma(a: u64, b: u64, c: u64) -> u64 {
    BFloat16(BFloat16::of(a).0.mul_add(BFloat16::of(b).0, BFloat16::of(c).0)).bits()
}

fn f16_fma(a: u64, b: u64, c: u64) -> u64 {
    Float16(Float16::of(a).0.mul_add(Float16::of(b).0, Float16::of(c).0)).bits()
}

/// `b` above `a`, 32 bits each.
fn pair(a: u64, b: u64) -> u64 {
    (b << 32) | u32::of(a) as u64
}

/// `count` bits of `a` from bit `from` on; both are bytes.
fn extract(a: u64, from: u64, count: u64) -> u64 {
    let (from, count) = (u8::of(from) as u32, u8::of(count) as u32);
    let above = a.checked_shr(from).unwrap_or(0);
    if count >= 64 { above } else { above & ((1 << count) - 1) }
}

/// The same with the sign of the topmost bit taken, or of the number's last bit, which is `last`.
fn extract_signed(a: i64, last: u32, from: u64, count: u64) -> i64 {
    let (from, count) = (u8::of(from) as u32, u8::of(count) as u32);
    let above = a >> from.min(last);
    match count {
        0 => 0,
        64.. => above,
        _ => above << (64 - count) >> (64 - count),
    }
}

/// Four of the eight bytes of `a` and `b`, by the lowest 16 bits of `selector` (`prmt`): 3 bits a byte, and one for its sign alone.
fn bytes(a: u64, b: u64, selector: u64) -> u64 {
    let all = pair(a, b).to_le_bytes();
    let chosen = [0, 4, 8, 12].map(|shift| {
        let byte = all[(selector >> shift & 7) as usize];
        if selector >> shift & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 }
    });
    u32::from_le_bytes(chosen) as u64
}
