//! Runs grids of compiled kernels: blocks on threads of the process, a block's warps in turns, a warp's 32 lanes in lockstep.

mod atomic;
mod block;
mod exchange;
mod fused;
mod kernel;
mod matrix;
mod memory;
mod warp;

pub use kernel::{Kernel, Launch, Module};

/// Lanes of a warp.
const LANES: usize = 32;

/// Runs the body for each lane of a mask; the whole warp without asking.
macro_rules! lanes {
    ($mask:expr, $lane:ident, $body:block) => {
        if $mask == u32::MAX {
            for $lane in 0..$crate::run::LANES $body
        } else {
            for $lane in 0..$crate::run::LANES {
                if $mask >> $lane & 1 == 1 $body
            }
        }
    };
}
use lanes;
