//! Loads and stores of a warp, and where memory lies.

use super::LANES;
use super::lanes;
use super::warp::{Outcome, Warp};
use crate::compile::{Address, Copy, Space};
use crate::error::Fault;
use crate::memory::Regions;
use crate::parse::Slot;

/// Memory that a block sees.
pub(super) struct Spaces<'r> {
    pub(super) shared: *mut u8,
    pub(super) shared_bytes: usize,
    pub(super) parameters: *const u8,
    pub(super) parameter_bytes: usize,
    /// Memory that may be accessed beside this; nothing where accesses are not checked.
    pub(super) allowed: Option<&'r Regions>,
}

/// Reads a value of 1, 2, 4 or 8 bytes.
///
/// # Safety
/// There are so many bytes.
#[inline]
pub(super) unsafe fn read(from: *const u8, size: usize) -> u64 {
    // SAFETY: as the caller says.
    unsafe {
        match size {
            1 => *from as u64,
            2 => (from as *const u16).read_unaligned() as u64,
            4 => (from as *const u32).read_unaligned() as u64,
            _ => (from as *const u64).read_unaligned(),
        }
    }
}

/// Writes the lowest 1, 2, 4 or 8 bytes of a value.
///
/// # Safety
/// There are so many bytes.
#[inline]
pub(super) unsafe fn write(to: *mut u8, size: usize, value: u64) {
    // SAFETY: as the caller says.
    unsafe {
        match size {
            1 => *to = value as u8,
            2 => (to as *mut u16).write_unaligned(value as u16),
            4 => (to as *mut u32).write_unaligned(value as u32),
            _ => (to as *mut u64).write_unaligned(value),
        }
    }
}

impl Warp {
    /// Where a lane's part of a space begins.
    pub(super) fn start(&self, space: Space, lane: usize, spaces: &Spaces<'_>) -> u64 {
        match space {
            Space::Shared => spaces.shared as u64,
            Space::Local => self.local.as_ptr() as u64 + (lane * (self.local.len() / LANES)) as u64,
            Space::Global | Space::Parameter => 0,
        }
    }

    /// Where an address is in the memory of the process.
    #[inline]
    pub(super) fn pointer(&self, address: &Address, lane: usize, spaces: &Spaces<'_>) -> *mut u8 {
        let base = address.base.map_or(0, |slot| self.get(slot, lane)).wrapping_add(address.offset as u64);
        match address.space {
            Space::Global => base as *mut u8,
            Space::Shared => spaces.shared.wrapping_add(base as u32 as usize),
            Space::Local => (self.start(Space::Local, lane, spaces) + base) as *mut u8,
            Space::Parameter => spaces.parameters.wrapping_add(base as usize) as *mut u8,
        }
    }

    /// Counts what these lanes load or store at their addresses, where that is global memory.
    #[inline]
    fn count(&mut self, at: &Address, bytes: usize, mask: u32, spaces: &Spaces<'_>) {
        if at.space != Space::Global {
            return;
        }
        // generic addresses lead to all spaces; a warp's to one
        let pointer = self.pointer(at, mask.trailing_zeros() as usize % LANES, spaces) as usize;
        let shared = spaces.shared as usize;
        if !(shared..shared + spaces.shared_bytes).contains(&pointer)
            && !self.local.as_ptr_range().contains(&(pointer as *const u8))
        {
            self.traffic += bytes as u64 * u64::from(mask.count_ones());
        }
    }

    /// Where accesses are checked: demands that all lanes may access `bytes` at their address, a multiple of `alignment`.
    #[inline]
    pub(super) fn check(
        &self,
        at: &Address,
        bytes: usize,
        alignment: usize,
        mask: u32,
        spaces: &Spaces<'_>,
    ) -> Outcome {
        match spaces.allowed {
            None => Ok(()),
            Some(allowed) => self.check_lanes(at, [bytes, alignment], mask, spaces, allowed),
        }
    }

