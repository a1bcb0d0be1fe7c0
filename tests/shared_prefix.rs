//! The prompt computed once for its group is the same function as a batch that repeats it: in values, in gradients, however a
//! mini-batch is cut, and in the sampler, however its rows are scheduled.

use std::sync::{Arc, Mutex};

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use percept_algorithms::{Average, Dapo, DapoConfig, Grpo, GrpoConfig, Papo, PapoConfig};
use percept_core::{
    DecodeRow, Decoder, Finish, FrozenPolicy, Group, Image, Objective, Parameter, PicturePatches, Policy, Progress,
    Prompt, Response, Sampler, SamplerError, SamplingSpec, ScoreRequest, ScoringGroup, Task, View, Weights,
};
use percept_models::qwen2_5_vl::{Config, Qwen25Vl, VisionConfig, initialize};
use percept_ops::HeadShape;
use percept_random::{Key, Purpose, Stream};
use percept_rollout::InProcess;
use percept_trainer::{CollectedGroup, Metrics, Updater, ViewNumbers};

const IMAGE: u32 = 60;
const VOCABULARY: u64 = 64;

pub(crate) fn stream(seed: u64) -> Stream {
    Key::new(seed, Purpose::Task).stream()
}

pub(crate) fn config() -> Config {
    Config {
        hidden_size: 32,
        intermediate_size: 48,
        num_layers: 2,
        heads: HeadShape { heads: 4, kv_heads: 2, width: 8 },
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        mrope_section: [1, 1, 2],
        vocabulary: VOCABULARY as usize,
        tie_word_embeddings: true,
        image_token_id: IMAGE,
        video_token_id: Some(IMAGE + 1),
        vision: VisionConfig {
            depth: 2,
            hidden_size: 32,
            intermediate_size: 40,
            num_heads: 2,
            in_channels: 3,
            patch_size: 4,
            temporal_patch_size: 2,
            spatial_merge_size: 2,
            window_size: 16,
            full_attention_blocks: vec![1],
        },
    }
}

/// A model whose every parameter, biases too, is random and matters; `seed` names its small deviation from the others.
pub(crate) fn policy(device: &Device, seed: u64) -> Qwen25Vl {
    let mut policy = initialize(&config(), 3, 0.2, device).expect("a valid configuration");
    let mut noise = stream(seed);
    for parameter in policy.parameters_mut() {
        let shape = parameter.value.dims();
        let deviation = if shape[0] == 1 { 0.2 } else { 0.03 };
        let mut values = host(parameter.value.clone());
        values.iter_mut().for_each(|value| *value += (noise.normal() * deviation) as f32);
        let value = Tensor::from_data(TensorData::new(values, shape), device);
        parameter.value = if parameter.trainable { value.require_grad() } else { value };
    }
    policy
}

fn words(stream: &mut Stream, count: usize) -> Vec<u32> {
    (0..count).map(|_| stream.below(u64::from(IMAGE)) as u32).collect()
}

/// Patches of a picture of this many merged patches.
fn picture(stream: &mut Stream, height: usize, width: usize) -> PicturePatches {
    let grid = [1, 2 * height, 2 * width];
    let count = grid.iter().product::<usize>() * config().vision.patch_width();
    PicturePatches { rows: Arc::new((0..count).map(|_| stream.normal() as f32).collect()), grid }
}

/// A prompt with pictures of these sizes, each behind some text.
fn prompt(id: u64, pictures: &[(usize, usize)], text: usize) -> Arc<Prompt> {
    let mut stream = stream(1000 + id);
    let mut tokens = Vec::new();
    for (height, width) in pictures {
        tokens.extend(words(&mut stream, 3));
        tokens.extend(vec![IMAGE; height * width]);
    }
    tokens.extend(words(&mut stream, text));
    let mut drawn = || pictures.iter().map(|&(height, width)| picture(&mut stream, height, width)).collect::<Vec<_>>();
    let (whole, twins) = (drawn(), drawn());
    let corrupted = if pictures.is_empty() { Vec::new() } else { vec![twins] };
    Arc::new(Prompt { id, tokens, pictures: whole, corrupted })
}

