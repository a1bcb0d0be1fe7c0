#![no_main]

#[allow(dead_code)]
#[path = "../../crates/report/tests/hostile/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reading::samples(bytes);
});
