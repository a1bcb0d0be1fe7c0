#![no_main]

#[allow(dead_code)]
#[path = "../../crates/reward/tests/hostile/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reading::response(&String::from_utf8_lossy(bytes));
});