/// Groups of different sizes: one picture (windows at its edges are smaller), text only, two pictures, a prompt of one token.
pub(crate) fn prompts() -> Vec<(Arc<Prompt>, Vec<usize>)> {
    vec![
        (prompt(0, &[(3, 5)], 7), vec![5, 1, 9, 2]),
        (prompt(1, &[], 11), vec![4, 6]),
        (prompt(2, &[(2, 2), (4, 3)], 2), vec![1, 3, 1]),
        (prompt(3, &[], 1), vec![8]),
        (prompt(4, &[(1, 1)], 5), vec![1]),
    ]
}

pub(crate) fn scoring_groups(image: Image) -> Vec<ScoringGroup> {
    let group = |(prompt, lengths): (Arc<Prompt>, Vec<usize>)| {
        let mut stream = stream(2000 + prompt.id);
        let responses = lengths.into_iter().map(|length| words(&mut stream, length).into()).collect();
        ScoringGroup { prompt, image, responses }
    };
    let groups = prompts().into_iter().map(group);
    groups.filter(|group| image == Image::Whole || !group.prompt.pictures.is_empty()).collect()
}

pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("float32")
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "how many numbers");
    assert!(a.iter().chain(b).all(|value| value.is_finite()), "a number is not finite");
    a.iter().zip(b).fold(0.0, |largest, (a, b)| largest.max((a - b).abs()))
}

/// Fails when gradients differ by more than 1e-4 of a parameter's largest; returns the largest such share.
pub(crate) fn compare_gradients(found: &[Vec<f32>], expected: &[Vec<f32>], policy: &dyn Policy) -> f32 {
    let mut worst = 0.0f32;
    for ((found, expected), parameter) in found.iter().zip(expected).zip(policy.parameters()) {
        let name = &parameter.pieces[0].name;
        assert!(largest(expected) > 0.0, "{name}: no gradient to compare");
        let share = difference(found, expected) / largest(expected);
        assert!(share <= 1e-4, "{name}: gradients differ by {share:e} of {}", largest(expected));
        worst = worst.max(share);
    }
    worst
}

/// Gradients of a loss by parameter.
fn backward(policy: &dyn Policy, loss: Tensor<1>) -> Vec<Vec<f32>> {
    let mut gradients = loss.backward();
    let gradient = |parameter: &Parameter| {
        let gradient = parameter.value.grad_remove(&mut gradients);
        host(gradient.unwrap_or_else(|| panic!("{}: no gradient", parameter.pieces[0].name)))
    };
    policy.parameters().into_iter().map(gradient).collect()
}

/// The padded batch's function, a sequence at a time: the prompt repeated before each response, every logit computed, burn's own
/// softmax. `[tokens, 2]`
fn one_by_one(policy: &Qwen25Vl, groups: &[ScoringGroup], temperature: f32) -> Tensor<2> {
    let mut parts = Vec::new();
    for group in groups {
        for response in &group.responses {
            let mut whole = Prompt::clone(&group.prompt);
            whole.tokens.extend_from_slice(response);
            if let Image::Corrupted(slot) = group.image {
                whole.pictures = whole.corrupted[slot].clone();
            }
            let before = group.prompt.tokens.len() - 1;
            let logits = policy.prompt_logits(&whole).narrow(0, before, response.len());
            let log_probs = log_softmax(logits.div_scalar(temperature), 1);
            let ids: Vec<i32> = response.iter().map(|&id| id as i32).collect();
            let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [response.len(), 1]), &policy.device());
            let entropy = (log_probs.clone().exp() * log_probs.clone()).sum_dim(1).neg();
            parts.push(Tensor::cat(vec![log_probs.gather(1, ids), entropy], 1));
        }
    }
    Tensor::cat(parts, 0)
}

/// The same groups, each response in one of its own.
fn alone(groups: &[ScoringGroup]) -> Vec<ScoringGroup> {
    let single = |group: &ScoringGroup| {
        let group = group.clone();
        let one = |response: &Arc<[u32]>| ScoringGroup { responses: vec![response.clone()], ..group.clone() };
        group.responses.iter().map(one).collect::<Vec<_>>()
    };
    groups.iter().flat_map(single).collect()
}

