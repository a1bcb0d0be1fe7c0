//! `percept plan`, as a user would run it: what it times, what it says of it, and how it ends.

use crate::program::{Said, percept};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

const RUN: &str = r#"
[data]
train = "data/train.parquet"
[rollout]
prompts_per_step = 4
responses_per_prompt = 4
max_new_tokens = 6
[trainer]
run_dir = "run"
prompts_per_update = 4
"#;

fn place(sections: &str) -> TempDir {
    let place = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(place.path().join("run.toml"), format!("{RUN}{sections}")).expect("a file");
    let words = "task --out data --train 8 --validation 2 --test 2 --checkpoint model";
    percept(place.path(), &words.split(' ').collect::<Vec<_>>()).well();
    place
}

fn plan(place: &Path, more: &str) -> Said {
    let shared = "plan run.toml --set model.checkpoint=model --json plan.json";
    percept(place, &format!("{shared} {more}").split_whitespace().collect::<Vec<_>>())
}

fn report(place: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(place.join("plan.json")).expect("a plan")).expect("JSON")
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn a_trial_times_every_phase_that_is_counted() {
    let place = place("[objective]\nkind = \"papo_g\"\nperception_every = 2\n");
    let said = plan(place.path(), "").well();
    let found = report(place.path());
    // a small model's step is tried whole
    let trial = &found["trial"];
    let shape = ["layers", "prompts", "responses", "new_tokens"].map(|key| trial[key].as_u64().expect("a number"));
    assert_eq!(shape, [4, 4, 4, 6]);
    assert!(said.contains("by a trial of 4 prompts x 4 responses x 6 tokens by 4 of 4 blocks"), "{said}");
    assert_eq!(keys(&found["seconds"]), ["corrupted", "reference", "rollout", "update"]);
    assert_eq!(keys(&trial["factors"]), keys(&found["seconds"]));

    // the same shapes, rates and trial: the same seconds
    std::fs::rename(place.path().join("plan.json"), place.path().join("first.json")).expect("a rename");
    plan(place.path(), "--rates first.json").well();
    let again = report(place.path());
    let ratio = |phase: &str, value: &Value| number(&value[phase]) / number(&found["seconds"][phase]);
    for phase in keys(&found["seconds"]) {
        assert!((ratio(phase, &again["seconds"]) - 1.0).abs() < 1e-9, "{phase}: {again:#} after {found:#}");
    }

    // by the rates alone they are others, by the factors that the trial found
    let mut rates = found.clone();
    rates["trial"] = Value::Null;
    std::fs::write(place.path().join("rates.json"), rates.to_string()).expect("a file");
    let said = plan(place.path(), "--rates rates.json").well();
    assert!(said.contains("from the device's rates"), "{said}");
    let counted = report(place.path());
    for phase in keys(&found["seconds"]) {
        let corrected = ratio(phase, &counted["seconds"]) * number(&trial["factors"][phase]);
        assert!((corrected - 1.0).abs() < 1e-9, "{phase}: {counted:#} after {found:#}");
    }

    rates["trial"] = trial.clone();
    rates["trial"]["factors"]["update"] = 0.0.into();
    std::fs::write(place.path().join("rates.json"), rates.to_string()).expect("a file");
    let said = plan(place.path(), "--rates rates.json");
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("rates.json: trial.factors.update: expected a number above 0, found 0"), "{said:?}");
}

#[test]
fn adapters_and_models_of_other_machines_are_tried() {
    let place = place("[objective]\nkind = \"grpo\"\n[model.lora]\nrank = 4\n");
    plan(place.path(), "").well();
    let found = report(place.path());
    assert!(found["learning"].as_u64() < Some(100_000), "{found:#}");
    assert_eq!(keys(&found["trial"]["factors"]), ["reference", "rollout", "update"]);

    // no checkpoint is needed; of a large model a part is tried
    let said =
        plan(place.path(), "--size 50m --prompt-tokens 200 --image-tokens 100 --set rollout.prompts_per_step=64")
            .well();
    let trial = &report(place.path())["trial"];
    let layers = trial["layers"].as_u64().expect("a number");
    assert!((2..13).contains(&layers), "{trial:#}");
    assert!(said.contains(&format!("by {layers} of 13 blocks")), "{said}");
}

#[test]
fn a_run_that_does_not_fit_ends_with_2() {
    let place = place("");
    let said = plan(place.path(), "--without-trial --memory 100MB");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.out.contains("it does not fit"), "{said:?}");
    let found = report(place.path());
    assert!(found["trial"].is_null() && found["fits"] == false, "{found:#}");
}
