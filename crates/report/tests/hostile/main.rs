//! No file of a run makes a reader of runs panic, or take more than it should.

mod reading;

use percept_hostile::{Bound, Counting, any_bytes, damaged, sentence, within};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SMALL: Bound = Bound::mib(16);

const WORDS: [&str; 22] = [
    "{",
    "}",
    "[",
    "]",
    "\"step\":",
    "\"row\":",
    "\"score\":",
    "\"pieces\":",
    "\"a\":",
    "{\"step\":1,",
    "{\"row\":1,\"score\":",
    "\"score\":[[[1]]]}",
    ",",
    "18446744073709551615",
    "1e308",
    "-1e308",
    "-0.0",
    "null",
    "true",
    "\"\\ud800\"",
    "\"\"",
    "\n",
];

#[test]
fn whole_files_are_read() {
    assert!(reading::metrics_files().iter().all(|file| reading::metrics(file)));
    assert!(reading::samples_files().iter().all(|file| reading::samples(file)));
    assert!(reading::configuration_files().iter().all(|file| reading::configuration(file)));
    assert!(reading::scores_files().iter().all(|file| reading::scores(file)));
}

/// As many names as steps: a table of them would hold the product.
#[test]
fn many_names_and_steps_are_no_harm() {
    let text: String = (0..20_000).map(|step| format!("{{\"step\":{step},\"k{step}\":1}}\n")).collect();
    within(Bound::mib(64), || reading::metrics(text.as_bytes()));
}

proptest! {
    #![proptest_config(percept_hostile::config())]

    #[test]
    fn damaged_metrics_are_no_harm(input in damaged(reading::metrics_files()), words in sentence(&WORDS, 24)) {
        within(SMALL, || reading::metrics(&input));
        within(SMALL, || reading::metrics(words.as_bytes()));
    }

    #[test]
    fn damaged_samples_are_no_harm(input in damaged(reading::samples_files()), any in any_bytes(&[b"{\"step\":1,"], 200)) {
        within(SMALL, || reading::samples(&input));
        within(SMALL, || reading::samples(&any));
    }

    #[test]
    fn damaged_configurations_are_no_harm(input in damaged(reading::configuration_files()), any in any_bytes(&[b"a="], 200)) {
        within(SMALL, || reading::configuration(&input));
        within(SMALL, || reading::configuration(&any));
    }

    #[test]
    fn damaged_scores_are_no_harm(input in damaged(reading::scores_files()), words in sentence(&WORDS, 24)) {
        within(SMALL, || reading::scores(&input));
        within(SMALL, || reading::scores(words.as_bytes()));
    }
}