#[test]
fn a_groups_scores_are_those_of_each_response_alone() {
    let policy = policy(&Device::flex().autodiff(), 1);
    for (image, temperature) in [(Image::Whole, 1.0), (Image::Whole, 0.7), (Image::Corrupted(0), 1.0)] {
        let groups = scoring_groups(image);
        let request = ScoreRequest { temperature, entropy: true };
        // every token, and its entropy, weighs differently
        let weigh = |scores: Tensor<2>| {
            let mut stream = stream(5);
            let weights: Vec<f32> = (0..2 * scores.dims()[0]).map(|_| stream.normal() as f32).collect();
            let weights = Tensor::<2>::from_data(TensorData::new(weights, scores.dims()), &policy.device());
            (scores * weights).sum()
        };
        let together = policy.score(&groups, request);
        let apart = policy.score(&alone(&groups), request);
        let padded = one_by_one(&policy, &groups, temperature);
        let tokens: usize = groups.iter().flat_map(|group| &group.responses).map(|response| response.len()).sum();
        assert_eq!(together.dims(), [tokens, 2]);
        let expected = host(padded.clone());
        let gradients = backward(&policy, weigh(padded));
        for (name, scores) in [("together", together), ("apart", apart)] {
            let values = difference(&host(scores.clone()), &expected);
            assert!(values <= 1e-5, "{name}, {image:?}, temperature {temperature}: values differ by {values:e}");
            let share = compare_gradients(&backward(&policy, weigh(scores)), &gradients, &policy);
            println!("{name}, {image:?}, temperature {temperature}: values {values:e}, gradients {share:e}");
        }
        // log-probabilities alone are the first column
        let request = ScoreRequest { temperature, entropy: false };
        let column = host(policy.score(&groups, request));
        let first: Vec<f32> = expected.iter().step_by(2).copied().collect();
        assert!(difference(&column, &first) <= 1e-5, "{image:?}: without entropy");
    }
}

/// A view's log-probabilities by group, response and token.
fn view(policy: &dyn Policy, groups: &[ScoringGroup]) -> Vec<Vec<Vec<f32>>> {
    let packed = host(policy.score(groups, ScoreRequest { temperature: 1.0, entropy: false }));
    let mut values = packed.into_iter();
    let mut take = |response: &Arc<[u32]>| values.by_ref().take(response.len()).collect();
    groups.iter().map(|group| group.responses.iter().map(&mut take).collect()).collect()
}

/// A batch with every view filled in by other weights, so that ratios are not 1; one group has no advantage at all.
pub(crate) fn batch(policy_device: &Device) -> Vec<CollectedGroup> {
    let (behavior, reference) = (policy(policy_device, 7), policy(policy_device, 8));
    let masked = View { weights: Weights::Behavior, image: Image::Corrupted(0) };
    let mut stream = stream(9);
    let collect = |whole: ScoringGroup| {
        let has_picture = !whole.prompt.pictures.is_empty();
        let numbers = |policy: &dyn Policy, image: Image| {
            let shown = ScoringGroup { image, ..whole.clone() };
            ViewNumbers { log_probs: view(policy, &[shown]).remove(0), entropies: None }
        };
        let log_probs = numbers(&behavior, Image::Whole).log_probs;
        let response = |(tokens, log_probs): (&Arc<[u32]>, Vec<f32>)| Response {
            tokens: tokens.to_vec(),
            log_probs,
            finish: Finish::Stop,
        };
        let responses: Vec<Response> = whole.responses.iter().zip(log_probs).map(response).collect();
        let count = responses.len();
        let has_variance = count > 1 && whole.prompt.id != 1;
        CollectedGroup {
            task: Arc::new(Task {
                prompt: whole.prompt.clone(),
                problem: String::new(),
                answer: String::new(),
                solution: None,
                category: None,
                place: String::new(),
            }),
            lengths: responses.iter().map(|response| response.tokens.len()).collect(),
            texts: vec![String::new(); count],
            rewards: vec![0.0; count],
            parts: Vec::new(),
            advantages: (0..count).map(|_| if has_variance { stream.normal() as f32 } else { 0.0 }).collect(),
            correct: (0..count).map(|at| (at % 2) as f32).collect(),
            views: vec![
                (View::REFERENCE, Some(numbers(&reference, Image::Whole))),
                (masked, has_picture.then(|| numbers(&behavior, Image::Corrupted(0)))),
            ],
            group: Group { prompt: whole.prompt.clone(), responses },
        }
    };
    scoring_groups(Image::Whole).into_iter().map(collect).collect()
}

