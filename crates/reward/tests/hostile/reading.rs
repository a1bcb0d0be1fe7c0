//! What is done with a response and with what a program answers, whatever they say; the fuzz targets do the same.

use std::collections::BTreeMap;

use percept_reward::{
    Choice, Command, CommandConfig, Exact, Format, Item, Math, Numeric, Part, Style, Verifier, is_correct,
};

/// Compares two final answers in both directions, and each with itself.
pub fn answers(given: &str, truth: &str) {
    is_correct(given, truth);
    is_correct(truth, given);
    assert!(is_correct(given, given), "{given:?} is not itself");
}

/// Judges a response with every verifier of this crate that runs inside the program. The two halves of `text` are also
/// taken for problem and answer.
pub fn response(text: &str) {
    let half = text.floor_char_boundary(text.len() / 2);
    let item = |response, answer| Item { problem: &text[..half], response, answer, row: "row 1" };
    let verifiers: [&dyn Verifier; 8] = [
        &Math {},
        &Format::default(),
        &Format { style: Style::ThinkOpened },
        &Choice::default(),
        &Exact { part: Part::LastLine, ignore_case: true },
        &Exact { part: Part::Whole, ignore_case: false },
        &Numeric { part: Part::Whole, ..Numeric::default() },
        &Numeric::default(),
    ];
    let boxed = format!("<think>{}</think> \\boxed{{{}}}", &text[..half], &text[half..]);
    for verifier in verifiers {
        for (response, answer) in [(text, "7"), (&boxed, "B"), (&boxed, &text[half..])] {
            // An answer may be none that the verifier can use; a score is a number.
            assert!(
                verifier.verify(&item(response, answer)).is_ok_and(f32::is_finite) || answer != "7" || choice(verifier)
            );
        }
    }
}

/// `7` is no option.
fn choice(verifier: &dyn Verifier) -> bool {
    let item = Item { problem: "", response: "", answer: "7", row: "" };
    verifier.verify(&item).is_err()
}

/// A program that judges, and the seconds it may take.
pub fn command(words: &[&str], timeout_seconds: f64) -> Command {
    let config = CommandConfig {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        directory: None,
        environment: BTreeMap::new(),
        workers: 1,
        timeout_seconds,
        start_seconds: 0.0,
        lowest: 0.0,
        highest: 1.0,
    };
    Command::start(config).expect("the program is there")
}

/// Asks a program that says `bytes` and ends. A score is within the bounds.
pub fn reply(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("reply");
    std::fs::write(&path, bytes).expect("writes");
    let command = command(&["cat", &path.display().to_string()], 10.0);
    match command.verify(&Item { problem: "p", response: "r", answer: "a", row: "row 1" }) {
        Ok(score) => assert!((0.0..=1.0).contains(&score)),
        Err(error) => assert!(error.to_string().starts_with("row 1: ") && error.concerns_one_item(), "{error}"),
    }
}

/// Replies as programs should give them.
pub fn replies() -> Vec<Vec<u8>> {
    ["{\"id\":0,\"score\":0.5}\n", "\n{\"score\": 1, \"id\": 0, \"why\": [{\"a\": null}]}\nmore\n"]
        .map(|text| text.as_bytes().to_vec())
        .into()
}

/// Responses as policies give them.
pub fn responses() -> Vec<Vec<u8>> {
    [
        "<think>3 and 4, so \\(x^2 = 16\\)</think> It is \\boxed{\\frac{14}{2}}.",
        "<think>A. red\nB. blue</think> The answer is (B). \\boxed{\\text{B}}",
        "\\boxed{\\begin{pmatrix}1 & -2 \\\\ \\sqrt[3]{8} & x^{2}\\end{pmatrix}}",
        "\\boxed{(-\\infty, 3] \\cup \\left[\\dfrac{1}{2}, 1{,}000\\right)}",
        "about 1.2\\times 10^{3} m, that is 12,345.5 % or 3/4\n",
        "\\boxed{(x+y)**2 - 2*x*y + sqrt(48) - 4!}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// What answers are made of.
pub const WORDS: [&str; 70] = [
    "\\frac",
    "\\sqrt",
    "\\sqrt[",
    "{",
    "}",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "1",
    "2",
    "0",
    "x",
    "y",
    "n",
    "9",
    ".",
    ",",
    "^",
    "^{",
    "**",
    "!",
    "/",
    "*",
    "+",
    "-",
    " ",
    "\n",
    "\n\n",
    "&",
    "\\\\",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "\\begin{array}{",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "$",
    "$$",
    "\\text{",
    "\\text{ ",
    "\\textbf{",
    "\\mbox",
    "\\left",
    "\\right",
    "\\hat",
    "\\mathbb",
    "\\not",
    "%",
    "pi",
    "\\pi",
    "sqrt(",
    "ln(",
    "ln",
    "e",
    "j",
    "1e9",
    "\\boxed{",
    "million",
    "degrees",
    "cm",
    "=",
    "<",
    "''",
    "\u{1f}",
    "é",
    "4",
];
