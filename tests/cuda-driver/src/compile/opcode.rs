//! The name of an instruction, in parts.

use crate::types::Type;
use std::cell::Cell;

/// `mul.wide.u32` as its parts, and which of them were asked for.
pub(super) struct Opcode<'t> {
    parts: Vec<&'t str>,
    /// A bit for each part.
    asked: Cell<u64>,
}

impl<'t> Opcode<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { parts: text.split('.').collect(), asked: Cell::new(1) }
    }

    /// The first part.
    pub(super) fn name(&self) -> &'t str {
        self.parts[0]
    }

    /// A part by its place.
    pub(super) fn part(&self, at: usize) -> Option<&'t str> {
        let part = self.parts.get(at).copied();
        self.ask(at);
        part
    }

    fn ask(&self, at: usize) {
        self.asked.set(self.asked.get() | 1u64.checked_shl(at as u32).unwrap_or(0));
    }

    /// Whether this modifier is there.
    pub(super) fn has(&self, modifier: &str) -> bool {
        self.find(|part| part == modifier).is_some()
    }

    /// The first of the parts that is like this.
    pub(super) fn find(&self, is_like: impl Fn(&str) -> bool) -> Option<&'t str> {
        let at = self.parts.iter().skip(1).position(|part| is_like(part))? + 1;
        self.part(at)
    }

    /// Which of these modifiers is there.
    pub(super) fn one_of(&self, modifiers: &[&'static str]) -> Option<&'static str> {
        modifiers.iter().copied().find(|modifier| self.has(modifier))
    }

    /// Says that these modifiers, where they are, change nothing here.
    pub(super) fn ignore(&self, modifiers: &[&str]) {
        for (at, part) in self.parts.iter().enumerate() {
            if modifiers.contains(part) {
                self.ask(at);
            }
        }
    }

    /// All types in the name, in order.
    pub(super) fn types(&self) -> Vec<Type> {
        let kinds = self.parts.iter().enumerate().filter_map(|(at, part)| Some((at, Type::named(part)?)));
        kinds.inspect(|(at, _)| self.ask(*at)).map(|(_, kind)| kind).collect()
    }

    /// The type that the name ends with.
    pub(super) fn last_type(&self) -> Result<Type, String> {
        self.types().last().copied().ok_or_else(|| "no such instruction: it has no type".to_owned())
    }

    /// A part that was not asked for.
    pub(super) fn unknown(&self) -> Option<&'t str> {
        (0..self.parts.len()).find(|&at| at >= 64 || self.asked.get() >> at & 1 == 0).map(|at| self.parts[at])
    }
}