/// The four methods with every term on.
pub(crate) fn methods() -> Vec<(&'static str, Box<dyn Objective>)> {
    let grpo = || Grpo::new(GrpoConfig { kl_coefficient: 0.1, imitation_coefficient: 0.1, ..GrpoConfig::default() });
    let dapo = || Dapo::new(DapoConfig::default());
    let papo = || PapoConfig {
        gamma: 0.2,
        entropy_coefficient: 0.05,
        masked_entropy_coefficient: 0.05,
        average: Average::Token,
        ..PapoConfig::over_grpo()
    };
    // the masked branch computed live, too, and carrying gradient
    let live = PapoConfig { masked_gradient: true, ..papo() };
    vec![
        ("grpo", Box::new(grpo())),
        ("dapo", Box::new(dapo())),
        ("papo_g", Box::new(Papo::new(papo(), Box::new(grpo())))),
        ("papo_d", Box::new(Papo::new(papo(), Box::new(dapo())))),
        ("papo_d, live masked branch", Box::new(Papo::new(live, Box::new(dapo())))),
    ]
}

/// Gradients and metrics of a batch that is cut into micro-batches of at most so many tokens.
pub(crate) fn cut(
    policy: &Qwen25Vl,
    objective: &dyn Objective,
    groups: &[CollectedGroup],
    micro_tokens: usize,
) -> (Vec<Vec<f32>>, Metrics) {
    let (gradients, metrics) = learned(policy, objective, groups, (micro_tokens, false));
    (gradients.into_iter().map(|gradient| gradient.expect("every parameter has a gradient")).collect(), metrics)
}

/// The same with blocks computed again or not; nothing for parameters that do not learn.
pub(crate) fn learned(
    policy: &Qwen25Vl,
    objective: &dyn Objective,
    groups: &[CollectedGroup],
    (micro_tokens, recompute): (usize, bool),
) -> (Vec<Option<Vec<f32>>>, Metrics) {
    let updater = Updater {
        objective,
        temperature: 1.0,
        prompts_per_update: groups.len(),
        micro_tokens,
        recompute,
        learning_rate: 0.0,
        progress: Progress { step: 0, total_steps: 1 },
    };
    let (gradients, numbers, tokens) = updater.gradients(policy, groups);
    assert_eq!(tokens, groups.iter().flat_map(|group| &group.lengths).sum::<usize>(), "every token once");
    let (norm, mut metrics) = numbers.read(&gradients, true);
    metrics.set("norm", norm);
    (gradients.into_iter().map(|gradient| gradient.map(host)).collect(), metrics)
}

#[test]
fn micro_batches_do_not_change_an_update() {
    let device = Device::flex();
    let policy = policy(&device.clone().autodiff(), 1);
    let groups = batch(&device);
    for (name, objective) in methods() {
        let (gradients, metrics) = cut(&policy, &*objective, &groups, usize::MAX);
        let clipped = metrics.get("objective/clip_fraction_high").expect("a metric");
        assert!(clipped > 0.0 && clipped < 1.0, "{name}: the batch shows both sides of the clip, not {clipped}");
        // each response alone; a few together; the first group whole and the next beside it
        for micro_tokens in [1, 30, 50] {
            let (found, numbers) = cut(&policy, &*objective, &groups, micro_tokens);
            let share = compare_gradients(&found, &gradients, &policy);
            assert_eq!(numbers.0.keys().collect::<Vec<_>>(), metrics.0.keys().collect::<Vec<_>>(), "{name}");
            let mut worst = 0.0f64;
            for (metric, found) in &numbers.0 {
                let expected = metrics.get(metric).expect("compared above");
                let off = (found - expected).abs();
                assert!(
                    off <= 1e-5 * expected.abs() + 1e-6,
                    "{name}, {micro_tokens}: {metric} {found}, not {expected}"
                );
                worst = worst.max(off);
            }
            println!("{name}, micro-batches of {micro_tokens} tokens: gradients {share:e}, metrics {worst:e}");
        }
    }
}

