#![no_main]

#[allow(dead_code)]
#[path = "../../crates/vision/tests/hostile/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reading::preprocessor_config(bytes);
});
