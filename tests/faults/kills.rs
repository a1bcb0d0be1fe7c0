//! SIGKILL at random moments, also inside saves: every restart goes on, nothing that was written is unreadable, and the end is the
//! uninterrupted run's, byte for byte.

use super::{count, same_end};
use crate::program::Place;
use percept_weights::check_manifest;
use std::time::{Duration, Instant};

/// Numbers that look random, the same in every run of the test.
struct Dice(u64);

impl Dice {
    /// From 0 up to 1.
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Whether a checkpoint is being written.
fn saving(place: &Place) -> bool {
    let entries = std::fs::read_dir(place.path().join("torn/checkpoints")).into_iter().flatten();
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(".partial"))
}

/// What is announced is whole, and lines are lines but for a torn last one.
fn assert_readable(place: &Place) {
    for pointer in ["torn/latest", "torn/best"] {
        if let Some(name) = place.pointer(pointer) {
            let folder = place.path().join("torn").join(name);
            check_manifest(&folder).unwrap_or_else(|error| panic!("{pointer}: {error}"));
        }
    }
    for file in ["torn/metrics.jsonl", "torn/samples.jsonl"] {
        let text = std::fs::read_to_string(place.path().join(file)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{file}: {error}: {line}"));
        }
    }
}

#[test]
fn killed_at_random_moments_a_run_ends_as_if_it_had_not_been() {
    let place = Place::new();
    let kills = count("PERCEPT_KILLS", 8);
    // more than the kills let pass
    let steps = 2 * kills + 6;
    let sets = format!(
        "objective.kind=papo_g trainer.steps={steps} trainer.checkpoint_every=1 trainer.keep_last=2 validation.every=5 validation.before_training=false"
    );
    let start = Instant::now();
    place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
    let step = start.elapsed() / steps as u32;
    let mut dice = Dice(0x5eed_0f5e_ed0f_5eed);
    let (mut done, mut inside, mut restarts) = (0, 0, 0);
    loop {
        let resume = if place.path().join("torn/config.toml").exists() { " --resume" } else { "" };
        let mut running = place.start_run("train", &format!("{sets} trainer.run_dir=torn{resume}"));
        restarts += 1;
        if done == kills {
            running.end_well();
            break;
        }
        // half of them wait for a save, the others for some time between the start and a few steps
        let aims = done % 2 == 1;
        let born = Instant::now();
        let patience =
            if aims { Duration::from_secs(20) } else { (step * 4 + Duration::from_millis(300)).mul_f64(dice.roll()) };
        while born.elapsed() < patience && running.runs() && !(aims && saving(&place)) {
            std::thread::sleep(Duration::from_micros(100));
        }
        if aims {
            std::thread::sleep(Duration::from_micros((dice.roll() * 8000.0) as u64));
        }
        if !running.kill_if_it_runs() {
            // it came to its end first
            break;
        }
        done += 1;
        inside += usize::from(saving(&place));
        assert_readable(&place);
    }
    println!("{done} kills, {inside} of them inside a save, {restarts} starts, {steps} steps");
    assert!(done > kills / 2 && inside > 0, "{done} kills, {inside} of them inside a save");
    same_end(&place, "whole", "torn");
}
