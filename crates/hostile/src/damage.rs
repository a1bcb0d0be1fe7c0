//! Damaged input: whole files with bits flipped, fields overwritten, chunks cut, doubled and moved.

use std::fmt;
use std::ops::Deref;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The longest chunk that is doubled or deleted at once.
const LONGEST_CHUNK: usize = 96;
/// What a length or count may claim.
const CLAIMS: [u64; 12] =
    [0, 1, 127, 255, 65_535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 48, 1 << 60, (1 << 63) - 1, u64::MAX];

/// Bytes for a reader; shown as a byte string, which can be pasted into a test.
#[derive(Clone, PartialEq, Eq)]
pub struct Input(pub Vec<u8>);

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

#[derive(Clone, Debug)]
enum Damage {
    Flip {
        at: Index,
        bit: u32,
    },
    Overwrite {
        at: Index,
        byte: u8,
    },
    /// A number of so many bytes, in either order.
    Claim {
        at: Index,
        value: u64,
        size: usize,
        is_little_endian: bool,
    },
    Cut {
        at: Index,
    },
    Delete {
        at: Index,
        length: usize,
    },
    Double {
        at: Index,
        length: usize,
        to: Index,
    },
    Insert {
        at: Index,
        bytes: Vec<u8>,
    },
}

/// Any bytes, up to a length; half of them begin like one of `heads`, so that a reader looks further.
pub fn any_bytes(heads: &[&[u8]], longest: usize) -> impl Strategy<Value = Input> + use<> {
    let mut heads: Vec<Vec<u8>> = heads.iter().map(|head| head.to_vec()).collect();
    heads.extend(vec![Vec::new(); heads.len().max(1)]);
    (select(heads), vec(any::<u8>(), 0..longest)).prop_map(|(head, rest)| Input([head, rest].concat()))
}

/// One of `whole`, damaged in one to six places.
pub fn damaged(whole: Vec<Vec<u8>>) -> impl Strategy<Value = Input> {
    (select(whole), vec(damage(), 1..7)).prop_map(|(mut bytes, damages)| {
        damages.iter().for_each(|damage| damage.inflict(&mut bytes));
        Input(bytes)
    })
}

/// Words in any order, as often as they come.
pub fn sentence(words: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    vec(select(words), 0..most).prop_map(|words| words.concat())
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let length = 1..LONGEST_CHUNK;
    prop_oneof![
        4 => (at(), 0..8u32).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Overwrite { at, byte }),
        4 => (at(), select(CLAIMS.to_vec()), select(vec![1, 2, 4, 8]), any::<bool>()).prop_map(
            |(at, value, size, is_little_endian)| Damage::Claim { at, value, size, is_little_endian }
        ),
        1 => at().prop_map(|at| Damage::Cut { at }),
        2 => (at(), length.clone()).prop_map(|(at, length)| Damage::Delete { at, length }),
        2 => (at(), length, at()).prop_map(|(at, length, to)| Damage::Double { at, length, to }),
        1 => (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
    ]
}

impl Damage {
    fn inflict(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let place = |index: &Index| index.index(bytes.len());
        match self {
            Self::Flip { at, bit } => {
                let at = place(at);
                bytes[at] ^= 1 << bit;
            }
            Self::Overwrite { at, byte } => {
                let at = place(at);
                bytes[at] = *byte;
            }
            Self::Claim { at, value, size, is_little_endian } => {
                let number: Vec<u8> = match is_little_endian {
                    true => value.to_le_bytes()[..*size].to_vec(),
                    false => value.to_be_bytes()[8 - size..].to_vec(),
                };
                let at = place(at);
                bytes[at..].iter_mut().zip(number).for_each(|(byte, claimed)| *byte = claimed);
            }
            Self::Cut { at } => bytes.truncate(place(at)),
            Self::Delete { at, length } => {
                let at = place(at);
                bytes.drain(at..bytes.len().min(at + length));
            }
            Self::Double { at, length, to } => {
                let (at, to) = (place(at), place(to));
                let chunk = bytes[at..bytes.len().min(at + length)].to_vec();
                bytes.splice(to..to, chunk);
            }
            Self::Insert { at, bytes: inserted } => {
                let at = place(at);
                bytes.splice(at..at, inserted.iter().copied());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::*;

    #[test]
    fn files_are_damaged_in_every_way() {
        let whole: Vec<u8> = (0..=255).collect();
        let mut runner = TestRunner::deterministic();
        let strategy = damaged(vec![whole.clone()]);
        let inputs: Vec<Input> = (0..500).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect();
        let num_untouched = inputs.iter().filter(|input| input.0 == whole).count();
        assert!(num_untouched < 20, "{num_untouched} of 500 are as they were");
        assert!(inputs.iter().any(|input| input.len() < 100) && inputs.iter().any(|input| input.len() > 300));
        assert!(inputs.iter().any(|input| input.windows(8).any(|word| word == [0xff; 8])));
    }

    #[test]
    fn inputs_are_shown_as_byte_strings() {
        assert_eq!(format!("{:?}", Input(b"a\"\x00\xff".to_vec())), r#"b"a\"\x00\xff""#);
    }
}
