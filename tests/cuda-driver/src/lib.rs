//! A CUDA driver that runs PTX on the processor, so that programs which emit PTX can be tested where there is no GPU.
//!
//! As `libcuda.so` it answers the driver's functions (`driver`). As a Rust library it reads PTX ([`Module::parse`]) and runs its
//! kernels ([`Kernel::launch`]), which is how the tests use it.
//!
//! The way of a kernel: `parse` makes instructions of text, `compile` resolves their names and types, `flow` finds where lanes that
//! part meet again, `run` executes blocks, warp by warp, 32 lanes in lockstep.

mod compile;
mod driver;
mod error;
mod flow;
mod memory;
mod numbers;
mod parse;
mod run;
mod settings;
mod types;

pub use error::{Failure, Fault, PtxError};
pub use memory::{Allocations, Regions};
pub use numbers::{bf16, bf16_bits, f16, f16_bits, tf32_bits};
pub use run::{Kernel, Launch, Module};
pub use settings::{Settings, SettingsError};
