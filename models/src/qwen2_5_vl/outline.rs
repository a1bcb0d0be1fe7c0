//! See [`crate::Outline`].

use super::config::Config;
use super::policy::Qwen25Vl;
use super::sizes;
use crate::common::{computed, specs_of};
use crate::outline::{Outline, ParameterSizes, TextSizes, VisionSizes};
use crate::{Described, ModelError, TokenIds};
use burn::tensor::{DType, Device};
use percept_weights::{Checkpoint, NamingScheme};

/// See [`crate::outline`].
pub(crate) fn outline(from: Described, device: &Device) -> Result<Outline, ModelError> {
    let (config, stored) = described(from)?;
    of_config(&config, stored, device)
}

/// A model's configuration, and the type that its weights are stored in.
pub(super) fn described(from: Described) -> Result<(Config, Option<DType>), ModelError> {
    let size = match from {
        Described::Folder(folder) => {
            let stored = Checkpoint::open(folder, NamingScheme::QWEN2_VL)?.dtype();
            return Ok((Config::from_folder(folder)?, computed(stored)));
        }
        Described::Size { size, .. } => size,
    };
    // which ids the special tokens have changes no size
    let ids =
        TokenIds { endoftext: 0, im_end: 1, vision_start: 2, vision_end: 3, vision_pad: 4, image_pad: 5, video_pad: 6 };
    let (config, dtype) = sizes::configuration(size, &ids)?;
    Ok((config, computed(Some(dtype.stored()))))
}

pub(super) fn of_config(config: &Config, stored: Option<DType>, device: &Device) -> Result<Outline, ModelError> {
    let specs = specs_of(device, |make| Qwen25Vl::build(config, &device.into(), make))?;
    let parameter = |spec| {
        let mut sizes = ParameterSizes::of(spec);
        let name = sizes.names[0].clone();
        // of an embedding that is no head, a step reads a row for each token
        let only_looked_up = name == "model.embed_tokens.weight" && !config.tie_word_embeddings;
        sizes.vision = name.starts_with("visual.");
        sizes.decodes = !sizes.vision && !only_looked_up;
        sizes
    };
    let vision = &config.vision;
    Ok(Outline {
        text: TextSizes {
            hidden: config.hidden_size,
            intermediate: config.intermediate_size,
            layers: config.num_layers,
            queries: config.heads.heads * config.heads.width,
            keys: config.heads.kv_heads * config.heads.width,
            heads: config.heads.heads,
            vocabulary: config.vocabulary,
            tied: config.tie_word_embeddings,
        },
        vision: VisionSizes {
            hidden: vision.hidden_size,
            intermediate: vision.intermediate_size,
            depth: vision.depth,
            heads: vision.num_heads,
            full_blocks: (0..vision.depth).filter(|block| vision.full_attention_blocks.contains(block)).count(),
            window: vision.window() * vision.spatial_merge_size,
            patch_width: vision.patch_width(),
            frames: vision.temporal_patch_size,
            merged: vision.spatial_merge_size.pow(2),
        },
        parameters: specs.iter().map(parameter).collect(),
        stored,
    })
}
