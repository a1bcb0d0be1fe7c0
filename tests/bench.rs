//! `percept bench`, as a user would run it: whole steps beside the base method's, pieces, the repeated computation, a sweep.

use crate::program::percept;
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

fn place() -> TempDir {
    let place = tempfile::tempdir().expect("a temporary folder");
    run(place.path(), "task --out data --train 4 --validation 2 --test 2 --checkpoint model");
    place
}

fn run(place: &Path, words: &str) -> String {
    percept(place, &words.split_whitespace().collect::<Vec<_>>()).well()
}

/// The JSON of a run of so many steps.
fn bench(place: &Path, more: &str) -> (Value, String) {
    let shared = "bench --checkpoint model --data data/train.parquet --prompts 2 --responses 3 --new-tokens 5 --steps 3 --json bench.json";
    let said = run(place, &format!("{shared} {more}"));
    let text = std::fs::read_to_string(place.join("bench.json")).expect("a report");
    (serde_json::from_str(&text).expect("JSON"), said)
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {path} in {report:#}"))
}

#[test]
fn a_step_its_base_and_its_pieces_are_measured() {
    let place = place();
    let (report, said) =
        bench(place.path(), "--objective papo_g --set objective.perception_every=2 --set objective.gamma=0.03");
    for phase in ["rollout", "reference", "corrupted", "update"] {
        assert!(number(&report, &format!("/phase_ms/{phase}")) > 0.0, "{phase}");
    }
    let (step, base) = (number(&report, "/step_ms"), number(&report, "/base_step_ms"));
    let overhead = number(&report, "/overhead_percent");
    assert!((overhead - (step / base - 1.0) * 100.0).abs() < 1e-6 * (1.0 + overhead.abs()), "{step} {base} {overhead}");
    assert!(said.contains("grpo") && said.contains("% more"), "{said}");
    // prompts computed once for their group, and once for each response: the same numbers, at the operations that the shapes say
    assert!(number(&report, "/padded/flops_ratio") > 1.5);
    assert!(number(&report, "/padded/log_prob_difference") < 1e-4);
    assert!(number(&report, "/padded/gradient_difference") < 1e-4);
    let parts = report["parts"].as_object().expect("pieces");
    assert!(parts.len() > 5 && parts.values().all(|part| part["ms"].as_f64().is_some_and(|ms| ms > 0.0)), "{parts:#?}");
    assert!(number(&report, "/rates/matrix_flops") > 0.0 && number(&report, "/rates/copy_bytes") > 0.0);

    // with every prompt's masked picture, and without the repeated computation
    let (report, _) = bench(place.path(), "--objective papo_g --without-padded");
    assert!(report["padded"].is_null() && number(&report, "/overhead_percent").is_finite());
    let (report, said) = bench(place.path(), "--without-padded");
    assert!(report["base_step_ms"].is_null() && !said.contains("% more"), "{said}");
}

#[test]
fn a_sweep_fits_an_exponent() {
    let place = place();
    let (report, said) = bench(place.path(), "--sweep group");
    let points = report["points"].as_array().expect("points");
    assert!(points.len() > 1, "{report:#}");
    assert!(said.contains("exponent"), "{said}");
    assert!(report["exponents"].as_object().is_some_and(|fits| !fits.is_empty()), "{report:#}");
}
