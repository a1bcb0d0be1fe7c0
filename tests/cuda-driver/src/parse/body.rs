//! The statements of a kernel, and of the functions that are put into it.

use super::declaration::Declaration;
use super::listing::{Instruction, Listing, Operand, Slot, Special};
use super::module::{Names, Symbol};
use super::text::{Reader, joined, list};
use crate::error::PtxError;
use std::collections::HashMap;

/// What a name in a body stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name {
    Register(Slot),
    /// A parameter of the kernel, by its offset.
    Parameter(usize),
    /// A parameter or result of a call: a register.
    Passed(Slot),
    /// An offset into shared memory.
    Shared(u64),
    /// An offset into local memory.
    Local(u64),
}

/// What a kernel has in common with the functions put into it: its registers, its instructions.
pub(super) struct Writer<'n> {
    pub(super) listing: Listing,
    pub(super) names: &'n Names,
    constants: HashMap<u64, Slot>,
    specials: HashMap<String, Slot>,
    parameter_addresses: HashMap<usize, Slot>,
    /// Where shared memory begins whose size the launch says.
    dynamic_shared: Option<Slot>,
    /// Functions that are being put in, each called by the one before.
    pub(super) calls: Vec<String>,
}

impl Writer<'_> {
    /// A new register.
    pub(super) fn slot(&mut self) -> Slot {
        self.listing.slots += 1;
        self.listing.slots as Slot - 1
    }

    /// The register that holds a number.
    pub(super) fn constant(&mut self, value: u64) -> Slot {
        if let Some(slot) = self.constants.get(&value) {
            return *slot;
        }
        let slot = self.slot();
        self.constants.insert(value, slot);
        self.listing.constants.push((slot, value));
        slot
    }

    /// The register that holds the address of a parameter.
    pub(super) fn parameter_address(&mut self, offset: usize) -> Slot {
        if let Some(slot) = self.parameter_addresses.get(&offset) {
            return *slot;
        }
        let slot = self.slot();
        self.parameter_addresses.insert(offset, slot);
        self.listing.parameter_addresses.push((slot, offset));
        slot
    }

    /// The register that holds a name of the module.
    pub(super) fn symbol(&mut self, name: &str) -> Option<Slot> {
        Some(match *self.names.symbols.get(name)? {
            Symbol::Global(value) | Symbol::Shared(value) => self.constant(value),
            Symbol::DynamicShared => {
                let slot = self.dynamic_shared.unwrap_or_else(|| self.slot());
                self.dynamic_shared = Some(slot);
                slot
            }
        })
    }

    /// A special register (PTX ISA 8.8, chapter 10).
    pub(super) fn special(&mut self, name: &str) -> Option<Slot> {
        if let Some(slot) = self.specials.get(name) {
            return Some(*slot);
        }
        let (head, axis) = name.split_once('.').unwrap_or((name, ""));
        let axis = ["x", "y", "z"].iter().position(|known| *known == axis);
        let special = match (head, axis) {
            ("%tid", Some(axis)) => Special::Thread(axis),
            ("%ctaid", Some(axis)) => Special::Block(axis),
            ("%ntid", Some(axis)) => Special::BlockSize(axis),
            ("%nctaid", Some(axis)) => Special::GridSize(axis),
            ("%laneid", None) => Special::Lane,
            ("%warpid", None) => Special::Warp,
            ("%lanemask_lt", None) => Special::LanesBelow,
            _ => return None,
        };
        let slot = self.slot();
        self.specials.insert(name.to_owned(), slot);
        self.listing.specials.push((slot, special));
        Some(slot)
    }
}

/// The statements of one body: a kernel's, or a function's where it is called.
pub(super) struct Body<'w, 'n> {
    pub(super) writer: &'w mut Writer<'n>,
    pub(super) names: HashMap<String, Name>,
    /// What names stood for outside of each open brace.
    hidden: Vec<Vec<(String, Option<Name>)>>,
    labels: HashMap<String, u32>,
    /// Branches and their labels.
    branches: Vec<(usize, String)>,
    /// Of a function: the branches to its end.
    returns: Option<Vec<usize>>,
}

