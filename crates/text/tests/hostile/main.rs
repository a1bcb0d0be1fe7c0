//! No tokenizer, template, configuration or row's text makes the text crate panic, or take more than it should.

mod reading;

use std::sync::LazyLock;

use percept_hostile::{Bound, Counting, any_bytes, damaged, sentence, within};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SMALL: Bound = Bound::mib(48);
/// The fuel's 16 MB, and what lists of it take.
const TEMPLATE: Bound = Bound { seconds: 10.0, ..Bound::mib(512) };

static PROMPTS: LazyLock<reading::Prompts> = LazyLock::new(reading::Prompts::new);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn whole_files_are_read() {
    for tokenizer in reading::tokenizers() {
        assert!(within(SMALL, || reading::tokenizer(&tokenizer)), "{}", text(&tokenizer[..200]));
    }
    for template in reading::templates() {
        assert!(within(TEMPLATE, || reading::template(&text(&template))), "{}", text(&template));
    }
}

/// Each level of nesting is read by trying what it may be.
#[test]
fn nested_parts_of_a_tokenizer_are_no_harm() {
    for depth in [10, 40, 100] {
        for (part, list) in [("pre_tokenizer", "pretokenizers"), ("normalizer", "normalizers"), ("decoder", "decoders")]
        {
            let nested =
                format!("{}{}", format!("{{\"type\":\"Sequence\",\"{list}\":[").repeat(depth), "]}".repeat(depth));
            let json = format!(
                "{{\"version\":\"1.0\",\"added_tokens\":[],\"{part}\":{nested},\"model\":{{\"type\":\"BPE\",\"vocab\":{{\"a\":0}},\"merges\":[]}}}}"
            );
            within(SMALL, || reading::tokenizer(json.as_bytes()));
            within(SMALL, || reading::tokenizer(json.replace("\"type\":\"Sequence\",", "").as_bytes()));
        }
    }
}

#[test]
fn all_private_characters_are_no_harm() {
    let private: String = ('\u{e000}'..='\u{f8ff}').collect();
    within(SMALL, || PROMPTS.build(&format!("{private}<|im_end|>")));
}

proptest! {
    #![proptest_config(percept_hostile::config())]

    #[test]
    fn damaged_tokenizers_are_no_harm(input in damaged(reading::tokenizers()), any in any_bytes(&[b"{\"version\":\"1.0\","], 300)) {
        within(SMALL, || reading::tokenizer(&input));
        within(SMALL, || reading::tokenizer(&any));
    }

    #[test]
    fn damaged_templates_are_no_harm(input in damaged(reading::templates()), any in any_bytes(&[b"{{ ", b"{% "], 200)) {
        within(TEMPLATE, || reading::template(&text(&input)));
        within(TEMPLATE, || reading::template(&text(&any)));
    }

    #[test]
    fn templates_of_any_words_are_no_harm(source in sentence(&reading::TEMPLATE_WORDS, 24)) {
        within(TEMPLATE, || reading::template(&source));
    }

    #[test]
    fn damaged_small_files_are_no_harm(input in damaged(reading::small_files())) {
        within(TEMPLATE, || reading::configs(&input));
    }

    #[test]
    fn rows_of_any_text_are_no_harm(any in any::<String>(), words in sentence(&reading::ROW_WORDS, 40)) {
        within(SMALL, || PROMPTS.build(&any));
        within(SMALL, || PROMPTS.build(&words));
    }
}
