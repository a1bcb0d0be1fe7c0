//! Low-rank adapters: what they compute, what of them is saved, and that runs with them learn and go on exactly.

use crate::program::{Place, files, lines};
use crate::tiny::{batch, host, learned, methods, policy, scoring_groups};
use burn::tensor::{Device, Tensor, TensorData};
use percept_core::{Image, Policy, ScoreRequest, ScoringGroup};
use percept_models::qwen2_5_vl::Qwen25Vl;
use percept_models::{Lora, Placement};
use serde_json::{Value, json};

const REQUEST: ScoreRequest = ScoreRequest { temperature: 0.9, entropy: true, dropout: None };

/// A policy with adapters on these maps; with `noise`, none of them is zero.
fn adapted(targets: &dyn Fn(&str) -> bool, noise: f32) -> Qwen25Vl {
    dropping(targets, noise, 0.0)
}

/// The same with dropout.
fn dropping(targets: &dyn Fn(&str) -> bool, noise: f32, dropout: f64) -> Qwen25Vl {
    let mut policy = policy(&Device::flex().autodiff(), 1);
    for parameter in policy.parameters_mut() {
        parameter.trainable = false;
        parameter.value = Tensor::from_inner(parameter.value.clone().inner());
    }
    policy.adapt(&Lora { rank: 3, alpha: 5.0, dropout, seed: 4, targets });
    for (number, parameter) in policy.parameters_mut().into_iter().enumerate().filter(|(_, p)| p.is_adapter()) {
        let values: Vec<f32> = host(parameter.value.clone().inner());
        let moved = |(i, x): (usize, f32)| x + noise * (((i * 31 + number * 17) % 23) as f32 / 11.0 - 1.0);
        let values = TensorData::new(values.into_iter().enumerate().map(moved).collect(), parameter.value.dims());
        parameter.value = Tensor::from_data(values, &Device::flex().autodiff()).require_grad();
    }
    policy
}

fn scores(policy: &dyn Policy) -> Vec<f32> {
    scored(policy, &scoring_groups(Image::Whole), REQUEST)
}

fn scored(policy: &dyn Policy, groups: &[ScoringGroup], request: ScoreRequest) -> Vec<f32> {
    let scores = policy.score(groups, request);
    host(if scores.device().is_autodiff() { scores.inner() } else { scores })
}

/// The numbers that a plain model has whose weights hold the adapters.
fn merged(policy: &Qwen25Vl) -> Qwen25Vl {
    let mut plain = crate::tiny::policy(&Device::flex().autodiff(), 1);
    let all = policy.parameters();
    let kept = all.iter().enumerate().filter(|(_, parameter)| !parameter.is_adapter()).map(|(number, _)| number);
    for (number, parameter) in kept.zip(plain.parameters_mut()) {
        parameter.value = Tensor::from_inner(policy.merged(number)).require_grad();
    }
    plain
}

fn assert_near(found: &[f32], expected: &[f32], tolerance: f32) -> f32 {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(worst <= tolerance, "they differ by {worst}");
    worst
}

#[test]
fn new_adapters_change_nothing_and_merged_ones_are_the_same_function() {
    let everything = |_: &str| true;
    let some = |name: &str| name.ends_with("k_proj") || name.ends_with("up_proj") || name.ends_with("attn.qkv");
    let lists: [&dyn Fn(&str) -> bool; 2] = [&everything, &some];
    let start = scores(&policy(&Device::flex().autodiff(), 1));
    for targets in lists {
        assert_eq!(scores(&adapted(targets, 0.0)), start, "B is zero at first");
        let policy = adapted(targets, 0.1);
        let found = scores(&policy);
        assert!(found != start, "the adapters do something");
        println!("merged: {:e}", assert_near(&found, &scores(&merged(&policy)), 2e-5));
        assert_near(&scores(&*policy.freeze()), &found, 1e-5);
        let base = policy.without_adapters().expect("there are adapters");
        assert_eq!(scores(&*base), start, "the reference is the policy without adapters");
    }
    assert!(policy(&Device::flex(), 1).without_adapters().is_none());
}

