//! No file of a checkpoint makes a reader panic, or take more than it should.

mod reading;

use percept_hostile::{Bound, Counting, Input, alone, any_bytes, damaged, sentence, within};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SMALL: Bound = Bound::mib(16);
/// For headers of some MiB.
const LARGE: Bound = Bound::mib(96);

const HEADER_WORDS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"a\":",
    "\"model.norm.weight\":",
    "\"model.language_model.norm.weight\":",
    "\"__metadata__\":",
    "\"percept_state\":",
    "\"weight_map\":",
    "\"model-00001-of-00002.safetensors\"",
    "\"dtype\":\"F32\"",
    "\"dtype\":\"F6_E2M3\"",
    "\"shape\":[",
    "\"data_offsets\":[",
    "0,4]",
    "4,2]",
    "18446744073709551615",
    "9223372036854775808",
    "1",
    ",",
    "\"\"",
    "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}",
    "null",
];

/// A file with this header, and a few bytes of data.
fn with_header(header: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, &[0; 4]].concat()
}

/// The same file with the header's length that belongs to it, so that damage reaches what lies behind; the rest of the bytes
/// is data.
fn with_right_length(input: &Input) -> Vec<u8> {
    let end = input.iter().rposition(|byte| *byte == b'}').map_or(input.len(), |at| at + 1);
    let header = input.get(8..end).unwrap_or_default();
    [&(header.len() as u64).to_le_bytes(), header, input.get(end..).unwrap_or_default()].concat()
}

#[test]
fn whole_files_are_read() {
    assert!(reading::safetensors_files().iter().all(|file| reading::safetensors(file)));
    assert!(reading::indexes().iter().all(|file| reading::index(file)));
    assert!(reading::states().iter().all(|file| reading::state(file)));
    assert!(reading::configs().iter().all(|file| reading::config(file)));
}

#[test]
fn deep_json_is_no_harm() {
    for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
        within(SMALL, || reading::index(text.as_bytes()));
        within(SMALL, || reading::config(text.as_bytes()));
        within(SMALL, || reading::safetensors(&with_header(text.as_bytes())));
    }
}

/// The nearest name is looked for among those of the file, however many and long they are.
#[test]
fn names_of_any_length_are_no_harm() {
    for (length, num_names) in [(4 << 20, 1), (1 << 16, 64), (40, 40_000)] {
        let tensor = |number| {
            let name = format!("{number:08}{}", "x".repeat(length));
            format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}")
        };
        let file = alone(|| {
            let header = format!("{{{}}}", (0..num_names).map(tensor).collect::<Vec<_>>().join(","));
            [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
        });
        assert!(within(LARGE, || reading::safetensors(&file)), "{num_names} names of {length} bytes");
    }
}

proptest! {
    #![proptest_config(percept_hostile::config())]

    #[test]
    fn damaged_weights_are_no_harm(
        input in damaged(reading::safetensors_files()),
        any in any_bytes(&[b"\x40\0\0\0\0\0\0\0{\""], 300),
    ) {
        within(SMALL, || reading::safetensors(&input));
        within(SMALL, || reading::safetensors(&with_right_length(&input)));
        within(SMALL, || reading::safetensors(&any));
    }

    #[test]
    fn damaged_states_are_no_harm(input in damaged(reading::states())) {
        within(SMALL, || reading::state(&input));
        within(SMALL, || reading::state(&with_right_length(&input)));
    }

    #[test]
    fn headers_of_any_words_are_no_harm(text in sentence(&HEADER_WORDS, 24)) {
        within(SMALL, || reading::safetensors(&with_header(text.as_bytes())));
        within(SMALL, || reading::state(&with_header(text.as_bytes())));
        within(SMALL, || reading::index(text.as_bytes()));
    }

    #[test]
    fn damaged_indexes_are_no_harm(input in damaged(reading::indexes()), any in any_bytes(&[b"{\"weight_map\":{"], 200)) {
        within(SMALL, || reading::index(&input));
        within(SMALL, || reading::index(&any));
    }

    #[test]
    fn damaged_configurations_are_no_harm(input in damaged(reading::configs()), any in any_bytes(&[b"{\"dtype\":"], 200)) {
        within(SMALL, || reading::config(&input));
        within(SMALL, || reading::config(&any));
    }
}
