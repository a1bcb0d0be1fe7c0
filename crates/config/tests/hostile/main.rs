//! No run file, override or YAML file makes the configuration's readers panic, or take more than they should.

mod reading;

use percept_hostile::{Bound, Counting, any_bytes, damaged, sentence, within};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SMALL: Bound = Bound::mib(16);
/// For texts of [`LENGTH`] bytes, where time that is quadratic would show.
const LARGE: Bound = Bound::mib(256);
const LENGTH: usize = 1 << 19;

const TOML_WORDS: [&str; 30] = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "'",
    "\"\"\"",
    "[model]\n",
    "[rollout]\n",
    "[trainer]\n",
    "[[reward.verifiers]]\n",
    "checkpoint = 'c'\n",
    "train = ['a']\n",
    "prompts_per_step = 18446744073709551615\n",
    "steps = 9223372036854775807\n",
    "epochs = 9223372036854775807\n",
    "responses_per_prompt = 9223372036854775807\n",
    "max_new_tokens = 9223372036854775807\n",
    "top_p = nan\n",
    "temperature = -inf\n",
    "kind = 'math'\n",
    "\"a\\nb\" = 1\n",
    "2026-11-22T00:00:00Z",
    "0x7fffffffffffffff",
    "a.b.c = 1\n",
];

const YAML_WORDS: [&str; 28] = [
    "data:\n",
    "  seed: 1\n",
    "worker:\n",
    "  rollout:\n",
    "    n: 9223372036854775807\n",
    "trainer:\n",
    "- ",
    "? ",
    ": ",
    "&a ",
    "*a",
    "${data.seed}",
    "${",
    "}",
    "{",
    "[",
    "]",
    ",",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "\\x41",
    "!!str ",
    "<<: ",
    "---\n",
    "%YAML 1.2\n",
    "\t",
];

