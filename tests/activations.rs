//! What sampling computed serves one scoring by the weights that sampled, and is what that scoring would compute.

use crate::program::{Place, files, metrics};
use crate::tiny::{compare_gradients, difference, host, methods, policy, prompts};
use burn::tensor::{DType, Device, Tensor};
use percept_core::{
    Activations, Group, Image, Parameter, Policy, Progress, Prompt, Sampler, SamplingSpec, ScoreRequest, ScoringGroup,
};
use percept_models::Lora;
use percept_models::qwen2_5_vl::Qwen25Vl;
use percept_ops::MomentType;
use percept_rollout::InProcess;
use percept_trainer::{Moment, Optimizer, OptimizerSettings, Updater};
use std::sync::Arc;

const REQUEST: ScoreRequest = ScoreRequest { temperature: 0.9, entropy: true, dropout: None };

fn spec(kept_activations: usize) -> SamplingSpec {
    // a third of the vocabulary, so that responses end early, some with their first token
    SamplingSpec { max_new_tokens: 9, stop_tokens: (0..20).collect(), kept_activations, ..crate::sampling::spec() }
}

/// Groups of every prompt, decoded so many rows at once and prefilled so many tokens at once.
fn sample(policy: &Qwen25Vl, (max_rows, max_prefill_tokens): (usize, usize), kept: usize) -> Vec<Group> {
    let prompts: Vec<Arc<Prompt>> = prompts().into_iter().map(|(prompt, _)| prompt).collect();
    let mut sampler = InProcess { max_rows, max_prefill_tokens };
    sampler.sample(&policy.freeze(), &prompts, &spec(kept)).expect("finite logits")
}

fn scoring(group: &Group, responses: std::ops::Range<usize>) -> ScoringGroup {
    let responses = group.responses[responses].iter().map(|response| response.tokens.as_slice().into());
    ScoringGroup { prompt: group.prompt.clone(), image: Image::Whole, responses: responses.collect() }
}

fn kept(groups: &[Group]) -> Vec<&Activations> {
    groups.iter().map(|group| group.activations.as_ref().expect("activations were kept")).collect()
}

/// Gradients of a loss in which every number weighs differently.
fn gradients(policy: &Qwen25Vl, scores: Tensor<2>) -> Vec<Vec<f32>> {
    let [rows, columns] = scores.dims();
    let weights: Vec<f32> = (0..rows * columns).map(|at| ((at * 37) % 23) as f32 * 0.25 - 2.5).collect();
    let weights = Tensor::<1>::from_floats(weights.as_slice(), &policy.device()).reshape([rows, columns]);
    let mut gradients = (scores * weights).sum().backward();
    let gradient = |parameter: &Parameter| {
        let gradient = parameter.value.grad_remove(&mut gradients);
        host(gradient.unwrap_or_else(|| panic!("{}: no gradient", parameter.pieces[0].name)))
    };
    policy.parameters().into_iter().map(gradient).collect()
}

#[test]
fn they_give_the_values_and_the_gradient() {
    let policy = policy(&Device::flex().autodiff(), 1);
    // all at once; few rows and prompts, so that rows change places and prompts are computed apart
    for places in [(64, 8192), (3, 40), (4, 1)] {
        let groups = sample(&policy, places, 1 << 30);
        assert!(groups.iter().flat_map(|group| &group.responses).any(|response| response.tokens.len() == 1));
        let whole: Vec<ScoringGroup> = groups.iter().map(|group| scoring(group, 0..5)).collect();
        let expected = policy.score(&whole, REQUEST);
        let by_hand = gradients(&policy, expected.clone());
        let scores = policy.score_sampled(&whole, REQUEST, &kept(&groups));
        let off = difference(&host(scores.clone()), &host(expected.clone()));
        assert!(off <= 1e-5, "{places:?}: values differ by {off:e}");
        let share = compare_gradients(&gradients(&policy, scores), &by_hand, &policy);
        println!("{places:?}: values {off:e}, gradients {share:e}");
        // they have been used: what is scored again is computed again
        let again = policy.score_sampled(&whole, REQUEST, &kept(&groups));
        assert_eq!(host(again), host(expected));
    }
}