/// The gradient with respect to A and B is that of the merged matrix: dA = s B^T dW, dB = s dW A^T.
#[test]
fn gradients_are_those_of_the_product() {
    let policy = adapted(&|_| true, 0.1);
    let groups = batch(&Device::flex());
    let (_, objective) = methods().remove(0);
    let (found, _) = learned(&policy, &*objective, &groups, (usize::MAX, false));
    let (again, _) = learned(&policy, &*objective, &groups, (usize::MAX, true));
    let (dense, _) = learned(&merged(&policy), &*objective, &groups, (usize::MAX, false));
    let parameters = policy.parameters();
    let (mut matrix, mut dense, mut checked) = (None, dense.into_iter(), 0);
    for (number, parameter) in parameters.iter().enumerate() {
        if !parameter.is_adapter() {
            assert!(found[number].is_none(), "{}: weights do not learn", parameter.pieces[0].name);
            let gradient = dense.next().expect("as many").expect("of every weight");
            if parameter.pieces[0].name.ends_with(".weight") && parameter.value.dims()[0] > 1 {
                matrix = Some((parameter, gradient));
            }
            continue;
        }
        let gradient = found[number].as_ref().expect("adapters learn");
        let size = gradient.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        assert_near(again[number].as_ref().expect("by blocks, too"), gradient, 1e-5 * size.max(1e-3));
        // of the first map's A only: [3, inputs]; its B is the next parameter
        let (weight, dw) = matrix.as_ref().expect("the matrix comes before its adapters");
        if !parameter.pieces[0].name.ends_with("lora_A.weight") {
            continue;
        }
        let [rows, inputs] = [weight.pieces[0].shape[0], weight.value.dims()[1]];
        let b: Vec<f32> = host(parameters[number + 1].value.clone().inner());
        for rank in 0..3 {
            for column in 0..inputs {
                let sum: f32 = (0..rows).map(|row| b[row * 3 + rank] * dw[row * inputs + column]).sum();
                let wanted = sum * 5.0 / 3.0;
                let got = gradient[rank * inputs + column];
                assert!((got - wanted).abs() <= 2e-4 * size.max(1e-3), "{got}, not {wanted}");
                checked += 1;
            }
        }
    }
    assert!(checked > 1000, "{checked} numbers");
}

/// What is dropped depends on seed, step and tokens: not on what is computed beside them, nor on how the gradient is taken.
#[test]
fn dropout_is_a_function_of_step_and_tokens() {
    let at = |step: u64| ScoreRequest { dropout: Some(step), ..REQUEST };
    let policy = dropping(&|_| true, 0.1, 0.3);
    let groups = scoring_groups(Image::Whole);
    assert_eq!(scores(&policy), scores(&adapted(&|_| true, 0.1)), "none but while it learns");
    assert_eq!(scored(&adapted(&|_| true, 0.1), &groups, at(3)), scores(&policy), "none at a rate of 0");
    let found = scored(&policy, &groups, at(3));
    for other in [scores(&policy), scored(&policy, &groups, at(4))] {
        let apart = found.iter().zip(&other).filter(|(a, b)| (*a - *b).abs() > 1e-3).count();
        assert!(apart > found.len() / 2, "{apart} of {} differ", found.len());
    }
    let text_only = dropping(&|name| name.starts_with("model."), 0.1, 0.3);
    let vision_only = dropping(&|name| name.starts_with("visual."), 0.1, 0.3);
    for policy in [&text_only, &vision_only] {
        assert!(scored(policy, &groups, at(3)) != scores(policy), "each part drops");
    }
    assert_near(&scored(&*policy.freeze(), &groups, at(3)), &found, 1e-5);
    let base = policy.without_adapters().expect("there are adapters");
    assert_eq!(scored(&*base, &groups, at(3)), scores(&*base), "the reference has no adapters to drop from");
    let mut alone = Vec::new();
    for group in &groups {
        for response in &group.responses {
            let own = ScoringGroup { responses: vec![response.clone()], ..group.clone() };
            alone.extend(scored(&policy, &[own], at(3)));
        }
    }
    assert_near(&alone, &found, 2e-5);

    let batch = batch(&Device::flex());
    for (name, objective) in methods() {
        let (expected, _) = learned(&policy, &*objective, &batch, (usize::MAX, false));
        for way in [(30, false), (30, true), (usize::MAX, true)] {
            let (again, _) = learned(&policy, &*objective, &batch, way);
            for (found, expected) in again.iter().flatten().zip(expected.iter().flatten()) {
                let size = expected.iter().fold(1e-3f32, |a, b| a.max(b.abs()));
                println!("{name}, {way:?}: {:e}", assert_near(found, expected, 1e-5 * size));
            }
        }
    }
}