/// Reads a kernel's body, which begins at a line; `offsets` are those of its parameters.
pub(super) fn kernel<'p>(
    listing: Listing,
    offsets: impl Iterator<Item = (&'p str, usize)>,
    text: &str,
    line: usize,
    names: &Names,
) -> Result<Listing, PtxError> {
    let mut writer = Writer {
        listing: Listing { static_shared: names.shared, ..listing },
        names,
        constants: HashMap::new(),
        specials: HashMap::new(),
        parameter_addresses: HashMap::new(),
        dynamic_shared: None,
        calls: Vec::new(),
    };
    let names = offsets.map(|(name, offset)| (name.to_owned(), Name::Parameter(offset))).collect();
    let end = Body::new(&mut writer, names, false).read(text, line)?;
    // a body may end without saying so
    let text = "ret".to_owned();
    let ret = Instruction { predicate: None, name: text.clone(), operands: Vec::new(), text, line: end };
    writer.listing.instructions.push(ret);
    writer.listing.static_shared = writer.listing.static_shared.next_multiple_of(1024);
    if let Some(slot) = writer.dynamic_shared {
        writer.listing.constants.push((slot, writer.listing.static_shared as u64));
    }
    Ok(writer.listing)
}

impl<'w, 'n> Body<'w, 'n> {
    pub(super) fn new(writer: &'w mut Writer<'n>, names: HashMap<String, Name>, is_function: bool) -> Self {
        let returns = is_function.then(Vec::new);
        Self { writer, names, hidden: Vec::new(), labels: HashMap::new(), branches: Vec::new(), returns }
    }

    /// The number of the next instruction.
    pub(super) fn next(&self) -> usize {
        self.writer.listing.instructions.len()
    }

    /// Lets a branch go to the next instruction.
    pub(super) fn branch_to_next(&mut self, branch: usize) {
        let next = self.next() as u32;
        self.writer.listing.instructions[branch].operands = vec![Operand::Label(next)];
    }

    /// Reads all statements; returns the line after them.
    pub(super) fn read(mut self, text: &str, line: usize) -> Result<usize, PtxError> {
        let mut reader = Reader::new(text, line);
        loop {
            let rest = reader.peek();
            let line = reader.line;
            if rest.is_empty() {
                break;
            } else if rest.starts_with('{') {
                reader.take(1);
                self.hidden.push(Vec::new());
            } else if rest.starts_with('}') {
                reader.take(1);
                self.close();
            } else if let Some(label) = reader.label() {
                let next = self.next() as u32;
                self.labels.insert(label.to_owned(), next);
            } else {
                let read = reader.statement().map(joined);
                match read.map_err(Failed::Reason).and_then(|statement| self.statement(&statement, line)) {
                    Ok(()) => {}
                    Err(Failed::Reason(reason)) => return Err(self.error(line, reason)),
                    Err(Failed::Inside(error)) => return Err(error),
                }
            }
        }
        for (branch, label) in std::mem::take(&mut self.branches) {
            let instruction = &mut self.writer.listing.instructions[branch];
            match self.labels.get(&label) {
                Some(&to) => instruction.operands = vec![Operand::Label(to)],
                None => {
                    let (line, reason) = (instruction.line, format!("no label {label}: {}", instruction.text));
                    return Err(self.error(line, reason));
                }
            }
        }
        for branch in self.returns.take().unwrap_or_default() {
            self.branch_to_next(branch);
        }
        Ok(reader.line)
    }

    fn error(&self, line: usize, reason: String) -> PtxError {
        let kernel = format!("kernel {}", self.writer.listing.name);
        let place = match self.writer.calls.last() {
            None => kernel,
            Some(function) => format!("function {function} in {kernel}"),
        };
        PtxError { place, line, reason }
    }

    /// Gives a name a meaning until the brace that is open closes.
    pub(super) fn define(&mut self, name: &str, meaning: Name) {
        let before = self.names.insert(name.to_owned(), meaning);
        if let Some(hidden) = self.hidden.last_mut() {
            hidden.push((name.to_owned(), before));
        }
    }

