//! The flight recorder: a step that is poisoned is named and kept, the run keeps its last good weights, and the update can be done again.

use crate::program::{Place, Said, lines};
use percept_weights::check_manifest;
use serde_json::Value;

const SETS: &str = "objective.kind=papo_g trainer.steps=4 validation.every=0 trainer.checkpoint_every=0";

/// A run whose fourth step is poisoned.
fn poisoned(place: &Place, kind: &str, more: &str) -> Said {
    place.run_with("train", &format!("{SETS} {more}"), &[("PERCEPT_POISON", &format!("3:{kind}"))])
}

fn incident(place: &Place, kind: &str) -> Value {
    let folder = place.path().join(format!("run/incidents/step-000004-{kind}"));
    check_manifest(&folder).expect("a whole bundle");
    check_manifest(folder.join("checkpoint")).expect("a whole checkpoint in it");
    serde_json::from_slice(&std::fs::read(folder.join("incident.json")).expect("an incident")).expect("JSON")
}

fn replay(place: &Place, kind: &str, more: &[&str]) -> Said {
    let folder = format!("run/incidents/step-000004-{kind}");
    place.percept(&[&["replay", &folder][..], more].concat())
}

#[test]
fn what_is_not_finite_is_named_kept_and_done_again() {
    for (kind, words) in [
        ("advantage", &["advantage, value NaN", "response 1"][..]),
        ("view", &["log-probability of Reference x Whole, value inf", "response 0", "token 2 (id "]),
        ("weight", &["weight ", ".weight [0, 5]", "value NaN"]),
    ] {
        let place = Place::new();
        let said = poisoned(&place, kind, "");
        assert_eq!(said.code, Some(1), "{said:#?}");
        let words = words.iter().chain(&[
            "step 4, update ",
            "is not finite",
            "percept replay run/incidents/step-000004-not_finite",
        ]);
        for word in words {
            assert!(said.err.contains(word), "{kind}: {word:?} is not in {}", said.err);
        }
        // the last good weights are kept, and a spoiled weight is not
        let latest = place.pointer("run/latest");
        assert_eq!(
            latest.as_deref(),
            (kind != "weight").then_some("checkpoints/step-000003").filter(|_| said.err.contains("update 1:")),
            "{kind}: {}",
            said.err
        );
        let incident = incident(&place, "not_finite");
        assert_eq!((&incident["kind"], &incident["step"]), (&"not_finite".into(), &3.into()), "{incident}");
        if kind != "weight" {
            let row = incident["place"]["row"].as_str().expect("a row");
            assert!(row.contains("train.parquet, row "), "{row}");
        }
        // without the poison's cause: the bundle holds it
        let again = replay(&place, "not_finite", &["--json", "found.json"]);
        assert_eq!(again.code, Some(1), "{again:#?}");
        assert!(again.out.contains("on cpu it goes wrong again: "), "{}", again.out);
        let found: Value =
            serde_json::from_slice(&std::fs::read(place.path().join("found.json")).expect("a file")).expect("JSON");
        assert_eq!(found["place"], incident["place"], "{kind}: the same place is found from the bundle");
    }
}

#[test]
fn a_run_can_go_on_behind_an_incident() {
    let place = Place::new();
    let said = poisoned(&place, "advantage", "trainer.on_incident=record");
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.err.contains("warning: step 4, update ") && said.err.contains("advantage, value NaN"), "{}", said.err);
    incident(&place, "not_finite");
    let metrics = lines(&place.path().join("run/metrics.jsonl"));
    let skipped = metrics.iter().filter_map(|line| line.get("optimizer/skipped_updates")?.as_f64()).sum::<f64>();
    assert_eq!(skipped, 1.0, "the poisoned update is left out");

    let place = Place::new();
    let said = poisoned(&place, "advantage", "trainer.on_incident=ignore");
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(!place.path().join("run/incidents").exists());
}

#[test]
fn a_ratio_that_explodes_is_named_with_its_token() {
    let place = Place::new();
    // one update a step, so that its numbers are the first update's
    let said = poisoned(&place, "behavior", "trainer.prompts_per_update=4");
    assert_eq!(said.code, Some(1), "{said:#?}");
    for word in ["exploded", "log-probability -60.000 when sampled", "response 1, token 0 (id ", "goes on all the same"]
    {
        assert!(said.err.contains(word), "{word:?} is not in {}", said.err);
    }
    assert_eq!(place.pointer("run/latest").as_deref(), Some("checkpoints/step-000003"));
    incident(&place, "ratio");
    let again = replay(&place, "ratio", &[]);
    assert_eq!(again.code, Some(1), "{again:#?}");
    // recorded and done again are the same numbers, bit for bit on the same device
    let numbers = again.out.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.len() == 3 && words[0].contains('/')).then(|| (words[1].to_owned(), words[2].to_owned()))
    });
    let numbers: Vec<(String, String)> = numbers.collect();
    assert!(numbers.len() > 8, "{}", again.out);
    assert!(numbers.iter().all(|(recorded, now)| recorded == now), "{}", again.out);
    // and with a limit that believes it, it is sound
    let sound = replay(&place, "ratio", &["--set", "trainer.log_ratio_limit=100.0"]);
    assert_eq!(sound.code, Some(0), "{sound:#?}");
}

