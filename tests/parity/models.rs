//! Qwen2.5-VL against transformers: vision features, logits, positions, windows, greedy decoding and log-probabilities of every
//! checkpoint found; and that what is saved is what was loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use percept_core::{Image, PicturePatches, Policy, Prompt, Sampler, SamplingSpec, ScoreRequest, ScoringGroup};
use percept_models::qwen2_5_vl::{Config, Qwen25Vl, positions, window_order};
use percept_rollout::InProcess;
use percept_vision::{Alpha, Preprocessor};
use percept_weights::{Checkpoint, Dtype, NamingScheme};
use serde_json::Value;

use super::tensors::{Largest, Pictures, Tensors, folders_with, is_asked_for, json, picture_files, prompts};

/// A checkpoint with what transformers computed of it.
struct Case {
    folder: PathBuf,
    name: String,
    policy: Qwen25Vl,
    golden: Tensors,
    description: Value,
    prompts: Vec<Arc<Prompt>>,
    /// Given responses, one to a prompt.
    responses: Vec<Vec<u32>>,
}

fn cases() -> Vec<Case> {
    let folders: Vec<PathBuf> =
        folders_with("models", "golden.safetensors").into_iter().filter(|folder| is_asked_for(folder)).collect();
    assert!(!folders.is_empty(), "no Qwen2.5-VL checkpoint was found among the goldens");
    folders.into_iter().map(Case::open).collect()
}

fn load(folder: &Path) -> Qwen25Vl {
    Qwen25Vl::from_folder(folder, &crate::device::current(), &|_| false).unwrap_or_else(|error| panic!("{error}"))
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("float32")
}

impl Case {
    fn open(folder: PathBuf) -> Self {
        let golden = Tensors::open(&folder.join("golden.safetensors"));
        let description = json(&folder.join("golden.json"));
        let files = picture_files(&folder, &description["images"]);
        let preprocessor = Preprocessor::from_folder(&folder).expect("preprocessor_config.json");
        let pictures = Pictures { preprocessor, prepare: &|picture| picture.to_rgb(Alpha::OverWhite) };
        let patches = golden.pictures("pixel_values", &files.concat(), &pictures);
        let counts: Vec<usize> = files.iter().map(Vec::len).collect();
        Self {
            name: folder.file_name().expect("a folder inside another").to_string_lossy().into_owned(),
            policy: load(&folder),
            prompts: prompts(golden.tokens("input_ids", "attention_mask"), &counts, patches, Vec::new()),
            responses: golden.tokens("response_ids", "response_mask"),
            golden,
            description,
            folder,
        }
    }

    fn config(&self) -> &Config {
        self.policy.config()
    }

    fn pictures(&self) -> Vec<&PicturePatches> {
        self.prompts.iter().flat_map(|prompt| &prompt.pictures).collect()
    }

    /// The given responses as groups of one.
    fn groups(&self) -> Vec<ScoringGroup> {
        let group = |(prompt, response): (&Arc<Prompt>, &Vec<u32>)| ScoringGroup {
            prompt: prompt.clone(),
            image: Image::Whole,
            responses: vec![response.as_slice().into()],
        };
        self.prompts.iter().zip(&self.responses).map(group).collect()
    }
}

#[test]
pub(crate) fn features_and_logits_are_transformers() {
    for case in cases() {
        let mut features = Largest::new();
        let (_, expected) = case.golden.f32("image_embeds");
        features.check(&host(case.policy.image_features(&case.pictures())), &expected, 2e-4, &case.name);

        let mut logits = Largest::new();
        let (shape, expected) = case.golden.f32("logits");
        let (columns, vocabulary) = (shape[1], shape[2]);
        assert_eq!(vocabulary, case.policy.vocabulary(), "{}", case.name);
        for (row, (prompt, shown)) in case.prompts.iter().zip(case.golden.shown("attention_mask")).enumerate() {
            let found = host(case.policy.prompt_logits(prompt));
            assert_eq!(found.len(), shown.len() * vocabulary, "{}: logits of row {row}", case.name);
            for (found, at) in found.chunks_exact(vocabulary).zip(shown) {
                let from = (row * columns + at) * vocabulary;
                let what = format!("{}: logits of row {row}, token {at}", case.name);
                logits.check(found, &expected[from..from + vocabulary], 2e-4, &what);
            }
        }
        println!("{}: features {features:?}, logits {logits:?}", case.folder.display());
    }
}

