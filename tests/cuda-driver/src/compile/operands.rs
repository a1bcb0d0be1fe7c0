//! Operands as an instruction expects them.

use super::operation::{Address, Space};
use crate::parse::{Operand, Slot};

/// The operands of one instruction.
#[derive(Clone, Copy)]
pub(super) struct Operands<'o>(pub(super) &'o [Operand]);

impl<'o> Operands<'o> {
    pub(super) fn len(self) -> usize {
        self.0.len()
    }

    /// Demands so many operands.
    pub(super) fn expect(self, count: usize) -> Result<(), String> {
        let found = self.len();
        if found == count { Ok(()) } else { Err(format!("expected {count} operands, found {found}")) }
    }

    pub(super) fn get(self, at: usize) -> Result<&'o Operand, String> {
        self.0.get(at).ok_or_else(|| format!("operand {} is missing", at + 1))
    }

    /// A register, or a constant, which has one.
    pub(super) fn slot(self, at: usize) -> Result<Slot, String> {
        slot(self.get(at)?)
    }

    /// A register that may be left out, as the last operand.
    pub(super) fn optional_slot(self, at: usize) -> Result<Option<Slot>, String> {
        self.0.get(at).map(slot).transpose()
    }

    /// A vector of registers, or one.
    pub(super) fn slots(self, at: usize) -> Result<Vec<Slot>, String> {
        match self.get(at)? {
            Operand::Vector(parts) => parts.iter().map(slot).collect(),
            one => Ok(vec![slot(one)?]),
        }
    }

    /// As many registers as a matrix instruction's fragment has.
    pub(super) fn fragment(self, at: usize, count: usize) -> Result<Vec<Slot>, String> {
        let slots = self.slots(at)?;
        let found = slots.len();
        if found == count {
            Ok(slots)
        } else {
            Err(format!("operand {} has {found} registers, and {count} were expected", at + 1))
        }
    }

    /// A vector of registers, or one; `_` in place of those whose value is not wanted.
    pub(super) fn optional_slots(self, at: usize) -> Result<Vec<Option<Slot>>, String> {
        match self.get(at)? {
            Operand::Vector(parts) => parts.iter().map(slot_or_nothing).collect(),
            one => Ok(vec![slot_or_nothing(one)?]),
        }
    }

    /// A number that the instruction's text says.
    pub(super) fn constant(self, at: usize) -> Result<u64, String> {
        match self.get(at)? {
            Operand::Constant(_, value) => Ok(*value),
            _ => Err(format!("operand {} is not a number", at + 1)),
        }
    }

    /// An address of a space.
    pub(super) fn address(self, at: usize, space: Space) -> Result<Address, String> {
        match self.get(at)? {
            Operand::Address { base, offset } => Ok(Address { base: *base, offset: *offset, space }),
            Operand::Parameter(offset) => Ok(Address { base: None, offset: *offset, space: Space::Parameter }),
            _ => Err(format!("operand {} is not an address", at + 1)),
        }
    }
}

pub(super) fn slot(operand: &Operand) -> Result<Slot, String> {
    match operand {
        Operand::Register(slot) | Operand::Constant(slot, _) => Ok(*slot),
        _ => Err("a register was expected".to_owned()),
    }
}

pub(super) fn slot_or_nothing(operand: &Operand) -> Result<Option<Slot>, String> {
    match operand {
        Operand::Nothing => Ok(None),
        register => slot(register).map(Some),
    }
}
