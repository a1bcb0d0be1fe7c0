//! The same numbers on every backend of this build and every adapter of this machine.
//!
//! ```text
//! cargo test --release --features webgpu --test percept portability -- --nocapture
//! ```
//!
//! Without a GPU feature, or without an adapter, these tests say that they were skipped; with PERCEPT_REQUIRE_ADAPTER=1 they fail.
//! PERCEPT_ADAPTER=cuda takes only those whose name begins so.

use crate::device::on;
use crate::parity::{algorithms, models, train_step};
use crate::program::{Place, files, lines};
use burn::tensor::{DType, Device};
use percept::check::{Row, compare, compare_rounded};
use percept::devices::{Found, found};
use percept_config::FloatType;
use percept_models::Placement;
use std::sync::{Mutex, PoisonError};

/// Software adapters have few threads, and kernels are tuned best alone.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a test on every adapter.
fn everywhere(name: &str, mut test: impl FnMut(&Found)) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = std::env::var("PERCEPT_ADAPTER").unwrap_or_default();
    let is_wanted = |found: &Found| found.key() != "cpu" && found.key().starts_with(&wanted);
    let adapters: Vec<Found> = found().into_iter().filter(is_wanted).collect();
    if adapters.is_empty() {
        assert!(
            std::env::var_os("PERCEPT_REQUIRE_ADAPTER").is_none(),
            "PERCEPT_REQUIRE_ADAPTER is set, and no adapter was found"
        );
        println!("{name}: skipped: no adapter");
    }
    for adapter in adapters {
        let facts = adapter.facts().unwrap_or_else(|error| panic!("{error}"));
        let start = std::time::Instant::now();
        test(&adapter);
        println!("{name}: {} ({}), {:.0} s", adapter.key(), facts.name, start.elapsed().as_secs_f64());
    }
}

fn wrong(rows: &[Row]) -> Vec<&'static str> {
    rows.iter().filter(|row| !row.passed()).map(|row| row.name).collect()
}

#[test]
fn the_comparisons_of_percept_check_pass() {
    everywhere("check", |adapter| {
        let show = |row: &Row| println!("  {:<44}{:.1e}", row.name, row.error);
        let mut rows = compare(&adapter.device, false, show);
        if adapter.facts().expect("it was opened").dtypes.contains(&FloatType::Bf16) {
            rows.extend(compare_rounded(&adapter.device, DType::BF16, show));
        }
        assert_eq!(wrong(&rows), [""; 0], "{}", adapter.key());
    });
}

#[test]
fn models_are_transformers() {
    everywhere("models", |adapter| {
        on(&adapter.device, || {
            models::features_and_logits_are_transformers();
            models::log_probs_are_transformers();
            models::greedy_decoding_is_transformers();
        });
    });
}

#[test]
fn objectives_are_the_references() {
    everywhere("objectives", |adapter| {
        on(&adapter.device, || {
            algorithms::policy_loss();
            algorithms::divergences();
            algorithms::total_loss();
        });
    });
}

#[test]
fn updates_are_the_references() {
    everywhere("updates", |adapter| {
        on(&adapter.device, train_step::three_updates_of_every_method_are_the_references);
    });
}

/// A run that was killed on the adapter goes on on the CPU; and the other way round.
#[test]
fn a_run_goes_on_on_another_backend() {
    everywhere("resume", |adapter| {
        let place = Place::new();
        let key = adapter.key();
        for (name, first, second) in [("there", key.as_str(), "cpu"), ("back", "cpu", key.as_str())] {
            let sets = format!(
                "objective.kind=grpo objective.kl_coefficient=0 validation.every=0 validation.before_training=false device.dtype=f32 trainer.steps=3 trainer.checkpoint_every=1 \
                 trainer.run_dir={name}"
            );
            let device = |device: &str| {
                let (backend, index) = device.split_once(':').unwrap_or((device, "0"));
                format!("{sets} device.backend={backend} device.index={index}")
            };
            let mut running = place.start_run("train", &device(first));
            running.wait_until("a step", || {
                place
                    .pointer(&format!("{name}/latest"))
                    .is_some_and(|latest| latest.as_str() >= "checkpoints/step-000001")
            });
            running.kill();
            place.run("train", &format!("{} --resume --allow-change=device", device(second))).well();
            let steps = lines(&place.path().join(name).join("metrics.jsonl"));
            assert_eq!(steps.len(), 3, "{name}: steps");
            for step in &steps {
                // the sampler and the trainer are one policy on one device
                let gap = step["rollout/logprob_gap_max"].as_f64().expect("a metric of every step");
                assert!(gap < 2e-3, "{name}: the sampler and the trainer differ by {gap}");
            }
            assert!(files(&place.path().join(name).join("checkpoints/step-000003")).contains_key("model.safetensors"));
        }
    });
}

