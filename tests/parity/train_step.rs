//! Three consecutive updates of GRPO, DAPO, PAPO_G and PAPO_D against the PAPO repository's actor: log-probabilities of every view,
//! advantages, the loss's terms, gradients before clipping, and parameters after AdamW.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Tensor;
use percept_algorithms::{Average, Dapo, DapoConfig, Grpo, GrpoConfig, KlKind, Papo, PapoConfig};
use percept_core::{
    Finish, Group, GroupOutcome, Image, Objective, Parameter, Policy, Progress, Response, ScoreRequest, ScoringGroup,
    Task, View, Weights,
};
use percept_models::qwen2_5_vl::Qwen25Vl;
use percept_ops::MomentType;
use percept_trainer::{CollectedGroup, Metrics, Optimizer, OptimizerSettings, Updater, ViewNumbers};
use percept_vision::{Alpha, Preprocessor, bound_pixels};
use serde_json::Value;

use super::tensors::{Largest, Pictures, Tensors, folders_with, is_asked_for, json, picture_files, prompts};

/// Names of terms in the goldens, and here; `true` where the reference logs a term with a minus sign.
const TERMS: [(&str, &str, bool); 9] = [
    ("policy_loss", "objective/policy_loss", false),
    ("kl_loss", "objective/reference_kl", false),
    ("kl_prcp_loss", "objective/kl_prcp", true),
    ("aug_entropy_loss", "objective/masked_entropy", false),
    ("ori_entropy_loss", "objective/entropy", false),
    ("entropy_loss", "objective/nll", false),
    ("ppo_kl", "objective/behavior_kl", false),
    ("pg_clipfrac_higher", "objective/clip_fraction_high", false),
    ("pg_clipfrac_lower", "objective/clip_fraction_low", false),
];
/// What the goldens list among the terms, though it is a coefficient.
const COEFFICIENTS: [&str; 5] =
    ["kl_coef", "kl_prcp_coef", "kl_prcp_coef_annealing_discount", "aug_entropy_loss_coef", "ori_entropy_loss_coef"];
const MASKED: View = View { weights: Weights::Behavior, image: Image::Corrupted(0) };
const METHODS: [&str; 4] = ["grpo", "dapo", "papo_g", "papo_d"];
const LATER_METHODS: [&str; 6] = ["dr_grpo", "gspo", "cispo", "rloo", "reinforce_plus_plus", "remax"];

/// How far numbers may be apart at an update.
struct Tolerances {
    log_probs: f32,
    terms: f64,
    /// Relative.
    norm: f64,
    /// Relative and absolute, for each tensor's norm and first entries.
    gradient: [f64; 2],
}

impl Tolerances {
    fn at(update: usize) -> Self {
        if update == 0 {
            return Self { log_probs: 1e-4, terms: 1e-4, norm: 1e-3, gradient: [1e-3, 1e-5] };
        }
        Self { log_probs: 3e-3, terms: 1e-3, norm: 5e-3, gradient: [1e-2, 1e-4] }
    }
}

/// A folder's batch, and the policies behind its views.
struct Batch {
    folder: PathBuf,
    golden: Tensors,
    data: Value,
    checkpoint: PathBuf,
    groups: Vec<CollectedGroup>,
}

fn batches() -> Vec<Batch> {
    let mut found = Vec::new();
    for folder in folders_with("train_step", "data.json") {
        let data = json(&folder.join("data.json"));
        let checkpoint = folder.join(data["policy"].as_str().expect("a checkpoint's folder"));
        if is_asked_for(&checkpoint) {
            found.push(Batch::open(folder, data, checkpoint));
        }
    }
    assert!(!found.is_empty(), "no train_step folder was found among the goldens");
    found
}

fn load(folder: &Path) -> Qwen25Vl {
    Qwen25Vl::from_folder(folder, &crate::device::current().autodiff(), &|_| false)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("float32")
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} is {}", value[key]))
}

