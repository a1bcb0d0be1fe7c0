//! A small model of the real architecture: blocks forward and backward, scoring, decoding, objectives, an update.

use super::operations::{host, numbers};
use super::{EXACT, PRODUCTS, Probe, ROUNDED, load};
use burn::tensor::{DType, Device, Tensor, TensorData};
use percept_algorithms::{Dapo, DapoConfig, Grpo, GrpoConfig, Papo, PapoConfig};
use percept_core::{
    Counts, Evidence, Image, Objective, PicturePatches, Policy, Progress, Prompt, Sampler, SamplingSpec, ScoreRequest,
    Scores, ScoringGroup, Tally,
};
use percept_models::qwen2_5_vl::{Config, Qwen25Vl, VisionConfig, initialize};
use percept_ops::{AdamW, HeadShape, adamw};
use percept_random::{Key, Purpose, Stream};
use percept_rollout::InProcess;
use std::path::Path;
use std::sync::Arc;

const IMAGE: u32 = 60;

fn config() -> Config {
    Config {
        hidden_size: 32,
        intermediate_size: 48,
        num_layers: 2,
        heads: HeadShape { heads: 4, kv_heads: 2, width: 8 },
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        mrope_section: [1, 1, 2],
        vocabulary: 65,
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

/// The same weights on any device.
fn policy(device: &Device) -> Qwen25Vl {
    initialize(&config(), 3, 0.2, device).expect("the configuration is valid")
}

/// Random patches whose frames are the same, as a still picture's are.
fn still(vision: &VisionConfig, grid: [usize; 3], stream: &mut Stream) -> PicturePatches {
    let mut rows = Vec::new();
    for _ in 0..grid.iter().product::<usize>() * vision.in_channels {
        let frame: Vec<f32> = (0..vision.patch_size.pow(2)).map(|_| stream.normal() as f32).collect();
        (0..vision.temporal_patch_size).for_each(|_| rows.extend_from_slice(&frame));
    }
    PicturePatches { rows: rows.into(), grid }
}

/// A prompt with a picture of so many merged patches, or of text only, or of one token.
fn prompts() -> Vec<Arc<Prompt>> {
    let mut stream = Key::new(5, Purpose::Task).stream();
    let mut prompt = |id: u64, sides: Option<(usize, usize)>, text: usize| {
        let pictures: Vec<PicturePatches> = sides
            .map(|(height, width)| still(&config().vision, [1, 2 * height, 2 * width], &mut stream))
            .into_iter()
            .collect();
        let mut tokens = vec![IMAGE; sides.map_or(0, |(height, width)| height * width)];
        tokens.extend((0..text).map(|_| stream.below(u64::from(IMAGE)) as u32));
        Arc::new(Prompt { id, tokens, pictures, corrupted: Vec::new() })
    };
    vec![prompt(0, Some((3, 5)), 7), prompt(1, None, 17), prompt(2, None, 1)]
}

/// Responses of odd lengths to each prompt.
fn groups() -> Vec<ScoringGroup> {
    let mut stream = Key::new(6, Purpose::Task).stream();
    let group = |(prompt, lengths): (Arc<Prompt>, [usize; 3])| {
        let mut words = |count: usize| (0..count).map(|_| stream.below(u64::from(IMAGE)) as u32).collect();
        ScoringGroup { prompt, image: Image::Whole, responses: lengths.into_iter().map(&mut words).collect() }
    };
    prompts().into_iter().zip([[5, 1, 9], [4, 17, 3], [2, 8, 1]]).map(group).collect()
}

const REQUEST: ScoreRequest = ScoreRequest { temperature: 0.8, entropy: true, dropout: None };

/// The learning rate of updates; no weight moves by more.
const RATE: f64 = 1e-3;

type Method = fn() -> Box<dyn Objective>;

/// The gradient of a loss in every log-probability, by parameter, in the policy's order.
fn gradients(policy: &Qwen25Vl) -> Vec<Tensor<2>> {
    let scores = policy.score(&groups(), REQUEST);
    let upstream = numbers(scores.dims(), 9, 1.0, &policy.device());
    let all = (scores * upstream).sum().backward();
    policy.parameters().iter().map(|parameter| parameter.value.grad(&all).expect("every parameter is used")).collect()
}

/// The same gradient, block by block, each computed again: how runs on accelerators take it.
fn recomputed(policy: &Qwen25Vl) -> Vec<Tensor<2>> {
    let (scores, tape) = policy.score_recomputed(&groups(), REQUEST);
    let upstream = numbers(scores.dims(), 9, 1.0, &scores.device());
    let mut sums: Vec<Option<Tensor<2>>> = policy.parameters().iter().map(|_| None).collect();
    tape.backward(upstream, &mut |number, part| {
        let sum = &mut sums[number];
        *sum = Some(match sum.take() {
            Some(sum) => sum + part,
            None => part,
        });
    });
    sums.into_iter().map(|sum| sum.expect("every parameter is used")).collect()
}

/// Every weight after one update.
fn updated(policy: &Qwen25Vl, gradients: Vec<Tensor<2>>) -> Vec<f32> {
    let step = AdamW { learning_rate: RATE, betas: [0.9, 0.999], epsilon: 1e-3, weight_decay: 0.01, update: 1 };
    let updated = |(parameter, gradient): (&percept_core::Parameter, Tensor<2>)| {
        let value = parameter.value.clone().inner();
        let zeros = [value.zeros_like(), value.zeros_like()];
        host(adamw(value, gradient, zeros, 1.0, &step).0)
    };
    policy.parameters().into_iter().zip(gradients).flat_map(updated).collect()
}

pub(super) fn probes() -> Vec<Probe> {
    let mut probes = vec![
        Probe::new("vision tower", PRODUCTS, |device| {
            let prompts = prompts();
            host(policy(device).image_features(&[&prompts[0].pictures[0]]))
        }),
        Probe::of_two(
            "scoring, prompt shared and repeated",
            PRODUCTS,
            |device| {
                let alone = |group: ScoringGroup| {
                    let one = |response: Arc<[u32]>| ScoringGroup { responses: vec![response], ..group.clone() };
                    group.responses.iter().cloned().map(one).collect::<Vec<_>>()
                };
                let alone: Vec<ScoringGroup> = groups().into_iter().flat_map(alone).collect();
                host(policy(device).score(&alone, REQUEST))
            },
            |device| host(policy(device).score(&groups(), REQUEST)),
        ),
        Probe::new("gradient of every parameter", PRODUCTS, |device| {
            gradients(&policy(&device.clone().autodiff())).into_iter().flat_map(host).collect()
        }),
        Probe::of_two(
            "gradient of every parameter, block by block",
            PRODUCTS,
            |device| gradients(&policy(&device.clone().autodiff())).into_iter().flat_map(host).collect(),
            |device| recomputed(&policy(&device.clone().autodiff())).into_iter().flat_map(host).collect(),
        ),
        Probe::of_two(
            "decoding with a cache, and scoring without",
            PRODUCTS,
            |device| sampled(device).0,
            |device| {
                let (tokens, log_probs) = sampled(device);
                // the sampler's and the scorer's numbers on the device itself
                assert!(log_probs.iter().all(|(a, b)| (a - b).abs() <= PRODUCTS as f32), "they differ");
                tokens
            },
        ),
        Probe::new("an update of the whole model", EXACT, |device| {
            let policy = policy(&device.clone().autodiff());
            updated(&policy, gradients(&policy))
        }),
    ];
    let objectives: [(&'static str, Method); 4] = [
        ("GRPO's loss and gradient", || Box::new(Grpo::new(GrpoConfig::default()))),
        ("DAPO's loss and gradient", || Box::new(Dapo::new(DapoConfig::default()))),
        ("PAPO_G's loss and gradient", || {
            Box::new(Papo::new(PapoConfig::over_grpo(), Box::new(Grpo::new(GrpoConfig::default()))))
        }),
        ("PAPO_D's loss and gradient", || {
            Box::new(Papo::new(PapoConfig::over_dapo(), Box::new(Dapo::new(DapoConfig::default()))))
        }),
    ];
    for (name, objective) in objectives {
        probes.push(Probe::new(name, EXACT, move |device| loss(&*objective(), device)));
    }
    probes
}

/// Tokens that a seed draws, and with each the sampler's and the scorer's log-probability.
fn sampled(device: &Device) -> (Vec<f32>, Vec<(f32, f32)>) {
    let policy = policy(device).freeze();
    let spec = SamplingSpec {
        responses_per_prompt: 3,
        temperature: 0.8,
        top_p: 0.95,
        top_k: 0,
        min_p: 0.0,
        max_new_tokens: 6,
        stop_tokens: vec![1, 2, 3],
        banned_tokens: vec![IMAGE],
        seed: 4,
        step: 0,
        evaluation: false,
        kept_activations: 0,
    };
    // fewer places than rows, so that some wait
    let drawn = InProcess::new(4).sample(&policy, &prompts(), &spec).expect("finite logits");
    let scoring: Vec<ScoringGroup> = drawn
        .iter()
        .map(|group| ScoringGroup {
            prompt: group.prompt.clone(),
            image: Image::Whole,
            responses: group.responses.iter().map(|response| response.tokens.clone().into()).collect(),
        })
        .collect();
    let scored = host(policy.score(&scoring, ScoreRequest { temperature: 0.8, entropy: false, dropout: None }));
    let responses = || drawn.iter().flat_map(|group| &group.responses);
    let tokens = responses().flat_map(|response| &response.tokens).map(|&token| token as f32).collect();
    (tokens, responses().flat_map(|response| response.log_probs.clone()).zip(scored).collect())
}

/// An objective's loss over invented numbers, and its gradient.
fn loss(objective: &dyn Objective, device: &Device) -> Vec<f32> {
    const SHAPE: [usize; 2] = [4, 9];
    let lengths = [9, 4, 1, 6];
    let device = device.clone().autodiff();
    let constant = |salt: u64, scale: f64| numbers(SHAPE, salt, scale, &device).sub_scalar(2.0);
    let from = |values: Vec<f32>, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(values, shape), &device);
    let mask = lengths.iter().flat_map(|&length| (0..SHAPE[1]).map(move |t| f32::from(t < length))).collect();
    let mask = from(mask, SHAPE);
    let live = constant(1, 0.5).require_grad();
    let scores = |log_probs: Tensor<2>| Scores { entropy: Some(log_probs.clone().neg()), log_probs };
    let tally = Tally { tokens: 20, rows: 4, picture_tokens: 16, picture_rows: 3, correct_tokens: 15, correct_rows: 2 };
    let evidence = Evidence {
        live: scores(live.clone()),
        behavior: scores(constant(2, 0.5)),
        views: objective.needs().views.into_iter().map(|view| (view, scores(constant(3, 0.7)))).collect(),
        advantage: from(vec![0.8, -0.6, 1.1, -1.3], [4, 1]).expand(SHAPE) * mask.clone(),
        mask,
        has_picture: from(vec![1.0, 0.0, 1.0, 1.0], [4, 1]),
        correct: from(vec![1.0, 0.0, 0.0, 1.0], [4, 1]),
        counts: Counts { mini_batch: tally, micro_batch: tally, num_micro_batches: 1 },
        progress: Progress { step: 1, total_steps: 4 },
    };
    let loss = objective.loss(&evidence);
    let mut all = host(loss.value.clone());
    all.extend(loss.metrics.into_iter().flat_map(|metric| host(metric.value)));
    let gradient = live.grad(&loss.value.backward()).expect("the loss reads the live policy");
    all.extend(host(gradient));
    all
}

/// What a run in this type does, against float32.
pub(super) fn rounded(dtype: DType) -> Vec<Probe> {
    let log_probs = Probe::of_two(
        "log-probabilities in the run's type",
        ROUNDED,
        |device| host(policy(device).score(&groups(), REQUEST)),
        move |device| host(policy(device).computed_in(dtype).score(&groups(), REQUEST)),
    );
    // a small gradient may change its sign, and its weight then goes the other way
    let update = Probe::of_two(
        "an update in the run's type",
        3.0 * RATE,
        |device| {
            let policy = policy(&device.clone().autodiff());
            let weights = updated(&policy, gradients(&policy));
            [weights.clone(), weights].concat()
        },
        move |device| {
            let policy = policy(&device.clone().autodiff()).computed_in(dtype);
            [updated(&policy, gradients(&policy)), updated(&policy, recomputed(&policy))].concat()
        },
    );
    [log_probs, update].map(|probe| Probe { rounded: true, ..probe }).into()
}

/// A checkpoint's logits on a picture and a few words.
pub(super) fn checkpoint(folder: &Path) -> anyhow::Result<Probe> {
    let cpu = load(folder, &Device::flex())?;
    let config = cpu.config().clone();
    let merge = config.vision.spatial_merge_size;
    let grid = [1, 4 * merge, 6 * merge];
    let mut stream = Key::new(7, Purpose::Task).stream();
    let picture = still(&config.vision, grid, &mut stream);
    let mut tokens = vec![config.image_token_id; 24];
    tokens.extend((0..16u32).map(|i| i * 7 % config.image_token_id));
    let prompt = Arc::new(Prompt { id: 0, tokens, pictures: vec![picture], corrupted: Vec::new() });
    let expected = host(cpu.prompt_logits(&prompt));
    drop(cpu);
    let folder = folder.to_owned();
    let found = move |device: &Device| {
        let policy = Qwen25Vl::from_folder(&folder, device, &|_| false).expect("it was loaded once already");
        host(policy.prompt_logits(&prompt))
    };
    Ok(Probe::of_two("the checkpoint's logits", PRODUCTS, move |_| expected.clone(), found))
}
