//! Layers and loading that families share.

mod layers;
mod lora;
mod parameters;
mod pull;

pub(crate) use layers::{Along, Book, Linear, RmsNorm};
pub use lora::Lora;
pub use parameters::{Freeze, Placement};
pub(crate) use parameters::{
    Holding, Make, Parameters, Spec, computed, from_checkpoint, parameters_of, random_parameter, random_values,
    specs_of,
};
pub(crate) use pull::{Sink, learns};

use crate::ModelError;
use std::path::Path;

/// Reads a JSON file.
pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value, ModelError> {
    let text = std::fs::read_to_string(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| ModelError::Json { path: path.to_owned(), source })
}