/// Micro-batches: groups in another order, and a group cut in two, with its prompt in both parts.
#[test]
fn they_give_parts_of_a_batch() {
    let policy = policy(&Device::flex().autodiff(), 1);
    let groups = sample(&policy, (7, 8192), 1 << 30);
    for parts in [vec![(3, 0..5), (0, 0..2)], vec![(0, 2..5), (2, 0..5)], vec![(4, 0..5), (1, 0..5)]] {
        let part: Vec<ScoringGroup> =
            parts.iter().map(|(group, rows)| scoring(&groups[*group], rows.clone())).collect();
        let activations: Vec<&Activations> = parts.iter().map(|(group, _)| kept(&groups)[*group]).collect();
        let (found, expected) = (policy.score_sampled(&part, REQUEST, &activations), policy.score(&part, REQUEST));
        assert_ne!(host(found.clone()), host(expected.clone()), "{parts:?} are computed anew");
        let off = difference(&host(found.clone()), &host(expected.clone()));
        assert!(off <= 1e-5, "{parts:?}: values differ by {off:e}");
        let [found, expected] = [found, expected].map(|scores| gradients_of_what_learns(&policy, scores));
        for (found, expected) in found.iter().zip(&expected) {
            let size = expected.iter().fold(0.0f32, |size, value| size.max(value.abs()));
            assert!(difference(found, expected) <= 1e-4 * size, "{parts:?}");
        }
    }
}

/// The same where parts have no picture, and with them no gradient of the tower.
fn gradients_of_what_learns(policy: &Qwen25Vl, scores: Tensor<2>) -> Vec<Vec<f32>> {
    let mut gradients = scores.powf_scalar(2.0).sum().backward();
    let gradient = |parameter: &&Parameter| parameter.value.grad_remove(&mut gradients).map(host);
    policy.parameters().iter().filter_map(gradient).collect()
}

/// They are read, not computed: by other weights they give what the first weights computed, up to the head.
#[test]
fn they_are_not_computed_again() {
    let device = Device::flex().autodiff();
    let (own, other) = (policy(&device, 1), policy(&device, 2));
    let groups = sample(&own, (64, 8192), 1 << 30);
    let whole: Vec<ScoringGroup> = groups.iter().map(|group| scoring(group, 0..5)).collect();
    let by_own = host(own.score(&whole, REQUEST));
    let by_other = host(other.score(&whole, REQUEST));
    let mut mixed = own.clone();
    let blocks = |name: &str| name.starts_with("model.layers.") || name.starts_with("visual.");
    for (parameter, other) in mixed.parameters_mut().into_iter().zip(other.parameters()) {
        if blocks(&parameter.pieces[0].name) {
            *parameter = other.clone();
        }
    }
    let found = host(mixed.score_sampled(&whole, REQUEST, &kept(&groups)));
    assert!(difference(&found, &by_own) <= 1e-5);
    assert!(difference(&found, &by_other) > 1e-2);
}

#[test]
fn what_cannot_be_used_is_not_kept() {
    let device = Device::flex().autodiff();
    let own = policy(&device, 1);
    let none = |policy: &Qwen25Vl, bytes: usize| {
        let groups = sample(policy, (4, 40), bytes);
        let Some(kept) = groups.iter().map(|group| group.activations.as_ref()).collect::<Option<Vec<_>>>() else {
            return true;
        };
        let whole: Vec<ScoringGroup> = groups.iter().map(|group| scoring(group, 0..5)).collect();
        host(policy.score_sampled(&whole, REQUEST, &kept)) == host(policy.score(&whole, REQUEST))
    };
    assert!(none(&own, 0), "nothing is asked for");
    let all = kept(&sample(&own, (4, 40), 1 << 30)).iter().map(|kept| kept.bytes()).max().expect("groups");
    assert!(!none(&own, all) && none(&own, all - 1), "{all} bytes are the limit");
    assert!(none(&own.clone().computed_in(DType::BF16), 1 << 30), "16 bits");
    let mut adapted = own.clone();
    adapted.adapt(&Lora { rank: 2, alpha: 4.0, dropout: 0.0, seed: 1, targets: &|_| true });
    assert!(none(&adapted, 1 << 30), "adapters");
    // a policy without them computes
    let groups = sample(&own, (4, 40), 0);
    let whole: Vec<ScoringGroup> = groups.iter().map(|group| scoring(group, 0..5)).collect();
    assert_eq!(host(own.score_sampled(&whole, REQUEST, &[])), host(own.score(&whole, REQUEST)));
}

const RUN: &str =
    "objective.kind=papo_g validation.every=0 validation.before_training=false trainer.prompts_per_update=4";

/// Resumed, it uses them where it would have: it ends with the same bytes.
#[test]
fn a_run_goes_on_with_the_same_bytes() {
    let place = Place::new();
    let sets = format!("{RUN} trainer.steps=4 trainer.checkpoint_every=1");
    place.run("train", &format!("{sets} trainer.run_dir=whole")).well();
    let mut running = place.start_run("train", &format!("{sets} trainer.run_dir=cut"));
    running.wait_until("two steps", || place.last_step("cut/metrics.jsonl") >= Some(2));
    running.kill();
    place.run("train", &format!("{sets} trainer.run_dir=cut --resume")).well();
    let weights =
        |run: &str| files(&place.path().join(run).join("checkpoints/step-000004"))["model.safetensors"].clone();
    assert!(weights("whole") == weights("cut"), "the weights differ");
}

