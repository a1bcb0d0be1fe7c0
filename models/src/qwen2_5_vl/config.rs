//! config.json of the family, in every layout it is found in: flat (released files) and nested (`text_config`), `rope_scaling`
//! with `rope_theta` or `rope_parameters`, `in_chans` or `in_channels`.

use crate::common::read_json;
use crate::{ModelError, SpecialIds};
use percept_ops::HeadShape;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The decoder's and the vision tower's sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_layers: usize,
    pub heads: HeadShape,
    pub rms_norm_eps: f32,
    pub rope_theta: f32,
    /// Frequencies that turn with the time, height and width position; together half a head.
    pub mrope_section: [usize; 3],
    pub vocabulary: usize,
    pub tie_word_embeddings: bool,
    pub image_token_id: u32,
    pub video_token_id: Option<u32>,
    pub vision: VisionConfig,
}

/// The vision tower's sizes; pictures are measured in patches.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    pub depth: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_heads: usize,
    pub in_channels: usize,
    pub patch_size: usize,
    pub temporal_patch_size: usize,
    pub spatial_merge_size: usize,
    /// Side of an attention window, in pixels.
    pub window_size: usize,
    /// Blocks that see the whole picture instead of a window.
    pub full_attention_blocks: Vec<usize>,
}

impl VisionConfig {
    /// Values of one patch.
    pub fn patch_width(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Side of an attention window, in merged patches.
    pub fn window(&self) -> usize {
        self.window_size / self.spatial_merge_size / self.patch_size
    }

    pub(super) fn heads(&self) -> HeadShape {
        let width = self.hidden_size / self.num_heads;
        HeadShape { heads: self.num_heads, kv_heads: self.num_heads, width }
    }
}

/// Bounds on what a file may claim, far above any model, so that sizes multiply without wrapping and lists of tensors end.
const MAX_SIZE: usize = 1 << 24;
const MAX_LAYERS: usize = 1 << 12;
/// Of a patch: pixels of a side, channels, pictures.
const MAX_SIDE: usize = 1 << 10;

/// A JSON object of the file, for errors that name the key.
struct Section<'a> {
    path: &'a Path,
    name: &'static str,
    value: &'a Value,
}

impl Section<'_> {
    fn error(&self, key: &str, expected: &str, found: impl ToString) -> ModelError {
        ModelError::Config {
            path: PathBuf::from(self.path),
            key: format!("{}{key}", self.name),
            expected: expected.to_owned(),
            found: found.to_string(),
        }
    }

    fn find(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().find_map(|key| self.value.get(key).filter(|value| !value.is_null()))
    }

    /// A number from 1 to `limit`.
    fn count(&self, keys: &[&str], default: Option<usize>, limit: usize) -> Result<usize, ModelError> {
        let expected = || format!("a whole number from 1 to {limit}");
        match (self.find(keys), default) {
            (Some(value), _) => value
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| (1..=limit).contains(count))
                .ok_or_else(|| self.error(keys[0], &expected(), value)),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.error(keys[0], &expected(), "nothing")),
        }
    }

    /// A positive number.
    fn real(&self, keys: &[&str], default: f32) -> Result<f32, ModelError> {
        let Some(value) = self.find(keys) else { return Ok(default) };
        let number = value.as_f64().map(|value| value as f32).filter(|value| value.is_finite() && *value > 0.0);
        number.ok_or_else(|| self.error(keys[0], "a positive number", value))
    }

    fn counts(&self, key: &str) -> Result<Option<Vec<usize>>, ModelError> {
        let Some(value) = self.find(&[key]) else { return Ok(None) };
        let list = value.as_array().and_then(|list| list.iter().map(|v| v.as_u64().map(|v| v as usize)).collect());
        list.map(Some).ok_or_else(|| self.error(key, "a list of numbers", value))
    }
}

impl Config {
    /// Reads `config.json` of a checkpoint.
    ///
    /// # Errors
    /// When it is missing, not JSON, or lacks a size; the message names the key.
    pub fn from_folder(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let root = read_json(&path)?;
        Self::from_json(&path, &root)
    }

