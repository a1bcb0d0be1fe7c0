//! A disk that is full, tears writes, fails once, or can no longer be changed, at every operation of a run: it ends with an error, and goes on
//! once the disk is well, to the same bytes.

use super::{count, same_end};
use crate::program::Place;
use std::path::PathBuf;
use std::process::Command;

const SETS: &str =
    "objective.kind=papo_g trainer.steps=4 trainer.checkpoint_every=1 trainer.keep_last=2 validation.every=2";
const KINDS: [&str; 4] = ["full", "short", "once", "locked"];

/// The library that makes a disk refuse.
fn library(place: &Place) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/disk.c");
    let library = place.path().join("disk.so");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([source, "-ldl"]).output();
    let compiled = compiled.expect("a C compiler");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    library
}

#[test]
fn a_disk_that_refuses_costs_no_run() {
    let place = Place::new();
    let library = library(&place);
    place.run("train", &format!("{SETS} trainer.run_dir=whole")).well();
    let root = place.path().canonicalize().expect("a folder").join("torn");
    let log = place.path().join("fault.log");
    let train = |at: usize, kind: &str| {
        let at = at.to_string();
        let variables = [
            ("LD_PRELOAD", library.to_str().expect("Unicode")),
            ("FAULT_ROOT", root.to_str().expect("Unicode")),
            ("FAULT_LOG", log.to_str().expect("Unicode")),
            ("FAULT_AT", &at),
            ("FAULT_KIND", kind),
        ];
        place.run_with("train", &format!("{SETS} trainer.run_dir=torn"), &variables)
    };
    train(0, "none").well();
    same_end(&place, "whole", "torn");
    let counted = std::fs::read_to_string(&log).expect("a count");
    let operations: usize = counted.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    assert!(operations > 60, "{operations} operations on the disk cannot be all");
    let tries = count("PERCEPT_DISK_FAULTS", 12).min(operations * KINDS.len());
    let mut stopped = 0;
    for number in 0..tries {
        // spread over the run, and every kind in turn
        let (at, kind) = (1 + number * operations / tries, KINDS[number % KINDS.len()]);
        let _ = std::fs::remove_dir_all(&root);
        let said = train(at, kind);
        assert!(said.err.contains("fault: "), "{kind} at {at} of {operations} did not happen: {}", said.err);
        assert!(!said.err.contains("internal mistake"), "{kind} at {at}: {}", said.err);
        if said.code != Some(0) {
            stopped += 1;
            assert_eq!(said.code, Some(1), "{kind} at {at}: {said:?}");
            let error = said.err.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
            assert!(error.contains("torn"), "{kind} at {at}: {error:?} names no path");
        }
        let resume = if root.join("config.toml").exists() { " --resume" } else { "" };
        let again = place.run("train", &format!("{SETS} trainer.run_dir=torn{resume}"));
        assert_eq!(again.code, Some(0), "{kind} at {at} of {operations}: {}\nthen: {}", said.err, again.err);
        same_end(&place, "whole", "torn");
    }
    println!(
        "{tries} faults among {operations} operations on the disk, {stopped} of which stopped the run; all ended the same"
    );
    assert!(stopped > tries / 2, "{stopped} of {tries} faults were noticed");
}
