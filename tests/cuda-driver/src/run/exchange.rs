//! Shuffles, votes and reductions within a warp.

use super::warp::{Outcome, Warp};
use super::{LANES, lanes};
use crate::compile::{Exchange, Shuffle, Vote};
use crate::error::Fault;
use crate::numbers::Word;

impl Warp {
    pub(super) fn exchange(&mut self, exchange: &Exchange, mask: u32) -> Outcome {
        match *exchange {
            Exchange::Active(to) => lanes!(mask, lane, { self.set(to, lane, mask as u64) }),
            Exchange::Elect { to, is_elected } => {
                let elected = mask.trailing_zeros() as usize;
                lanes!(mask, lane, {
                    self.set(is_elected, lane, (lane == elected).bits());
                    if let Some(slot) = to {
                        self.set(slot, lane, elected as u64);
                    }
                });
            }
            Exchange::Vote { kind, to, from } => {
                let mut ballot = 0u32;
                lanes!(mask, lane, { ballot |= (bool::of(self.get(from, lane)) as u32) << lane });
                let result = match kind {
                    Vote::All => (ballot == mask).bits(),
                    Vote::Any => (ballot != 0).bits(),
                    Vote::Ballot => ballot as u64,
                    Vote::Uniform => (ballot == 0 || ballot == mask).bits(),
                };
                lanes!(mask, lane, { self.set(to, lane, result) });
            }
            Exchange::Reduce { step, to, from } => {
                let first = mask.trailing_zeros() as usize;
                let mut result = self.get(from, first);
                lanes!(mask & !(1 << first), lane, { result = step(result, self.get(from, lane)) });
                lanes!(mask, lane, { self.set(to, lane, result) });
            }
            Exchange::Shuffle { kind, to, in_range, value, lane: by, clamp } => {
                let values: [u64; LANES] = std::array::from_fn(|lane| self.get(value, lane));
                lanes!(mask, lane, {
                    let other = source(kind, lane, self.get(by, lane), self.get(clamp, lane));
                    let from = other.unwrap_or(lane);
                    if mask >> from & 1 == 0 {
                        return Err(Box::new(Fault::IdleLane { lane, from }));
                    }
                    self.set(to, lane, values[from]);
                    if let Some(slot) = in_range {
                        self.set(slot, lane, other.is_some().bits());
                    }
                });
            }
        }
        Ok(())
    }
}

/// The lane that a shuffle reads, if it is in range (PTX ISA 8.8, `shfl.sync`). `clamp` has the segment's mask in bits 8 to 12, and the
/// last lane, of up shuffles the first, in bits 0 to 4.
fn source(kind: Shuffle, lane: usize, by: u64, clamp: u64) -> Option<usize> {
    let (by, last, segment) = (by as usize & 31, clamp as usize & 31, clamp as usize >> 8 & 31);
    let limit = (lane & segment) | (last & !segment);
    match kind {
        Shuffle::Up => lane.checked_sub(by).filter(|&other| other >= limit),
        Shuffle::Down => Some(lane + by).filter(|&other| other <= limit),
        Shuffle::Butterfly => Some(lane ^ by).filter(|&other| other <= limit),
        Shuffle::Index => Some((lane & segment) | (by & !segment)).filter(|&other| other <= limit),
    }
}
