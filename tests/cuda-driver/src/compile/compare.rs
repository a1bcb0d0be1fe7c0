//! Comparisons into a predicate (PTX ISA 8.8, `setp`).

use super::opcode::Opcode;
use super::operands::Operands;
use super::operation::{Operation, Two};
use crate::numbers::{BFloat16, Float16, Word};
use crate::types::Type::{self, *};

pub(super) fn compile(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    operands.expect(3)?;
    let (comparison, kind) = (opcode.part(1).unwrap_or(""), opcode.last_type()?);
    let two = compare(comparison, kind).ok_or_else(|| format!("no such comparison: setp.{comparison} of {kind:?}"))?;
    Ok(Operation::Two(two, operands.slot(0)?, operands.slot(1)?, operands.slot(2)?))
}

/// Comparisons of integers; `lo`, `ls`, `hi` and `hs` are those of unsigned ones by another name.
macro_rules! integers {
    ($comparison:expr, $word:ty) => {
        match $comparison {
            "eq" => |a, b| (<$word>::of(a) == <$word>::of(b)).bits(),
            "ne" => |a, b| (<$word>::of(a) != <$word>::of(b)).bits(),
            "lt" | "lo" => |a, b| (<$word>::of(a) < <$word>::of(b)).bits(),
            "le" | "ls" => |a, b| (<$word>::of(a) <= <$word>::of(b)).bits(),
            "gt" | "hi" => |a, b| (<$word>::of(a) > <$word>::of(b)).bits(),
            "ge" | "hs" => |a, b| (<$word>::of(a) >= <$word>::of(b)).bits(),
            _ => return None,
        }
    };
}

/// Comparisons of floats; those that end in `u` are true where either is a NaN, the others false.
macro_rules! floats {
    ($comparison:expr, $value:expr) => {
        match $comparison {
            "eq" => |a, b| ($value(a) == $value(b)).bits(),
            "ne" => |a, b| ($value(a) < $value(b) || $value(a) > $value(b)).bits(),
            "lt" => |a, b| ($value(a) < $value(b)).bits(),
            "le" => |a, b| ($value(a) <= $value(b)).bits(),
            "gt" => |a, b| ($value(a) > $value(b)).bits(),
            "ge" => |a, b| ($value(a) >= $value(b)).bits(),
            "equ" => |a, b| ($value(a) == $value(b) || is_nan($value(a), $value(b))).bits(),
            "neu" => |a, b| ($value(a) != $value(b)).bits(),
            "ltu" => |a, b| ($value(a) < $value(b) || is_nan($value(a), $value(b))).bits(),
            "leu" => |a, b| ($value(a) <= $value(b) || is_nan($value(a), $value(b))).bits(),
            "gtu" => |a, b| ($value(a) > $value(b) || is_nan($value(a), $value(b))).bits(),
            "geu" => |a, b| ($value(a) >= $value(b) || is_nan($value(a), $value(b))).bits(),
            "num" => |a, b| (!is_nan($value(a), $value(b))).bits(),
            "nan" => |a, b| is_nan($value(a), $value(b)).bits(),
            _ => return None,
        }
    };
}

fn is_nan<T: PartialOrd>(a: T, b: T) -> bool {
    a.partial_cmp(&b).is_none()
}

fn compare(comparison: &str, kind: Type) -> Option<Two> {
    Some(match kind {
        F32 => floats!(comparison, f32::of),
        F64 => floats!(comparison, f64::of),
        BF16 => floats!(comparison, (|bits| BFloat16::of(bits).0)),
        F16 => floats!(comparison, (|bits| Float16::of(bits).0)),
        U16 | B16 => integers!(comparison, u16),
        U32 | B32 => integers!(comparison, u32),
        U64 | B64 => integers!(comparison, u64),
        S16 => integers!(comparison, i16),
        S32 => integers!(comparison, i32),
        S64 => integers!(comparison, i64),
        _ => return None,
    })
}