/// The norm of numbers, summed in f64.
fn l2(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

impl Batch {
    /// Prompts, pictures, responses and rewards as they stand in the files; log-probabilities are the policy's own.
    fn open(folder: PathBuf, data: Value, checkpoint: PathBuf) -> Self {
        let golden = Tensors::open(&folder.join("golden.safetensors"));
        let limit = |key: &str| data["process_image"][key].as_u64();
        let prepare = |picture: percept_vision::Picture| {
            bound_pixels(&picture, limit("min_pixels"), limit("max_pixels")).expect("bounded").to_rgb(Alpha::Drop)
        };
        let preprocessor = Preprocessor::from_folder(&checkpoint).expect("preprocessor_config.json");
        let pictures = Pictures { preprocessor, prepare: &prepare };
        let files = picture_files(&folder, &data["images"]);
        let counts: Vec<usize> = files.iter().map(Vec::len).collect();
        let whole = golden.pictures("pixel_values", &files.concat(), &pictures);
        let masked = picture_files(&folder, &data["masked_images"]).concat();
        let masked = golden.pictures("masked_pixel_values", &masked, &pictures);
        let prompts = prompts(golden.tokens("prompt_ids", "prompt_attention_mask"), &counts, whole, masked);

        let responses = golden.tokens("response_ids", "response_mask");
        let (_, rewards) = golden.f32("rewards");
        let size = data["group_size"].as_u64().expect("a group size") as usize;
        assert_eq!(responses.len(), prompts.len() * size, "{}: responses", folder.display());
        let groups = prompts.into_iter().zip(responses.chunks(size).zip(rewards.chunks(size)));
        let groups = groups.map(|(prompt, (responses, rewards))| CollectedGroup {
            task: Arc::new(Task {
                prompt: prompt.clone(),
                problem: String::new(),
                answer: String::new(),
                solution: None,
                category: None,
                place: folder.display().to_string(),
            }),
            lengths: responses.iter().map(Vec::len).collect(),
            texts: vec![String::new(); size],
            group: Group {
                prompt,
                responses: responses.iter().map(|tokens| response(tokens.clone())).collect(),
                activations: None,
            },
            rewards: rewards.to_vec(),
            parts: vec![("overall".to_owned(), rewards.to_vec())],
            advantages: vec![0.0; size],
            correct: vec![0.0; size],
            views: Vec::new(),
        });
        Self { groups: groups.collect(), folder, golden, data, checkpoint }
    }

    fn temperature(&self) -> f32 {
        number(&self.data, "temperature") as f32
    }

    /// Log-probabilities of all responses, by group and response.
    fn score(&self, policy: &dyn Policy, image: Image) -> Vec<Vec<Vec<f32>>> {
        let group = |group: &CollectedGroup| ScoringGroup {
            prompt: group.group.prompt.clone(),
            image,
            responses: group.group.responses.iter().map(|response| response.tokens.as_slice().into()).collect(),
        };
        let groups: Vec<ScoringGroup> = self.groups.iter().map(group).collect();
        let packed = host(
            policy.score(&groups, ScoreRequest { temperature: self.temperature(), entropy: false, dropout: None }),
        );
        let mut rest = packed.as_slice();
        let mut take = |count: usize| {
            let (own, behind) = rest.split_at(count);
            rest = behind;
            own.to_vec()
        };
        groups.iter().map(|group| group.responses.iter().map(|tokens| take(tokens.len())).collect()).collect()
    }

    /// Compares numbers by group and response with a golden `[rows, tokens]`.
    fn compare(&self, found: &[Vec<Vec<f32>>], golden: &str, tolerance: f32) -> Largest {
        let mut largest = Largest::new();
        let rows = self.golden.rows(golden).into_iter().zip(self.golden.shown("response_mask"));
        let found: Vec<&Vec<f32>> = found.iter().flatten().collect();
        assert_eq!(found.len(), rows.len(), "{golden}: rows");
        for (found, (row, shown)) in found.into_iter().zip(rows) {
            let expected: Vec<f32> = shown.into_iter().map(|at| row[at]).collect();
            largest.check(found, &expected, tolerance, &format!("{}: {golden}", self.folder.display()));
        }
        largest
    }

    /// The frozen reference: the folder's weights in a checkpoint of the policy's configuration.
    fn reference(&self) -> Qwen25Vl {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let copy = |from: PathBuf, to: &str| {
            // content alone: the goldens may be read-only
            let bytes = std::fs::read(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            std::fs::write(folder.path().join(to), bytes).expect("writes");
        };
        copy(self.checkpoint.join("config.json"), "config.json");
        copy(self.folder.join(self.data["reference"].as_str().expect("a file")), "model.safetensors");
        load(folder.path())
    }

    /// Fills in what the start weights and the reference believe, after comparing it with the goldens.
    fn fill_views(&mut self) {
        let start = load(&self.checkpoint);
        let behavior = self.score(&*start.freeze(), Image::Whole);
        let masked = self.score(&*start.freeze(), MASKED.image);
        let reference = self.score(&*self.reference().freeze(), Image::Whole);
        println!("{}:", self.folder.display());
        for (name, found) in
            [("old_log_probs", &behavior), ("masked_log_probs", &masked), ("reference_log_probs", &reference)]
        {
            println!("  {name}: {:?}", self.compare(found, name, 1e-4));
        }
        let views = behavior.into_iter().zip(masked).zip(reference);
        for (group, ((behavior, masked), reference)) in self.groups.iter_mut().zip(views) {
            for (response, log_probs) in group.group.responses.iter_mut().zip(behavior) {
                response.log_probs = log_probs;
            }
            let numbers = |log_probs| Some(ViewNumbers { log_probs, entropies: None });
            group.views = vec![(MASKED, numbers(masked)), (View::REFERENCE, numbers(reference))];
        }
    }
}

fn response(tokens: Vec<u32>) -> Response {
    Response { tokens, log_probs: Vec::new(), finish: Finish::Stop }
}

/// The objective that a golden's `config` describes.
fn objective(method: &str, config: &Value) -> Box<dyn Objective> {
    let on = |key: &str| config[key].as_bool().unwrap_or_else(|| panic!("{key} is {}", config[key]));
    let real = |key: &str| number(config, key);
    let estimator = |key: &str| match config[key].as_str() {
        Some("kl") => KlKind::K1,
        Some("abs") => KlKind::Abs,
        Some("mse") => KlKind::K2,
        Some("low_var_kl") => KlKind::K3,
        _ => panic!("{key} is {}", config[key]),
    };
    for unknown in ["use_kl_prcp_token_level_mask", "use_kl_prcp_clipping", "use_sft_loss"] {
        assert!(!on(unknown), "{method}: {unknown} is on, which this test does not pass on");
    }
    let average = match config["loss_avg_mode"].as_str() {
        Some("token") => Average::Token,
        Some("seq") => Average::Sequence,
        _ => panic!("loss_avg_mode is {}", config["loss_avg_mode"]),
    };
    let coefficient = |switch: &str, key: &str| if on(switch) { real(key) } else { 0.0 };
    let (clip_low, clip_high, clip_dual) = (real("clip_ratio_low"), real("clip_ratio_high"), real("clip_ratio_dual"));
    let (kl_coefficient, kl_estimator) = (coefficient("use_kl_loss", "kl_coef"), estimator("kl_penalty"));
    let base: Box<dyn Objective> = match method {
        "grpo" | "papo_g" => Box::new(Grpo::new(GrpoConfig {
            clip_low,
            clip_high,
            clip_dual,
            average,
            kl_coefficient,
            kl_estimator,
            ..GrpoConfig::default()
        })),
        _ => Box::new(Dapo::new(DapoConfig {
            clip_low,
            clip_high,
            clip_dual,
            average,
            kl_coefficient,
            kl_estimator,
            ..DapoConfig::default()
        })),
    };
    if !on("use_kl_prcp") {
        return base;
    }
    let perception = PapoConfig {
        gamma: real("kl_prcp_coef"),
        perception_estimator: estimator("kl_prcp_penalty"),
        entropy_coefficient: coefficient("use_ori_entropy_loss", "ori_entropy_loss_coef"),
        masked_entropy_coefficient: coefficient("use_aug_entropy_loss", "aug_entropy_loss_coef"),
        average,
        ..PapoConfig::default()
    };
    Box::new(Papo::new(perception, base))
}

fn settings(golden: &Value) -> OptimizerSettings {
    let betas = golden["betas"].as_array().expect("two numbers");
    OptimizerSettings {
        betas: [0, 1].map(|at| betas[at].as_f64().expect("a number")),
        epsilon: number(golden, "eps"),
        weight_decay: number(golden, "weight_decay"),
        max_grad_norm: number(&golden["config"], "max_grad_norm"),
        moments: MomentType::F32,
        offload: false,
        seed: 1,
        learning_rate: Arc::new(|_, _| panic!("the rate is handed to each update")),
    }
}

/// Largest deviations of an update, as shares of what is allowed where tolerances are mixed.
#[derive(Debug, Default)]
struct Deviations {
    terms: f64,
    /// Relative.
    norm: f64,
    gradient_share: f64,
    gradient_entries_share: f64,
    /// Relative.
    parameter: f64,
    /// Of entries that the gradient moves clearly.
    moved_entries: f64,
    entries: f64,
}

fn check(found: f64, expected: f64, tolerance: f64, largest: &mut f64, share: bool, what: &str) {
    let difference = (found - expected).abs();
    // written so that a NaN fails
    assert!(difference <= tolerance, "{what}: {found}, not {expected}: off by {difference:e}, allowed {tolerance:e}");
    *largest = largest.max(if share { difference / tolerance } else { difference });
}

fn check_terms(metrics: &Metrics, golden: &Value, tolerance: f64, deviations: &mut Deviations, what: &str) {
    let terms = golden.as_object().expect("named terms");
    let known = |name: &&String| name.as_str() == "total_loss" || TERMS.iter().any(|(term, _, _)| name == term);
    let unknown: Vec<&String> =
        terms.keys().filter(|name| !known(name) && !COEFFICIENTS.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "{what}: terms that are not compared: {unknown:?}");
    for (term, metric, negative) in TERMS.into_iter().chain([("total_loss", "objective/loss", false)]) {
        let Some(expected) = terms.get(term).and_then(Value::as_f64) else { continue };
        let found = metrics.get(metric).unwrap_or_else(|| panic!("{what}: no metric {metric}"));
        let found = if negative { -found } else { found };
        check(found, expected, tolerance, &mut deviations.terms, false, &format!("{what}: {term}"));
    }
}

/// Every tensor of the checkpoint's files: a parameter's values, or its gradient's.
fn by_name(parameters: &[&Parameter], values: impl Fn(usize) -> Vec<f32>) -> Vec<(String, Vec<f32>)> {
    let mut named = Vec::new();
    for (index, parameter) in parameters.iter().enumerate() {
        let values = values(index);
        named.extend(parameter.pieces.iter().map(|piece| (piece.name.clone(), values[piece.range.clone()].to_vec())));
    }
    named
}

fn first8<'a>(golden: &'a Value, name: &str) -> impl Iterator<Item = f64> + 'a {
    let list = golden[name].as_array().unwrap_or_else(|| panic!("no numbers of {name}"));
    list.iter().map(|value| value.as_f64().expect("a number"))
}

