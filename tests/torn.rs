//! Runs that were killed or interrupted, and taken up again, end as if they had not been.

use crate::program::{Place, assert_same_files, lines, metrics, series};
use serde_json::Value;
use std::path::Path;

/// Compares all that a run leaves, but for its configuration, which names its folder.
pub fn assert_same_run(place: &Path, left: &str, right: &str) {
    let (left, right) = (place.join(left), place.join(right));
    let (a, b) = (metrics(&left.join("metrics.jsonl")), metrics(&right.join("metrics.jsonl")));
    let steps = |lines: &[std::collections::BTreeMap<String, Value>]| -> Vec<Value> {
        lines.iter().map(|line| line["step"].clone()).collect()
    };
    assert_eq!(steps(&a), steps(&b), "steps of metrics.jsonl");
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a, b, "metrics of step {}", a["step"]);
    }
    if left.join("samples.jsonl").exists() {
        assert_eq!(lines(&left.join("samples.jsonl")), lines(&right.join("samples.jsonl")), "samples.jsonl");
    }
    for pointer in ["latest", "best"] {
        let read = |run: &Path| std::fs::read_to_string(run.join(pointer)).ok();
        assert_eq!(read(&left), read(&right), "{pointer}");
    }
    assert_same_files(&left.join("checkpoints"), &right.join("checkpoints"));
}

/// Kills a run three times and takes it up again: as soon as a checkpoint is announced (all else that belongs to its step must be there
/// by then), in the middle of a step, and at once after resuming. `folder` is what the command makes in its run directory.
pub fn tear(place: &Place, command: &str, folder: &str, sets: &str) {
    let sets = format!("{sets} trainer.run_dir=torn");
    let run = format!("torn{folder}");
    let announced = |step: u64| {
        let pointer = place.pointer(&format!("{run}/latest"));
        pointer.is_some_and(|name| name == format!("checkpoints/step-{step:06}"))
    };
    let mut running = place.start_run(command, &sets);
    running.wait_until("the checkpoint of step 2", || announced(2));
    running.kill();
    let resumed = format!("{sets} --resume");
    let mut running = place.start_run(command, &resumed);
    running.wait_until("step 5", || place.last_step(&format!("{run}/metrics.jsonl")) == Some(5));
    running.kill();
    assert!(announced(4), "step 5 was done, and was not to be saved");
    let mut running = place.start_run(command, &resumed);
    running.wait_until("the checkpoint of step 6", || announced(6));
    running.kill();
    place.run(command, &resumed).well();
}

/// The metrics of a run that ended the same whether it was killed or not.
fn torn_and_whole(sets: &str) -> Vec<Value> {
    let place = Place::new();
    place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
    tear(&place, "train", "", sets);
    assert_same_run(place.path(), "whole", "torn");
    lines(&place.path().join("whole/metrics.jsonl"))
}

fn largest(lines: &[Value], metric: &str) -> f64 {
    let values = lines.iter().filter_map(|line| line.get(metric)?.as_f64());
    values.fold(f64::NEG_INFINITY, f64::max)
}

#[test]
fn papo_g_killed_and_resumed_is_the_run_that_was_not() {
    let lines = torn_and_whole("objective.kind=papo_g");
    assert_eq!(lines.len(), 9, "eight steps, and the measurement before them");
    // without its reference, its masked view or any reward, a run would be equal to itself as well
    assert!(largest(&lines, "objective/reference_kl") > 0.0, "no reference");
    assert!(largest(&lines, "objective/kl_prcp") > 0.0, "no masked view");
    assert!(largest(&lines, "advantage_max") > 0.0, "nothing to learn from");
}

#[test]
fn dapo_killed_and_resumed_is_the_run_that_was_not() {
    let lines = torn_and_whole("objective.kind=dapo");
    // how many rows a step takes depends on the rewards, so the order of visits is a part of the checkpoint
    assert!(largest(&lines, "collect/tries") > 1.0, "dynamic sampling had nothing to do");
}