/// The gradient is of the function with the same numbers dropped.
#[test]
fn gradients_with_dropout_are_finite_differences() {
    const STEP: f32 = 1e-2;
    let request = ScoreRequest { dropout: Some(5), ..REQUEST };
    let mut policy = dropping(&|_| true, 0.1, 0.3);
    let groups = scoring_groups(Image::Whole);
    let sum = |policy: &Qwen25Vl| scored(policy, &groups, request).iter().map(|&x| f64::from(x)).sum::<f64>();
    let gradients = policy.score(&groups, request).sum().backward();
    let adapters: Vec<usize> =
        policy.parameters().iter().enumerate().filter(|(_, p)| p.is_adapter()).map(|(number, _)| number).collect();
    for number in adapters.into_iter().step_by(5) {
        let value = policy.parameters()[number].value.clone();
        let gradient = host(value.grad(&gradients).expect("it learns"));
        let (start, size) = (host(value.clone().inner()), gradient.iter().fold(1.0f32, |a, b| a.max(b.abs())));
        for place in (0..start.len()).step_by(start.len() / 3) {
            let mut at = |offset: f32| {
                let mut values = start.clone();
                values[place] += offset;
                let values = TensorData::new(values, value.dims());
                policy.parameters_mut()[number].value =
                    Tensor::from_data(values, &Device::flex().autodiff()).require_grad();
                sum(&policy)
            };
            let slope = ((at(STEP) - at(-STEP)) / f64::from(2.0 * STEP)) as f32;
            assert!((slope - gradient[place]).abs() <= 5e-3 * size, "{number}: {slope}, not {}", gradient[place]);
        }
        policy.parameters_mut()[number].value = value;
    }
}

/// A run with dropout is as exact as any, and says how far the policy that learns is from the one that sampled.
#[test]
fn a_run_with_dropout_goes_on_with_the_same_bytes() {
    let place = Place::new();
    let sets = "objective.kind=papo_g model.lora.rank=4 model.lora.dropout=0.25 model.lora.save=adapter validation.every=0 \
                validation.before_training=false trainer.steps=3 trainer.checkpoint_every=1 optimizer.learning_rate=1e-2";
    place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
    let mut running = place.start_run("train", &format!("{sets} trainer.run_dir=cut"));
    running.wait_until("a step", || place.pointer("cut/latest").is_some());
    running.kill();
    place.run("train", &format!("{sets} trainer.run_dir=cut --resume")).well();
    let last = |run: &str| files(&place.path().join(run).join("checkpoints/step-000003"));
    let (whole, cut) = (last("whole"), last("cut"));
    for name in ["adapter_model.safetensors", "adapter_config.json", "trainer.safetensors"] {
        assert!(whole[name] == cut[name], "{name} differs");
    }
    let config: Value = serde_json::from_slice(&whole["adapter_config.json"]).expect("JSON");
    assert_eq!(config["lora_dropout"], 0.25);
    let steps = lines(&place.path().join("whole/metrics.jsonl"));
    let gap = |step: usize| steps[step]["rollout/logprob_gap_max"].as_f64().expect("a metric of every step");
    assert!(gap(0) < 1e-4, "B is zero at first, but {} are apart", gap(0));
    assert!(gap(2) > 1e-4, "dropout shows, but {} are apart", gap(2));
}

