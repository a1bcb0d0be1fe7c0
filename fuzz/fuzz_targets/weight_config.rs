#![no_main]

#[allow(dead_code)]
#[path = "../../crates/weights/tests/hostile/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reading::config(bytes);
});
