//! The integration tests, one binary.

mod bad_input;
mod gradients;
mod parity;
mod program;
mod runs;
mod shared_prefix;
mod tidy;
