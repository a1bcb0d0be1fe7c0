//! Products that are added before they are rounded. The library is built for any processor of its kind, where each would be a call into
//! the C library; these loops are compiled once more for processors that do it in one instruction, and run there some five times as fast.

use super::LANES;
use crate::numbers::Word;

/// A function that is compiled twice; which of the two runs is found out when it is called. The results are the same.
macro_rules! fused {
    ($(#[$documentation:meta])* fn $name:ident($($argument:ident: $kind:ty),*) $body:block) => {
        $(#[$documentation])*
        pub(super) fn $name($($argument: $kind),*) {
            #[inline(always)]
            fn anywhere($($argument: $kind),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn in_one_instruction($($argument: $kind),*) {
                    anywhere($($argument),*)
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has what the function is compiled for.
                    return unsafe { in_one_instruction($($argument),*) };
                }
            }
            anywhere($($argument),*)
        }
    };
}

/// `a b + c` in a type: of registers that begin at these places, `d`, `a`, `b`, `c`, in the lanes of a mask.
#[inline(always)]
fn fma<T: Word>(registers: &mut [u64], [d, a, b, c]: [usize; 4], mask: u32, fma: impl Fn(T, T, T) -> T) {
    let lanes = |start: usize| registers[start..].first_chunk::<LANES>().expect("a register is whole");
    let (a, b, c) = (lanes(a), lanes(b), lanes(c));
    let mut results = [0; LANES];
    for (lane, result) in results.iter_mut().enumerate() {
        *result = fma(T::of(a[lane]), T::of(b[lane]), T::of(c[lane])).bits();
    }
    let d = &mut registers[d..][..LANES];
    if mask == u32::MAX {
        d.copy_from_slice(&results);
    } else {
        for (lane, (d, result)) in d.iter_mut().zip(results).enumerate() {
            *d = if mask >> lane & 1 == 1 { result } else { *d };
        }
    }
}

fused! {
    /// `fma.rn.f32`
    fn fma_f32(registers: &mut [u64], places: [usize; 4], mask: u32) {
        fma(registers, places, mask, |a: f32, b, c| a.mul_add(b, c));
    }
}

fused! {
    /// `fma.rn.f64`
    fn fma_f64(registers: &mut [u64], places: [usize; 4], mask: u32) {
        fma(registers, places, mask, |a: f64, b, c| a.mul_add(b, c));
    }
}

fused! {
    /// Adds the product of `[m, k]` and `[k, n]` to `[m, n]`, which `columns` (`n`) says; each sum in the order of `k`.
    fn add_product(sums: &mut [f32], a: &[f32], b: &[f32], columns: usize) {
        let inner = b.len() / columns;
        for (sums, a) in sums.chunks_exact_mut(columns).zip(a.chunks_exact(inner)) {
            for (a, b) in a.iter().zip(b.chunks_exact(columns)) {
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = a.mul_add(*b, *sum);
                }
            }
        }
    }
}
