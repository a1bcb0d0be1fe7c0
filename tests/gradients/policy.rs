//! A whole policy: the gradient of its weights through scoring, and through the trainer's micro-batches and an objective's loss.

use super::{device, host, noise, slope};
use crate::tiny::still;
use burn::tensor::{Device, Tensor, TensorData};
use percept_algorithms::{Dapo, DapoConfig, EntropyKind, Grpo, GrpoConfig, Papo, PapoConfig};
use percept_core::{
    Evidence, Finish, Group, GroupOutcome, Image, Loss, Needs, Objective, Policy, Progress, Prompt, Response,
    ScoreRequest, ScoringGroup, Task, View, Weights,
};
use percept_models::qwen2_5_vl::{Config, VisionConfig, initialize};
use percept_ops::HeadShape;
use percept_trainer::{CollectedGroup, Updater, ViewNumbers};
use std::sync::Arc;

fn config() -> Config {
    Config {
        hidden_size: 16,
        intermediate_size: 20,
        num_layers: 2,
        heads: HeadShape { heads: 4, kv_heads: 2, width: 8 },
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        mrope_section: [1, 1, 2],
        vocabulary: 32,
        tie_word_embeddings: true,
        image_token_id: 31,
        video_token_id: None,
        vision: VisionConfig {
            depth: 2,
            hidden_size: 16,
            intermediate_size: 20,
            num_heads: 2,
            in_channels: 3,
            patch_size: 2,
            temporal_patch_size: 2,
            spatial_merge_size: 2,
            // two merged patches a side, so that a picture of 2 x 3 has two windows
            window_size: 8,
            full_attention_blocks: vec![1],
        },
    }
}

/// The model with biases that matter, too.
fn policy(device: &Device) -> Box<dyn Policy> {
    let mut policy = initialize(&config(), 5, 0.25, device).expect("a valid configuration");
    for (salt, parameter) in policy.parameters_mut().into_iter().enumerate() {
        let [rows, columns] = parameter.value.dims();
        if rows == 1 {
            let offsets = noise(columns, salt as u64);
            let moved = host(parameter.value.clone()).into_iter().zip(offsets).map(|(a, b)| a + 0.2 * b);
            set(&mut parameter.value, moved.collect());
        }
    }
    Box::new(policy)
}

fn set(value: &mut Tensor<2>, values: Vec<f32>) {
    let tensor = Tensor::from_data(TensorData::new(values, value.dims()), &value.device());
    *value = if value.device().is_autodiff() { tensor.require_grad() } else { tensor };
}

/// A prompt of the model: some text, a picture of 2 x 3 merged patches and another twin of it, or text only.
fn prompt(config: &Config, id: u64, has_picture: bool) -> Arc<Prompt> {
    let vision = &config.vision;
    let grid = [1, 2 * vision.spatial_merge_size, 3 * vision.spatial_merge_size];
    let picture = |salt: u64| {
        let frames = grid.iter().product::<usize>() * vision.in_channels * vision.patch_size.pow(2);
        let mut values = noise(frames, salt).into_iter();
        still(vision, grid, || values.next().expect("a value for each pixel of a frame"))
    };
    let text = |from: u32| (from..from + 3).map(|token| token % 30);
    let mut tokens: Vec<u32> = text(3 + id as u32).collect();
    if has_picture {
        tokens.extend([config.image_token_id; 6]);
        tokens.extend(text(7));
    }
    let pictures = if has_picture { vec![picture(10 + id)] } else { Vec::new() };
    let corrupted = if has_picture { vec![vec![picture(20 + id)]] } else { vec![Vec::new()] };
    Arc::new(Prompt { id, tokens, pictures, corrupted })
}

fn responses(id: u64) -> Vec<Vec<u32>> {
    let response = |length: u64, salt: u64| (0..length).map(|t| ((t * 7 + salt * 5 + id * 3) % 30) as u32).collect();
    vec![response(4, 1), response(1, 2), response(3, 3)]
}

