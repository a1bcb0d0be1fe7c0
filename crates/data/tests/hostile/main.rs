//! No data file makes the reader panic, or take more than it should.

mod reading;

use percept_hostile::{Bound, Counting, any_bytes, damaged, sentence, within};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Pages may claim 16 MiB and four million values.
const PARQUET: Bound = Bound::mib(256);
const JSON: Bound = Bound::mib(16);

const JSON_WORDS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"problem\":",
    "\"answer\":",
    "\"images\":",
    "\"bytes\":",
    "\"path\":",
    ",",
    "\"x\"",
    "\"\"",
    "null",
    "1e999",
    "-0.0",
    "18446744073709551616",
    "\n",
    "\r\n",
    "\u{feff}",
    " ",
    "true",
    "{\"problem\":\"a\",\"answer\":\"b\",\"images\":",
    "[[[[[[[[",
    "\\u0000",
];

#[test]
fn whole_files_are_read() {
    assert_eq!(reading::json_files().iter().map(|file| reading::json_lines(file)).collect::<Vec<_>>(), [2, 1]);
    let files = reading::parquet_files();
    assert!(reading::tasks().iter().all(|file| reading::task(file)));
    // A third of the rows has no answer.
    assert_eq!(files.iter().map(|file| reading::parquet(file)).collect::<Vec<_>>(), [4, 4, 40, 3]);
}

#[test]
fn deep_json_is_no_harm() {
    for text in ["[".repeat(100_000), "{\"problem\":".repeat(100_000)] {
        within(JSON, || reading::json_lines(format!("{{\"problem\":\"a\",\"answer\":{text}").as_bytes()));
    }
}

fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![0..20u64, any::<u64>(), (0..64u32).prop_map(|bits| 1 << bits)]
}

proptest! {
    #![proptest_config(percept_hostile::config())]

    #[test]
    fn damaged_json_lines_are_no_harm(input in damaged(reading::json_files()), any in any_bytes(&[b"{\"problem\":"], 300)) {
        within(JSON, || reading::json_lines(&input));
        within(JSON, || reading::json_lines(&any));
    }

    #[test]
    fn words_in_any_order_are_no_harm(text in sentence(&JSON_WORDS, 40)) {
        within(JSON, || reading::json_lines(text.as_bytes()));
    }

    #[test]
    fn damaged_tasks_are_no_harm(input in damaged(reading::tasks()), counts in prop::collection::vec(any_count(), 6)) {
        within(JSON, || reading::task(&input));
        let keys = ["seed", "grid", "min_count", "max_count", "max_distractors", "train"];
        let settings: serde_json::Map<_, _> = keys.into_iter().map(str::to_owned).zip(counts.into_iter().map(Into::into)).collect();
        let text = serde_json::to_vec(&settings).expect("an object");
        within(JSON, || reading::task(&text));
    }

    #[test]
    fn damaged_parquet_is_no_harm(input in damaged(reading::parquet_files()), any in any_bytes(&[b"PAR1"], 300)) {
        within(PARQUET, || reading::parquet(&input));
        within(PARQUET, || reading::parquet(&[&any[..], &20u32.to_le_bytes(), b"PAR1"].concat()));
    }
}