#[test]
fn rows_without_a_picture_have_no_part_in_perception() {
    let device = Device::flex();
    let policy = policy(&device.clone().autodiff(), 1);
    let groups = batch(&device);
    let (seen, blind): (Vec<_>, Vec<_>) = groups.iter().cloned().partition(CollectedGroup::has_picture);
    assert!(!seen.is_empty() && !blind.is_empty(), "both kinds of groups");
    for (name, objective) in methods().into_iter().filter(|(name, _)| name.starts_with("papo")) {
        let (_, all) = cut(&policy, &*objective, &groups, usize::MAX);
        let (_, pictures) = cut(&policy, &*objective, &seen, usize::MAX);
        for metric in ["kl_prcp", "kl_prcp_variance", "masked_entropy", "masked_likelier_fraction"] {
            let read = |metrics: &Metrics| metrics.get(&format!("objective/{metric}")).expect("a metric");
            let (found, expected) = (read(&all), read(&pictures));
            assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{name}: {metric} {found}, not {expected}");
            assert!(expected > 0.0, "{name}: {metric} is {expected}");
        }
        // a batch without any picture divides by no picture's tokens
        let updater = Updater {
            objective: &*objective,
            temperature: 1.0,
            prompts_per_update: blind.len(),
            micro_tokens: usize::MAX,
            recompute: false,
            learning_rate: 0.0,
            progress: Progress { step: 0, total_steps: 1 },
        };
        let (gradients, numbers, _) = updater.gradients(&policy, &blind);
        let (norm, metrics) = numbers.read(&gradients, true);
        assert!(norm.is_finite() && norm > 0.0, "{name}: norm {norm}");
        assert_eq!(metrics.get("objective/kl_prcp"), Some(0.0), "{name}");
        assert!(metrics.0.values().all(|value| value.is_finite()), "{name}: {metrics:?}");
    }
}

/// What was asked of a decoder.
#[derive(Debug, Default)]
struct Log {
    prefills: Vec<Vec<usize>>,
    /// Rows of each step.
    steps: Vec<Vec<DecodeRow>>,
    forgotten: Vec<usize>,
}

/// A policy that keeps a log of its decoder's work.
struct Watched {
    inner: Qwen25Vl,
    log: Arc<Mutex<Log>>,
}

struct WatchedDecoder<'a> {
    inner: Box<dyn Decoder + 'a>,
    log: Arc<Mutex<Log>>,
}

impl Policy for Watched {
    fn device(&self) -> Device {
        self.inner.device()
    }
    fn vocabulary(&self) -> usize {
        self.inner.vocabulary()
    }
    fn parameters(&self) -> Vec<&Parameter> {
        self.inner.parameters()
    }
    fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        self.inner.parameters_mut()
    }
    fn freeze(&self) -> FrozenPolicy {
        self.inner.freeze()
    }
    fn score(&self, groups: &[ScoringGroup], request: ScoreRequest) -> Tensor<2> {
        self.inner.score(groups, request)
    }
    fn decoder(&self, rows: usize, tokens: usize) -> Box<dyn Decoder + '_> {
        Box::new(WatchedDecoder { inner: self.inner.decoder(rows, tokens), log: self.log.clone() })
    }
}

impl Decoder for WatchedDecoder<'_> {
    fn prefill(&mut self, prompts: &[(usize, &Prompt)]) -> Tensor<2> {
        self.log.lock().expect("one thread").prefills.push(prompts.iter().map(|(name, _)| *name).collect());
        self.inner.prefill(prompts)
    }
    fn step(&mut self, rows: &[DecodeRow]) -> Tensor<2> {
        self.log.lock().expect("one thread").steps.push(rows.to_vec());
        self.inner.step(rows)
    }
    fn forget(&mut self, prompt: usize) {
        self.log.lock().expect("one thread").forgotten.push(prompt);
        self.inner.forget(prompt);
    }
}

fn spec() -> SamplingSpec {
    SamplingSpec {
        responses_per_prompt: 5,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        max_new_tokens: 12,
        // a tenth of the vocabulary, so that some responses end early and some do not
        stop_tokens: (0..6).collect(),
        banned_tokens: vec![IMAGE, IMAGE + 1],
        seed: 11,
        step: 2,
        evaluation: false,
    }
}

