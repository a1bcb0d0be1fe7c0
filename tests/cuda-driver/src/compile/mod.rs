//! Instructions into operations: what the name, its modifiers and its types say is looked up once.
//!
//! An instruction is refused if any part of its name was not asked for: a modifier that is passed over would change the numbers
//! without a word.

mod compare;
mod control;
mod convert;
mod exchange;
mod matrix;
mod memory;
mod one;
mod opcode;
mod operands;
mod operation;
mod three;
mod two;

pub(crate) use operation::{
    Address, Atomic, Copy, Exchange, Fragment, Matrix, One, Operation, Shuffle, Space, Step, Vote,
};

use crate::error::PtxError;
use crate::parse::{Instruction, Listing, Operand};
use crate::types::Type;
use opcode::Opcode;
use operands::Operands;

/// All instructions of a kernel.
pub(crate) fn compile(listing: &Listing) -> Result<Vec<Step>, PtxError> {
    let compiled = listing.instructions.iter().map(|instruction| {
        let operation = operation(instruction).map_err(|reason| PtxError {
            place: format!("kernel {}", listing.name),
            line: instruction.line,
            reason: format!("{reason}: {}", instruction.text),
        })?;
        Ok(Step { predicate: instruction.predicate, operation })
    });
    compiled.collect()
}

fn operation(instruction: &Instruction) -> Result<Operation, String> {
    let opcode = Opcode::new(&instruction.name);
    let operands = Operands(&instruction.operands);
    let operation = match opcode.name() {
        "mov" => mov(&opcode, operands),
        "ld" | "ldu" | "st" | "cvta" | "atom" | "red" | "cp" | "prefetch" => memory::compile(&opcode, operands),
        "bra" | "ret" | "exit" | "trap" | "bar" | "barrier" | "membar" | "fence" | "nanosleep" | "griddepcontrol" => {
            control::compile(&opcode, operands)
        }
        "activemask" | "vote" | "redux" | "elect" | "shfl" => exchange::compile(&opcode, operands),
        "mma" | "ldmatrix" | "stmatrix" | "wmma" => matrix::compile(&opcode, operands),
        "cvt" => convert::compile(&opcode, operands),
        "setp" => compare::compile(&opcode, operands),
        _ => arithmetic(&opcode, operands),
    }?;
    match opcode.unknown() {
        None => Ok(operation),
        Some(part) => Err(format!("no such instruction: the modifier .{part} is not known here")),
    }
}

/// `mov`, also of a vector into a register and back (PTX ISA 8.8, `mov`).
fn mov(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    let kind = opcode.last_type()?;
    operands.expect(2)?;
    if kind == Type::B128 {
        return Err("registers of 128 bits are not known".to_owned());
    }
    let bits = |parts: usize| (kind.bytes() * 8 / parts.max(1)) as u32;
    match (operands.get(0)?, operands.get(1)?) {
        (Operand::Vector(parts), _) => {
            Ok(Operation::Unpack(operands.optional_slots(0)?, operands.slot(1)?, bits(parts.len())))
        }
        (_, Operand::Vector(parts)) => Ok(Operation::Pack(operands.slot(0)?, operands.slots(1)?, bits(parts.len()))),
        _ => Ok(Operation::Move(operands.slot(0)?, operands.slot(1)?)),
    }
}

/// What computes one register from others, lane by lane.
fn arithmetic(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    let unknown = || "no such instruction".to_owned();
    let (name, kind) = (opcode.name(), opcode.last_type().map_err(|_| unknown())?);
    // rounding to the nearest is what processors do; approximations are computed as exactly as they can be
    opcode.ignore(&["rn", "approx", "full"]);
    let slot = |at| operands.slot(at);
    match operands.len() {
        2 => Ok(Operation::One(one::one(opcode, kind).ok_or_else(unknown)?, slot(0)?, slot(1)?)),
        3 => {
            let result = two::two(opcode, kind).ok_or_else(unknown)?;
            let (to, a, b) = (slot(0)?, slot(1)?, slot(2)?);
            Ok(match (name, kind) {
                ("add", Type::S32 | Type::U32) => Operation::Add32(to, a, b),
                ("add", Type::S64 | Type::U64) => Operation::Add64(to, a, b),
                _ => Operation::Two(result, to, a, b),
            })
        }
        4 => {
            let (to, a, b, c) = (slot(0)?, slot(1)?, slot(2)?, slot(3)?);
            let is_directed = ["rz", "rm", "rp"].iter().any(|part| opcode.has(part));
            match (name, kind) {
                ("fma", Type::F32) if !is_directed => return Ok(Operation::FmaF32(to, a, b, c)),
                ("fma", Type::F64) if !is_directed => return Ok(Operation::FmaF64(to, a, b, c)),
                _ => {}
            }
            Ok(Operation::Three(three::three(opcode, kind).ok_or_else(unknown)?, to, a, b, c))
        }
        _ => Err(unknown()),
    }
}
