//! No description of a model or of an adapter makes the loader panic, or take more than it should.

mod reading;

use percept_hostile::{Bound, Counting, any_bytes, damaged, sentence, within};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A model of a few thousand numbers.
const SMALL: Bound = Bound::mib(32);

/// Sizes that a file may claim, each in the place of every number of a whole file.
const CLAIMS: [&str; 10] =
    ["0", "-1", "1.5", "3", "4096", "16777216", "4294967296", "1152921504606846976", "18446744073709551615", "1e300"];

const WORDS: [&str; 16] = [
    "{\"model_type\":\"qwen2_5_vl\",",
    "}",
    "\"hidden_size\":",
    "\"num_hidden_layers\":",
    "\"num_attention_heads\":",
    "\"vocab_size\":",
    "\"intermediate_size\":",
    "\"image_token_id\":",
    "\"text_config\":{",
    "\"vision_config\":{",
    "\"fullatt_block_indexes\":[",
    "]",
    "18446744073709551615",
    "8",
    ",",
    "null",
];

/// The text with its nth number replaced.
fn claiming(text: &str, nth: usize, claim: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let starts = text.match_indices([':', '[', ',']).map(|(at, _)| at + 1);
    let mut numbers = starts.filter_map(|at| {
        let rest = text[at..].trim_start();
        let from = text.len() - rest.len();
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        (length > 0).then_some(from..from + length)
    });
    let range = numbers.nth(nth)?;
    Some([&text[..range.start], claim, &text[range.end..]].concat())
}

#[test]
fn whole_files_are_read() {
    for (at, config) in reading::model_configs().iter().enumerate() {
        assert!(within(SMALL, || reading::model_config(config)), "configuration {at}");
    }
    for config in reading::adapter_configs() {
        assert!(within(SMALL, || reading::adapter_config(&config)));
    }
}

#[test]
fn any_size_is_no_harm() {
    let mut tried = 0;
    for (files, read) in [
        (reading::model_configs(), &reading::model_config as &dyn Fn(&[u8]) -> bool),
        (reading::adapter_configs(), &reading::adapter_config),
    ] {
        for file in files {
            let text = String::from_utf8(file).expect("text");
            for nth in 0.. {
                if claiming(&text, nth, "0").is_none() {
                    break;
                }
                for claim in CLAIMS {
                    let claimed = claiming(&text, nth, claim).expect("a number");
                    // lists of the tensors of thousands of layers, at most
                    within(Bound::mib(256), || read(claimed.as_bytes()));
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 400, "{tried}");
}

proptest! {
    #![proptest_config(percept_hostile::config())]

    #[test]
    fn damaged_configurations_are_no_harm(input in damaged(reading::model_configs())) {
        within(Bound::mib(256), || reading::model_config(&input));
    }

    #[test]
    fn damaged_adapters_are_no_harm(input in damaged(reading::adapter_configs())) {
        within(SMALL, || reading::adapter_config(&input));
    }

    #[test]
    fn words_in_any_order_are_no_harm(text in sentence(&WORDS, 24), any in any_bytes(&[b"{\"model_type\":"], 200)) {
        for input in [text.as_bytes(), &any] {
            within(SMALL, || reading::model_config(input));
            within(SMALL, || reading::adapter_config(input));
        }
    }
}