#[test]
fn positions_and_windows_are_transformers() {
    let (mut tokens, mut units) = (0, 0);
    for case in cases() {
        let config = case.config();
        let merge = config.vision.spatial_merge_size;
        if case.golden.has("position_ids") {
            let (shape, expected) = case.golden.i64("position_ids");
            let (_, deltas) = case.golden.i64("rope_deltas");
            let (rows, columns) = (shape[1], shape[2]);
            for (row, (prompt, shown)) in case.prompts.iter().zip(case.golden.shown("attention_mask")).enumerate() {
                let grids: Vec<[usize; 3]> = prompt.pictures.iter().map(|picture| picture.grid).collect();
                let (found, next) = positions(&prompt.tokens, &grids, config.image_token_id, merge);
                for (position, at) in found.iter().zip(shown) {
                    let wanted = [0, 1, 2].map(|axis| expected[(axis * rows + row) * columns + at] as u32);
                    assert_eq!(*position, wanted, "{}: row {row}, token {at}", case.name);
                    tokens += 1;
                }
                let behind = deltas[row] + prompt.tokens.len() as i64;
                assert_eq!(i64::from(next), behind, "{}: position behind row {row}", case.name);
            }
        }
        let (mut order, mut bounds) = (Vec::new(), vec![0]);
        for picture in case.pictures() {
            let (own, sizes) = window_order(picture.grid, &config.vision);
            let before = order.len();
            order.extend(own.into_iter().map(|unit| before + unit));
            for size in sizes {
                bounds.push(bounds[bounds.len() - 1] + size * merge * merge);
            }
        }
        let list = |key: &str| -> Vec<usize> {
            let list = case.description[key].as_array().unwrap_or_else(|| panic!("{}: {key}", case.name));
            list.iter().map(|value| value.as_u64().expect("a count") as usize).collect()
        };
        assert_eq!(order, list("window_index"), "{}", case.name);
        assert_eq!(bounds, list("cu_window_seqlens"), "{}", case.name);
        units += order.len();
    }
    assert!(tokens > 0, "no golden holds position_ids");
    println!("{tokens} positions, {units} merged patches in window order");
}

#[test]
pub(crate) fn greedy_decoding_is_transformers() {
    let mut count = 0;
    for case in cases().into_iter().filter(|case| case.golden.has("greedy_ids")) {
        let (shape, ids) = case.golden.i64("greedy_ids");
        let num_new = shape[1] - case.golden.i64("input_ids").0[1];
        let spec = SamplingSpec {
            responses_per_prompt: 1,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens: num_new,
            stop_tokens: Vec::new(),
            banned_tokens: Vec::new(),
            seed: 0,
            step: 0,
            evaluation: false,
            kept_activations: 0,
        };
        let groups = InProcess::new(8).sample(&case.policy.freeze(), &case.prompts, &spec).expect("finite logits");
        for (group, row) in groups.iter().zip(ids.chunks_exact(shape[1])) {
            let expected: Vec<u32> = row[shape[1] - num_new..].iter().map(|&id| id as u32).collect();
            assert_eq!(group.responses[0].tokens, expected, "{}", case.name);
            count += 1;
        }
    }
    assert!(count > 0, "no golden holds greedy_ids");
    println!("{count} greedy responses");
}

#[test]
pub(crate) fn log_probs_are_transformers() {
    for case in cases() {
        for (name, temperature) in [("logprobs_t1.0", 1.0), ("logprobs_t0.7", 0.7)] {
            let mut largest = Largest::new();
            let request = ScoreRequest { temperature, entropy: false, dropout: None };
            let found = host(case.policy.score(&case.groups(), request));
            let rows = case.golden.rows(name);
            let shown = case.golden.shown("response_mask");
            let expected: Vec<f32> =
                rows.iter().zip(shown).flat_map(|(row, at)| at.into_iter().map(|t| row[t])).collect();
            largest.check(&found, &expected, 1e-4, &format!("{}: {name}", case.name));
            println!("{}: {name} {largest:?}", case.folder.display());
        }
    }
}

/// The policy's log-probabilities with maps of another type, against transformers' in float32: the largest difference, and the root of
/// the mean square of each checkpoint's.
pub(crate) fn log_probs_are_near(dtype: DType, largest: f32, typical: f32) {
    for case in cases() {
        let found = host(case.policy.clone().computed_in(dtype).freeze().score(&case.groups(), REQUEST));
        let rows = case.golden.rows("logprobs_t1.0");
        let shown = case.golden.shown("response_mask");
        let expected: Vec<f32> = rows.iter().zip(shown).flat_map(|(row, at)| at.into_iter().map(|t| row[t])).collect();
        let mut differences = Largest::new();
        differences.check(&found, &expected, largest, &format!("{}: {dtype:?}", case.name));
        let squares: f32 = found.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum();
        let mean = (squares / found.len() as f32).sqrt();
        println!("{}: log-probabilities in {dtype:?}: {differences:?}, typical {mean:.1e}", case.folder.display());
        assert!(mean < typical, "{}: {dtype:?}: typically off by {mean}", case.name);
    }
}

const REQUEST: ScoreRequest = ScoreRequest { temperature: 1.0, entropy: false, dropout: None };