/// The parameter's slope along a direction, and along the steepest one: the largest difference of both in units of the steepest.
fn compare(what: &str, gradient: &[f32], salt: u64, h: f64, tolerance: f64, loss: impl Fn(&[f64]) -> f64) -> f64 {
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let gradient: Vec<f64> = gradient.iter().map(|&value| f64::from(value)).collect();
    let steepest = norm(&gradient);
    assert!(steepest > 1e-6, "{what}: nothing depends on it");
    let random: Vec<f64> = noise(gradient.len(), salt).into_iter().map(f64::from).collect();
    let length = norm(&random);
    let uphill = gradient.iter().map(|value| value / steepest).collect::<Vec<f64>>();
    let mixed = uphill.iter().zip(&random).map(|(a, b)| 0.6 * a + 0.8 * b / length).collect::<Vec<f64>>();
    // a step that moves the loss by little, so that it stays where the gradient is valid
    let h = h.min(0.05 / steepest);
    let mut worst = 0.0f64;
    for direction in [uphill, mixed] {
        let expected: f64 = gradient.iter().zip(&direction).map(|(a, b)| a * b).sum();
        let found = slope(h, |step| loss(&direction.iter().map(|value| value * step).collect::<Vec<f64>>()));
        let difference = (found - expected).abs() / steepest;
        // written so that a NaN fails
        assert!(difference <= tolerance, "{what}: slope {found}, gradient {expected} (steepest {steepest})");
        worst = worst.max(difference);
    }
    worst
}

/// Compares the gradient of parameter `index` with differences of `loss`, which is given the moved policy.
fn check_parameter(
    moved: &mut dyn Policy,
    index: usize,
    gradient: &[f32],
    (h, tolerance): (f64, f64),
    loss: impl Fn(&dyn Policy) -> f64,
) -> f64 {
    let name = moved.parameters()[index].pieces[0].name.clone();
    let start = host(moved.parameters()[index].value.clone());
    let cell = std::cell::RefCell::new(moved);
    let worst = compare(&name, gradient, index as u64, h, tolerance, |offset| {
        let mut policy = cell.borrow_mut();
        let values = start.iter().zip(offset).map(|(a, b)| (f64::from(*a) + b) as f32).collect();
        set(&mut policy.parameters_mut()[index].value, values);
        loss(&**policy)
    });
    let mut policy = cell.borrow_mut();
    set(&mut policy.parameters_mut()[index].value, start);
    worst
}

/// Scores two groups under random weights for each log-probability and entropy, and compares every `stride`th parameter.
fn check_scoring(name: &str, config: &Config, learning: &dyn Policy, frozen: &mut dyn Policy, stride: usize) {
    let shown = [(0, true, Image::Whole), (1, false, Image::Whole), (2, true, Image::Corrupted(0))];
    let groups: Vec<ScoringGroup> = shown
        .into_iter()
        .map(|(id, has_picture, image)| ScoringGroup {
            prompt: prompt(config, id, has_picture),
            image,
            responses: responses(id).into_iter().map(Into::into).collect(),
        })
        .collect();
    let request = ScoreRequest { temperature: 0.9, entropy: true, dropout: None };
    let scores = learning.score(&groups, request);
    let [rows, columns] = scores.dims();
    let upstream = noise(rows * columns, 4);
    let weights = Tensor::from_data(TensorData::new(upstream.clone(), [rows, columns]), &device());
    let gradients = (scores * weights).sum().backward();
    let loss = |policy: &dyn Policy| {
        let scores = host(policy.score(&groups, request));
        scores.iter().zip(&upstream).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let (mut worst, mut compared) = (0.0f64, 0);
    for (index, parameter) in learning.parameters().into_iter().enumerate().step_by(stride) {
        let gradient = host(parameter.value.grad(&gradients).expect("every parameter has a gradient"));
        worst = worst.max(check_parameter(frozen, index, &gradient, (0.01, 2e-3), loss));
        compared += 1;
    }
    println!("{name}: {compared} parameters, largest difference {worst:.1e} of the steepest slope");
}

#[test]
fn scoring_has_the_slope_of_its_gradient() {
    check_scoring("a random policy", &config(), &*policy(&device()), &mut *policy(&Device::flex()), 1);
}

#[test]
fn scoring_of_checkpoints_has_the_slope_of_its_gradient() {
    let mut found = 0;
    for folder in crate::parity::golden::folders("models") {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if !path.join("config.json").is_file() {
                continue;
            }
            if ["tiny-qwen2_vl", "tiny-qwen3_vl", "tiny-idefics3"].contains(&name.as_str()) {
                println!("skipped: {name}");
                continue;
            }
            let config = Config::from_folder(&path).unwrap_or_else(|error| panic!("{error}"));
            let load = |device: &Device| {
                percept_models::load(&path, device, &|_| false).unwrap_or_else(|error| panic!("{error}"))
            };
            check_scoring(&name, &config, &*load(&device()), &mut *load(&Device::flex()), 5);
            found += 1;
        }
    }
    assert!(found > 0, "no checkpoint was found in the goldens");
}