fn sample(policy: &FrozenPolicy, max_rows: usize, max_prefill_tokens: usize, spec: &SamplingSpec) -> Vec<Group> {
    let prompts: Vec<Arc<Prompt>> = prompts().into_iter().map(|(prompt, _)| prompt).collect();
    let groups = InProcess { max_rows, max_prefill_tokens }.sample(policy, &prompts, spec).expect("finite logits");
    assert_eq!(groups.len(), prompts.len());
    assert!(groups.iter().zip(&prompts).all(|(group, prompt)| Arc::ptr_eq(&group.prompt, prompt)), "groups in order");
    groups
}

fn tokens(groups: &[Group]) -> Vec<Vec<u32>> {
    groups.iter().flat_map(|group| &group.responses).map(|response| response.tokens.clone()).collect()
}

#[test]
fn samples_do_not_depend_on_the_schedule() {
    let policy = policy(&Device::flex(), 1).freeze();
    let expected = sample(&policy, 64, 8192, &spec());
    for max_rows in [1, 3, 64] {
        for max_prefill_tokens in [1, 40, 8192] {
            let found = sample(&policy, max_rows, max_prefill_tokens, &spec());
            assert_eq!(tokens(&found), tokens(&expected), "{max_rows} rows, {max_prefill_tokens} prompt tokens");
            for (found, expected) in found.iter().zip(&expected) {
                for (found, expected) in found.responses.iter().zip(&expected.responses) {
                    assert_eq!(found.finish, expected.finish);
                    assert!(difference(&found.log_probs, &expected.log_probs) <= 1e-5);
                }
            }
        }
    }
    // a prompt's draw is its own: it is the same whoever else is sampled, and in whatever place
    let reversed: Vec<Arc<Prompt>> = expected.iter().rev().skip(1).map(|group| group.prompt.clone()).collect();
    let found = InProcess::new(4).sample(&policy, &reversed, &spec()).expect("finite logits");
    for (found, expected) in found.iter().zip(expected.iter().rev().skip(1)) {
        assert_eq!(found.responses.len(), 5);
        assert_eq!(tokens(std::slice::from_ref(found)), tokens(std::slice::from_ref(expected)));
    }
    // and every part of its name changes it
    for other in [
        SamplingSpec { seed: 12, ..spec() },
        SamplingSpec { step: 3, ..spec() },
        SamplingSpec { evaluation: true, ..spec() },
    ] {
        assert_ne!(tokens(&sample(&policy, 64, 8192, &other)), tokens(&expected), "{other:?}");
    }
    let responses = tokens(&expected);
    let distinct: std::collections::HashSet<&Vec<u32>> = responses.iter().collect();
    assert!(
        distinct.len() > responses.len() / 2,
        "samples of a group differ: {} of {}",
        distinct.len(),
        responses.len()
    );
}

#[test]
fn sampled_log_probs_are_what_scoring_gives() {
    let policy = policy(&Device::flex(), 1).freeze();
    let cases = [
        spec(),
        SamplingSpec { temperature: 0.7, ..spec() },
        // truncation and bans narrow the choice, not the distribution that is reported
        SamplingSpec {
            temperature: 1.3,
            top_p: 0.8,
            top_k: 20,
            min_p: 0.01,
            banned_tokens: (20..60).collect(),
            ..spec()
        },
        // greedy reports temperature 1
        SamplingSpec { temperature: 0.0, ..spec() },
    ];
    for spec in cases {
        let groups = sample(&policy, 7, 60, &spec);
        let scoring = |group: &Group| ScoringGroup {
            prompt: group.prompt.clone(),
            image: Image::Whole,
            responses: group.responses.iter().map(|response| response.tokens.as_slice().into()).collect(),
        };
        let scoring: Vec<ScoringGroup> = groups.iter().map(scoring).collect();
        let temperature = if spec.temperature == 0.0 { 1.0 } else { spec.temperature };
        let expected = host(policy.score(&scoring, ScoreRequest { temperature, entropy: false }));
        let responses = groups.iter().flat_map(|group| &group.responses);
        let found: Vec<f32> = responses.flat_map(|response| response.log_probs.clone()).collect();
        let off = difference(&found, &expected);
        assert!(off <= 1e-5, "{spec:?}: log-probabilities differ by {off:e}");
        println!("temperature {}: {} tokens, {off:e}", spec.temperature, found.len());
    }
}