#[test]
pub(crate) fn entropies_are_those_of_the_logits() {
    let mut largest = Largest::new();
    for case in cases() {
        let vocabulary = case.policy.vocabulary();
        for temperature in [1.0, 0.7] {
            let found =
                host(case.policy.score(&case.groups(), ScoreRequest { temperature, entropy: true, dropout: None }));
            let mut expected = Vec::new();
            for (prompt, response) in case.prompts.iter().zip(&case.responses) {
                let mut whole = Prompt::clone(prompt);
                whole.tokens.extend(response);
                let logits = host(case.policy.prompt_logits(&whole));
                let before = (prompt.tokens.len() - 1) * vocabulary;
                for (row, &token) in logits[before..].chunks_exact(vocabulary).zip(response) {
                    let (log_prob, entropy) = softmax_numbers(row, token, temperature);
                    expected.extend([log_prob, entropy]);
                }
            }
            largest.check(&found, &expected, 1e-4, &case.name);
        }
    }
    println!("log-probabilities and entropies {largest:?}");
}

/// A token's log-probability and the distribution's entropy, in f64.
fn softmax_numbers(logits: &[f32], token: u32, temperature: f32) -> (f32, f32) {
    let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) / f64::from(temperature)).collect();
    let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = largest + scaled.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
    let entropy: f64 = scaled.iter().map(|logit| (logit - total).exp() * (total - logit)).sum();
    ((scaled[token as usize] - total) as f32, entropy as f32)
}

#[test]
fn what_is_saved_is_what_was_loaded() {
    for case in cases() {
        let source = Checkpoint::open(&case.folder, NamingScheme::QWEN2_VL).expect("the golden's weights");
        let dtype = Dtype::from_stored(source.dtype().expect("one format")).expect("a format that can be written");
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let folder = temporary.path().join("saved");
        percept_models::save(&case.policy, &case.folder, &folder, dtype).expect("saves");

        // by the names that stand in the files: what the released files of the family say
        let saved = Checkpoint::open(&folder, NamingScheme::AS_WRITTEN).expect("what was saved");
        let names = |checkpoint: &Checkpoint| {
            let mut names: Vec<String> = checkpoint.names().map(str::to_owned).collect();
            // a tied head may be stored, and says nothing
            names.retain(|name| name != "lm_head.weight" || !case.config().tie_word_embeddings);
            names.sort();
            names
        };
        assert_eq!(names(&saved), names(&source), "{}", case.name);
        for name in names(&saved) {
            let (found, expected) = (saved.tensor(&name).expect("listed"), source.tensor(&name).expect("listed"));
            assert_eq!(found.shape, expected.shape, "{}: {name}", case.name);
            assert_eq!(found.dtype, expected.dtype, "{}: {name}", case.name);
            assert!(found.bytes == expected.bytes, "{}: {name}: other bytes", case.name);
        }
        let again = load(&folder);
        for (found, expected) in again.parameters().into_iter().zip(case.policy.parameters()) {
            assert_eq!(found.pieces, expected.pieces, "{}", case.name);
            let same = host(found.value.clone()) == host(expected.value.clone());
            assert!(same, "{}: {:?} changed on the way", case.name, found.pieces[0].name);
        }
        println!("{}: {} tensors, {dtype:?}", case.folder.display(), names(&saved).len());
    }
}

/// A small set of goldens need not have an untied head: here is one whose logits are known from the tied one's.
#[test]
fn an_untied_head_is_used() {
    let mut count = 0;
    for case in cases().into_iter().filter(|case| case.config().tie_word_embeddings) {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let folder = temporary.path();
        let mut config = json(&case.folder.join("config.json"));
        config["tie_word_embeddings"] = Value::Bool(false);
        std::fs::write(folder.join("config.json"), config.to_string()).expect("writes");
        let source = Checkpoint::open(&case.folder, NamingScheme::QWEN2_VL).expect("the golden's weights");
        let kept = source.names().filter(|name| *name != "lm_head.weight");
        let mut tensors: Vec<(String, Vec<usize>)> =
            kept.map(|name| (name.to_owned(), source.tensor(name).expect("listed").shape.to_vec())).collect();
        tensors.push(("lm_head.weight".to_owned(), vec![case.config().vocabulary, case.config().hidden_size]));
        let mut writer = percept_weights::CheckpointWriter::create(
            folder,
            Dtype::F32,
            &tensors,
            percept_weights::DEFAULT_MAX_SHARD_BYTES,
        )
        .expect("a new folder");
        for (name, _) in &tensors {
            let values = match name.as_str() {
                "lm_head.weight" => {
                    source.to_f32("model.embed_tokens.weight").map(|v| v.iter().map(|x| -2.0 * x).collect())
                }
                name => source.to_f32(name),
            };
            writer.add(name, &values.expect("listed")).expect("writes");
        }
        writer.finish().expect("writes");
        let policy = load(folder);
        for prompt in &case.prompts {
            let expected: Vec<f32> = host(case.policy.prompt_logits(prompt)).iter().map(|logit| -2.0 * logit).collect();
            Largest::new().check(&host(policy.prompt_logits(prompt)), &expected, 1e-5, &case.name);
            count += expected.len();
        }
    }
    assert!(count > 0, "no tied checkpoint was found");
}
