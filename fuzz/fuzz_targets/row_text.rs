#![no_main]

#[allow(dead_code)]
#[path = "../../crates/text/tests/hostile/reading.rs"]
mod reading;

use std::sync::LazyLock;

static PROMPTS: LazyLock<reading::Prompts> = LazyLock::new(reading::Prompts::new);

// The reader makes errors of a library's panics; the fuzzer's hook would end the program before it can.
libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| {
    PROMPTS.build(&String::from_utf8_lossy(bytes));
});
