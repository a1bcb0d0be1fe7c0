//! Atomic operations (PTX ISA 8.8, `atom`): each is one of the processor, so that threads that run blocks do not get in each other's way.

use super::lanes;
use super::memory::Spaces;
use super::warp::{Outcome, Warp};
use crate::compile::{Address, Atomic};
use crate::numbers::{BFloat16, Float16, Word};
use crate::parse::Slot;
use crate::types::Type;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

impl Warp {
    pub(super) fn atomic(
        &mut self,
        change: Atomic,
        to: Option<Slot>,
        at: &Address,
        operands: [Option<Slot>; 2],
        mask: u32,
        spaces: &Spaces<'_>,
    ) -> Outcome {
        self.check(at, change.bytes(), change.bytes(), mask, spaces)?;
        lanes!(mask, lane, {
            let [a, b] = operands.map(|slot| slot.map_or(0, |slot| self.get(slot, lane)));
            // SAFETY: whoever launches the kernel says that it may access this.
            let before = unsafe { update(change, self.pointer(at, lane, spaces), a, b) };
            if let Some(slot) = to {
                self.set(slot, lane, before);
            }
        });
        Ok(())
    }
}

/// Changes what is in memory, and returns what was there.
///
/// # Safety
/// The memory is there, and aligned.
unsafe fn update(change: Atomic, at: *mut u8, a: u64, b: u64) -> u64 {
    // SAFETY: as the caller says; memory is looked at as what the operation's type has as many bytes as.
    let half = || unsafe { AtomicU16::from_ptr(at as *mut u16) };
    let word = || unsafe { AtomicU32::from_ptr(at as *mut u32) };
    let double = || unsafe { AtomicU64::from_ptr(at as *mut u64) };
    let of_words = |f: &dyn Fn(u64) -> u64| {
        let f = |before| Some(f(before as u64) as u32);
        word().fetch_update(SeqCst, SeqCst, f).unwrap_or_else(|before| before) as u64
    };
    let of_halves = |f: &dyn Fn(u64) -> u64| {
        let f = |before| Some(f(before as u64) as u16);
        half().fetch_update(SeqCst, SeqCst, f).unwrap_or_else(|before| before) as u64
    };
    let of_doubles = |f: &dyn Fn(u64) -> u64| {
        double().fetch_update(SeqCst, SeqCst, |before| Some(f(before))).unwrap_or_else(|before| before)
    };
    match change {
        Atomic::Add(Type::U64 | Type::S64) => double().fetch_add(a, SeqCst),
        Atomic::Add(Type::F64) => of_doubles(&|before| (f64::of(before) + f64::of(a)).bits()),
        Atomic::Add(Type::F32) => of_words(&|before| (f32::of(before) + f32::of(a)).bits()),
        Atomic::Add(Type::BF16) => of_halves(&|before| bf16_sum(before, a)),
        Atomic::Add(Type::F16) => of_halves(&|before| f16_sum(before, a)),
        Atomic::Add(Type::BF16x2) => of_words(&|before| bf16_sum(before, a) | bf16_sum(before >> 16, a >> 16) << 16),
        Atomic::Add(Type::F16x2) => of_words(&|before| f16_sum(before, a) | f16_sum(before >> 16, a >> 16) << 16),
        Atomic::Add(_) => word().fetch_add(a as u32, SeqCst) as u64,
        Atomic::Smaller(Type::S32) => of_words(&|before| i32::of(before).min(i32::of(a)).bits()),
        Atomic::Larger(Type::S32) => of_words(&|before| i32::of(before).max(i32::of(a)).bits()),
        Atomic::Smaller(Type::S64) => of_doubles(&|before| i64::of(before).min(i64::of(a)).bits()),
        Atomic::Larger(Type::S64) => of_doubles(&|before| i64::of(before).max(i64::of(a)).bits()),
        Atomic::Smaller(Type::U64) => double().fetch_min(a, SeqCst),
        Atomic::Larger(Type::U64) => double().fetch_max(a, SeqCst),
        Atomic::Smaller(_) => word().fetch_min(a as u32, SeqCst) as u64,
        Atomic::Larger(_) => word().fetch_max(a as u32, SeqCst) as u64,
        Atomic::And32 => word().fetch_and(a as u32, SeqCst) as u64,
        Atomic::Or32 => word().fetch_or(a as u32, SeqCst) as u64,
        Atomic::Xor32 => word().fetch_xor(a as u32, SeqCst) as u64,
        Atomic::Exchange32 => word().swap(a as u32, SeqCst) as u64,
        Atomic::Exchange64 => double().swap(a, SeqCst),
        Atomic::CompareExchange32 => {
            word().compare_exchange(a as u32, b as u32, SeqCst, SeqCst).unwrap_or_else(|before| before) as u64
        }
        Atomic::CompareExchange64 => double().compare_exchange(a, b, SeqCst, SeqCst).unwrap_or_else(|before| before),
    }
}

fn bf16_sum(a: u64, b: u64) -> u64 {
    BFloat16(BFloat16::of(a).0 + BFloat16::of(b).0).bits()
}

fn f16_sum(a: u64, b: u64) -> u64 {
    Float16(Float16::of(a).0 + Float16::of(b).0).bits()
}