fn check_gradients(
    found: &[(String, Vec<f32>)],
    golden: &Value,
    update: usize,
    deviations: &mut Deviations,
    what: &str,
) {
    let [relative, absolute] = Tolerances::at(update).gradient;
    for (name, values) in found {
        let expected = number(&golden["grad_l2"], name);
        let what = format!("{what}: gradient of {name}");
        check(l2(values), expected, relative * expected + absolute, &mut deviations.gradient_share, true, &what);
        for (found, expected) in values.iter().zip(first8(&golden["grad_first8"], name)) {
            let tolerance = relative * expected.abs() + absolute;
            check(f64::from(*found), expected, tolerance, &mut deviations.gradient_entries_share, true, &what);
        }
    }
    assert_eq!(found.len(), golden["grad_l2"].as_object().expect("by name").len(), "{what}: tensors");
}

fn check_parameters(
    found: &[(String, Vec<f32>)],
    golden: &Value,
    update: usize,
    learning_rate: f64,
    deviations: &mut Deviations,
    what: &str,
) {
    for (name, values) in found {
        let expected = number(&golden["param_l2_after"], name);
        let relative = if name.ends_with(".bias") { 1e-3 } else { 1e-4 };
        let what = format!("{what}: {name} afterwards");
        check(l2(values) / expected, 1.0, relative, &mut deviations.parameter, false, &what);
        let gradients = first8(&golden["grad_first8"], name);
        let entries = values.iter().zip(first8(&golden["param_first8_after"], name)).zip(gradients);
        for ((found, expected), gradient) in entries {
            let found = f64::from(*found);
            if update == 0 && gradient.abs() > 1e-4 {
                check(found, expected, 1e-4, &mut deviations.moved_entries, false, &what);
            } else {
                // Adam makes a step of up to the learning rate out of a gradient near 0, whatever its sign
                let tolerance = learning_rate * (update + 1) as f64;
                check(found, expected, tolerance, &mut deviations.entries, false, &what);
            }
        }
    }
    assert_eq!(found.len(), golden["param_l2_after"].as_object().expect("by name").len(), "{what}: tensors");
}