const MASKED: View = View { weights: Weights::Behavior, image: Image::Corrupted(0) };

/// A group as the trainer collects it: the views without gradient are some way off the policy's own numbers.
fn collected(policy: &dyn Policy, id: u64, has_picture: bool, advantages: [f32; 3]) -> CollectedGroup {
    let prompt = prompt(&config(), id, has_picture);
    let tokens = responses(id);
    let scored = |image: Image, salt: u64| -> ViewNumbers {
        let responses = tokens.iter().map(|response| response.clone().into()).collect();
        let group = ScoringGroup { prompt: prompt.clone(), image, responses };
        let packed = host(policy.score(&[group], ScoreRequest { temperature: 1.0, entropy: true, dropout: None }));
        let mut rows = packed.chunks_exact(2).zip(noise(packed.len() / 2, salt));
        let (mut log_probs, mut entropies) = (Vec::new(), Vec::new());
        for response in &tokens {
            let own: Vec<(&[f32], f32)> = rows.by_ref().take(response.len()).collect();
            // inside the clips: the largest ratio is e^0.1
            log_probs.push(own.iter().map(|(row, offset)| row[0] + 0.1 * offset).collect());
            entropies.push(own.iter().map(|(row, _)| row[1]).collect());
        }
        ViewNumbers { log_probs, entropies: Some(entropies) }
    };
    let behavior = scored(Image::Whole, 100 + id);
    let response = |(tokens, log_probs): (&Vec<u32>, &Vec<f32>)| Response {
        tokens: tokens.clone(),
        log_probs: log_probs.clone(),
        finish: Finish::Stop,
    };
    let task = Task {
        prompt: prompt.clone(),
        problem: String::new(),
        answer: String::new(),
        solution: None,
        category: None,
        place: String::new(),
    };
    CollectedGroup {
        task: Arc::new(task),
        group: Group {
            prompt: prompt.clone(),
            responses: tokens.iter().zip(&behavior.log_probs).map(response).collect(),
            activations: None,
        },
        rewards: advantages.to_vec(),
        parts: Vec::new(),
        texts: vec![String::new(); 3],
        lengths: tokens.iter().map(Vec::len).collect(),
        advantages: advantages.to_vec(),
        correct: vec![1.0, 0.0, 1.0],
        views: vec![
            (View::REFERENCE, Some(scored(Image::Whole, 200 + id))),
            (MASKED, has_picture.then(|| scored(Image::Corrupted(0), 300 + id))),
        ],
    }
}

fn batch() -> Vec<CollectedGroup> {
    let policy = policy(&Device::flex());
    vec![
        collected(&*policy, 0, true, [0.7, -0.9, 0.2]),
        collected(&*policy, 1, false, [0.5, 0.4, -0.9]),
        collected(&*policy, 2, true, [0.0; 3]),
    ]
}