/// What `percept check` is for: an operation that is wrong by a hundredth on one backend is found, and no run starts on it.
#[test]
fn a_broken_operation_is_found_and_stops_a_run() {
    everywhere("broken", |adapter| {
        let place = Place::new();
        let key = adapter.key();
        // a run does the short form of `percept check`, whose own words and exit code the test below looks at
        let broken = [("PERCEPT_BREAK_OPERATION", "rms_norm")];
        let said = place.percept_with(&["train", "run.toml", "--device", &key], &broken);
        assert_eq!(said.code, Some(1), "{said:#?}");
        for words in [format!("{key} computes wrong numbers"), "do not train on this device".to_owned()] {
            assert!(said.err.contains(&words), "{words:?} is not in {said:#?}");
        }
        assert!(!place.path().join("run/metrics.jsonl").exists(), "the run was to stop before its first step");
    });
}

/// The composed functions on the CPU stand in for an adapter: every operation that can be broken is found when it is.
#[test]
fn every_operation_that_is_broken_is_found() {
    let place = Place::new();
    let well = place.percept(&["check", "--device", "cpu"]);
    assert_eq!(well.code, Some(0), "{well:#?}");
    for operation in percept::ops::BREAKABLE {
        let said = place.percept_with(&["check", "--device", "cpu"], &[("PERCEPT_BREAK_OPERATION", operation)]);
        assert_eq!(said.code, Some(1), "{operation}: {said:#?}");
        assert!(said.out.contains("WRONG"), "{operation}: {said:#?}");
    }
}

/// Differences of log-probabilities in a 16-bit type from float32's on the goldens, the largest and the typical one. In bfloat16, which keeps
/// 8 bits, transformers itself is off by up to 0.047 on these checkpoints with their large random weights; in float16 by up to 0.009.
const IN_16_BITS: [(DType, f32, f32); 2] = [(DType::F16, 2e-2, 5e-3), (DType::BF16, 6e-2, 2e-2)];

#[test]
fn log_probs_in_16_bits_are_near_those_in_32() {
    for (dtype, largest, typical) in IN_16_BITS {
        models::log_probs_are_near(dtype, largest, typical);
    }
    everywhere("16 bits", |adapter| {
        for (dtype, largest, typical) in IN_16_BITS {
            if adapter.device.supports_dtype(dtype) {
                on(&adapter.device, || models::log_probs_are_near(dtype, largest, typical));
            }
        }
    });
}

/// What a device cannot hold in one buffer is told before anything is loaded.
#[test]
fn a_parameter_that_no_buffer_holds_is_refused() {
    let place = Place::new();
    let folder = place.workshop.base();
    let load = |limit: u64| {
        let placement = Placement { largest_buffer: Some(limit), ..Placement::from(&Device::flex()) };
        percept_models::load(&folder, placement, &|_| false).map(|_| ()).map_err(|error| error.to_string())
    };
    // of the map of patches, the largest of this small model
    let largest = 64 * (3 * 2 * 14 * 14) * 4;
    load(largest).expect("it fits");
    let message = load(largest - 1).expect_err("it does not fit");
    for word in ["visual.patch_embed.proj.weight", "takes 301056 bytes", "holds 301055", "another backend"] {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}
