#![no_main]

#[allow(dead_code)]
#[path = "../../crates/reward/tests/hostile/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (given, truth) = text.split_once('\n').unwrap_or((&text, "5"));
    reading::answers(given, truth);
});
