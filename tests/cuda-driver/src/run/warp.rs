//! A warp: 32 lanes that execute one instruction together, those that took the same path.

use super::fused::{fma_f32, fma_f64};
use super::kernel::Kernel;
use super::memory::Spaces;
use super::{LANES, lanes};
use crate::compile::Operation;
use crate::error::Fault;
use crate::flow::NEVER;
use crate::numbers::Word;
use crate::parse::Slot;

/// Whether a warp can go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// At a barrier.
    Waiting,
    Done,
}

/// Lanes that go the same way: what comes next, up to where they meet the others.
#[derive(Clone, Copy)]
struct Path {
    next: u32,
    meeting: u32,
    lanes: u32,
}

/// A fault, in a box so that the result of an instruction that has none is small.
pub(super) type Outcome = Result<(), Box<Fault>>;

pub(super) struct Warp {
    /// `[slots, 32]`
    registers: Vec<u64>,
    /// Paths that are not at their end; the last one is taken first.
    paths: Vec<Path>,
    /// Lanes that have not returned.
    pub(super) live: u32,
    pub(super) state: State,
    /// `[32, bytes]`
    pub(super) local: Vec<u8>,
    pub(super) number: usize,
    /// Bytes that lanes loaded from global memory, and stored there.
    pub(super) traffic: u64,
}

/// Where a register's lanes begin.
#[inline]
fn place(slot: Slot) -> usize {
    slot as usize * LANES
}

impl Warp {
    /// A warp by its number in the block, with `local` bytes of local memory a lane.
    pub(super) fn new(number: usize, slots: usize, local: usize) -> Self {
        let (registers, local) = (vec![0; slots * LANES], vec![0; local * LANES]);
        Self { registers, paths: Vec::new(), live: 0, state: State::Ready, local, number, traffic: 0 }
    }

    /// Goes to the first instruction with these lanes.
    pub(super) fn begin(&mut self, lanes: u32) {
        self.live = lanes;
        self.paths = vec![Path { next: 0, meeting: NEVER, lanes }];
        self.state = State::Ready;
    }

    /// A register of all lanes.
    pub(super) fn lanes(&mut self, slot: Slot) -> &mut [u64] {
        &mut self.registers[place(slot)..][..LANES]
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot, lane: usize) -> u64 {
        self.registers[place(slot) + lane]
    }

    #[inline]
    pub(super) fn set(&mut self, slot: Slot, lane: usize, value: u64) {
        self.registers[place(slot) + lane] = value;
    }

    /// Those of some lanes whose predicate is so.
    fn chosen(&self, lanes: u32, predicate: Option<(Slot, bool)>) -> u32 {
        let Some((slot, negated)) = predicate else { return lanes };
        let mut chosen = 0;
        for (lane, predicate) in self.registers[place(slot)..][..LANES].iter().enumerate() {
            chosen |= (*predicate as u32 & 1) << lane;
        }
        lanes & if negated { !chosen } else { chosen }
    }

    /// Runs to a barrier or to the end. Lanes that part go one way after the other, up to where both meet.
    ///
    /// # Errors
    /// The number of the instruction, and what is wrong with it.
    pub(super) fn run(&mut self, kernel: &Kernel, spaces: &Spaces<'_>) -> Result<(), (u32, Box<Fault>)> {
        while let Some(&Path { next: mut at, meeting, lanes }) = self.paths.last() {
            let mut active = lanes & self.live;
            if active == 0 || at == meeting {
                self.paths.pop();
                continue;
            }
            loop {
                if at == meeting {
                    self.paths.pop();
                    break;
                }
                let step = &kernel.code[at as usize];
                let mask = self.chosen(active, step.predicate);
                match &step.operation {
                    Operation::Branch(to) => {
                        if mask == active {
                            at = *to;
                            continue;
                        }
                        if mask != 0 {
                            self.part(kernel.meetings[at as usize], meeting, [(at + 1, active & !mask), (*to, mask)]);
                            break;
                        }
                    }
                    Operation::Return => {
                        self.live &= !mask;
                        if mask == active {
                            self.paths.pop();
                            break;
                        }
                        active &= !mask;
                    }
                    Operation::Barrier => {
                        self.whole(mask).map_err(|fault| (at, fault))?;
                        if let Some(path) = self.paths.last_mut() {
                            path.next = at + 1;
                        }
                        self.state = State::Waiting;
                        return Ok(());
                    }
                    operation if mask != 0 => self.execute(operation, mask, spaces).map_err(|fault| (at, fault))?,
                    _ => {}
                }
                at += 1;
            }
        }
        self.state = State::Done;
        Ok(())
    }

    /// Two ways from a branch, `(next, lanes)`, in place of the path that led there and goes on where they meet.
    fn part(&mut self, meeting: u32, outer: u32, ways: [(u32, u32); 2]) {
        match self.paths.last_mut() {
            Some(path) if meeting != outer && meeting != NEVER => path.next = meeting,
            _ => {
                self.paths.pop();
            }
        }
        self.paths.extend(ways.map(|(next, lanes)| Path { next, meeting, lanes }));
    }

    /// Demands that all lanes take part that have not returned.
    pub(super) fn whole(&self, mask: u32) -> Outcome {
        if mask == self.live { Ok(()) } else { Err(Box::new(Fault::PartOfWarp { active: mask, live: self.live })) }
    }