    pub(super) fn from_json(path: &Path, root: &Value) -> Result<Self, ModelError> {
        let top = Section { path, name: "", value: root };
        let text = match root.get("text_config") {
            Some(value) => Section { path, name: "text_config.", value },
            None => Section { path, name: "", value: root },
        };
        let none = Value::Null;
        let rope = text.find(&["rope_parameters", "rope_scaling"]).unwrap_or(&none);
        let rope = Section { path, name: "rope_scaling.", value: rope };
        let hidden_size = text.count(&["hidden_size"], None, MAX_SIZE)?;
        let heads = text.count(&["num_attention_heads"], None, MAX_SIDE)?;
        let kv_heads = text.count(&["num_key_value_heads"], Some(heads), MAX_SIDE)?;
        let width = text.count(&["head_dim"], Some(hidden_size / heads), MAX_SIZE)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(text.error("num_key_value_heads", "a divisor of num_attention_heads", kv_heads));
        }
        if width == 0 || !width.is_multiple_of(2) {
            return Err(text.error("hidden_size", &format!("{heads} heads of an even width"), hidden_size));
        }
        let default_theta = text.real(&["rope_theta"], 1_000_000.0)?;
        let section = rope.counts("mrope_section")?.unwrap_or_else(|| vec![16, 24, 24]);
        let mrope_section: [usize; 3] = section
            .clone()
            .try_into()
            .ok()
            .filter(|section: &[usize; 3]| {
                section.iter().fold(0, |sum: usize, &part| sum.saturating_add(part)) == width / 2
            })
            .ok_or_else(|| {
                rope.error(
                    "mrope_section",
                    &format!("three numbers whose sum is {}", width / 2),
                    format!("{section:?}"),
                )
            })?;
        let vocabulary = text.count(&["vocab_size"], None, MAX_SIZE)?;
        let id = |key: &str| {
            let Some(value) = top.find(&[key]).or_else(|| text.find(&[key])) else { return Ok(None) };
            let id = value.as_u64().filter(|&id| id < vocabulary as u64).and_then(|id| u32::try_from(id).ok());
            id.map(Some).ok_or_else(|| top.error(key, &format!("a token id below vocab_size {vocabulary}"), value))
        };
        let image_token_id =
            id("image_token_id")?.ok_or_else(|| top.error("image_token_id", "a token id", "nothing"))?;
        let tied = top.find(&["tie_word_embeddings"]).or_else(|| text.find(&["tie_word_embeddings"]));
        Ok(Self {
            hidden_size,
            intermediate_size: text.count(&["intermediate_size"], None, MAX_SIZE)?,
            num_layers: text.count(&["num_hidden_layers"], None, MAX_LAYERS)?,
            heads: HeadShape { heads, kv_heads, width },
            rms_norm_eps: text.real(&["rms_norm_eps"], 1e-5)?,
            rope_theta: rope.real(&["rope_theta"], default_theta)?,
            mrope_section,
            vocabulary,
            tie_word_embeddings: tied.and_then(Value::as_bool).unwrap_or(false),
            image_token_id,
            video_token_id: id("video_token_id")?,
            vision: Self::vision(path, root, hidden_size)?,
        })
    }

    fn vision(path: &Path, root: &Value, text_width: usize) -> Result<VisionConfig, ModelError> {
        let Some(value) = root.get("vision_config") else {
            let top = Section { path, name: "", value: root };
            return Err(top.error("vision_config", "the vision tower's sizes", "nothing"));
        };
        let vision = Section { path, name: "vision_config.", value };
        let output = vision.count(&["out_hidden_size"], Some(text_width), MAX_SIZE)?;
        if output != text_width {
            return Err(vision.error("out_hidden_size", &format!("the decoder's hidden_size {text_width}"), output));
        }
        let config = VisionConfig {
            depth: vision.count(&["depth"], Some(32), MAX_LAYERS)?,
            hidden_size: vision.count(&["hidden_size"], Some(1280), MAX_SIZE)?,
            intermediate_size: vision.count(&["intermediate_size"], Some(3420), MAX_SIZE)?,
            num_heads: vision.count(&["num_heads"], Some(16), MAX_SIDE)?,
            in_channels: vision.count(&["in_chans", "in_channels"], Some(3), MAX_SIDE)?,
            patch_size: vision.count(&["patch_size"], Some(14), MAX_SIDE)?,
            temporal_patch_size: vision.count(&["temporal_patch_size"], Some(2), MAX_SIDE)?,
            spatial_merge_size: vision.count(&["spatial_merge_size"], Some(2), MAX_SIDE)?,
            window_size: vision.count(&["window_size"], Some(112), MAX_SIZE)?,
            full_attention_blocks: vision.counts("fullatt_block_indexes")?.unwrap_or_else(|| vec![7, 15, 23, 31]),
        };
        if !config.hidden_size.is_multiple_of(4 * config.num_heads) {
            let expected = format!("{} heads of a width divisible by 4", config.num_heads);
            return Err(vision.error("hidden_size", &expected, config.hidden_size));
        }
        if config.window() == 0 {
            return Err(vision.error("window_size", "at least one merged patch", config.window_size));
        }
        Ok(config)
    }

    /// The ids of the picture and video placeholders.
    pub fn special_ids(&self) -> SpecialIds {
        SpecialIds { image: self.image_token_id, video: self.video_token_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_cannot_be_is_named_with_its_key() {
        let vision = json!({"hidden_size": 8, "num_heads": 2, "out_hidden_size": 8});
        let whole = json!({
            "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16,
            "rope_scaling": {"mrope_section": [0, 1, 1]}, "image_token_id": 14, "vision_config": vision
        });
        let read = |value: &Value| Config::from_json(Path::new("config.json"), value);
        assert_eq!(read(&whole).expect("a configuration").image_token_id, 14);
        for (key, value, words) in [
            ("num_hidden_layers", json!(1u64 << 60), "num_hidden_layers: expected a whole number from 1 to 4096"),
            ("hidden_size", json!(1), "hidden_size: expected 2 heads of an even width, found 1"),
            ("image_token_id", json!(16), "image_token_id: expected a token id below vocab_size 16, found 16"),
            ("image_token_id", json!((1u64 << 32) + 14), "image_token_id: expected a token id below vocab_size 16"),
            ("rms_norm_eps", json!(0.0), "rms_norm_eps: expected a positive number, found 0.0"),
        ] {
            let mut other = whole.clone();
            other[key] = value;
            let error = read(&other).expect_err(key).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
