//! `[model]`: which weights are trained, against which reference, and how they are saved.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Folder of the Hugging Face checkpoint to start from. Required.
    pub checkpoint: PathBuf,
    /// Folder of the frozen reference policy, read only when an objective needs one. Default: `checkpoint`.
    pub reference: PathBuf,
    /// Whether the reference is read from its files again for each scoring, and holds no memory in between. Default: false.
    #[serde(default)]
    pub offload_reference: bool,
    /// Name patterns of parameters that are not trained; `*` stands for any run of characters, as in `visual.*` or
    /// `model.embed_tokens.*`. Default: none, as in the paper.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Type of the numbers in saved checkpoints. Default: `f32`.
    #[serde(default)]
    pub save_dtype: SaveDtype,
    /// MiB of pictures' features that are kept on the device while a step lasts, so that sampling, update and the reference of adapters
    /// compute them once; only where the vision tower does not learn. 0 keeps none. Default: 1024.
    #[serde(default = "kept_features_mib")]
    pub kept_features_mib: usize,
    /// `[model.lora]`: low-rank adapters learn in place of the weights. Default: absent, all weights learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
}

fn kept_features_mib() -> usize {
    1024
}

/// `[model.lora]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of each adapter. Default: 16.
    pub rank: usize,
    /// The adapter's product is scaled by `alpha / rank`. Default: 32.
    pub alpha: f64,
    /// Share of the numbers that an adapter does not see while it learns. Default: 0.
    pub dropout: f64,
    /// Name patterns of the linear maps that get an adapter, without `.weight`. Default: `["model.layers.*"]`, all of the text decoder's;
    /// `visual.*` adds the vision tower's.
    pub targets: Vec<String>,
    /// What checkpoints hold: `merged`, a whole model with the adapters in its weights, or `adapter`, a folder in PEFT's layout that names
    /// its base. Default: `merged`.
    pub save: SaveLora,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, dropout: 0.0, targets: vec!["model.layers.*".to_owned()], save: SaveLora::Merged }
    }
}

impl LoraConfig {
    /// Whether the map of this name gets an adapter.
    pub fn adapts(&self, map: &str) -> bool {
        self.targets.iter().any(|pattern| matches(pattern, map))
    }
}

/// What a checkpoint of a run with adapters holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveLora {
    #[default]
    Merged,
    Adapter,
}

impl ModelConfig {
    /// Whether a parameter of this name is frozen.
    pub fn freezes(&self, parameter: &str) -> bool {
        self.freeze.iter().any(|pattern| matches(pattern, parameter))
    }
}

/// Type of the numbers in a saved checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveDtype {
    /// 32 bits: resumes exactly.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
}

/// Whether a name fits a pattern in which `*` stands for any run of characters, also none.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let (middles, tail) = rest.rsplit_once('*').map_or((None, rest), |(middles, tail)| (Some(middles), tail));
    // The first place where a middle part fits leaves the most for what follows.
    for part in middles.into_iter().flat_map(|middles| middles.split('*')) {
        let Some(position) = left.find(part) else { return false };
        left = &left[position + part.len()..];
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        assert!(matches("visual.*", "visual.blocks.0.attn.qkv.weight"));
        assert!(!matches("visual.*", "model.visual.blocks.0.attn.qkv.weight"));
        assert!(matches("*visual.*", "model.visual.blocks.0.attn.qkv.weight"));
        assert!(matches("model.layers.*.bias", "model.layers.3.self_attn.q_proj.bias"));
        assert!(!matches("model.layers.*.bias", "model.layers.3.self_attn.q_proj.weight"));
        assert!(matches("*.norm*.weight", "visual.blocks.1.norm2.weight"));
        assert!(!matches("*.norm*.weight", "visual.blocks.1.norm2"));
        assert!(matches("lm_head.weight", "lm_head.weight"));
        assert!(!matches("lm_head", "lm_head.weight"));
        assert!(matches("*", "anything"));
        assert!(!matches("aba*ba", "aba"));
    }
}
