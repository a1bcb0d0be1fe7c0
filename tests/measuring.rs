//! `percept eval` and `percept sample`: what they write agrees with itself, and with each other.

use crate::program::{Place, lines, mean};
use serde_json::Value;
use std::path::Path;

/// The chance that k of n responses hold one of c right ones, by counting choices.
fn pass(n: u64, c: u64, k: u64) -> f64 {
    let choose = |n: u64, k: u64| (0..k).map(|i| (n as f64 - i as f64) / (i + 1) as f64).product::<f64>();
    if n - c < k { 1.0 } else { 1.0 - choose(n - c, k) / choose(n, k) }
}

#[test]
fn eval_writes_rows_that_agree_with_its_averages() {
    let place = Place::new();
    let workshop = &place.workshop;
    let (warm, test) = (workshop.warm(), workshop.data("test"));
    let (warm, test) = (warm.to_str().expect("Unicode"), test.to_str().expect("Unicode"));
    let words = ["eval", "--config", "run.toml", "--checkpoint", warm, "--data", test];
    let sampled = ["-k", "4", "--temperature", "1.0", "--rows", "rows.jsonl", "--json", "summary.json"];
    let out = place.percept(&[&words[..], &sampled].concat()).well();
    let rows = lines(&place.path().join("rows.jsonl"));
    assert_eq!(rows.len(), 16);
    let scores = |row: &Value, part: &str| -> Vec<f64> {
        let scores = if part == "overall" { &row["overall"] } else { &row["parts"][part] };
        scores.as_array().expect("scores").iter().map(|score| score.as_f64().expect("a number")).collect()
    };
    let summary: Value =
        serde_json::from_slice(&std::fs::read(place.path().join("summary.json")).expect("a summary")).expect("JSON");
    let number = |name: &str| summary[name].as_f64().unwrap_or_else(|| panic!("{name} in {summary}"));
    for part in ["accuracy", "format", "overall"] {
        let means: Vec<f64> = rows.iter().map(|row| mean(&scores(row, part))).collect();
        assert!((mean(&means) - number(&format!("avg_{part}"))).abs() < 1e-6, "avg_{part}");
    }
    assert!(
        number("avg_accuracy") > 0.0 && number("avg_accuracy") < 1.0,
        "a weak policy is sometimes right: {summary}"
    );
    for k in [1, 2, 4] {
        let right = |row: &Value| scores(row, "accuracy").iter().filter(|&&score| score > 0.5).count() as u64;
        let expected = mean(&rows.iter().map(|row| pass(4, right(row), k)).collect::<Vec<_>>());
        assert!((expected - number(&format!("pass_at_{k}"))).abs() < 1e-9, "pass@{k}: {expected}, {summary}");
        let line = out.lines().find(|line| line.starts_with(&format!("pass@{k} "))).expect("a line");
        assert!(line.ends_with(&format!("{expected:.4}")), "{line}, expected {expected}");
    }
    for row in &rows {
        assert_eq!(row["responses"].as_array().expect("responses").len(), 4);
        // the overall score is what the rubric says: 0.9 accuracy, 0.1 format
        for ((overall, accuracy), format) in
            scores(row, "overall").iter().zip(scores(row, "accuracy")).zip(scores(row, "format"))
        {
            assert!((overall - (0.9 * accuracy + 0.1 * format)).abs() < 1e-6);
        }
    }
    assert!(
        rows.iter().any(|row| row["responses"]
            .as_array()
            .expect("responses")
            .iter()
            .any(|text| text != &row["responses"][0]))
    );
}

#[test]
fn black_pictures_are_all_the_same_to_the_policy() {
    let place = Place::new();
    let workshop = &place.workshop;
    let (warm, test) = (workshop.warm(), workshop.data("test"));
    let (warm, test) = (warm.to_str().expect("Unicode"), test.to_str().expect("Unicode"));
    let words = ["eval", "--config", "run.toml", "--checkpoint", warm, "--data", test, "--rows", "rows.jsonl"];
    let greedy = |more: &[&str]| -> Vec<Value> {
        place.percept(&[&words[..], more].concat()).well();
        lines(&place.path().join("rows.jsonl")).iter().map(|row| row["responses"][0].clone()).collect()
    };
    let (seen, black) = (greedy(&[]), greedy(&["--corrupt", "black"]));
    // every row asks the same, so that without its picture every row gets the same response
    assert!(black.iter().all(|response| response == &black[0]), "{black:?}");
    assert!(seen.iter().any(|response| response != &seen[0]), "the policy does not look: {seen:?}");
}

#[test]
fn sample_gives_the_response_that_eval_saw() {
    let place = Place::new();
    let workshop = &place.workshop;
    let (warm, data) = (workshop.warm(), workshop.lines().join("test.jsonl"));
    let (warm, data) = (warm.to_str().expect("Unicode"), data.to_str().expect("Unicode"));
    place
        .percept(&[
            "eval",
            "--config",
            "run.toml",
            "--checkpoint",
            warm,
            "--data",
            data,
            "--limit",
            "3",
            "--rows",
            "rows.jsonl",
        ])
        .well();
    let evaluated = lines(&place.path().join("rows.jsonl"));
    assert_eq!(evaluated.len(), 3);
    for (row, seen) in lines(Path::new(data)).iter().zip(&evaluated) {
        let picture =
            row["images"][0].as_str().or_else(|| row["images"][0]["path"].as_str()).expect("a picture's path");
        let picture = workshop.lines().join(picture);
        let question = row["problem"].as_str().expect("a question").replace("<image>", "");
        let words = [
            "sample",
            "--config",
            "run.toml",
            "--checkpoint",
            warm,
            "--image",
            picture.to_str().expect("Unicode"),
            "--question",
            &question,
        ];
        let response = place.percept(&[&words[..], &["--max-new-tokens", "20"]].concat()).well();
        assert_eq!(response.trim_end_matches('\n'), seen["responses"][0].as_str().expect("text"));
    }
}
