//! Branches, barriers, and what has nothing to do here (PTX ISA 8.8, 9.7.12 and 9.7.13).

use super::opcode::Opcode;
use super::operands::Operands;
use super::operation::Operation;
use crate::parse::Operand;

pub(super) fn compile(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    match opcode.name() {
        "bra" => match operands.get(0)? {
            Operand::Label(to) => {
                opcode.ignore(&["uni"]);
                Ok(Operation::Branch(*to))
            }
            _ => Err("a label was expected".to_owned()),
        },
        "ret" | "exit" => {
            opcode.ignore(&["uni"]);
            Ok(Operation::Return)
        }
        "trap" => Ok(Operation::Trap),
        "bar" | "barrier" => barrier(opcode, operands),
        // memory accesses of a block happen in the order of its instructions, and those of blocks are the processor's
        "membar" => {
            opcode.ignore(&["cta", "gl", "sys"]);
            Ok(Operation::Nothing)
        }
        "fence" => {
            opcode.ignore(&["sc", "acq_rel", "acquire", "release", "cta", "gpu", "sys", "proxy", "alias", "async"]);
            opcode.ignore(&["global", "shared::cta"]);
            Ok(Operation::Nothing)
        }
        "nanosleep" => {
            opcode.ignore(&["u32"]);
            Ok(Operation::Nothing)
        }
        // a grid begins when the one before has ended
        "griddepcontrol" => {
            opcode.ignore(&["launch_dependents", "wait"]);
            Ok(Operation::Nothing)
        }
        _ => Err("no such instruction".to_owned()),
    }
}

/// `bar.warp.sync`, and `bar.sync 0`: of all threads of a block.
fn barrier(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    let is_of_warp = opcode.has("warp");
    opcode.ignore(&["cta", "aligned"]);
    if !opcode.has("sync") {
        return Err("no such instruction: of barriers only .sync is known".to_owned());
    }
    if is_of_warp {
        return Ok(Operation::WarpBarrier);
    }
    match operands.len() {
        1 if operands.constant(0)? == 0 => Ok(Operation::Barrier),
        _ => Err("only the barrier 0 of all threads is known".to_owned()),
    }
}