    fn execute(&mut self, operation: &Operation, mask: u32, spaces: &Spaces<'_>) -> Outcome {
        match operation {
            Operation::Move(to, from) => {
                let (to, from) = (place(*to), place(*from));
                if mask == u32::MAX {
                    self.registers.copy_within(from..from + LANES, to);
                } else {
                    lanes!(mask, lane, { self.registers[to + lane] = self.registers[from + lane] });
                }
            }
            Operation::One(f, to, a) => self.two(|a, _| f(a), [*to, *a, *a], mask),
            Operation::Two(f, to, a, b) => self.two(f, [*to, *a, *b], mask),
            Operation::Three(f, to, a, b, c) => self.three(f, [*to, *a, *b, *c], mask),
            Operation::FmaF32(to, a, b, c) => fma_f32(&mut self.registers, [*to, *a, *b, *c].map(place), mask),
            Operation::FmaF64(to, a, b, c) => fma_f64(&mut self.registers, [*to, *a, *b, *c].map(place), mask),
            Operation::Add32(to, a, b) => {
                self.two(|a, b| u32::of(a).wrapping_add(b as u32).bits(), [*to, *a, *b], mask)
            }
            Operation::Add64(to, a, b) => self.two(u64::wrapping_add, [*to, *a, *b], mask),
            Operation::Pack(to, parts, bits) => self.pack(*to, parts, *bits, mask),
            Operation::Unpack(parts, from, bits) => self.unpack(parts, *from, *bits, mask),
            Operation::Load { to, size, signed, at } => return self.load(to, *size, *signed, at, mask, spaces),
            Operation::Store { from, size, at } => return self.store(from, *size, at, mask, spaces),
            Operation::ToGeneric(to, from, space) => lanes!(mask, lane, {
                let start = self.start(*space, lane, spaces);
                self.set(*to, lane, self.get(*from, lane).wrapping_add(start));
            }),
            Operation::ToSpace(to, from, space) => lanes!(mask, lane, {
                let start = self.start(*space, lane, spaces);
                self.set(*to, lane, self.get(*from, lane).wrapping_sub(start));
            }),
            Operation::Nothing => {}
            Operation::WarpBarrier => return self.whole(mask),
            Operation::Trap => return Err(Box::new(Fault::Trap)),
            Operation::Exchange(exchange) => return self.exchange(exchange, mask),
            Operation::Atomic { change, to, at, a, b } => {
                return self.atomic(*change, *to, at, [Some(*a), *b], mask, spaces);
            }
            Operation::CopyAsync(copy) => return self.copy(copy, mask, spaces),
            Operation::Matrix(matrix) => return self.matrix(matrix, mask, spaces),
            Operation::Branch(_) | Operation::Return | Operation::Barrier => unreachable!("`run` does these"),
        }
        Ok(())
    }

    /// A result of two registers in the first of three.
    fn two(&mut self, f: impl Fn(u64, u64) -> u64, slots: [Slot; 3], mask: u32) {
        let [to, a, b] = slots.map(place);
        if mask == u32::MAX {
            let mut results = [0; LANES];
            let (a, b) = (&self.registers[a..a + LANES], &self.registers[b..b + LANES]);
            for (result, (a, b)) in results.iter_mut().zip(a.iter().zip(b)) {
                *result = f(*a, *b);
            }
            self.registers[to..to + LANES].copy_from_slice(&results);
        } else {
            lanes!(mask, lane, { self.registers[to + lane] = f(self.registers[a + lane], self.registers[b + lane]) });
        }
    }

    /// A result of three registers in the first of four.
    fn three(&mut self, f: impl Fn(u64, u64, u64) -> u64, slots: [Slot; 4], mask: u32) {
        let [to, a, b, c] = slots.map(place);
        if mask == u32::MAX {
            let mut results = [0; LANES];
            let (a, b, c) =
                (&self.registers[a..][..LANES], &self.registers[b..][..LANES], &self.registers[c..][..LANES]);
            for (result, (a, (b, c))) in results.iter_mut().zip(a.iter().zip(b.iter().zip(c))) {
                *result = f(*a, *b, *c);
            }
            self.registers[to..to + LANES].copy_from_slice(&results);
        } else {
            lanes!(mask, lane, {
                let [a, b, c] = [a, b, c].map(|start| self.registers[start + lane]);
                self.registers[to + lane] = f(a, b, c);
            });
        }
    }

    fn pack(&mut self, to: Slot, parts: &[Slot], bits: u32, mask: u32) {
        let part_mask = u64::MAX >> (64 - bits);
        lanes!(mask, lane, {
            let mut value = 0;
            for (at, slot) in parts.iter().enumerate() {
                value |= (self.get(*slot, lane) & part_mask) << (bits * at as u32);
            }
            self.set(to, lane, value);
        });
    }

    fn unpack(&mut self, parts: &[Option<Slot>], from: Slot, bits: u32, mask: u32) {
        let part_mask = u64::MAX >> (64 - bits);
        lanes!(mask, lane, {
            let value = self.get(from, lane);
            for (at, slot) in parts.iter().enumerate() {
                if let Some(slot) = slot {
                    self.set(*slot, lane, value >> (bits * at as u32) & part_mask);
                }
            }
        });
    }
}