#[test]
fn rounded_checkpoints_resume_exactly() {
    let place = Place::new();
    let sets = "objective.kind=grpo model.save_dtype=bf16 validation.every=0";
    place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
    tear(&place, "train", "", sets);
    assert_same_run(place.path(), "whole", "torn");
    let bytes = |folder: &str| place.path().join(folder).join("model.safetensors").metadata().expect("weights").len();
    let base = place.workshop.base().join("model.safetensors").metadata().expect("weights").len();
    assert!(bytes("whole/checkpoints/step-000008") < base * 6 / 10, "the weights were to be rounded");
}

#[test]
fn smaller_moments_resume_exactly() {
    for (moments, more) in [("bf16", "optimizer.offload=true"), ("8bit", "model.offload_reference=true")] {
        let place = Place::new();
        let sets = format!("objective.kind=grpo optimizer.moments={moments} {more} validation.every=0");
        place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
        tear(&place, "train", "", &sets);
        assert_same_run(place.path(), "whole", "torn");
        let bytes = |file: &str| {
            place.path().join("whole/checkpoints/step-000008").join(file).metadata().expect("a file").len()
        };
        // eight bits are kept as eight bits; weights are float32
        assert_eq!(bytes("trainer.safetensors") < bytes("model.safetensors"), moments == "8bit");
        // other moments are another configuration; once that is accepted, what was rounded can still be read, and codes cannot
        let words = "optimizer.moments=f32 objective.kind=grpo validation.every=0 trainer.run_dir=whole --resume \
                     --allow-change=optimizer --allow-change=model";
        let said = place.run("train", words);
        assert_eq!(said.code == Some(0), moments == "bf16", "{}", said.err);
        assert!(moments == "bf16" || said.err.contains("moments of 8 bits, and more are configured"), "{}", said.err);
    }
}

#[test]
fn a_warm_start_killed_and_resumed_is_the_one_that_was_not() {
    let place = Place::new();
    place.run("sft", "trainer.run_dir=whole").well();
    tear(&place, "sft", "/sft", "");
    assert_same_run(place.path(), "whole/sft", "torn/sft");
    assert_eq!(series(&place.path().join("whole/sft/metrics.jsonl"), "sft/loss").len(), 8);
}

/// Ctrl-C, and then the command that the program prints, given to a shell as a user would.
#[cfg(unix)]
fn interrupt(command: &str, folder: &str, sets: &str) {
    let place = Place::new();
    place.run(command, &format!("{sets} trainer.run_dir=whole")).well();
    let mut running = place.start_run(command, &format!("{sets} trainer.run_dir=torn"));
    let metrics = format!("torn{folder}/metrics.jsonl");
    running.wait_until("step 2", || place.last_step(&metrics).is_some_and(|step| step >= 2));
    running.interrupt();
    let said = running.end();
    assert_eq!(said.code, Some(130), "{said:#?}");
    let step = place.last_step(&metrics).expect("a step");
    assert!(step < 24, "the run was to be interrupted, and had ended");
    assert_eq!(place.pointer(&format!("torn{folder}/latest")), Some(format!("checkpoints/step-{step:06}")));
    let (told, next) = said.out.trim_end().rsplit_once("go on with: ").expect("how to go on");
    assert!(told.contains(&format!("stopped after step {step}")), "{}", said.out);
    let program = Path::new(env!("CARGO_BIN_EXE_percept")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let shell =
        std::process::Command::new("sh").args(["-c", next]).current_dir(place.path()).env("PATH", path).output();
    let shell = shell.expect("a shell");
    assert!(shell.status.success(), "{next}: {}", String::from_utf8_lossy(&shell.stderr));
    assert_same_run(place.path(), &format!("whole{folder}"), &format!("torn{folder}"));
}

#[test]
#[cfg(unix)]
fn an_interrupted_run_is_saved_and_says_how_to_go_on() {
    // nothing is due to be saved; and a list in quotes is what a shell would take apart
    interrupt(
        "train",
        "",
        "trainer.steps=24 trainer.checkpoint_every=0 trainer.keep_last=1 model.freeze=[\"visual.*\"] data.validation=[]",
    );
}

#[test]
#[cfg(unix)]
fn an_interrupted_warm_start_is_saved_and_says_how_to_go_on() {
    interrupt("sft", "/sft", "sft.steps=24 trainer.checkpoint_every=0 trainer.keep_last=1 data.validation=[]");
}
