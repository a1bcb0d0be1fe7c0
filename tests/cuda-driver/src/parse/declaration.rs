//! Declarations of memory and parameters: `.shared .align 4 .b8 name[128]`.

use super::listing::Parameter;
use super::text::{joined, list, number};
use crate::types::Type;

/// What a declaration says.
#[derive(Clone, Debug)]
pub(super) struct Declaration<'t> {
    pub(super) name: &'t str,
    pub(super) kind: Type,
    /// In bytes.
    pub(super) alignment: usize,
    /// How many there are; nothing where the brackets are empty.
    pub(super) count: Option<usize>,
    pub(super) is_array: bool,
}

impl<'t> Declaration<'t> {
    /// Reads a declaration without its initial values.
    pub(super) fn parse(text: &'t str) -> Result<Self, String> {
        let unknown = |what: &str| format!("a declaration without {what}: {}", joined(text));
        let words: Vec<&str> = text.split_whitespace().collect();
        let last = *words.last().ok_or_else(|| unknown("a name"))?;
        let (name, count) = match last.split_once('[') {
            None => (last, Some(1)),
            Some((name, "]")) => (name, None),
            Some((name, count)) => {
                let count = count.strip_suffix(']').and_then(|count| count.parse().ok());
                (name, Some(count.ok_or_else(|| unknown("a size of one dimension"))?))
            }
        };
        let kind = words.iter().rev().find_map(|word| Type::named(word.strip_prefix('.')?));
        let kind = kind.ok_or_else(|| unknown("a type"))?;
        let alignment = match words.iter().position(|word| *word == ".align") {
            None => kind.bytes(),
            Some(at) => {
                let alignment = words.get(at + 1).and_then(|word| word.parse().ok());
                alignment.ok_or_else(|| unknown("an alignment that is a number"))?
            }
        };
        // `.ptr .align 1` speaks of what the pointer points to
        let alignment = if words.contains(&".ptr") { kind.bytes() } else { alignment };
        if !alignment.is_power_of_two() {
            return Err(unknown("an alignment that is a power of two"));
        }
        Ok(Self { name, kind, alignment, count, is_array: last.contains('[') })
    }

    /// Bytes of all values; none where the brackets are empty.
    pub(super) fn bytes(&self) -> usize {
        self.kind.bytes() * self.count.unwrap_or(0)
    }

    /// A place for it behind `used` bytes, which grow.
    pub(super) fn place(&self, used: &mut usize) -> usize {
        let offset = used.next_multiple_of(self.alignment);
        *used = offset + self.bytes();
        offset
    }
}

/// Names and places of a kernel's parameters, and bytes of all.
pub(super) fn parameters(text: &str) -> Result<(Vec<(String, Parameter)>, usize), String> {
    let mut used = 0usize;
    let parameters = list(text).into_iter().map(|parameter| {
        let parameter = Declaration::parse(parameter)?;
        used = used.next_multiple_of(8);
        let offset = parameter.place(&mut used);
        Ok((parameter.name.to_owned(), Parameter { offset, bytes: parameter.bytes() }))
    });
    let parameters = parameters.collect::<Result<_, String>>()?;
    Ok((parameters, used))
}

/// Initial values in memory: `{1, 2, 3}` or `1`, each of the declaration's type; zeros where there are none.
pub(super) fn initial(declaration: &Declaration<'_>, values: &str) -> Result<Vec<u128>, String> {
    let size = declaration.kind.bytes();
    let mut bytes = vec![0u8; declaration.bytes()];
    let values = list(values.trim().trim_matches(['{', '}']));
    if values.len() * size > bytes.len() {
        return Err(format!("{} has {} values, more than it has room for", declaration.name, values.len()));
    }
    for (value, place) in values.into_iter().zip(bytes.chunks_exact_mut(size)) {
        let value = number(value).filter(|_| size <= 8);
        let value = value.ok_or_else(|| format!("an initial value of {} that is not a number", declaration.name))?;
        place.copy_from_slice(&value.to_le_bytes()[..size]);
    }
    let whole = |part: &[u8]| {
        let mut word = [0; 16];
        word[..part.len()].copy_from_slice(part);
        u128::from_le_bytes(word)
    };
    Ok(bytes.chunks(16).map(whole).collect())
}
