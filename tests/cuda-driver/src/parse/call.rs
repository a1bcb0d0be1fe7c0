//! Calls: a function of the same module is put in where it is called; parameters and results are registers that both sides name.

use super::body::{Body, Failed, Name};
use super::listing::{Instruction, Slot};
use super::text::list;

impl Body<'_, '_> {
    /// `call (result), name, (parameters)`, of scalars only (PTX ISA 8.8, `call`).
    pub(super) fn call(&mut self, mut call: Instruction, operands: &str) -> Result<(), Failed> {
        let (results, rest) = match list(operands).as_slice() {
            [results, rest @ ..] if results.starts_with('(') => (self.passed(results)?, rest.to_vec()),
            all => (Vec::new(), all.to_vec()),
        };
        let (name, parameters) = match rest[..] {
            [name] => (name, Vec::new()),
            [name, parameters] => (name, self.passed(parameters)?),
            _ => return Err(format!("only a function that is named can be called: {}", call.text).into()),
        };
        let names = self.writer.names;
        let refused = |why: &str| Err(Failed::Reason(format!("{name} {why}: {}", call.text)));
        let Some(function) = names.functions.get(name) else { return refused("is no function of this module") };
        let Some((body, line)) = &function.body else { return refused("has no body in this module") };
        if function.has_arrays {
            return refused("takes or returns an array, and only scalars are known");
        }
        if function.results.len() != results.len() || function.parameters.len() != parameters.len() {
            return refused("takes and returns another number of values");
        }
        if self.writer.calls.iter().any(|caller| caller == name) {
            return refused("calls itself");
        }
        // a call with a predicate is a branch over the function
        let over = call.predicate.map(|(slot, negated)| {
            call.predicate = Some((slot, !negated));
            call.name = "bra".to_owned();
            self.writer.listing.instructions.push(call);
            self.next() - 1
        });
        let own = function.results.iter().zip(results).chain(function.parameters.iter().zip(parameters));
        let own = own.map(|(name, slot)| (name.clone(), Name::Passed(slot))).collect();
        self.writer.calls.push(name.to_owned());
        Body::new(self.writer, own, true).read(body, *line).map_err(Failed::Inside)?;
        self.writer.calls.pop();
        if let Some(over) = over {
            self.branch_to_next(over);
        }
        Ok(())
    }

    /// The registers of `(param0, param1)`.
    fn passed(&self, text: &str) -> Result<Vec<Slot>, Failed> {
        let names = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
        let names = names.ok_or_else(|| format!("a list of parameters was expected: {text}"))?;
        let slot = |name: &str| match self.names.get(name) {
            Some(Name::Passed(slot)) => Ok(*slot),
            _ => Err(Failed::Reason(format!("{name} is no parameter of a call"))),
        };
        list(names).into_iter().map(slot).collect()
    }
}
