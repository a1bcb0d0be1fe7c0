//! The integration tests, one binary.

mod bad_input;
mod gradients;
mod init;
mod parity;
mod program;
mod runs;
mod shared_prefix;
mod tidy;
