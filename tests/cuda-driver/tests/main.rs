//! Small kernels in PTX, and what they must give.

mod blocks;
mod calls;
mod device;
mod driver;
mod flow;
mod integers;
mod lanes;
mod matrix;
mod memory;
mod refused;
mod rounding;