type Gradients = Vec<Option<Vec<f32>>>;

/// The trainer's gradient and loss of a mini-batch, in micro-batches of at most one group.
fn update(objective: &dyn Objective, policy: &dyn Policy, groups: &[CollectedGroup]) -> (Gradients, f64) {
    let updater = Updater {
        objective,
        temperature: 1.0,
        prompts_per_update: groups.len(),
        micro_tokens: 14,
        recompute: false,
        learning_rate: 0.0,
        progress: Progress { step: 0, total_steps: 10 },
    };
    let (gradients, numbers, _) = updater.gradients(policy, groups);
    let loss = numbers.read(&gradients, true).1.get("objective/loss").expect("a loss");
    (gradients.into_iter().map(|gradient| gradient.map(host)).collect(), loss)
}

fn papo(masked_gradient: bool) -> Papo {
    let base = Grpo::new(GrpoConfig { kl_coefficient: 0.2, imitation_coefficient: 0.1, ..GrpoConfig::default() });
    let config = PapoConfig {
        gamma: 0.5,
        entropy_coefficient: 0.3,
        masked_entropy_coefficient: 0.4,
        entropy: EntropyKind::Full,
        masked_gradient,
        ..PapoConfig::default()
    };
    Papo::new(config, Box::new(base))
}

#[test]
fn the_trainers_gradient_is_the_slope_of_its_loss() {
    let groups = batch();
    let learning = policy(&device());
    let mut gradients = Vec::new();
    for masked_gradient in [false, true] {
        let objective = papo(masked_gradient);
        let (found, _) = update(&objective, &*learning, &groups);
        let mut moved = policy(&device());
        let mut worst = 0.0f64;
        for (index, gradient) in found.iter().enumerate() {
            let gradient = gradient.as_ref().expect("every parameter has a gradient");
            let loss = |policy: &dyn Policy| update(&objective, policy, &groups).1;
            worst = worst.max(check_parameter(&mut *moved, index, gradient, (0.01, 2e-3), loss));
        }
        println!("masked_gradient {masked_gradient}: largest difference {worst:.1e} of the steepest slope");
        gradients.push(found);
    }
    // what was compared are two different functions: a constant masked branch, and one that moves with the weights
    assert_ne!(gradients[0], gradients[1]);
}

#[test]
fn rows_without_a_picture_do_not_feel_papo() {
    let learning = policy(&device());
    let mut groups = [false, true].map(|pictured| collected(&*policy(&Device::flex()), 1, pictured, [0.5, 0.4, -0.9]));
    // it has a picture, but it is not the turn of its masked twin
    let without_twin = &mut groups[1];
    Arc::make_mut(&mut without_twin.group.prompt).corrupted = vec![Vec::new()];
    without_twin.views.iter_mut().filter(|(view, _)| *view == MASKED).for_each(|(_, numbers)| *numbers = None);
    for (masked_gradient, group) in
        [false, true].into_iter().flat_map(|live| groups.iter().map(move |group| (live, group)))
    {
        let group = std::slice::from_ref(group);
        let config =
            PapoConfig { gamma: 0.5, masked_entropy_coefficient: 0.4, masked_gradient, ..PapoConfig::default() };
        let papo = Papo::new(config, Box::new(Dapo::new(DapoConfig::default())));
        let (found, loss) = update(&papo, &*learning, group);
        let (base, base_loss) = update(&Dapo::new(DapoConfig::default()), &*learning, group);
        assert_eq!(loss, base_loss);
        assert_eq!(found, base);
        assert!(found.iter().flatten().flatten().any(|&value| value != 0.0), "there is a gradient");
    }
}

/// An objective that says it learns from groups without variance.
struct Eager(Dapo);

impl Objective for Eager {
    fn needs(&self) -> Needs {
        self.0.needs()
    }
    fn credit(&self, outcome: &GroupOutcome) -> Vec<f32> {
        self.0.credit(outcome)
    }
    fn loss(&self, evidence: &Evidence) -> Loss {
        self.0.loss(evidence)
    }
}

