//! Conversions (PTX ISA 8.8, `cvt`).

use super::opcode::Opcode;
use super::operands::Operands;
use super::operation::{One, Operation, Two};
use crate::numbers::{BFloat16, Float16, Word, bf16_bits, f16_bits, tf32_bits};
use crate::types::Type::{self, *};

pub(super) fn compile(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    let [to, from] = opcode.types()[..] else { return Err("a conversion has two types".to_owned()) };
    let mode = opcode.one_of(&["rn", "rna", "rni", "rzi", "rmi", "rpi", "sat"]).unwrap_or("");
    let unknown = || "no such conversion".to_owned();
    if operands.len() == 3 {
        let two = pair(mode, to, from).ok_or_else(unknown)?;
        return Ok(Operation::Two(two, operands.slot(0)?, operands.slot(1)?, operands.slot(2)?));
    }
    operands.expect(2)?;
    let convert = match () {
        () if from.is_integer() && to.is_integer() && mode.is_empty() => widen(to, from),
        () if from.is_integer() => float_of_integer(mode, to, from).ok_or_else(unknown)?,
        () if to.is_integer() => integer_of_float(mode, to, from).ok_or_else(unknown)?,
        () => float_of_float(mode, to, from).ok_or_else(unknown)?,
    };
    Ok(Operation::One(convert, operands.slot(0)?, operands.slot(1)?))
}

/// Two numbers into one register, the first above.
fn pair(mode: &str, to: Type, from: Type) -> Option<Two> {
    Some(match (mode, to, from) {
        ("rn", BF16x2, F32) => |a, b| (bf16_bits(f32::of(a)) as u64) << 16 | bf16_bits(f32::of(b)) as u64,
        ("rn", F16x2, F32) => |a, b| (f16_bits(f32::of(a)) as u64) << 16 | f16_bits(f32::of(b)) as u64,
        _ => return None,
    })
}

fn float_of_float(mode: &str, to: Type, from: Type) -> Option<One> {
    Some(match (mode, to, from) {
        ("", F32, BF16) => |a| BFloat16::of(a).0.bits(),
        ("", F32, F16) => |a| Float16::of(a).0.bits(),
        ("", F64, F32) => |a| (f32::of(a) as f64).bits(),
        ("rn", F32, F64) => |a| (f64::of(a) as f32).bits(),
        ("rn", BF16, F32) => |a| BFloat16(f32::of(a)).bits(),
        ("rn", F16, F32) => |a| Float16(f32::of(a)).bits(),
        ("rna", TF32, F32) => |a| tf32_bits(f32::of(a)) as u64,
        ("rni", F32, F32) => |a| f32::of(a).round_ties_even().bits(),
        ("rzi", F32, F32) => |a| f32::of(a).trunc().bits(),
        ("rmi", F32, F32) => |a| f32::of(a).floor().bits(),
        ("rpi", F32, F32) => |a| f32::of(a).ceil().bits(),
        ("rni", F64, F64) => |a| f64::of(a).round_ties_even().bits(),
        ("rzi", F64, F64) => |a| f64::of(a).trunc().bits(),
        ("rmi", F64, F64) => |a| f64::of(a).floor().bits(),
        ("rpi", F64, F64) => |a| f64::of(a).ceil().bits(),
        // a NaN becomes 0
        ("sat", F32, F32) => |a| if f32::of(a) > 0.0 { f32::of(a).min(1.0).bits() } else { 0 },
        _ => return None,
    })
}

fn float_of_integer(mode: &str, to: Type, from: Type) -> Option<One> {
    Some(match (mode, to, from) {
        ("rn", F32, U8) => |a| (u8::of(a) as f32).bits(),
        ("rn", F32, U16) => |a| (u16::of(a) as f32).bits(),
        ("rn", F32, U32) => |a| (u32::of(a) as f32).bits(),
        ("rn", F32, U64) => |a| (a as f32).bits(),
        ("rn", F32, S8) => |a| (i8::of(a) as f32).bits(),
        ("rn", F32, S16) => |a| (i16::of(a) as f32).bits(),
        ("rn", F32, S32) => |a| (i32::of(a) as f32).bits(),
        ("rn", F32, S64) => |a| (i64::of(a) as f32).bits(),
        ("rn", F64, U32) => |a| (u32::of(a) as f64).bits(),
        ("rn", F64, S32) => |a| (i32::of(a) as f64).bits(),
        ("rn", F64, U64) => |a| (a as f64).bits(),
        ("rn", F64, S64) => |a| (i64::of(a) as f64).bits(),
        _ => return None,
    })
}

/// Values beyond the integer's range become its least or largest. A NaN becomes 0, or, where either type has 64 bits, the topmost bit.
fn integer_of_float(mode: &str, to: Type, from: Type) -> Option<One> {
    /// What a NaN becomes where either type has 64 bits.
    fn or(value: f64, result: u64, nan: u64) -> u64 {
        if value.is_nan() { nan } else { result }
    }
    const TOP_32: u64 = 1 << 31;
    const TOP_64: u64 = 1 << 63;
    Some(match (mode, to, from) {
        ("rzi", S16, F32) => |a| (f32::of(a) as i16).bits(),
        ("rzi", U16, F32) => |a| (f32::of(a) as u16).bits(),
        ("rzi", S32, F32) => |a| (f32::of(a) as i32).bits(),
        ("rni", S32, F32) => |a| (f32::of(a).round_ties_even() as i32).bits(),
        ("rmi", S32, F32) => |a| (f32::of(a).floor() as i32).bits(),
        ("rpi", S32, F32) => |a| (f32::of(a).ceil() as i32).bits(),
        ("rzi", U32, F32) => |a| (f32::of(a) as u32).bits(),
        ("rzi", S64, F32) => |a| or(f32::of(a) as f64, (f32::of(a) as i64).bits(), TOP_64),
        ("rzi", U64, F32) => |a| or(f32::of(a) as f64, f32::of(a) as u64, TOP_64),
        ("rzi", S64, F64) => |a| or(f64::of(a), (f64::of(a) as i64).bits(), TOP_64),
        ("rzi", U64, F64) => |a| or(f64::of(a), f64::of(a) as u64, TOP_64),
        ("rzi", S32, F64) => |a| or(f64::of(a), (f64::of(a) as i32).bits(), TOP_32),
        ("rzi", U32, F64) => |a| or(f64::of(a), (f64::of(a) as u32).bits(), TOP_32),
        _ => return None,
    })
}

/// From one integer to another: cut off, or with what lies above filled by the sign or with zeros.
fn widen(to: Type, from: Type) -> One {
    match (to.bytes(), from.bytes(), from.is_signed()) {
        (1, ..) | (_, 1, false) => |a| u8::of(a).bits(),
        (2, 1, true) => |a| (i8::of(a) as i16).bits(),
        (4, 1, true) => |a| (i8::of(a) as i32).bits(),
        (_, 1, true) => |a| (i8::of(a) as i64).bits(),
        (2, ..) | (_, 2, false) => |a| u16::of(a).bits(),
        (4, 2, true) => |a| (i16::of(a) as i32).bits(),
        (_, 2, true) => |a| (i16::of(a) as i64).bits(),
        (4, ..) | (_, 4, false) => |a| u32::of(a).bits(),
        (_, 4, true) => |a| (i32::of(a) as i64).bits(),
        _ => |a| a,
    }
}
