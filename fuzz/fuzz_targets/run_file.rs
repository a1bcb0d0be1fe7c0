#![no_main]

#[allow(dead_code)]
#[path = "../../crates/config/tests/hostile/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reading::run_file(&String::from_utf8_lossy(bytes), &[], &[]);
});