#[test]
fn a_group_without_variance_has_no_gradient_unless_a_term_needs_none() {
    let learning = policy(&device());
    let groups = batch();
    let quiet = &groups[2..];
    assert_eq!(
        Dapo::new(DapoConfig::default()).credit(&GroupOutcome {
            rewards: &[0.9; 3],
            parts: &[],
            lengths: &[1; 3],
            max_new_tokens: 4,
        }),
        quiet[0].advantages,
        "this is what a group without variance is credited"
    );

    let plain = Dapo::new(DapoConfig::default());
    assert!(update(&plain, &*learning, quiet).0.iter().all(Option::is_none), "backward work for nothing");
    // computing it all the same gives zeros, and the same gradient for the others
    let eager = Eager(Dapo::new(DapoConfig::default()));
    let (zeros, _) = update(&eager, &*learning, quiet);
    assert!(zeros.iter().flatten().flatten().all(|&value| value == 0.0));
    let (skipped, loss) = update(&plain, &*learning, &groups);
    let (computed, other_loss) = update(&eager, &*learning, &groups);
    assert!((loss - other_loss).abs() < 1e-6, "{loss}, {other_loss}");
    for (a, b) in skipped.iter().zip(&computed) {
        let (a, b) = (a.as_ref().expect("a gradient"), b.as_ref().expect("a gradient"));
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6), "skipping the group changes the others' gradient");
    }

    // a divergence, an imitation or a perception term acts without any advantage
    let grpo = Grpo::new(GrpoConfig::default());
    let imitation = Dapo::new(DapoConfig { imitation_coefficient: 0.1, ..DapoConfig::default() });
    let papo = Papo::new(PapoConfig::default(), Box::new(Dapo::new(DapoConfig::default())));
    for objective in [&grpo as &dyn Objective, &imitation, &papo] {
        let (found, _) = update(objective, &*learning, quiet);
        assert!(found.iter().flatten().flatten().any(|&value| value != 0.0), "the term has a gradient");
    }
    // a perception term does not act where the masked picture was not made
    let mut without_twin = quiet.to_vec();
    for group in &mut without_twin {
        let mut prompt = (*group.group.prompt).clone();
        prompt.corrupted.iter_mut().for_each(Vec::clear);
        group.group.prompt = Arc::new(prompt);
        group.views.iter_mut().for_each(|(_, numbers)| *numbers = None);
    }
    assert!(update(&papo, &*learning, &without_twin).0.iter().all(Option::is_none), "backward work for nothing");
}

#[test]
fn imitation_is_a_mean_over_the_tokens_of_right_responses() {
    let learning = policy(&device());
    let groups = batch();
    let imitation = |imitation_coefficient| Dapo::new(DapoConfig { imitation_coefficient, ..DapoConfig::default() });
    let difference = update(&imitation(1.0), &*learning, &groups).1 - update(&imitation(0.0), &*learning, &groups).1;
    let (mut sum, mut count) = (0.0, 0);
    for group in &groups {
        let responses: Vec<Arc<[u32]>> =
            group.group.responses.iter().map(|response| response.tokens.clone().into()).collect();
        let scoring =
            ScoringGroup { prompt: group.group.prompt.clone(), image: Image::Whole, responses: responses.clone() };
        let scores = host(learning.score(&[scoring], ScoreRequest { temperature: 1.0, entropy: false, dropout: None }));
        let rows = responses.iter().zip(&group.correct).flat_map(|(tokens, &correct)| vec![correct; tokens.len()]);
        for (log_prob, _) in scores.iter().zip(rows).filter(|(_, correct)| *correct != 0.0) {
            sum -= f64::from(*log_prob);
            count += 1;
        }
    }
    let mean = sum / f64::from(count);
    // the two losses are float32 numbers of this size
    assert!((difference - mean).abs() < 1e-5, "{difference}, by hand {mean}");
}