#[test]
fn finished_rows_leave_and_waiting_ones_take_their_place() {
    let log = Arc::new(Mutex::new(Log::default()));
    let watched = Watched { inner: policy(&Device::flex(), 1), log: log.clone() };
    let groups = sample(&FrozenPolicy::new(Box::new(watched)), 4, 60, &spec());
    let log = Arc::into_inner(log).expect("the policy is gone").into_inner().expect("one thread");

    let responses: Vec<&Response> = groups.iter().flat_map(|group| &group.responses).collect();
    let (mut stopped, mut cut_off) = (0, 0);
    for response in &responses {
        let (last, before) = response.tokens.split_last().expect("a response has a token");
        assert_eq!(response.tokens.len(), response.log_probs.len());
        assert!(before.iter().all(|token| !spec().stop_tokens.contains(token)), "nothing follows a stop token");
        match response.finish {
            Finish::Stop => {
                assert!(spec().stop_tokens.contains(last), "the stop token is part of the response");
                assert!(response.tokens.len() <= 12);
                stopped += 1;
            }
            Finish::Length => {
                assert_eq!(response.tokens.len(), 12);
                assert!(!spec().stop_tokens.contains(last), "a stop token at the limit is a stop");
                cut_off += 1;
            }
        }
    }
    assert!(stopped > 0 && cut_off > 0, "{stopped} stopped, {cut_off} were cut off: both kinds must be seen");

    // a token that ends a response is never computed on, so each row costs a step less than it has tokens
    let rows: usize = log.steps.iter().map(Vec::len).sum();
    assert_eq!(
        rows,
        responses.iter().map(|response| response.tokens.len() - 1).sum::<usize>(),
        "rows that were computed"
    );
    for rows in &log.steps {
        let mut slots: Vec<usize> = rows.iter().map(|row| row.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        assert!(slots.len() == rows.len() && slots.iter().all(|&slot| slot < 4), "a place for each row: {rows:?}");
    }
    // a row may leave at its first token, so a step can have fewer rows than places; without refilling, only the first steps would be full
    let full = log.steps.iter().filter(|rows| rows.len() == 4).count();
    assert!(full * 2 > log.steps.len(), "{full} of {} steps were full", log.steps.len());
    let prefilled: Vec<usize> = log.prefills.concat();
    assert_eq!(prefilled, [0, 1, 2, 3, 4], "each prompt is computed once");
    let mut forgotten = log.forgotten;
    forgotten.sort_unstable();
    assert_eq!(forgotten, prefilled, "and forgotten when its last response is done");
}

#[test]
fn banned_tokens_never_appear_and_limits_hold() {
    let policy = policy(&Device::flex(), 1).freeze();
    let free = SamplingSpec { stop_tokens: Vec::new(), banned_tokens: Vec::new(), ..spec() };
    let seen = tokens(&sample(&policy, 64, 8192, &free)).concat();
    for temperature in [1.0, 0.0] {
        // half of the vocabulary, and with it half of what is drawn without bans
        let banned: Vec<u32> = (0..VOCABULARY as u32).filter(|id| id % 2 == 0).collect();
        assert!(banned.iter().filter(|id| seen.contains(id)).count() > 10, "tokens that would be drawn are banned");
        let spec = SamplingSpec { temperature, banned_tokens: banned.clone(), ..free.clone() };
        let drawn = tokens(&sample(&policy, 6, 8192, &spec)).concat();
        assert!(drawn.iter().all(|token| !banned.contains(token)), "temperature {temperature}");
    }
    for max_new_tokens in [1, 2, 30] {
        let spec = SamplingSpec { max_new_tokens, ..free.clone() };
        for response in sample(&policy, 6, 8192, &spec).iter().flat_map(|group| &group.responses) {
            assert_eq!((response.tokens.len(), response.finish), (max_new_tokens, Finish::Length));
        }
    }
    let nothing = SamplingSpec { banned_tokens: (0..VOCABULARY as u32).collect(), ..spec() };
    let prompts = [prompt(77, &[], 3)];
    let refused = InProcess::new(1).sample(&policy, &prompts, &nothing);
    assert!(matches!(refused, Err(SamplerError::NothingToSample { prompt: 77 })), "{refused:?}");
}