/// The method's three updates from the start weights.
fn train(batch: &mut Batch, method: &str) {
    let golden = json(&batch.folder.join(format!("{method}.json")));
    let objective = objective(method, &golden["config"]);
    for group in &mut batch.groups {
        let (rewards, parts, lengths) = (&group.rewards, &group.parts, &group.lengths);
        group.advantages = objective.credit(&GroupOutcome { rewards, parts, lengths, max_new_tokens: usize::MAX });
    }
    let spread = |group: &CollectedGroup| -> Vec<Vec<f32>> {
        group.advantages.iter().zip(&group.lengths).map(|(advantage, &length)| vec![*advantage; length]).collect()
    };
    let advantages: Vec<_> = batch.groups.iter().map(spread).collect();
    println!("  {method} advantages: {:?}", batch.compare(&advantages, &format!("{method}.advantages"), 1e-5));

    let learning_rate = number(&golden, "learning_rate");
    let mut policy = load(&batch.checkpoint);
    let mut optimizer = Optimizer::new(&policy, settings(&golden));
    let updater = Updater {
        objective: &*objective,
        temperature: batch.temperature(),
        prompts_per_update: batch.groups.len(),
        micro_tokens: usize::MAX,
        recompute: false,
        learning_rate,
        progress: Progress { step: 0, total_steps: 1 },
    };
    let updates = golden["updates"].as_array().expect("updates");
    assert!(!updates.is_empty(), "{method}: no update");
    for (update, expected) in updates.iter().enumerate() {
        let what = format!("{}: {method}, update {update}", batch.folder.display());
        let tolerances = Tolerances::at(update);
        let mut deviations = Deviations::default();
        let live = batch.score(&*policy.freeze(), Image::Whole);
        let log_probs = batch.compare(&live, &format!("{method}.log_probs_{update}"), tolerances.log_probs);

        let (gradients, numbers, _) = updater.gradients(&policy, &batch.groups);
        let (norm, metrics) = numbers.read(&gradients, true);
        check_terms(&metrics, &expected["terms"], tolerances.terms, &mut deviations, &what);
        let relative = norm / number(expected, "grad_norm");
        check(relative, 1.0, tolerances.norm, &mut deviations.norm, false, &format!("{what}: grad_norm"));
        let parameters = policy.parameters();
        let named = by_name(&parameters, |index| match &gradients[index] {
            Some(gradient) => host(gradient.clone()),
            None => vec![0.0; host(parameters[index].value.clone()).len()],
        });
        check_gradients(&named, expected, update, &mut deviations, &what);

        optimizer.step(&mut policy, gradients, norm, learning_rate);
        let parameters = policy.parameters();
        let named = by_name(&parameters, |index| host(parameters[index].value.clone()));
        check_parameters(&named, expected, update, learning_rate, &mut deviations, &what);
        println!("  {method} update {update}: log_probs {log_probs:?}, {deviations:?}");
    }
}