    fn close(&mut self) {
        for (name, before) in self.hidden.pop().unwrap_or_default().into_iter().rev() {
            match before {
                Some(before) => self.names.insert(name, before),
                None => self.names.remove(&name),
            };
        }
    }

    fn statement(&mut self, statement: &str, line: usize) -> Result<(), Failed> {
        if statement.starts_with('.') {
            return Ok(self.directive(statement)?);
        }
        if statement.is_empty() {
            return Ok(());
        }
        let (predicate, rest) = match statement.strip_prefix('@') {
            None => (None, statement),
            Some(rest) => {
                let (name, rest) = rest.split_once(' ').ok_or_else(|| format!("no instruction: {statement}"))?;
                let (negated, name) = name.strip_prefix('!').map_or((false, name), |name| (true, name));
                let Some(Name::Register(slot)) = self.names.get(name) else {
                    return Err(format!("no predicate {name}: {statement}").into());
                };
                (Some((*slot, negated)), rest)
            }
        };
        let (name, operands) = rest.split_once(' ').unwrap_or((rest, ""));
        let (text, name) = (statement.to_owned(), name.to_owned());
        let mut instruction = Instruction { predicate, name, operands: Vec::new(), text, line };
        let index = self.next();
        match instruction.name.split('.').next() {
            Some("call") => return self.call(instruction, operands),
            Some("bra") => self.branches.push((index, operands.to_owned())),
            Some("ret") if let Some(returns) = &mut self.returns => {
                returns.push(index);
                instruction.name = "bra".to_owned();
            }
            _ => {
                let read: Result<_, String> = list(operands).into_iter().map(|operand| self.operand(operand)).collect();
                instruction.operands = read.map_err(|reason| format!("{reason}: {statement}"))?;
            }
        }
        self.writer.listing.instructions.push(instruction);
        Ok(())
    }

    fn directive(&mut self, statement: &str) -> Result<(), String> {
        let (name, rest) = statement.split_once(' ').unwrap_or((statement, ""));
        match name {
            ".reg" => self.registers(rest),
            ".local" => {
                let declaration = Declaration::parse(statement)?;
                let offset = declaration.place(&mut self.writer.listing.local);
                self.define(declaration.name, Name::Local(offset as u64));
                Ok(())
            }
            ".shared" => {
                let declaration = Declaration::parse(statement)?;
                let offset = declaration.place(&mut self.writer.listing.static_shared);
                self.define(declaration.name, Name::Shared(offset as u64));
                Ok(())
            }
            ".param" => {
                let declaration = Declaration::parse(statement)?;
                if declaration.is_array {
                    return Err(format!("a call passes an array, and only scalars are known: {statement}"));
                }
                let slot = self.writer.slot();
                self.define(declaration.name, Name::Passed(slot));
                Ok(())
            }
            ".pragma" | ".loc" => Ok(()),
            _ => Err(format!("no such directive in a body: {statement}")),
        }
    }

    /// `.b32 %r<10>`, or `.b64 %SP, %SPL`
    fn registers(&mut self, text: &str) -> Result<(), String> {
        let (_, names) = text.split_once(' ').ok_or_else(|| format!("registers without a name: .reg {text}"))?;
        for name in names.split(',').map(str::trim) {
            let (stem, count) = match name.split_once('<') {
                None => (name, None),
                Some((stem, count)) => {
                    let count: Option<usize> = count.strip_suffix('>').and_then(|count| count.parse().ok());
                    (stem, Some(count.ok_or_else(|| format!("a number of registers that is none: .reg {text}"))?))
                }
            };
            for i in 0..count.unwrap_or(1) {
                let slot = self.writer.slot();
                let name = if count.is_some() { format!("{stem}{i}") } else { stem.to_owned() };
                self.define(&name, Name::Register(slot));
            }
        }
        Ok(())
    }
}

/// Why a statement cannot be read: here, or in a function that it calls.
pub(super) enum Failed {
    Reason(String),
    Inside(PtxError),
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}