/// A run's steps but the first use them, where a step has one update: its numbers change in their last bits only.
#[test]
fn a_run_uses_them_and_learns_the_same() {
    let place = Place::new();
    let run = |name: &str, more: &str| {
        place.run("train", &format!("{RUN} trainer.steps=2 {more} trainer.run_dir={name}")).well();
        metrics(&place.path().join(name).join("metrics.jsonl"))
    };
    let (with, without) = (run("with", ""), run("without", "trainer.kept_activations_mib=0"));
    let number = |run: &[std::collections::BTreeMap<String, serde_json::Value>], step: usize, name: &str| {
        run[step][name].as_f64().unwrap_or_else(|| panic!("{name} of step {step}"))
    };
    for name in ["optimizer/grad_norm", "objective/loss", "objective/kl_prcp", "rollout/logprob_gap_max"] {
        assert_eq!(number(&with, 0, name), number(&without, 0, name), "{name}: the first step is computed anew");
    }
    let norms = [number(&with, 1, "optimizer/grad_norm"), number(&without, 1, "optimizer/grad_norm")];
    assert!(norms[0] != norms[1], "the second step is not computed anew: {norms:?}");
    assert!((norms[0] - norms[1]).abs() <= 1e-4 * norms[1], "{norms:?}");
    let gaps = [&with, &without].map(|run| run[1].contains_key("rollout/logprob_gap_max"));
    assert_eq!(gaps, [false, true], "the sampler is checked by what is computed apart from it");
    // with blocks computed again, or several updates, nothing is kept
    for more in ["trainer.recompute=on", "trainer.prompts_per_update=2"] {
        let [with, without] = ["", " trainer.kept_activations_mib=0"]
            .map(|kept| run(if kept.is_empty() { "a" } else { "b" }, &format!("{more}{kept}")));
        assert_eq!(number(&with, 1, "optimizer/grad_norm"), number(&without, 1, "optimizer/grad_norm"), "{more}");
        for name in ["a", "b"] {
            std::fs::remove_dir_all(place.path().join(name)).expect("a run's folder");
        }
    }
}

/// A step's later updates have other weights: they compute.
#[test]
fn later_updates_compute_anew() {
    let device = Device::flex().autodiff();
    let (_, objective) = methods().remove(0);
    let run = |keeps: bool| {
        let mut policy = policy(&device, 1);
        let sampled = sample(&policy, (64, 8192), if keeps { 1 << 30 } else { 0 });
        let mut groups = crate::tiny::batch(&Device::flex());
        for (group, sampled) in groups.iter_mut().zip(sampled) {
            let count = sampled.responses.len();
            group.lengths = sampled.responses.iter().map(|response| response.tokens.len()).collect();
            group.advantages = (0..count).map(|at| at as f32 - 1.7).collect();
            group.correct = vec![0.0; count];
            group.rewards = vec![0.0; count];
            group.texts = vec![String::new(); count];
            let log_probs: Vec<Vec<f32>> = sampled.responses.iter().map(|own| own.log_probs.clone()).collect();
            for numbers in group.views.iter_mut().filter_map(|(_, numbers)| numbers.as_mut()) {
                numbers.log_probs.clone_from(&log_probs);
            }
            group.group = sampled;
        }
        let settings = OptimizerSettings {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            moments: MomentType::F32,
            offload: false,
            seed: 1,
            learning_rate: Arc::new(|_, _| 0.0),
        };
        let mut optimizer = Optimizer::new(&policy, settings);
        let updater = Updater {
            objective: &*objective,
            temperature: 1.0,
            prompts_per_update: 3,
            micro_tokens: 60,
            recompute: false,
            learning_rate: 0.05,
            progress: Progress { step: 0, total_steps: 1 },
        };
        let mut norms = Vec::new();
        let watch = &mut |moment: Moment| {
            norms.push(moment.norm);
            Ok(())
        };
        updater.run_watched(&mut policy, &mut optimizer, &groups, 0, watch).expect("an update");
        norms
    };
    let (with, without) = (run(true), run(false));
    assert_eq!(with.len(), 2);
    assert_ne!(with[0], without[0], "the first update uses them");
    for (with, without) in with.iter().zip(&without) {
        assert!((with - without).abs() <= 1e-3 * without, "{with} and {without}");
    }
}