/// Keys whose values are numbers, with values at the ends of what numbers can be.
fn extreme_sets() -> impl Strategy<Value = Vec<String>> {
    let keys = [
        "rollout.prompts_per_step",
        "rollout.responses_per_prompt",
        "rollout.max_new_tokens",
        "rollout.top_k",
        "rollout.top_p",
        "rollout.temperature",
        "trainer.prompts_per_update",
        "trainer.prompts_per_try",
        "trainer.micro_tokens",
        "trainer.steps",
        "trainer.epochs",
        "data.max_prompt_tokens",
        "data.min_pixels",
        "data.max_pixels",
        "data.seed",
        "optimizer.warmup_steps",
        "optimizer.learning_rate",
        "sft.rows_per_step",
        "sft.epochs",
        "model.lora.rank",
        "rollout",
        "a.b.c.d",
        "objective.kind",
    ];
    let values = [
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "1e308",
        "-0.0",
        "nan",
        "inf",
        "[]",
        "{}",
        "[[[]]]",
        "''",
        "word",
        "\"\\u0000\\n\"",
        "\n",
        "auto",
    ];
    let set = (prop::sample::select(keys.to_vec()), prop::sample::select(values.to_vec()));
    prop::collection::vec(set.prop_map(|(key, value)| format!("{key}={value}")), 0..6)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const RUN: &str = "[model]\ncheckpoint = 'c'\n[data]\ntrain = ['a.parquet']\n";

#[test]
fn whole_files_are_read() {
    assert!(reading::run_files().iter().all(|file| within(SMALL, || reading::run_file(&text(file), &[], &[]))));
    assert!(reading::yaml_files().iter().all(|file| within(SMALL, || reading::easyr1(&text(file), &[]))));
    assert!(reading::run_file(RUN, &[], &[]));
}

#[test]
fn long_texts_are_no_harm() {
    let pieces = [
        "a",
        "a.",
        "a = 1\n",
        "[a]\n",
        "[[a]]\n",
        "[",
        "{",
        "{a=",
        "a={",
        "a=[",
        "'",
        "\"\"\"",
        "#",
        "- ",
        "? ",
        "a: ",
        "a:\n",
        "&a ",
        "*a ",
        "[a, ",
        "{a: ",
        "\"\\",
        "|\n",
        "${a}",
        "${",
        "!a ",
        " ",
        "\t",
        "\n",
        "---\n",
        "a: &a [*a]\n",
    ];
    for piece in pieces {
        println!("{piece:?}");
        let text = piece.repeat(LENGTH / piece.len());
        let variable = (format!("PERCEPT__{}", text.replace('.', "__")), "1".to_owned());
        within(LARGE, || reading::run_file(&text, &[], &[]));
        within(LARGE, || reading::run_file(&format!("{RUN}{text}"), &[], &[]));
        within(LARGE, || reading::run_file(RUN, &[], &[format!("rollout.{text}=1")]));
        within(LARGE, || reading::run_file(RUN, &[], &[format!("rollout.top_k={text}")]));
        within(LARGE, || reading::run_file(RUN, std::slice::from_ref(&variable), &[]));
        within(LARGE, || reading::easyr1(&text, &[]));
        within(LARGE, || reading::easyr1(&format!("data: {text}"), &[]));
        within(LARGE, || reading::easyr1("data: {seed: 1}", &[format!("{text}=1")]));
        within(LARGE, || reading::easyr1("data: {seed: 1}", &[format!("data.seed={text}")]));
    }
}

/// No key is near it, and comparing would take memory for the product of both lengths.
#[test]
fn a_key_of_any_length_is_no_harm() {
    within(LARGE, || reading::run_file(&format!("{RUN}[rollout]\n{} = 1\n", "a".repeat(4 << 20)), &[], &[]));
}

/// Different keys, each once.
#[test]
fn many_keys_are_no_harm() {
    let keys = |form: fn(usize) -> String| (0..40_000).map(form).collect::<String>();
    within(LARGE, || reading::run_file(&keys(|at| format!("k{at} = 1\n")), &[], &[]));
    within(LARGE, || reading::run_file(&format!("{RUN}[objective]\n{}", keys(|at| format!("k{at} = 1\n"))), &[], &[]));
    within(LARGE, || reading::easyr1(&keys(|at| format!("k{at}: 1\n")), &[]));
    within(LARGE, || reading::easyr1(&format!("data:\n{}", keys(|at| format!("  k{at}: ${{data.k{at}}}\n"))), &[]));
}

/// One long text, and many values that are it.
#[test]
fn copies_are_no_harm() {
    let long = "x".repeat(LENGTH);
    for copy in ["*a", "'${a}'"] {
        let copies = (0..5000).map(|at| format!("k{at}: {copy}\n")).collect::<String>();
        within(LARGE, || reading::easyr1(&format!("a: &a {long}\n{copies}"), &[]));
    }
}

proptest! {
    #![proptest_config(percept_hostile::config())]

    #[test]
    fn damaged_run_files_are_no_harm(input in damaged(reading::run_files()), any in any_bytes(&[b"[model]\n", b"a="], 300)) {
        within(SMALL, || reading::run_file(&text(&input), &[], &[]));
        within(SMALL, || reading::run_file(&text(&any), &[], &[]));
    }

    #[test]
    fn run_files_of_any_words_are_no_harm(words in sentence(&TOML_WORDS, 24), sets in extreme_sets()) {
        within(SMALL, || reading::run_file(&words, &[], &[]));
        within(SMALL, || reading::run_file(RUN, &[], &sets));
    }

    #[test]
    fn overrides_of_any_text_are_no_harm(key in "[a-z_.]{0,20}", value in any::<String>(), any in any::<String>()) {
        let sets = [format!("{key}={value}"), any];
        for set in sets {
            let variable = (format!("PERCEPT__{}", key.replace('.', "__")), set.clone());
            within(SMALL, || reading::run_file(RUN, &[], std::slice::from_ref(&set)));
            within(SMALL, || reading::run_file(RUN, std::slice::from_ref(&variable), &[]));
        }
    }

    #[test]
    fn damaged_yaml_is_no_harm(input in damaged(reading::yaml_files()), words in sentence(&YAML_WORDS, 24), set in any::<String>()) {
        within(SMALL, || reading::easyr1(&text(&input), &[]));
        within(SMALL, || reading::easyr1(&words, std::slice::from_ref(&set)));
    }
}
