//! The files beside the weights: configuration, tokenizer, templates, preprocessing.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde_json::Value;

use crate::dtype::Dtype;
use crate::error::WeightsError;
use crate::publish::write_atomically;

const CONFIG_FILE: &str = "config.json";
/// Keys of `config.json` with the format of the weights; transformers 5 writes the second.
const DTYPE_KEYS: &[&str] = &["torch_dtype", "dtype"];
/// Files whose names begin so: tokenizer.json, tokenizer_config.json, tokenizer.model; chat_template.json and .jinja.
const BEGINNINGS: &[&str] = &["tokenizer", "chat_template"];
const NAMES: &[&str] = &[
    "generation_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "image_processor_config.json",
    "processor_config.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "sentencepiece.bpe.model",
    "spiece.model",
];
/// Endings of weights and what tells others about them; never copied, whatever they are called.
const WEIGHTS: &[&str] = &[".safetensors", ".index.json", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack"];

/// Copies all that a checkpoint needs beside its weights from folder `from` into `to`, and returns the names, sorted.
///
/// `dtype` is the format the new weights are written in; `config.json` will declare it wherever it declares a format:
/// transformers casts the weights to the declared one, and would round f32 weights beside a configuration that says
/// bfloat16. Otherwise files are copied byte for byte.
///
/// # Errors
/// When `from` has no readable `config.json`, or a file cannot be copied.
pub fn copy_companions(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    dtype: Dtype,
) -> Result<Vec<String>, WeightsError> {
    let (from, to) = (from.as_ref(), to.as_ref());
    fs::create_dir_all(to).map_err(WeightsError::io("create", to))?;
    let config_path = from.join(CONFIG_FILE);
    let config = fs::read_to_string(&config_path).map_err(WeightsError::io("read", &config_path))?;
    let config =
        with_dtype(&config, dtype).map_err(|reason| WeightsError::Config { path: config_path.clone(), reason })?;
    write_atomically(to.join(CONFIG_FILE), |file| io::Write::write_all(file, config.as_bytes()))?;

    let mut copied = vec![CONFIG_FILE.to_owned()];
    for entry in fs::read_dir(from).map_err(WeightsError::io("list", from))? {
        let entry = entry.map_err(WeightsError::io("list", from))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_companion(&name) && entry.path().is_file() {
            copy(&entry.path(), &to.join(&name))?;
            copied.push(name);
        }
    }
    copied.sort();
    Ok(copied)
}

fn is_companion(name: &str) -> bool {
    let fits = NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    fits && !WEIGHTS.iter().any(|ending| name.ends_with(ending))
}

/// Copies the content alone: the permissions of a downloaded file (often read-only) are not the new one's.
fn copy(from: &Path, to: &Path) -> Result<(), WeightsError> {
    let mut source = File::open(from).map_err(WeightsError::io("open", from))?;
    write_atomically(to, |file| io::copy(&mut source, file).map(|_| ()))
}

/// The text of a configuration with every declared format set to `dtype`; an error says what is wrong with the text.
///
/// Only these values change, in the text itself: reading and writing the whole as JSON could alter the last digit of a
/// number.
fn with_dtype(config: &str, dtype: Dtype) -> Result<String, String> {
    let before: Value = serde_json::from_str(config).map_err(|error| format!("not readable as JSON: {error}"))?;
    if !before.is_object() {
        return Err("expected a JSON object".to_owned());
    }
    let mut text = config.to_owned();
    for key in DTYPE_KEYS {
        text = replace_values(&text, key, dtype.config_name());
    }
    Ok(text)
}

/// Replaces the string values of `key`, at any depth, that name a format.
fn replace_values(text: &str, key: &str, new: &str) -> String {
    let quoted = format!("\"{key}\"");
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find(&quoted) {
        let (before, after) = rest.split_at(place + quoted.len());
        out.push_str(before);
        rest = after;
        if let Some((gap, old)) = string_value(after)
            && old.parse::<Dtype>().is_ok()
        {
            out.push_str(&after[..gap]);
            out.push_str(new);
            rest = &after[gap + old.len()..];
        }
    }
    out + rest
}

/// After a key: the string that is its value, and where its text starts. A quoted text that is no key has no colon.
fn string_value(after_key: &str) -> Option<(usize, &str)> {
    let value = after_key.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let value_text = value.split('"').next()?;
    Some((after_key.len() - value.len(), value_text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_everything_but_weights() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir(&from).expect("creates");
        let companions = [
            "added_tokens.json",
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "merges.txt",
            "preprocessor_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
        ];
        let others = [
            "model.safetensors",
            "model.safetensors.index.json",
            "tokenizer.safetensors",
            "pytorch_model.bin",
            "optimizer.pt",
            "README.md",
        ];
        for name in companions.iter().chain(&others) {
            fs::write(from.join(name), format!("{{\"is\": \"{name}\"}}")).expect("writes");
        }
        let mut read_only = fs::metadata(from.join("vocab.json")).expect("there").permissions();
        read_only.set_readonly(true);
        fs::set_permissions(from.join("vocab.json"), read_only).expect("sets");

        assert_eq!(copy_companions(&from, &to, Dtype::F32).expect("copies"), companions);
        assert_eq!(fs::read_dir(&to).expect("lists").count(), companions.len());
        assert_eq!(fs::read_to_string(to.join("merges.txt")).expect("reads"), "{\"is\": \"merges.txt\"}");
        assert!(!fs::metadata(to.join("vocab.json")).expect("there").permissions().readonly());
        copy_companions(&from, &to, Dtype::F32).expect("copies again");
    }

    #[test]
    fn a_configuration_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let to = folder.path().join("to");
        let refusal = || copy_companions(folder.path(), &to, Dtype::F32).expect_err("refused").to_string();
        assert!(refusal().contains("config.json"));
        fs::write(folder.path().join("config.json"), "{").expect("writes");
        assert!(refusal().contains("config.json: not readable as JSON"));
        fs::write(folder.path().join("config.json"), "[]").expect("writes");
        assert!(refusal().contains("expected a JSON object"));
    }

    #[test]
    fn the_configuration_declares_the_written_format_and_is_otherwise_the_same() {
        let config = r#"{
  "architectures": ["X", "dtype"],
  "torch_dtype" : "bfloat16", "dtype":"float16",
  "text_config": {"dtype": "float32", "rms_norm_eps": 1e-06, "x": 0.12345678901234567890},
  "quantization_config": {"bnb_4bit_compute_dtype": "bfloat16", "dtype": null},
  "note": "the \"dtype\" is: \"bfloat16\"", "other": {"torch_dtype": "auto"}
}"#;
        let expected = config.replace(
            r#""torch_dtype" : "bfloat16", "dtype":"float16""#,
            r#""torch_dtype" : "float32", "dtype":"float32""#,
        );
        assert_eq!(with_dtype(config, Dtype::F32).expect("an object"), expected);
        let bf16 = with_dtype(config, Dtype::BF16).expect("an object");
        assert!(bf16.contains(r#""text_config": {"dtype": "bfloat16", "rms_norm_eps": 1e-06"#), "{bf16}");
        assert_eq!(with_dtype("{}\n", Dtype::F16).expect("an object"), "{}\n");
    }
}