#[test]
pub(crate) fn three_updates_of_every_method_are_the_references() {
    let mut count = 0;
    for mut batch in batches() {
        batch.fill_views();
        for method in methods(&batch.folder) {
            train(&mut batch, &method);
            count += 1;
        }
    }
    assert!(count > 0, "no method was found in the train_step goldens");
}

/// The goldens' tolerances are wider than what decay does in three updates. Without a gradient, it is all that AdamW does.
#[test]
fn decay_pulls_every_parameter_by_itself() {
    for batch in batches() {
        let mut policy = load(&batch.checkpoint);
        let before: Vec<Vec<f32>> = policy.parameters().iter().map(|parameter| host(parameter.value.clone())).collect();
        let settings = OptimizerSettings {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.5,
            max_grad_norm: 1.0,
            moments: MomentType::F32,
            offload: false,
            seed: 1,
            learning_rate: Arc::new(|_, _| panic!("the rate is handed to each update")),
        };
        let mut optimizer = Optimizer::new(&policy, settings);
        let zeros =
            policy.parameters().iter().map(|parameter| Some(parameter.value.clone().inner().zeros_like())).collect();
        optimizer.step(&mut policy, zeros, 0.0, 0.1);
        for (parameter, before) in policy.parameters().into_iter().zip(before) {
            let expected: Vec<f32> = before.iter().map(|value| value * (1.0 - 0.1 * 0.5)).collect();
            Largest::new().check(&host(parameter.value.clone()), &expected, 1e-6, &parameter.pieces[0].name);
        }
    }
}

/// The methods with a file in the folder; those nobody asked for yet are printed as skipped.
fn methods(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let stem = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let mut methods: Vec<String> = files.map(stem).filter(|name| name != "data").collect();
    methods.sort();
    methods.retain(|method| {
        let later = LATER_METHODS.contains(&method.as_str());
        if later {
            println!("{}: skipped, method {method}", folder.display());
        }
        assert!(later || METHODS.contains(&method.as_str()), "{method}: a method that no test knows");
        !later
    });
    methods
}
