//! For tests of readers: input that is damaged on purpose, and a guard over what reading it takes.
//!
//! A reader's tests (`tests/hostile/main.rs` of its crate) damage whole files in ways that readers must survive
//! ([`damaged`]), and read each under a bound of time and memory ([`within`]). The fuzz targets in `fuzz/` call the same
//! reading functions with inputs of their own.
//!
//! Each case is one of `PROPTEST_CASES` (256 by default).

mod damage;
mod guard;

use proptest::test_runner::Config;

pub use damage::{Input, any_bytes, damaged, sentence};
pub use guard::{Bound, Counting, alone, within};

/// The tests' configuration: as many cases as `PROPTEST_CASES` says, and no file of failures (a failure becomes a test).
pub fn config() -> Config {
    Config { failure_persistence: None, max_shrink_time: 60_000, ..Config::default() }
}
