//! Going on: from the newest whole checkpoint, with the configuration and the data that the run began with, or in a new run.

use crate::program::{Place, Said, assert_same_files, lines, metrics};
use crate::torn::assert_same_run;
use std::path::PathBuf;

const SETS: &str = "objective.kind=papo_g trainer.steps=6 trainer.checkpoint_every=2 validation.every=2";

/// A run that is done, and a place to do it again in.
fn whole(sets: &str) -> Place {
    let place = Place::new();
    place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
    place
}

/// A run killed once the checkpoint of a step was announced.
fn killed_at(place: &Place, sets: &str, run: &str, step: u64) {
    let mut running = place.start_run("train", &format!("{sets} trainer.run_dir={run}"));
    running.wait_until("a checkpoint", || {
        place.pointer(&format!("{run}/latest")).is_some_and(|name| name >= format!("checkpoints/step-{step:06}"))
    });
    running.kill();
}

fn refused<'a>(said: &'a Said, words: &[&str]) -> &'a str {
    assert_eq!(said.code, Some(1), "{said:#?}");
    for word in words {
        assert!(said.err.contains(word), "{word:?} is not in: {}", said.err);
    }
    &said.err
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_the_run_ends_the_same() {
    let place = whole(SETS);
    type Damage = fn(PathBuf);
    let damages: [(&str, &str, Damage); 4] = [
        ("flipped", "model.safetensors is not whole: expected hash", |folder| {
            let path = folder.join("model.safetensors");
            let mut bytes = std::fs::read(&path).expect("reads");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).expect("writes");
        }),
        ("short", "trainer.safetensors is not whole: expected ", |folder| {
            let path = folder.join("trainer.safetensors");
            let bytes = std::fs::read(&path).expect("reads");
            std::fs::write(path, &bytes[..bytes.len() - 8]).expect("writes");
        }),
        ("bare", "manifest.json", |folder| std::fs::remove_file(folder.join("manifest.json")).expect("removes")),
        ("deleted", "manifest.json", |folder| std::fs::remove_dir_all(folder).expect("removes")),
    ];
    for (run, words, damage) in damages {
        killed_at(&place, SETS, run, 4);
        let latest = place.path().join(run).join(place.pointer(&format!("{run}/latest")).expect("a checkpoint"));
        damage(latest.clone());
        let said = place.run("train", &format!("{SETS} trainer.run_dir={run} --resume"));
        assert_eq!(said.code, Some(0), "{said:#?}");
        assert!(said.err.contains("is passed over: ") && said.err.contains(words), "{run}: {}", said.err);
        assert!(said.err.contains("going on from ") && said.err.contains("step-00000"), "{run}: {}", said.err);
        let aside = latest.with_file_name(format!("damaged-{}", latest.file_name().expect("a name").display()));
        assert_eq!(aside.exists(), run != "deleted", "{run}: what is left of it is kept");
        let _ = std::fs::remove_dir_all(aside);
        assert_same_run(place.path(), "whole", run);
    }
}

#[test]
fn a_run_without_its_best_or_latest_pointer_goes_on() {
    let place = whole(SETS);
    killed_at(&place, SETS, "torn", 4);
    std::fs::remove_file(place.path().join("torn/latest")).expect("removes");
    // as if it had been killed between two pointers
    std::fs::write(place.path().join("torn/best"), "checkpoints/step-000009\n").expect("writes");
    place.run("train", &format!("{SETS} trainer.run_dir=torn --resume")).well();
    assert_same_run(place.path(), "whole", "torn");
}

#[test]
fn a_run_stopped_before_its_first_checkpoint_starts_again() {
    let place = whole(SETS);
    let mut running = place.start_run("train", &format!("{SETS} trainer.run_dir=torn"));
    running.wait_until("a beginning", || place.path().join("torn/config.toml").exists());
    running.kill();
    let said = place.run("train", &format!("{SETS} trainer.run_dir=torn --resume"));
    assert_eq!(said.code, Some(0), "{said:#?}");
    let late = place.path().join("torn/checkpoints").exists() && !said.err.contains("starts from the beginning");
    assert!(late || said.err.contains("before its first checkpoint: it starts from the beginning"), "{}", said.err);
    assert_same_run(place.path(), "whole", "torn");
}

