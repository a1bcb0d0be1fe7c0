//! The integration tests, one binary.

mod activations;
mod bad_input;
mod bench;
mod device;
mod doctor;
mod evaluation;
mod faults;
mod gradients;
mod init;
mod looking;
mod lora;
mod measuring;
mod out_of_memory;
mod parity;
mod plan;
mod portability;
mod program;
mod recompute;
mod reference;
mod resume;
mod runs;
mod sampling;
mod shared_prefix;
#[cfg(unix)]
mod terminal;
mod tidy;
mod tiny;
mod torn;
