//! The integration tests, one binary.

mod gradients;
mod parity;
mod shared_prefix;
