//! Operands: registers, numbers, vectors, addresses (PTX ISA 8.8, chapter 6).

use super::body::{Body, Name};
use super::listing::{Operand, Slot};
use super::text::{list, number};

impl Body<'_, '_> {
    pub(super) fn operand(&mut self, text: &str) -> Result<Operand, String> {
        let inside = |open, close| text.strip_prefix(open).and_then(|text| text.strip_suffix(close));
        if text == "_" {
            return Ok(Operand::Nothing);
        }
        if let Some(parts) = inside('{', '}') {
            return Ok(Operand::Vector(
                list(parts).into_iter().map(|part| self.operand(part)).collect::<Result<_, _>>()?,
            ));
        }
        if let Some(address) = inside('[', ']') {
            return self.address(address.trim());
        }
        if let Some((first, second)) = text.split_once('|') {
            let (first, second) = (self.operand(first.trim())?, self.operand(second.trim())?);
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        if let Some(slot) = self.value(text)? {
            return Ok(Operand::Register(slot));
        }
        let value = number(text).ok_or_else(|| format!("nothing is called `{text}`"))?;
        Ok(Operand::Constant(self.writer.constant(value), value))
    }

    /// The register with the value of a name: what it holds, or the address that it stands for.
    fn value(&mut self, name: &str) -> Result<Option<Slot>, String> {
        Ok(match self.names.get(name) {
            Some(Name::Register(slot)) => Some(*slot),
            Some(Name::Shared(offset) | Name::Local(offset)) => Some(self.writer.constant(*offset)),
            Some(Name::Parameter(offset)) => Some(self.writer.parameter_address(*offset)),
            Some(Name::Passed(_)) => return Err(format!("the address of `{name}`, which is passed in a register")),
            None => self.writer.special(name).or_else(|| self.writer.symbol(name)),
        })
    }

    /// `name`, `name+8`, `%rd1+-8`, `%rd1-8`, `16`
    fn address(&mut self, text: &str) -> Result<Operand, String> {
        let unknown = || format!("no such address: [{text}]");
        let sign = text.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-'));
        let (base, offset) = match sign {
            None => (text, 0),
            Some((at, '+')) => (text[..at].trim(), number(&text[at + 1..]).ok_or_else(unknown)? as i64),
            Some((at, _)) => (text[..at].trim(), number(&text[at..]).ok_or_else(unknown)? as i64),
        };
        match self.names.get(base) {
            Some(Name::Parameter(start)) => return Ok(Operand::Parameter(*start as i64 + offset)),
            Some(Name::Passed(slot)) if offset == 0 => return Ok(Operand::Passed(*slot)),
            _ => {}
        }
        if let Some(slot) = self.value(base)? {
            return Ok(Operand::Address { base: Some(slot), offset });
        }
        let base = number(base).ok_or_else(unknown)?;
        Ok(Operand::Address { base: None, offset: (base as i64).wrapping_add(offset) })
    }
}
