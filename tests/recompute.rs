//! Gradients block by block, each computed again, are those of the whole graph: whatever learns, and however a mini-batch is cut.

use crate::program::{Place, files, lines};
use crate::tiny::{batch, host, learned, methods, policy};
use burn::tensor::{Device, Tensor};
use percept_core::{Objective, Parameter, Policy, ScoreRequest, ScoringGroup, Tape};
use percept_models::qwen2_5_vl::Qwen25Vl;

/// The policy, of which only what the names are true of learns.
fn learning(learns: impl Fn(&str) -> bool) -> Qwen25Vl {
    let mut policy = policy(&Device::flex().autodiff(), 1);
    for parameter in policy.parameters_mut() {
        if !parameter.pieces.iter().any(|piece| learns(&piece.name)) {
            parameter.trainable = false;
            parameter.value = Tensor::from_inner(parameter.value.clone().inner());
        }
    }
    policy
}

fn compare(what: &str, policy: &Qwen25Vl, objective: &dyn Objective) -> f32 {
    compare_with(what, policy, policy, objective)
}

/// `other` recomputes, and `policy` keeps the whole graph.
fn compare_with(what: &str, policy: &Qwen25Vl, other: &Qwen25Vl, objective: &dyn Objective) -> f32 {
    let groups = batch(&Device::flex());
    let mut worst = 0.0f32;
    for micro_tokens in [30, usize::MAX] {
        let (expected, metrics) = learned(policy, objective, &groups, (micro_tokens, false));
        let (found, again) = learned(other, objective, &groups, (micro_tokens, true));
        for (metric, value) in &metrics.0 {
            let found = again.get(metric).unwrap_or_else(|| panic!("{what}: no {metric}"));
            assert!((found - value).abs() <= 1e-6 * value.abs().max(1.0), "{what}: {metric} {found}, not {value}");
        }
        for ((parameter, found), expected) in policy.parameters().into_iter().zip(found).zip(expected) {
            let name = &parameter.pieces[0].name;
            assert_eq!(found.is_some(), expected.is_some(), "{what}: {name}");
            assert_eq!(found.is_some(), parameter.trainable, "{what}: {name}");
            let (Some(found), Some(expected)) = (found, expected) else { continue };
            let size = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            let off = found.iter().zip(&expected).fold(0.0f32, |a, (x, y)| a.max((x - y).abs()));
            assert!(off <= 3e-6 * size, "{what}: {name} is off by {off:e} of {size:e}");
            worst = worst.max(off / size);
        }
    }
    worst
}

#[test]
fn every_method_learns_the_same() {
    let policy = learning(|_| true);
    for (name, objective) in methods() {
        println!("{name}: {:e}", compare(name, &policy, &*objective));
    }
}

#[test]
fn whatever_learns() {
    type Learns = fn(&str) -> bool;
    let lists: [(&str, Learns); 6] = [
        ("no vision", |name| !name.starts_with("visual.")),
        ("the upper block", |name| name.starts_with("model.layers.1.")),
        ("the merger", |name| name.starts_with("visual.merger.")),
        ("the upper vision block", |name| name.starts_with("visual.blocks.1.")),
        ("the embedding, which is the head", |name| name == "model.embed_tokens.weight"),
        ("the last normalization", |name| name == "model.norm.weight"),
    ];
    let (_, objective) = methods().pop().expect("PAPO with a live masked branch");
    for (name, learns) in lists {
        println!("{name}: {:e}", compare(name, &learning(learns), &*objective));
    }
}

/// Features that are computed once serve every pass: scoring, and both ways to the gradient.
#[test]
fn kept_features_change_nothing() {
    let plain = learning(|name| !name.starts_with("visual."));
    let mut keeping = plain.clone();
    keeping.keep_features(1 << 24);
    for (name, objective) in methods() {
        for (way, policy, other) in [("again", &plain, &keeping), ("whole", &keeping, &plain)] {
            println!("{name}, {way}: {:e}", compare_with(name, policy, other, &*objective));
        }
    }
}

/// A policy that brings no recomputation of its own keeps the whole graph, by the same interface.
#[test]
fn a_policy_without_recomputation_keeps_the_graph() {
    struct Plain(Qwen25Vl);
    impl Policy for Plain {
        fn device(&self) -> Device {
            self.0.device()
        }
        fn vocabulary(&self) -> usize {
            self.0.vocabulary()
        }
        fn parameters(&self) -> Vec<&Parameter> {
            self.0.parameters()
        }
        fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
            self.0.parameters_mut()
        }
        fn freeze(&self) -> percept_core::FrozenPolicy {
            self.0.freeze()
        }
        fn score(&self, groups: &[ScoringGroup], request: ScoreRequest) -> Tensor<2> {
            self.0.score(groups, request)
        }
        fn decoder(&self, rows: usize, tokens: usize) -> Box<dyn percept_core::Decoder + '_> {
            self.0.decoder(rows, tokens)
        }
    }
    let request = ScoreRequest { temperature: 0.9, entropy: true, dropout: None };
    let gradients = |policy: &dyn Policy| {
        let groups = crate::tiny::scoring_groups(percept_core::Image::Whole);
        let (scores, tape): (Tensor<2>, Box<dyn Tape + '_>) = policy.score_recomputed(&groups, request);
        let mut sums: Vec<Option<Tensor<2>>> = policy.parameters().iter().map(|_| None).collect();
        tape.backward(scores.clone().ones_like(), &mut |number, part| {
            let before = sums[number].take();
            sums[number] = Some(match before {
                Some(sum) => sum + part,
                None => part,
            });
        });
        let all: Vec<Vec<f32>> = sums.into_iter().map(|sum| host(sum.expect("all learn"))).collect();
        (host(scores), all)
    };
    let policy = learning(|_| true);
    let (expected, by_block) = gradients(&policy);
    let (found, whole) = gradients(&Plain(policy));
    assert_eq!(found, expected);
    for (a, b) in whole.iter().flatten().zip(by_block.iter().flatten()) {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} and {b}");
    }
}

/// A run that recomputes is as exact as any: killed and resumed, it ends with the same bytes.
#[test]
fn a_run_goes_on_with_the_same_bytes() {
    let place = Place::new();
    let sets = "objective.kind=papo_g trainer.recompute=on validation.every=0 validation.before_training=false trainer.steps=3 \
                trainer.checkpoint_every=1";
    place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
    let mut running = place.start_run("train", &format!("{sets} trainer.run_dir=cut"));
    running.wait_until("a step", || place.pointer("cut/latest").is_some());
    running.kill();
    place.run("train", &format!("{sets} trainer.run_dir=cut --resume")).well();
    let weights =
        |run: &str| files(&place.path().join(run).join("checkpoints/step-000003"))["model.safetensors"].clone();
    assert!(weights("whole") == weights("cut"), "the weights differ");
    assert_eq!(lines(&place.path().join("cut/metrics.jsonl")).len(), 3);
}
