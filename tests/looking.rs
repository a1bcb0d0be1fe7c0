//! What a run leaves to look at: samples with pictures, the page, exports, comparisons.

use crate::program::{Place, lines};
use serde_json::Value;

#[test]
fn a_run_can_be_looked_at() {
    let place = Place::new();
    let sets =
        "objective.kind=papo_g trainer.steps=2 validation.every=1 trainer.run_dir=seen trainer.pictures_per_step=1";
    place.run("train", sets).well();
    let samples = lines(&place.path().join("seen/samples.jsonl"));
    let with_pictures: Vec<&Value> = samples.iter().filter(|sample| sample.get("picture").is_some()).collect();
    assert!(!with_pictures.is_empty() && with_pictures.len() < samples.len(), "pictures of one prompt a step");
    for sample in &samples {
        let list = |key: &str| sample[key].as_array().unwrap_or_else(|| panic!("{key} in {sample}"));
        assert_eq!(list("pieces").len() as u64, sample["tokens"].as_u64().expect("a count"));
        assert_eq!(list("pieces").len(), list("divergence").len());
        let text: String = list("pieces").iter().map(|piece| piece.as_str().expect("text")).collect();
        let response = sample["response"].as_str().expect("text");
        assert!(text.contains(response), "{text} holds {response}");
        assert!(list("divergence").iter().any(|value| value.as_f64().expect("a number") != 0.0), "the mask tells");
        assert!(sample["correct"].is_boolean() && sample["group"].is_u64());
    }
    for key in ["picture", "masked_picture"] {
        let name = with_pictures[0][key][0].as_str().expect("a path");
        let bytes = std::fs::read(place.path().join("seen").join(name)).expect("a picture");
        assert!(bytes.starts_with(b"\x89PNG"), "{name}");
    }

    place.percept(&["report", "seen", "--out", "page.html"]).well();
    let page = std::fs::read_to_string(place.path().join("page.html")).expect("a page");
    assert!(page.contains("data:image/png;base64,"), "pictures stand in the page");
    assert!(!page.contains("http://") && !page.contains("https://"), "the page needs no network");
    let said = place.percept(&["export", "seen", "--tensorboard", "board", "--csv", "metrics.csv"]).well();
    assert!(said.contains("scalars") && !said.contains(" 0 pictures"), "{said}");
    let table = std::fs::read_to_string(place.path().join("metrics.csv")).expect("a table");
    assert!(table.starts_with("step,") && table.lines().count() == 4, "{table}");
    let said = place.percept(&["compare", "seen", "seen"]).well();
    assert!(said.contains("validation/overall"), "{said}");
    let said = place.percept(&["compare", "seen", "metrics.csv"]);
    assert!(said.code == Some(1) && said.err.contains("one kind"), "{}", said.err);
    let said = place.percept(&["export", "seen"]);
    assert!(said.err.contains("--tensorboard"), "{}", said.err);
}

#[test]
fn a_run_of_easyr1_becomes_a_run_file() {
    let place = Place::new();
    let yaml = "algorithm:\n  use_kl_loss: true\ndata:\n  train_files: train.parquet\n  val_files: test.parquet\n  rollout_batch_size: 96\n\
                worker:\n  rollout:\n    n: 4\n  actor:\n    global_batch_size: 48\n    model:\n      model_path: checkpoint\n";
    std::fs::write(place.path().join("easy.yaml"), yaml).expect("a file");
    let words = ["import-config", "easy.yaml", "worker.actor.optim.lr=3e-6", "trainer.n_gpus_per_node=8"];
    let said = place.percept(&words);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let run: toml::Table = said.out.parse().expect("TOML on standard output");
    assert_eq!(run["rollout"]["prompts_per_step"].as_integer(), Some(96));
    assert_eq!(run["optimizer"]["learning_rate"].as_float(), Some(3e-6));
    assert!(said.err.contains("left out: trainer.n_gpus_per_node = 8"), "{}", said.err);
    place.percept(&[&words[..], &["--out", "run2.toml"]].concat()).well();
    assert_eq!(std::fs::read_to_string(place.path().join("run2.toml")).expect("a file"), said.out);
    let said = place.percept(&["import-config", "easy.yaml", "worker.actor.optim.lr"]);
    assert!(said.code == Some(1) && said.err.contains("worker.actor.optim.lr"), "{}", said.err);
}
