//! A tiny policy with random weights, and batches for it, that tests of several kinds share.

use burn::tensor::{Device, Tensor, TensorData};
use percept_algorithms::{Average, Dapo, DapoConfig, Grpo, GrpoConfig, Papo, PapoConfig};
use percept_core::{
    Finish, Group, Image, Objective, PicturePatches, Policy, Progress, Prompt, Response, ScoreRequest, ScoringGroup,
    Task, View, Weights,
};
use percept_models::qwen2_5_vl::{Config, Qwen25Vl, VisionConfig, initialize};
use percept_ops::HeadShape;
use percept_random::{Key, Purpose, Stream};
use percept_trainer::{CollectedGroup, Metrics, Updater, ViewNumbers};
use std::sync::Arc;

pub(crate) const IMAGE: u32 = 60;
pub(crate) const VOCABULARY: u64 = 64;

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

/// Patches of a still picture, each frame of a patch the same.
pub fn still(vision: &VisionConfig, grid: [usize; 3], mut value: impl FnMut() -> f32) -> PicturePatches {
    let mut rows = Vec::new();
    for _ in 0..grid.iter().product::<usize>() * vision.in_channels {
        let frame: Vec<f32> = (0..vision.patch_size.pow(2)).map(|_| value()).collect();
        (0..vision.temporal_patch_size).for_each(|_| rows.extend_from_slice(&frame));
    }
    PicturePatches { rows: Arc::new(rows), grid }
}

/// One of so many merged patches.
fn picture(stream: &mut Stream, height: usize, width: usize) -> PicturePatches {
    still(&config().vision, [1, 2 * height, 2 * width], || stream.normal() as f32)
}

/// A prompt with pictures of these sizes, each behind some text.
pub(crate) fn prompt(id: u64, pictures: &[(usize, usize)], text: usize) -> Arc<Prompt> {
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

pub(crate) fn difference(a: &[f32], b: &[f32]) -> f32 {
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

/// A view's log-probabilities by group, response and token.
fn view(policy: &dyn Policy, groups: &[ScoringGroup]) -> Vec<Vec<Vec<f32>>> {
    let packed = host(policy.score(groups, ScoreRequest { temperature: 1.0, entropy: false, dropout: None }));
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
            group: Group { prompt: whole.prompt.clone(), responses, activations: None },
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
