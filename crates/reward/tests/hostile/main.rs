//! No response, no answer and no program's reply makes a verifier panic, or take more than it should.

mod reading;

use percept_hostile::{Bound, Counting, any_bytes, damaged, sentence, within};
use percept_reward::{Item, Verifier};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ANSWER: Bound = Bound::mib(32);
/// For texts of [`LENGTH`] bytes, where time that is quadratic would show.
const LARGE: Bound = Bound::mib(48);
const LENGTH: usize = 1 << 17;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

proptest! {
    #![proptest_config(percept_hostile::config())]

    #[test]
    fn any_text_is_no_harm(input in any_bytes(&[b"\\boxed{", b"\\frac{"], 400)) {
        within(ANSWER, || reading::response(&text(&input)));
    }

    #[test]
    fn damaged_responses_are_no_harm(input in damaged(reading::responses())) {
        within(ANSWER, || reading::response(&text(&input)));
    }

    #[test]
    fn words_in_any_order_are_no_harm(given in sentence(&reading::WORDS, 60), truth in sentence(&reading::WORDS, 20)) {
        within(ANSWER, || reading::answers(&given, &truth));
    }

    /// Few words, each often: what is deep, and what grows with its depth.
    #[test]
    fn repetition_is_no_harm(
        words in prop::collection::vec((prop::sample::select(&reading::WORDS[..]), 1..200usize), 1..6),
        end in sentence(&reading::WORDS, 6),
    ) {
        let given = words.iter().map(|(word, times)| word.repeat(*times)).collect::<String>() + &end;
        within(ANSWER, || reading::answers(&given, "x+1"));
    }

    /// The same phrase around a core, as brackets are: `((x)**.5)**.5`.
    #[test]
    fn nesting_is_no_harm(
        before in sentence(&reading::WORDS, 3),
        core in sentence(&reading::WORDS, 3),
        after in sentence(&reading::WORDS, 4),
        times in 1..200usize,
    ) {
        let given = [before.repeat(times), core, after.repeat(times)].concat();
        within(ANSWER, || reading::answers(&given, "5"));
    }
}

#[test]
fn long_texts_are_no_harm() {
    let pieces = [
        "x",
        "7",
        " ",
        "\n",
        "{",
        "\\frac{",
        "\\boxed{",
        "1,000,",
        "answer ",
        "A. red\n",
        "</think>",
        "\\begin{pmatrix}",
        "a&",
        "''",
        "٤",
        "1 ",
        "- ",
        "degree ",
        "\\text{ ",
        "\\sqrt",
        "\\sqrt[",
        "$",
        "%",
        "1/",
        "\\(",
        "\\[ \n",
        "\\hat",
        "9^",
        "(",
        "é",
        "million",
        "A,",
        "=",
        "\\mathbb{",
        "option: ",
    ];
    for piece in pieces {
        let text = piece.repeat(LENGTH / piece.len());
        println!("{piece:?}");
        within(LARGE, || reading::response(&text));
    }
}

#[test]
fn a_flood_waits() {
    // `yes` says gigabytes a second, before it is asked and after it has answered.
    for script in ["yes", "read -r line; echo '{\"id\":0,\"score\":1}'; yes", "yes | tr -d '\\n'", "yes >&2"] {
        within(Bound { seconds: 10.0, ..Bound::mib(32) }, || {
            let command = reading::command(&["sh", "-c", script], 0.3);
            let item = Item { problem: "p", response: "r", answer: "a", row: "row 1" };
            let score = command.verify(&item);
            assert_eq!(score.is_ok(), script.starts_with("read"), "{script}");
            std::thread::sleep(std::time::Duration::from_millis(300));
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: percept_hostile::config().cases.min(5000), ..percept_hostile::config() })]

    #[test]
    fn damaged_replies_are_no_harm(input in damaged(reading::replies()), any in any_bytes(&[b"{\"id\":0,"], 200)) {
        let slow = Bound { seconds: 10.0, ..ANSWER };
        within(slow, || reading::reply(&input));
        within(slow, || reading::reply(&any));
    }
}