/// Both ways of saving go on with the same bytes, and give the same model to others.
#[test]
fn runs_with_adapters_go_on_and_are_saved_both_ways() {
    let place = Place::new();
    let sets = "objective.kind=papo_g model.lora.rank=4 model.lora.alpha=8 validation.every=0 validation.before_training=false \
                trainer.steps=3 trainer.checkpoint_every=1 optimizer.learning_rate=1e-3";
    let train = |more: &str| place.run("train", &format!("{sets} {more}")).well();
    train("trainer.run_dir=whole model.lora.save=adapter");
    train("trainer.run_dir=merged");
    let mut running = place.start_run("train", &format!("{sets} trainer.run_dir=cut model.lora.save=adapter"));
    running.wait_until("a step", || place.pointer("cut/latest").is_some());
    running.kill();
    train("trainer.run_dir=cut model.lora.save=adapter --resume");
    let last = |run: &str| place.path().join(run).join("checkpoints/step-000003");
    let (whole, cut) = (files(&last("whole")), files(&last("cut")));
    for name in ["adapter_model.safetensors", "adapter_config.json", "trainer.safetensors"] {
        assert!(whole[name] == cut[name], "{name} differs");
    }
    assert!(!whole.contains_key("model.safetensors"), "an adapter's folder holds no whole model");
    for step in lines(&place.path().join("whole/metrics.jsonl")) {
        let gap = step["rollout/logprob_gap_max"].as_f64().expect("a metric of every step");
        assert!(gap < 1e-4, "the sampler and the trainer differ by {gap}");
    }
    let load = |folder: &std::path::Path| {
        let placement = Placement::from(&Device::flex());
        percept_models::load(folder, placement, &|_| false).unwrap_or_else(|error| panic!("{error}"))
    };
    let adapter = load(&last("whole"));
    // kinds of adapters that would be read as something else are refused by name
    let config = last("cut").join("adapter_config.json");
    let text = std::fs::read_to_string(&config).expect("an adapter");
    for (key, value) in
        [("rank_pattern", json!({"q_proj": 2})), ("modules_to_save", json!(["lm_head"])), ("r", json!(3))]
    {
        let mut other: Value = serde_json::from_str(&text).expect("JSON");
        other[key] = value;
        std::fs::write(&config, other.to_string()).expect("writes");
        let refused =
            percept_models::load(&last("cut"), &Device::flex(), &|_| false).err().expect("refused").to_string();
        assert!(refused.contains(&format!("key {key}: expected ")), "{refused}");
    }
    let (plain, start) = (load(&last("merged")), load(&place.workshop.base()));
    let mut moved = 0;
    let kept = adapter.parameters().into_iter().enumerate().filter(|(_, parameter)| !parameter.is_adapter());
    for ((number, _), (plain, start)) in kept.zip(plain.parameters().into_iter().zip(start.parameters())) {
        let (found, expected) = (host(adapter.merged(number)), host(plain.value.clone()));
        assert_near(&found, &expected, 1e-6);
        moved += usize::from(expected != host(start.value.clone()));
    }
    assert!(moved > 0, "nothing was learned");
}

#[test]
fn targets_that_name_nothing_are_told() {
    let place = Place::new();
    let said = place.run("train", "objective.kind=grpo model.lora.targets=[\"layers.*\"]");
    assert!(said.err.contains("model.lora.targets matches no linear map"), "{said:#?}");
    let said = place.run("train", "objective.kind=grpo model.lora.dropout=1.0");
    assert!(said.err.contains("model.lora.dropout") && said.err.contains("below 1"), "{said:#?}");
}
