#![no_main]

#[allow(dead_code)]
#[path = "../../crates/vision/tests/hostile/reading.rs"]
mod reading;

// The reader makes errors of a library's panics; the fuzzer's hook would end the program before it can.
libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| {
    reading::picture(bytes);
});
