//! Loads, stores, atomics, copies, addresses (PTX ISA 8.8, 9.7.9 and 9.7.13).

use super::opcode::Opcode;
use super::operands::Operands;
use super::operation::{Address, Atomic, Copy, Operation, Space};
use crate::numbers::Word;
use crate::parse::Operand;
use crate::types::Type;

/// What says how an access is ordered, cached or spread among threads: all accesses happen at once and in order here.
const ORDER: [&str; 11] =
    ["nc", "volatile", "weak", "relaxed", "acquire", "release", "acq_rel", "mmio", "cta", "gpu", "sys"];
const CACHES: [&str; 12] = [
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "L1::evict_normal",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L1::evict_unchanged",
];

pub(super) fn compile(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    opcode.ignore(&ORDER);
    opcode.ignore(&CACHES);
    match opcode.name() {
        "ld" | "ldu" => load(opcode, operands),
        "st" => store(opcode, operands),
        "cvta" => cvta(opcode, operands),
        "cp" => copy(opcode, operands),
        "prefetch" => {
            opcode.ignore(&["global", "local", "L1", "L2", "L2::evict_last", "L2::evict_normal"]);
            Ok(Operation::Nothing)
        }
        _ => atomic(opcode, operands),
    }
}

/// The space that a name says; generic addresses are global ones.
pub(super) fn space(opcode: &Opcode<'_>) -> Space {
    match opcode.one_of(&["shared", "shared::cta", "local", "global", "const", "param", "param::entry", "param::func"])
    {
        Some("shared" | "shared::cta") => Space::Shared,
        Some("local") => Space::Local,
        _ => Space::Global,
    }
}

/// How many values of which type an access moves.
fn values(opcode: &Opcode<'_>, found: usize) -> Result<Type, String> {
    let expected = match opcode.one_of(&["v2", "v4", "v8"]) {
        None => 1,
        Some("v2") => 2,
        Some("v4") => 4,
        _ => 8,
    };
    let kind = opcode.last_type()?;
    if found != expected || matches!(kind, Type::B128 | Type::Pred) {
        return Err(format!("no such access: {found} values of {kind:?}"));
    }
    Ok(kind)
}

/// What a value of a type leaves of a register.
fn narrow(kind: Type) -> super::One {
    match (kind.bytes(), kind.is_signed()) {
        (1, false) => |a| u8::of(a).bits(),
        (1, true) => |a| i8::of(a) as i64 as u64,
        (2, false) => |a| u16::of(a).bits(),
        (2, true) => |a| i16::of(a) as i64 as u64,
        (4, false) => |a| u32::of(a).bits(),
        (4, true) => |a| i32::of(a) as i64 as u64,
        _ => |a| a,
    }
}

fn load(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    operands.expect(2)?;
    // an address of a parameter that a register holds is one of the process
    let (to, space) = (operands.optional_slots(0)?, space(opcode));
    let kind = values(opcode, to.len())?;
    if let Operand::Passed(from) = operands.get(1)? {
        return Ok(Operation::One(narrow(kind), operands.slot(0)?, *from));
    }
    Ok(Operation::Load { to, size: kind.bytes(), signed: kind.is_signed(), at: operands.address(1, space)? })
}

fn store(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    operands.expect(2)?;
    let (from, space) = (operands.slots(1)?, space(opcode));
    let kind = values(opcode, from.len())?;
    match operands.get(0)? {
        Operand::Passed(to) => Ok(Operation::One(narrow(kind), *to, operands.slot(1)?)),
        Operand::Parameter(_) => Err("a kernel does not write its parameters".to_owned()),
        _ => Ok(Operation::Store { from, size: kind.bytes(), at: operands.address(0, space)? }),
    }
}

fn cvta(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    operands.expect(2)?;
    if opcode.last_type()?.bytes() != 8 {
        return Err("addresses have 64 bits".to_owned());
    }
    let (to, from, space) = (operands.slot(0)?, operands.slot(1)?, space(opcode));
    Ok(if opcode.has("to") { Operation::ToSpace(to, from, space) } else { Operation::ToGeneric(to, from, space) })
}

/// `cp.async`, which is done at once, so that there is nothing to wait for.
fn copy(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    let is_known = opcode.has("async") && !opcode.has("bulk");
    if !is_known {
        return Err("no such instruction: bulk copies are not known".to_owned());
    }
    if opcode.one_of(&["commit_group", "wait_group", "wait_all"]).is_some() {
        return Ok(Operation::Nothing);
    }
    opcode.ignore(&["shared", "shared::cta", "global", "L2::64B", "L2::128B", "L2::256B"]);
    let (to, from) = (operands.address(0, Space::Shared)?, operands.address(1, Space::Global)?);
    let size = operands.constant(2)? as usize;
    if !matches!(size, 4 | 8 | 16) {
        return Err(format!("a copy of {size} bytes"));
    }
    Ok(Operation::CopyAsync(Box::new(Copy { to, from, size, source: operands.optional_slot(3)? })))
}

/// `atom` gives what was there before, `red` does not (PTX ISA 8.8, `atom`, `red`).
fn atomic(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    use Type::*;
    let kind = opcode.last_type()?;
    opcode.ignore(&["noftz"]);
    let name = opcode.one_of(&["add", "min", "max", "exch", "cas", "and", "or", "xor"]).unwrap_or("");
    let change = match (name, kind) {
        ("add", F32 | F64 | U32 | S32 | U64 | S64 | BF16 | F16 | BF16x2 | F16x2) => Atomic::Add(kind),
        ("min", U32 | S32 | U64 | S64) => Atomic::Smaller(kind),
        ("max", U32 | S32 | U64 | S64) => Atomic::Larger(kind),
        ("and", B32) => Atomic::And32,
        ("or", B32) => Atomic::Or32,
        ("xor", B32) => Atomic::Xor32,
        ("exch", B32) => Atomic::Exchange32,
        ("exch", B64) => Atomic::Exchange64,
        ("cas", B32) => Atomic::CompareExchange32,
        ("cas", B64) => Atomic::CompareExchange64,
        _ => return Err("no such atomic operation".to_owned()),
    };
    let (first, to) = match opcode.name() {
        "atom" => (1, operands.optional_slots(0)?.into_iter().next().flatten()),
        _ => (0, None),
    };
    operands.expect(first + if name == "cas" { 3 } else { 2 })?;
    let at: Address = operands.address(first, space(opcode))?;
    Ok(Operation::Atomic { change, to, at, a: operands.slot(first + 1)?, b: operands.optional_slot(first + 2)? })
}