#[test]
fn a_collapse_stops_the_run_behind_its_step() {
    let place = Place::new();
    let said = poisoned(&place, "collapse", "trainer.collapse_window=2 trainer.steps=6");
    assert_eq!(said.code, Some(1), "{said:#?}");
    for word in
        ["step 4, update 1: ", "to game the perception term", "reward ", " -> ", "objective.gamma", "(step 4 is saved"]
    {
        assert!(said.err.contains(word), "{word:?} is not in {}", said.err);
    }
    // the step was done, though none was due to be saved
    assert_eq!(place.pointer("run/latest").as_deref(), Some("checkpoints/step-000004"));
    let incident = incident(&place, "collapse");
    assert_eq!((&incident["kind"], &incident["step"]), (&"collapse".into(), &3.into()), "{incident}");
    // one update does not show the course of many
    assert_eq!(replay(&place, "collapse", &[]).code, Some(0));
    // told once: the run goes on
    place.run("train", &format!("{SETS} trainer.collapse_window=2 trainer.steps=6 --resume")).well();
    assert_eq!(place.last_step("run/metrics.jsonl"), Some(6));
}

#[test]
fn a_warm_start_is_watched_like_all_else() {
    const SETS: &str = "sft.epochs=1 sft.rows_per_step=8 validation.every=0 trainer.checkpoint_every=0";
    for (kind, words) in [
        ("picture", &["a picture's patches, value NaN", "train.parquet, row ", "(step 3 is saved"][..]),
        ("weight", &["weight ", ".weight [0, 5]", "value NaN"]),
    ] {
        let place = Place::new();
        let said = place.run_with("sft", SETS, &[("PERCEPT_POISON", &format!("3:{kind}"))]);
        assert_eq!(said.code, Some(1), "{said:#?}");
        let more = ["step 4, update 1: ", "is not finite", "percept replay run/sft/incidents/step-000004-not_finite"];
        for word in words.iter().chain(&more) {
            assert!(said.err.contains(word), "{kind}: {word:?} is not in {}", said.err);
        }
        let kept = (kind != "weight").then_some("checkpoints/step-000003");
        assert_eq!(place.pointer("run/sft/latest").as_deref(), kept, "a spoiled weight is not kept");
        let again = place.percept(&["replay", "run/sft/incidents/step-000004-not_finite"]);
        assert_eq!(again.code, Some(1), "{again:#?}");
        assert!(again.out.contains("on cpu it goes wrong again: ") && again.out.contains(words[0]), "{}", again.out);
        // without the poison, the run goes on where it was kept
        if kept.is_some() {
            place.run("sft", &format!("{SETS} --resume")).well();
            assert!(place.last_step("run/sft/metrics.jsonl") > Some(4));
        }
    }
}

#[test]
fn a_layer_is_named_when_activations_overflow() {
    let place = Place::new();
    // so large a weight that its products are infinite, though it is finite itself
    let warm = place.workshop.warm();
    let folder = place.path().join("huge");
    std::fs::create_dir(&folder).expect("a folder");
    for (name, bytes) in crate::program::files(&warm) {
        std::fs::write(folder.join(name), bytes).expect("writes");
    }
    let path = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("reads");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("weights");
    let data = tensors.tensor("model.layers.1.mlp.down_proj.weight").expect("a weight").data();
    let (start, length) = (data.as_ptr() as usize - bytes.as_ptr() as usize, data.len());
    for value in bytes[start..start + length].chunks_exact_mut(4) {
        value.copy_from_slice(&3e38f32.to_le_bytes());
    }
    std::fs::write(&path, bytes).expect("writes");
    let said = place.run("train", "objective.kind=grpo objective.kl_coefficient=0.0 model.checkpoint=huge validation.every=0 validation.before_training=false");
    assert_eq!(said.code, Some(1), "{said:#?}");
    for word in
        ["step 1, sampling: ", "first in model.layers.1.mlp", "train.parquet, row ", "there is no update to keep"]
    {
        assert!(said.err.contains(word), "{word:?} is not in {}", said.err);
    }
}

/// A part of a step that lasts says what it waits for, while it lasts.
#[test]
#[cfg(unix)]
fn a_verifier_that_takes_its_time_is_told() {
    let place = Place::new();
    let text = std::fs::read_to_string(place.path().join("run.toml")).expect("a run file");
    let slow = r#"
[[reward.verifiers]]
name = "accuracy"
kind = "math"
[[reward.verifiers]]
name = "judge"
kind = "command"
workers = 1
command = ["sh", "-c", '''
sleep 3
while read -r line; do
  id=${line#*\"id\":}
  echo "{\"id\": ${id%%,*}, \"score\": 0.5}"
done''']
"#;
    place.write("slow.toml", format!("{text}{slow}"));
    let sets =
        ["trainer.steps=1", "validation.every=0", "validation.before_training=false", "trainer.deadline_seconds=1"];
    let words: Vec<&str> =
        ["train", "slow.toml"].into_iter().chain(sets.into_iter().flat_map(|set| ["--set", set])).collect();
    let said = place.percept(&words);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let told: Vec<&str> = said.err.lines().filter(|line| line.contains("trainer.deadline_seconds")).collect();
    assert!(told.len() >= 2, "after one second, and after two: {}", said.err);
    for word in ["warning: step 1: reward has lasted 1 s", "verifiers are at work: accuracy, judge"] {
        assert!(told[0].contains(word), "{word:?} is not in {}", told[0]);
    }
}
