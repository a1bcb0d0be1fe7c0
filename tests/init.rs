//! `percept init`: what it writes loads, is what the model's own initialization draws, and takes the place of nothing.

use crate::program::{Said, assert_same_files, files, percept};
use burn::tensor::Device;
use percept_core::{Parameter, Policy};
use percept_models::qwen2_5_vl::{Config, Qwen25Vl, initialize};
use std::path::Path;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn init(place: &TempDir, words: &str) -> Said {
    percept(place.path(), &[&["init"], &words.split(' ').collect::<Vec<_>>()[..]].concat())
}

fn refused(said: &Said, words: &[&str]) {
    assert_eq!((said.code, said.err.trim_end().lines().count()), (Some(1), 1), "{said:#?}");
    assert!(said.err.starts_with("error: "), "{said:#?}");
    for word in words {
        assert!(said.err.contains(word), "{word:?} is not in: {}", said.err);
    }
}

fn names(place: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(place.path()).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("Unicode")).collect();
    names.sort();
    names
}

fn load(folder: &Path) -> Qwen25Vl {
    Qwen25Vl::from_folder(folder, &Device::flex(), &|_| false).expect("it loads")
}

fn values(policy: &Qwen25Vl) -> Vec<(String, Vec<f32>)> {
    let named = |parameter: &Parameter| {
        let values = parameter.value.clone().into_data().try_to_vec().expect("float32");
        (parameter.pieces[0].name.clone(), values)
    };
    policy.parameters().into_iter().map(named).collect()
}

#[test]
fn a_random_checkpoint_answers_and_is_measured() {
    let place = folder();
    let said = init(&place, "--size tiny --out a/tiny --seed 3").well();
    for words in ["checkpoint: a/tiny", "703920 random parameters, 2815680 bytes in float32", "percept bench"] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
    assert_eq!(names(&place), ["a"]);
    let task = "task --out data --train 2 --validation 2 --test 3 --seed 3 --checkpoint quickstart";
    percept(place.path(), &task.split(' ').collect::<Vec<_>>()).well();
    assert_same_files(&place.path().join("a/tiny"), &place.path().join("quickstart"));

    let sample = "sample --checkpoint a/tiny --max-new-tokens 4 --question Red?";
    percept(place.path(), &sample.split(' ').collect::<Vec<_>>()).well();
    let eval = "eval --checkpoint a/tiny --data data/test.parquet --set validation.max_new_tokens=4 --json scores.json";
    percept(place.path(), &eval.split(' ').collect::<Vec<_>>()).well();
    let scores: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.path().join("scores.json")).expect("scores")).expect("JSON");
    assert_eq!(scores["rows"], 3);
}

#[test]
fn the_files_hold_what_initialization_draws() {
    let place = folder();
    init(&place, "--size tiny --out tiny --seed 5").well();
    let folder = place.path().join("tiny");
    let config = Config::from_folder(&folder).expect("a configuration");
    let drawn = initialize(&config, 5, 0.08, &Device::flex()).expect("a valid configuration");
    assert!(values(&load(&folder)) == values(&drawn), "the weights are others");
}

#[test]
fn shards_and_formats_are_those_asked_for() {
    let place = folder();
    // an empty folder may stand there
    std::fs::create_dir(place.path().join("many")).expect("a folder");
    init(&place, "--family qwen2_5_vl --size tiny --out many --max-shard-bytes 500000").well();
    init(&place, "--size tiny --out one").well();
    init(&place, "--size tiny --out half --dtype bf16").well();
    let folder = |name: &str| place.path().join(name);
    let many = files(&folder("many"));
    let shards: Vec<&String> = many.keys().filter(|name| name.ends_with(".safetensors")).collect();
    assert!(shards.len() > 4 && many.contains_key("model.safetensors.index.json"), "{:?}", many.keys());
    let (many, one, half) = (load(&folder("many")), load(&folder("one")), load(&folder("half")));
    assert!(values(&many) == values(&one), "shards hold other weights");
    for ((name, exact), (_, rounded)) in values(&one).iter().zip(values(&half)) {
        let far = exact.iter().zip(rounded).find(|(exact, rounded)| (*exact - rounded).abs() > exact.abs() / 256.0);
        assert_eq!(far, None, "{name}");
    }
    let config = String::from_utf8(files(&folder("half"))["config.json"].clone()).expect("text");
    assert!(config.contains("\"torch_dtype\": \"bfloat16\""), "{config}");
}

#[test]
fn what_is_there_stays_and_what_is_unknown_is_named() {
    let place = folder();
    init(&place, "--size tiny --out tiny").well();
    let before = files(place.path());
    refused(&init(&place, "--size tiny --out tiny --seed 2"), &["tiny: the folder is not empty", "name a new one"]);
    refused(&init(&place, "--size tiny --out tiny/config.json"), &["config.json", "no folder"]);
    refused(&init(&place, "--size 5b --out new"), &["\"5b\"", "tiny, 4m, 19m, 50m, 3b, 7b, 32b, 72b"]);
    refused(&init(&place, "--family llama --size 7b --out new"), &["\"llama\"", "known: qwen2_5_vl"]);
    refused(&init(&place, "--size tiny --dtype int8 --out new"), &["--dtype", "'int8'", "f32, f16, bf16"]);
    assert_eq!(names(&place), ["tiny"]);
    assert!(files(place.path()) == before, "something was changed");
}