#[test]
fn what_changed_is_refused_with_the_differences_or_accepted_by_name() {
    let place = Place::new();
    let data = place.path().join("own.parquet");
    std::fs::copy(place.workshop.data("train"), &data).expect("copies");
    let sets = format!("{SETS} data.train=own.parquet trainer.run_dir=run");
    killed_at(&place, &format!("{SETS} data.train=own.parquet"), "run", 2);
    let before = place.pointer("run/latest");
    let changed = format!("{sets} optimizer.learning_rate=1e-3 trainer.steps=5 --resume");
    let said = place.run("train", &changed);
    let err = refused(
        &said,
        &[
            "optimizer.learning_rate: was 0.0003, is 0.001",
            "trainer.steps: was 6, is 5",
            "--allow-change trainer.steps",
        ],
    );
    assert_eq!(err.trim_end().lines().count(), 1, "{err}");
    // one of two is not enough, and a word that is no key is told
    refused(&place.run("train", &format!("{changed} --allow-change=trainer")), &["optimizer.learning_rate: was"]);
    let said = place.run("train", &format!("{changed} --allow-change=optimiser"));
    refused(&said, &["--allow-change optimiser", "unknown key"]);
    // the same name, other rows
    std::fs::copy(place.workshop.data("test"), &data).expect("copies");
    let said = place.run("train", &format!("{sets} --resume"));
    refused(&said, &["data.train: other content in own.parquet", "--allow-change data.train"]);
    assert_eq!(place.pointer("run/latest"), before, "a refusal moves nothing");
    let flags = "--allow-change=data.train --allow-change=optimizer --allow-change=trainer.steps";
    let said = place.run("train", &format!("{changed} {flags}"));
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(said.err.lines().filter(|line| line.starts_with("accepted: ")).count(), 3, "{}", said.err);
    assert_eq!(place.last_step("run/metrics.jsonl"), Some(5), "the new number of steps");
    let notes = lines(&place.path().join("run/changes.jsonl"));
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert_eq!(notes[0]["key"], "optimizer.learning_rate");
    // what was accepted is the run's configuration from now on
    place.run("train", &changed).well();
}

#[test]
fn a_fork_goes_on_from_a_step_as_the_old_run_did_or_with_changes() {
    let place = whole(&format!("{SETS} trainer.keep_last=0"));
    let fork = |words: &str| place.percept(&words.split(' ').collect::<Vec<_>>());
    fork("fork whole --step 2 --out same").well();
    for run in ["whole", "same"] {
        assert_eq!(place.last_step(&format!("{run}/metrics.jsonl")), Some(6));
    }
    let all = |run: &str| metrics(&place.path().join(run).join("metrics.jsonl"));
    assert_eq!(all("whole"), all("same"), "without changes, it is the old run");
    let last = |run: &str| place.path().join(run).join("checkpoints/step-000006");
    assert_same_files(&last("whole"), &last("same"));
    let old = std::fs::read(place.path().join("whole/metrics.jsonl")).expect("reads");

    let said =
        fork("fork whole --step 4 --out other --set optimizer.learning_rate=1e-3 --set trainer.steps=8 --no-train");
    let next = said.well();
    assert!(next.contains("percept train other/config.toml --resume"), "{next}");
    assert_eq!(place.last_step("other/metrics.jsonl"), Some(4), "lines behind the step are the old run's");
    place.percept(&["train", "other/config.toml", "--resume"]).well();
    assert_eq!(place.last_step("other/metrics.jsonl"), Some(8));
    let changes = lines(&place.path().join("other/changes.jsonl"));
    assert_eq!((&changes[0]["forked_from"], &changes[0]["step"]), (&"whole".into(), &4.into()));
    assert_eq!(
        std::fs::read(place.path().join("whole/metrics.jsonl")).expect("reads"),
        old,
        "the old run is untouched"
    );

    refused(
        &fork("fork whole --step 3 --out third"),
        &["no checkpoint of step 3", "step-000002, step-000004, step-000006"],
    );
    refused(&fork("fork whole --out other"), &["other: is there already"]);
    refused(&fork("fork nowhere --out third"), &["nowhere: nothing to resume"]);
}

#[test]
fn a_warm_start_can_be_forked() {
    let place = Place::new();
    place.run("sft", "trainer.run_dir=first validation.every=0").well();
    let said = place.percept(&["fork", "first/sft", "--step", "4", "--out", "second", "--set", "sft.steps=6"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(place.last_step("second/sft/metrics.jsonl"), Some(6));
}
