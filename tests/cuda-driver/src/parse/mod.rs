//! PTX text into instructions whose operands are resolved (PTX ISA 8.8, chapters 4 to 6).

mod body;
mod call;
mod declaration;
mod listing;
mod module;
mod operand;
mod text;

pub(crate) use listing::{Instruction, Listing, Operand, Slot, Special};
pub(crate) use module::listings;
