#![no_main]

#[allow(dead_code)]
#[path = "../../crates/text/tests/hostile/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reading::template(&String::from_utf8_lossy(bytes));
});
