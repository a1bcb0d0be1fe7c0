//! Vision-language model families: a folder each, and the layers that families share in `common`.
//!
//! Everything above knows a model only as a [`Policy`]. A new family is a folder with the same files and an entry in [`FAMILIES`].

mod blueprint;
mod common;
mod error;
mod outline;
mod peft;
pub mod qwen2_5_vl;
mod save;

pub use blueprint::{Blueprint, TokenIds};
pub use common::{Freeze, Lora, Placement};
pub use error::ModelError;
pub use outline::{Outline, ParameterSizes, TextSizes, VisionSizes};
pub use peft::save_adapter;
pub use save::save;

use burn::tensor::Device;
use percept_core::Policy;
use std::path::Path;

/// Ids that a model's configuration gives a meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialIds {
    pub image: u32,
    pub video: Option<u32>,
}

/// Opens a checkpoint folder on a device.
type Load = fn(&Path, &Placement, &Freeze, Option<&Lora>) -> Result<Box<dyn Policy>, ModelError>;

/// Plans a random checkpoint of a size.
type Plan = fn(&str, &TokenIds, &Device) -> Result<Blueprint, ModelError>;

/// Makes a model of fewer blocks.
type Shorten = fn(Described, usize, &Placement, &Freeze, Option<&Lora>) -> Result<Excerpt, ModelError>;

/// Where a model's sizes are told.
#[derive(Clone, Copy, Debug)]
pub enum Described<'a> {
    /// By the checkpoint in a folder: its configuration and the heads of its files.
    Folder(&'a Path),
    /// By the name of a size, as for [`blueprint`].
    Size { family: &'a str, size: &'a str },
}

impl Described<'_> {
    fn family(self) -> Result<&'static Family, ModelError> {
        match self {
            Self::Folder(folder) => family(folder),
            Self::Size { family, .. } => named(family),
        }
    }
}

/// A model with random weights that has another's widths and fewer of its blocks: for measuring what a device reaches with them.
pub struct Excerpt {
    pub policy: Box<dyn Policy>,
    pub outline: Outline,
    /// The id that stands for a picture's tokens. The other ids below the vocabulary's size are tokens of text.
    pub image: u32,
}

/// A family: how to open a checkpoint of it, and how to make one.
struct Family {
    model_type: &'static str,
    load: Load,
    special_ids: fn(&Path) -> Result<SpecialIds, ModelError>,
    blueprint: Plan,
    outline: fn(Described, &Device) -> Result<Outline, ModelError>,
    excerpt: Shorten,
}

/// The families that are known, by `model_type` of config.json.
const FAMILIES: &[Family] = &[Family {
    model_type: "qwen2_5_vl",
    load: qwen2_5_vl::load,
    special_ids: |folder| Ok(qwen2_5_vl::Config::from_folder(folder)?.special_ids()),
    blueprint: qwen2_5_vl::blueprint,
    outline: qwen2_5_vl::outline,
    excerpt: qwen2_5_vl::excerpt,
}];

/// Loads the checkpoint in `folder` onto a device (a `&Device` stands for float32 there); on an autodiff device its parameters take gradients, but for those that
/// `freeze` names. A folder with an adapter in PEFT's layout stands for its base with the adapter.
///
/// # Errors
/// When the folder is not a checkpoint of a known family, or its files are damaged or do not fit its configuration.
pub fn load(folder: &Path, placement: impl Into<Placement>, freeze: &Freeze) -> Result<Box<dyn Policy>, ModelError> {
    let placement = placement.into();
    if peft::is_adapter(folder) {
        return peft::load(folder, &placement);
    }
    (family(folder)?.load)(folder, &placement, freeze, None)
}

/// Loads the checkpoint in `folder` with new low-rank adapters, which alone take gradients.
///
/// # Errors
/// As [`load`], and when no map of the model is a target.
pub fn load_adapted(folder: &Path, placement: &Placement, lora: &Lora) -> Result<Box<dyn Policy>, ModelError> {
    let policy = (family(folder)?.load)(folder, placement, &|_| true, Some(lora))?;
    let mut names = policy.parameters().into_iter().flat_map(|parameter| &parameter.pieces);
    if names.any(|piece| piece.name.ends_with(".lora_A.weight")) {
        return Ok(policy);
    }
    Err(ModelError::NoTarget { folder: folder.to_owned() })
}

/// The special ids of the checkpoint in `folder`.
///
/// # Errors
/// As [`load`].
pub fn special_ids(folder: &Path) -> Result<SpecialIds, ModelError> {
    (family(folder)?.special_ids)(folder)
}

/// A checkpoint of a family's size with random weights, to be written; `ids` are its tokenizer's. No weights are made: the device only
/// serves for placeholders.
///
/// # Errors
/// When there is no such family or size; the message lists what there is.
pub fn blueprint(family: &str, size: &str, ids: &TokenIds, device: &Device) -> Result<Blueprint, ModelError> {
    (named(family)?.blueprint)(size, ids, device)
}

fn named(family: &str) -> Result<&'static Family, ModelError> {
    let found = FAMILIES.iter().find(|known| known.model_type == family);
    found.ok_or_else(|| ModelError::NoSuchFamily { found: family.to_owned(), known: known_families() })
}

/// Sizes of a model: no weights are read, and the device only serves for placeholders.
///
/// # Errors
/// As [`load`]; and when there is no such family or size, with what there is.
pub fn outline(from: Described, device: &Device) -> Result<Outline, ModelError> {
    (from.family()?.outline)(from, device)
}

/// So many of a decoder's blocks, and the same part of the vision tower's and of the vocabulary, with random weights that are held and
/// learn as [`load`] and [`load_adapted`] would have it. No weights are read.
///
/// # Errors
/// As [`outline`].
pub fn excerpt(
    from: Described,
    layers: usize,
    placement: &Placement,
    freeze: &Freeze,
    lora: Option<&Lora>,
) -> Result<Excerpt, ModelError> {
    (from.family()?.excerpt)(from, layers, placement, freeze, lora)
}

fn known_families() -> String {
    FAMILIES.iter().map(|family| family.model_type).collect::<Vec<_>>().join(", ")
}

fn family(folder: &Path) -> Result<&'static Family, ModelError> {
    let path = folder.join("config.json");
    let config = common::read_json(&path)?;
    let found = config.get("model_type").and_then(|value| value.as_str()).unwrap_or("(none)").to_owned();
    FAMILIES.iter().find(|family| family.model_type == found).ok_or_else(|| ModelError::UnknownFamily {
        path,
        found,
        known: known_families(),
    })
}
