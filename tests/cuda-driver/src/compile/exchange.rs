//! What lanes of a warp learn of each other (PTX ISA 8.8, `shfl.sync`, `vote.sync`, `redux.sync`, `elect.sync`, `activemask`).

use super::opcode::Opcode;
use super::operands::{Operands, slot, slot_or_nothing};
use super::operation::{Exchange, Operation, Shuffle, Vote};
use super::two::two;
use crate::parse::Operand;
use crate::types::Type;

pub(super) fn compile(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    let unknown = || "no such instruction".to_owned();
    let kind = opcode.types().last().copied().unwrap_or(Type::B32);
    opcode.ignore(&["sync"]);
    let exchange = match opcode.name() {
        "activemask" => Exchange::Active(operands.slot(0)?),
        "vote" => {
            let kind = match opcode.one_of(&["all", "any", "ballot", "uni"]).ok_or_else(unknown)? {
                "all" => Vote::All,
                "any" => Vote::Any,
                "ballot" => Vote::Ballot,
                _ => Vote::Uniform,
            };
            Exchange::Vote { kind, to: operands.slot(0)?, from: operands.slot(1)? }
        }
        "redux" => {
            let name = opcode.one_of(&["add", "min", "max", "and", "or", "xor"]).ok_or_else(unknown)?;
            let step = two(&Opcode::new(name), kind).filter(|_| kind.bytes() == 4).ok_or_else(unknown)?;
            Exchange::Reduce { step, to: operands.slot(0)?, from: operands.slot(1)? }
        }
        "elect" => match operands.get(0)? {
            Operand::Pair(to, is_elected) => {
                Exchange::Elect { to: slot_or_nothing(to)?, is_elected: slot(is_elected)? }
            }
            _ => return Err("a lane and a predicate were expected".to_owned()),
        },
        _ => {
            let kind = match opcode.one_of(&["up", "down", "bfly", "idx"]).ok_or_else(unknown)? {
                "up" => Shuffle::Up,
                "down" => Shuffle::Down,
                "bfly" => Shuffle::Butterfly,
                _ => Shuffle::Index,
            };
            let (to, in_range) = match operands.get(0)? {
                Operand::Pair(to, in_range) => (slot(to)?, Some(slot(in_range)?)),
                to => (slot(to)?, None),
            };
            let (value, lane, clamp) = (operands.slot(1)?, operands.slot(2)?, operands.slot(3)?);
            Exchange::Shuffle { kind, to, in_range, value, lane, clamp }
        }
    };
    Ok(Operation::Exchange(Box::new(exchange)))
}
