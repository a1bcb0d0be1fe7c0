//! What reading takes: time on the clock, and bytes held at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// One guarded reading at a time, since the counters are the whole program's.
static GUARDED: Mutex<()> = Mutex::new(());

/// A reading that takes too long is repeated so often: a busy machine may have held it up.
const REPETITIONS: usize = 2;

/// The system's allocator, counting. Where a program does not name it as its `#[global_allocator]`, only time is bounded.
pub struct Counting;

fn grown(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes);
    PEAK.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    /// The system's own, which does not touch the memory.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        grown(new_size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most that one reading may take.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub seconds: f64,
    pub bytes: usize,
}

impl Bound {
    /// Two seconds, which is a thousand times what a reading takes, and so many MiB.
    pub const fn mib(mib: usize) -> Self {
        Self { seconds: 2.0, bytes: mib << 20 }
    }
}

/// Makes an input while nothing is read: memory is counted for the whole program, and what a large input takes is not a reader's.
pub fn alone<T>(make: impl FnOnce() -> T) -> T {
    let _guard = GUARDED.lock().unwrap_or_else(PoisonError::into_inner);
    make()
}

/// Reads under a bound.
///
/// # Panics
/// When it takes longer every time it is tried, or holds more memory at once.
pub fn within<T>(bound: Bound, read: impl Fn() -> T) -> T {
    let _guard = GUARDED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut fastest = Duration::MAX;
    for _ in 0..=REPETITIONS {
        let before = HELD.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let result = read();
        fastest = fastest.min(start.elapsed());
        let bytes = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        assert!(bytes <= bound.bytes, "{bytes} bytes were held at once, at most {} expected", bound.bytes);
        if fastest.as_secs_f64() <= bound.seconds {
            return result;
        }
    }
    panic!("it took {fastest:?}, at most {} s expected", bound.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    #[test]
    fn an_input_is_made_while_nothing_is_read() {
        let made = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            within(Bound::mib(64), || {
                scope.spawn(|| alone(|| made.store(true, Ordering::SeqCst)));
                std::thread::sleep(Duration::from_millis(50));
                assert!(!made.load(Ordering::SeqCst), "made beside a reading");
            });
        });
        assert!(made.into_inner());
    }

    #[test]
    fn what_stays_within_passes() {
        assert_eq!(within(Bound::mib(2), || vec![1u8; 1 << 20].len()), 1 << 20);
    }

    #[test]
    #[should_panic(expected = "bytes were held at once, at most 1048576 expected")]
    fn memory_is_bounded_even_when_it_is_not_touched() {
        within(Bound::mib(1), || vec![0u8; 1 << 30].len());
    }

    #[test]
    #[should_panic(expected = "at most 0.01 s expected")]
    fn time_is_bounded() {
        within(Bound { seconds: 0.01, bytes: 1 << 20 }, || std::thread::sleep(Duration::from_millis(20)));
    }
}
