//! What can be wrong with a checkpoint.

use percept_weights::WeightsError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    #[error(
        "{path}: cannot read it: {source}. A checkpoint is a folder in Hugging Face layout: config.json, *.safetensors, tokenizer.json"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: not valid JSON: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{path}: model_type {found:?} is not a family that can be trained here; known: {known}")]
    UnknownFamily { path: PathBuf, found: String, known: String },
    #[error("there is no family {found:?}; known: {known}")]
    NoSuchFamily { found: String, known: String },
    #[error("{family} has no size {found:?}; there are {known}")]
    NoSuchSize { family: &'static str, found: String, known: String },
    #[error("{path}: key {key}: expected {expected}, found {found}")]
    Config { path: PathBuf, key: String, expected: String, found: String },
    #[error(
        "{}: the parameter that begins with {name} takes {bytes} bytes, and the device's largest buffer holds {limit}; \
         take a smaller model, or another backend",
        folder.display()
    )]
    TooLargeForDevice { folder: PathBuf, name: String, bytes: u64, limit: u64 },
    #[error(
        "{}: model.lora.targets matches no linear map; maps are named like \"model.layers.0.self_attn.q_proj\"",
        folder.display()
    )]
    NoTarget { folder: PathBuf },
    #[error("{}: {reason}", path.display())]
    Adapter { path: PathBuf, reason: String },
    #[error(transparent)]
    Weights(#[from] WeightsError),
}