    #[cold]
    fn check_lanes(
        &self,
        at: &Address,
        [bytes, alignment]: [usize; 2],
        mask: u32,
        spaces: &Spaces<'_>,
        allowed: &Regions,
    ) -> Outcome {
        lanes!(mask, lane, {
            let pointer = self.pointer(at, lane, spaces) as usize;
            let lies_in = |start: usize, size: usize| {
                pointer >= start && pointer.checked_add(bytes).is_some_and(|end| end <= start + size)
            };
            let shared = lies_in(spaces.shared as usize, spaces.shared_bytes);
            let local = lies_in(self.start(Space::Local, lane, spaces) as usize, self.local.len() / LANES);
            let parameter = lies_in(spaces.parameters as usize, spaces.parameter_bytes);
            let global = allowed.hold(pointer, bytes);
            let (space, start, is_inside) = match at.space {
                Space::Global => ("global", 0, shared || local || parameter || global),
                Space::Shared => ("shared", spaces.shared as usize, shared),
                Space::Local => ("local", self.start(Space::Local, lane, spaces) as usize, local),
                Space::Parameter => ("parameter", spaces.parameters as usize, parameter),
            };
            let address = pointer.wrapping_sub(start) as u64;
            if !is_inside {
                return Err(Box::new(Fault::OutOfBounds { lane, space, address, bytes }));
            }
            // what is in lanes' local memory, and among the parameters, is not aligned in the process
            if (global || shared) && !pointer.is_multiple_of(alignment) {
                return Err(Box::new(Fault::Misaligned { lane, space, address, bytes }));
            }
        });
        Ok(())
    }

    pub(super) fn load(
        &mut self,
        to: &[Option<Slot>],
        size: usize,
        signed: bool,
        at: &Address,
        mask: u32,
        spaces: &Spaces<'_>,
    ) -> Outcome {
        self.check(at, size * to.len(), size * to.len(), mask, spaces)?;
        self.count(at, size * to.len(), mask, spaces);
        lanes!(mask, lane, {
            let from = self.pointer(at, lane, spaces);
            for (number, slot) in to.iter().enumerate() {
                // SAFETY: whoever launches the kernel says that it may access this.
                let mut value = unsafe { read(from.add(number * size), size) };
                if signed {
                    let above = 64 - 8 * size as u32;
                    value = ((value << above) as i64 >> above) as u64;
                }
                if let Some(slot) = slot {
                    self.set(*slot, lane, value);
                }
            }
        });
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        from: &[Slot],
        size: usize,
        at: &Address,
        mask: u32,
        spaces: &Spaces<'_>,
    ) -> Outcome {
        self.check(at, size * from.len(), size * from.len(), mask, spaces)?;
        self.count(at, size * from.len(), mask, spaces);
        lanes!(mask, lane, {
            let to = self.pointer(at, lane, spaces);
            for (number, slot) in from.iter().enumerate() {
                // SAFETY: whoever launches the kernel says that it may access this.
                unsafe { write(to.add(number * size), size, self.get(*slot, lane)) };
            }
        });
        Ok(())
    }

    pub(super) fn copy(&mut self, copy: &Copy, mask: u32, spaces: &Spaces<'_>) -> Outcome {
        let Copy { to, from, size, source } = copy;
        self.check(to, *size, *size, mask, spaces)?;
        self.count(from, *size, mask, spaces);
        lanes!(mask, lane, {
            let (target, origin) = (self.pointer(to, lane, spaces), self.pointer(from, lane, spaces));
            let bytes = source.map_or(*size, |slot| self.get(slot, lane) as u32 as usize).min(*size);
            if bytes > 0 {
                self.check(from, bytes, *size, 1 << lane, spaces)?;
            }
            // SAFETY: whoever launches the kernel says that it may access this.
            unsafe {
                std::ptr::copy(origin, target, bytes);
                target.add(bytes).write_bytes(0, size - bytes);
            }
        });
        Ok(())
    }
}
