//! A block of threads: its warps take turns, each up to the next barrier.

use super::LANES;
use super::kernel::{Kernel, Launch};
use super::memory::Spaces;
use super::warp::{State, Warp};
use crate::error::Failure;
use crate::parse::Special;

/// What shared memory is aligned to, in bytes.
const ALIGNMENT: usize = 1024;

/// A block. It is used again for the next one, so that its memory is allocated once.
pub(super) struct Block<'k> {
    kernel: &'k Kernel,
    launch: &'k Launch<'k>,
    /// Shared memory, with room to align it.
    shared: Vec<u8>,
    shared_bytes: usize,
    warps: Vec<Warp>,
}

impl<'k> Block<'k> {
    pub(super) fn new(kernel: &'k Kernel, launch: &'k Launch<'k>) -> Self {
        let threads = launch.block.iter().map(|&size| size as usize).product::<usize>();
        let warps = (0..threads.div_ceil(LANES)).map(|number| {
            let mut warp = Warp::new(number, kernel.listing.slots, kernel.listing.local);
            for &(slot, value) in &kernel.listing.constants {
                warp.lanes(slot).fill(value);
            }
            for &(slot, offset) in &kernel.listing.parameter_addresses {
                warp.lanes(slot).fill(launch.arguments.as_ptr() as u64 + offset as u64);
            }
            warp
        });
        let shared_bytes = kernel.listing.static_shared + launch.shared_bytes;
        let shared = vec![launch.fill; shared_bytes + 2 * ALIGNMENT];
        Self { kernel, launch, warps: warps.collect(), shared, shared_bytes }
    }

    /// Bytes of global memory that the blocks so far loaded and stored, but for atomic operations and fragments of matrices.
    pub(super) fn traffic(&self) -> u64 {
        self.warps.iter().map(|warp| warp.traffic).sum()
    }

    /// Runs the block of this number, which counts x first.
    pub(super) fn run(&mut self, number: usize) -> Result<(), Failure> {
        let block = position(number, self.launch.grid);
        self.begin(block);
        let aligned = self.shared.as_ptr().align_offset(ALIGNMENT);
        let spaces = Spaces {
            shared: self.shared[aligned..].as_mut_ptr(),
            shared_bytes: self.shared_bytes,
            parameters: self.launch.arguments.as_ptr(),
            parameter_bytes: self.launch.arguments.len(),
            allowed: self.launch.allowed,
        };
        loop {
            let mut has_run = false;
            for warp in self.warps.iter_mut().filter(|warp| warp.state == State::Ready) {
                has_run = true;
                if let Err((instruction, fault)) = warp.run(self.kernel, &spaces) {
                    let listing = &self.kernel.listing;
                    let instruction = &listing.instructions[instruction as usize];
                    let instruction = Some((instruction.line, instruction.text.clone()));
                    return Err(Failure { kernel: listing.name.clone(), instruction, block, fault });
                }
            }
            // all wait at the barrier, or are done
            if !has_run {
                let waiting = self.warps.iter_mut().filter(|warp| warp.state == State::Waiting);
                if waiting.map(|warp| warp.state = State::Ready).count() == 0 {
                    return Ok(());
                }
            }
        }
    }

    /// Everything as it is before the first instruction.
    fn begin(&mut self, block: [usize; 3]) {
        self.shared.fill(self.launch.fill);
        let size = self.launch.block;
        let threads = size.iter().map(|&size| size as usize).product::<usize>();
        for warp in &mut self.warps {
            let first = warp.number * LANES;
            let count = (threads - first).min(LANES);
            warp.begin(u32::MAX >> (LANES - count));
            for &(slot, special) in &self.kernel.listing.specials {
                let number = warp.number as u64;
                for (lane, register) in warp.lanes(slot).iter_mut().enumerate() {
                    *register = match special {
                        Special::Thread(axis) => position(first + lane, size)[axis] as u64,
                        Special::Block(axis) => block[axis] as u64,
                        Special::BlockSize(axis) => size[axis] as u64,
                        Special::GridSize(axis) => self.launch.grid[axis] as u64,
                        Special::Lane => lane as u64,
                        Special::Warp => number,
                        Special::LanesBelow => (1 << lane) - 1,
                    };
                }
            }
        }
    }
}

/// The place of a number in a box that is counted x first.
fn position(number: usize, size: [u32; 3]) -> [usize; 3] {
    let [x, y, _] = size.map(|size| size as usize);
    [number % x, number / x % y, number / (x * y)]
}
