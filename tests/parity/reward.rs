//! The grading of PAPO's reward function (mathruler 0.1.0 with sympy 1.14), row by row.

use std::path::Path;
use std::time::{Duration, Instant};

use percept_reward::{Format, Item, Registry, RubricConfig, is_correct, last_boxed, tighten};
use serde::Deserialize;

use super::golden;

/// Rows on which the accuracy differs, by extracted answer and truth, with the reason. None is known.
const DISAGREEMENTS: [(&str, &str, &str); 0] = [];

/// The share of rows whose accuracy must agree, in whatever file.
const AGREEMENT: f64 = 0.99;

/// Categories in which no row may differ: what is compared there are normalized strings.
const STRINGS: [&str; 16] = [
    "choice",
    "decimal",
    "degrees",
    "fraction",
    "integer",
    "interval",
    "matrix",
    "mixed",
    "percent",
    "set",
    "structure",
    "thousands",
    "tuple",
    "unicode",
    "units",
    "word",
];

/// How long a pathological row may take. On an idle machine none takes a tenth of it.
const PROMPT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    category: String,
    response: String,
    ground_truth: String,
    format: f32,
    accuracy: f32,
    overall: f64,
    extracted: String,
    /// Why the reference has no verdict.
    note: Option<String>,
}

fn read(folder: &Path) -> Vec<Case> {
    let path = folder.join("grading.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: File = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.cases
}

#[test]
fn grading_agrees_with_the_reference() {
    let mut num_cases = 0;
    for folder in golden::folders("grading") {
        let cases = read(&folder);
        assert!(!cases.is_empty(), "no case in {}", folder.display());
        num_cases += cases.len();
        check(&cases);
    }
    assert!(num_cases > 0, "no grading golden was found");
}

fn check(cases: &[Case]) {
    let rubric = Registry::default().rubric(&RubricConfig::default()).expect("the default rubric");
    let (mut num_judged, mut num_agreeing) = (0, 0);
    for case in cases {
        let shown = || format!("{} {:.200}", case.category, case.response);
        let tight = tighten(&case.response);
        assert_eq!(last_boxed(&tight).unwrap_or("None"), case.extracted, "{}", shown());
        let item = Item { problem: "", response: &case.response, answer: &case.ground_truth, row: "golden" };
        let start = Instant::now();
        let verdict = rubric.grade(&[item]).expect("a verdict").remove(0);
        assert!(start.elapsed() < PROMPT, "{:?} for {}", start.elapsed(), shown());
        let [accuracy, format] = verdict.parts[..] else { panic!("two parts") };
        assert_eq!(format, case.format, "format of {}", shown());
        assert_eq!(Format::default().matches(&case.response), format == 1.0);
        assert_eq!(is_correct(&case.extracted, &case.ground_truth), accuracy == 1.0);
        if case.note.is_some() {
            assert_eq!(accuracy, 0.0, "{}", shown());
            continue;
        }
        num_judged += 1;
        let known =
            DISAGREEMENTS.iter().find(|(given, truth, _)| *given == case.extracted && *truth == case.ground_truth);
        match (accuracy == case.accuracy, known) {
            (true, None) => {
                num_agreeing += 1;
                assert_eq!(verdict.overall, case.overall as f32, "overall of {}", shown());
            }
            (true, Some((_, _, reason))) => panic!("agrees by now, though listed ({reason}): {}", shown()),
            (false, Some((_, _, reason))) => println!("differs, as listed ({reason}): {}", shown()),
            (false, None) => {
                let pair = format!("{:?} for {:?}", case.extracted, case.ground_truth);
                assert!(!STRINGS.contains(&case.category.as_str()), "differs in {}: {pair}", case.category);
                println!("differs: {} {pair}: the reference says {}", case.category, case.accuracy);
            }
        }
    }
    let share = f64::from(num_agreeing) / f64::from(num_judged);
    println!("{num_agreeing} of {num_judged} rows agree ({:.2}%)", 100.0 * share);
    assert!(share >= AGREEMENT, "only {num_agreeing} of {num_judged} rows agree");
}
