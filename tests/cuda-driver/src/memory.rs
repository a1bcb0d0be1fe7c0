//! Device memory: ordinary memory of the process, and a list of what was handed out.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where allocations begin, in bytes: as `cuMemAlloc` promises.
const ALIGNMENT: usize = 512;
/// Bytes at the front of an allocation that are filled, at most: pools ask for gigabytes, of which they use little.
const FILLED: usize = 64 << 20;

/// All memory that was allocated and not freed: address and bytes of each.
#[derive(Debug, Default)]
pub struct Allocations(Mutex<BTreeMap<usize, usize>>);

impl Allocations {
    /// None yet.
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<usize, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layout(bytes: usize) -> Option<Layout> {
        // room behind, so that an access a little too far does not end the process
        Layout::from_size_align(bytes.checked_add(ALIGNMENT)?, ALIGNMENT).ok()
    }

    /// The address of new memory, filled with a byte (the first 64 MiB of it); nothing where there is no memory left.
    pub fn allocate(&self, bytes: usize, fill: u8) -> Option<u64> {
        // SAFETY: the layout has a size.
        let memory = unsafe { alloc(Self::layout(bytes)?) };
        if memory.is_null() {
            return None;
        }
        // SAFETY: so many bytes were allocated.
        unsafe { memory.write_bytes(fill, bytes.min(FILLED)) };
        self.list().insert(memory as usize, bytes);
        Some(memory as u64)
    }

    /// Gives memory back; false if `allocate` did not return this address.
    pub fn free(&self, address: u64) -> bool {
        let Some(bytes) = self.list().remove(&(address as usize)) else { return false };
        let layout = Self::layout(bytes).expect("it was allocated with this layout");
        // SAFETY: allocated with this layout, and taken off the list.
        unsafe { dealloc(address as *mut u8, layout) };
        true
    }

    /// How many bytes there are from an address to the end of the allocation that it lies in.
    pub fn bytes_from(&self, address: u64) -> Option<usize> {
        let list = self.list();
        let (start, bytes) = list.range(..=address as usize).next_back()?;
        (start + bytes).checked_sub(address as usize).filter(|&left| left > 0)
    }

    /// The allocations as they are now.
    pub fn regions(&self) -> Regions {
        Regions(self.list().iter().map(|(&start, &bytes)| (start, start + bytes)).collect())
    }
}

/// Memory that a kernel may access: begin and end of each piece, in order.
#[derive(Clone, Debug, Default)]
pub struct Regions(Vec<(usize, usize)>);

impl Regions {
    /// These and more, each an address and its bytes.
    pub fn and(mut self, more: impl IntoIterator<Item = (u64, usize)>) -> Self {
        self.0.extend(more.into_iter().map(|(start, bytes)| (start as usize, start as usize + bytes)));
        self.0.sort_unstable();
        self
    }

    /// Whether one piece holds all of these bytes.
    pub fn hold(&self, address: usize, bytes: usize) -> bool {
        let behind = self.0.partition_point(|&(start, _)| start <= address);
        let end = address.checked_add(bytes);
        behind > 0 && end.is_some_and(|end| end <= self.0[behind - 1].1)
    }
}

#[cfg(test)]
mod tests {
    use super::Allocations;

    #[test]
    fn addresses_are_found_in_the_allocation_that_holds_them() {
        let memory = Allocations::new();
        let (a, b) = (memory.allocate(100, 7).expect("memory"), memory.allocate(16, 7).expect("memory"));
        // SAFETY: just allocated.
        assert_eq!(unsafe { *(a as *const u8).add(99) }, 7);
        let regions = memory.regions();
        assert!(regions.hold(a as usize, 100) && regions.hold(a as usize + 96, 4) && regions.hold(b as usize, 16));
        assert!(
            !regions.hold(a as usize, 101) && !regions.hold(a as usize + 100, 1) && !regions.hold(a as usize - 1, 1)
        );
        assert!(!regions.hold(usize::MAX, 8));
        assert_eq!((memory.bytes_from(a + 40), memory.bytes_from(a + 100)), (Some(60), None));
        assert!(memory.free(a) && !memory.free(a) && !memory.free(b + 1) && memory.free(b));
        assert_eq!(memory.bytes_from(a), None);
    }
}
