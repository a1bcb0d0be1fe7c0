#![no_main]

#[allow(dead_code)]
#[path = "../../models/tests/hostile/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reading::model_config(bytes);
});
