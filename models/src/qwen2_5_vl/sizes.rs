//! The released sizes, and a tiny one for the synthetic task.
//!
//! Values: config.json and preprocessor_config.json of Qwen2.5-VL-3B-, 7B-, 32B- and 72B-Instruct.

use super::config::Config;
use super::policy::Qwen25Vl;
use crate::common::specs_of;
use crate::{Blueprint, ModelError, TokenIds};
use burn::tensor::Device;
use percept_weights::Dtype;
use serde_json::{Value, json};
use std::path::Path;

/// What tells the sizes apart.
#[derive(Clone, Copy, Debug)]
struct Size {
    name: &'static str,
    hidden_size: usize,
    intermediate_size: usize,
    num_layers: usize,
    heads: usize,
    kv_heads: usize,
    mrope_section: [usize; 3],
    vocabulary: usize,
    tied: bool,
    max_positions: usize,
    /// Not in use, as `use_sliding_window` says; the files name them all the same.
    sliding_window: usize,
    max_window_layers: usize,
    vision: Vision,
    /// Whether to name keys that the released files have and that say what transformers takes without them.
    repeats_defaults: bool,
    min_pixels: usize,
    dtype: Dtype,
    /// Of the random matrices.
    deviation: f64,
}

#[derive(Clone, Copy, Debug)]
struct Vision {
    depth: usize,
    hidden_size: usize,
    intermediate_size: usize,
    heads: usize,
    full_attention_blocks: &'static [usize],
}

/// About 0.7 million weights; its vocabulary is that of the tokenizer made for the task's texts.
const TINY: Size = Size {
    name: "tiny",
    hidden_size: 96,
    intermediate_size: 256,
    num_layers: 4,
    heads: 6,
    kv_heads: 2,
    mrope_section: [2, 3, 3],
    vocabulary: 448,
    tied: true,
    max_positions: 4096,
    sliding_window: 4096,
    max_window_layers: 4,
    vision: Vision { depth: 2, hidden_size: 64, intermediate_size: 172, heads: 4, full_attention_blocks: &[1] },
    repeats_defaults: false,
    min_pixels: 784,
    dtype: Dtype::F32,
    deviation: 0.08,
};

const B3: Size = Size {
    name: "3b",
    hidden_size: 2048,
    intermediate_size: 11_008,
    num_layers: 36,
    heads: 16,
    kv_heads: 2,
    mrope_section: [16, 24, 24],
    vocabulary: 151_936,
    tied: true,
    max_positions: 128_000,
    sliding_window: 32_768,
    max_window_layers: 70,
    vision: Vision {
        depth: 32,
        hidden_size: 1280,
        intermediate_size: 3420,
        heads: 16,
        full_attention_blocks: &[7, 15, 23, 31],
    },
    repeats_defaults: true,
    min_pixels: 3136,
    dtype: Dtype::BF16,
    deviation: 0.02,
};

const B7: Size = Size {
    name: "7b",
    hidden_size: 3584,
    intermediate_size: 18_944,
    num_layers: 28,
    heads: 28,
    kv_heads: 4,
    vocabulary: 152_064,
    tied: false,
    max_window_layers: 28,
    ..B3
};

const B32: Size = Size {
    name: "32b",
    hidden_size: 5120,
    intermediate_size: 27_648,
    num_layers: 64,
    heads: 40,
    kv_heads: 8,
    max_window_layers: 64,
    vision: Vision { intermediate_size: 3456, ..B3.vision },
    ..B7
};

const B72: Size = Size {
    name: "72b",
    hidden_size: 8192,
    intermediate_size: 29_568,
    num_layers: 80,
    heads: 64,
    max_window_layers: 80,
    ..B32
};

/// Between tiny and the released ones, for measuring how costs grow.
const M4: Size = Size {
    name: "4m",
    hidden_size: 192,
    intermediate_size: 512,
    num_layers: 6,
    mrope_section: [4, 6, 6],
    vision: Vision { depth: 4, hidden_size: 128, intermediate_size: 344, heads: 4, full_attention_blocks: &[1, 3] },
    ..TINY
};

const M19: Size = Size {
    name: "19m",
    hidden_size: 384,
    intermediate_size: 1024,
    num_layers: 10,
    mrope_section: [8, 12, 12],
    vision: Vision { depth: 6, hidden_size: 192, intermediate_size: 512, heads: 6, full_attention_blocks: &[2, 5] },
    ..TINY
};

const M50: Size = Size {
    name: "50m",
    hidden_size: 576,
    intermediate_size: 1536,
    num_layers: 13,
    heads: 9,
    kv_heads: 3,
    mrope_section: [8, 12, 12],
    vision: Vision { depth: 6, hidden_size: 256, intermediate_size: 688, heads: 8, full_attention_blocks: &[2, 5] },
    ..TINY
};

static SIZES: [Size; 8] = [TINY, M4, M19, M50, B3, B7, B32, B72];

fn named(size: &str) -> Result<&'static Size, ModelError> {
    SIZES.iter().find(|known| known.name == size).ok_or_else(|| ModelError::NoSuchSize {
        family: "qwen2_5_vl",
        found: size.to_owned(),
        known: SIZES.iter().map(|known| known.name).collect::<Vec<_>>().join(", "),
    })
}

/// A size's configuration, and the format it is usually stored in.
pub(super) fn configuration(size: &str, ids: &TokenIds) -> Result<(Config, Dtype), ModelError> {
    let size = named(size)?;
    Ok((Config::from_json(Path::new("config.json"), &size.config(ids))?, size.dtype))
}

/// See [`crate::blueprint`].
pub(crate) fn blueprint(size: &str, ids: &TokenIds, device: &Device) -> Result<Blueprint, ModelError> {
    let size = named(size)?;
    let json = size.config(ids);
    let config = Config::from_json(Path::new("config.json"), &json)?;
    Ok(Blueprint {
        dtype: size.dtype,
        vocabulary: size.vocabulary,
        deviation: size.deviation,
        specs: specs_of(device, |make| Qwen25Vl::build(&config, &device.into(), make))?,
        config: json,
        preprocessor: size.preprocessor(),
    })
}

impl Size {
    /// config.json, in the layout of the released files.
    fn config(&self, ids: &TokenIds) -> Value {
        let mut config = json!({
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],
            "model_type": "qwen2_5_vl",
            "hidden_act": "silu", "hidden_size": self.hidden_size, "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0,
            "rope_scaling": { "type": "mrope", "mrope_section": self.mrope_section },
            "vocab_size": self.vocabulary, "max_position_embeddings": self.max_positions,
            "tie_word_embeddings": self.tied,
            "use_sliding_window": false, "sliding_window": self.sliding_window,
            "max_window_layers": self.max_window_layers, "torch_dtype": self.dtype.config_name(),
            "bos_token_id": ids.endoftext, "eos_token_id": ids.im_end,
            "vision_start_token_id": ids.vision_start, "vision_end_token_id": ids.vision_end,
            "vision_token_id": ids.vision_pad, "image_token_id": ids.image_pad, "video_token_id": ids.video_pad,
            "vision_config": {
                "model_type": "qwen2_5_vl", "depth": self.vision.depth, "hidden_act": "silu",
                "hidden_size": self.vision.hidden_size, "intermediate_size": self.vision.intermediate_size,
                "num_heads": self.vision.heads, "in_chans": 3, "out_hidden_size": self.hidden_size,
                "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "window_size": 112,
                "fullatt_block_indexes": self.vision.full_attention_blocks, "tokens_per_second": 2,
                "temporal_patch_size": 2
            }
        });
        if self.repeats_defaults {
            config["attention_dropout"] = json!(0.0);
            config["initializer_range"] = json!(0.02);
            config["use_cache"] = json!(true);
        }
        config
    }

    /// preprocessor_config.json
    fn preprocessor(&self) -> Value {
        json!({
            "image_processor_type": "Qwen2VLImageProcessor",
            "min_pixels": self.min_pixels, "max_pixels": 12_845_056,
            "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
            "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73],
            "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11]
        })
    }
}

/// Those of the tokenizer of the synthetic task.
#[cfg(test)]
pub(super) const IDS: TokenIds = TokenIds {
    endoftext: 440,
    im_end: 442,
    vision_start: 443,
    vision_end: 444,
    vision_pad: 445,
    image_pad: 446,
    video_pad: 447,
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_size_has_the_released_number_of_parameters_and_tensors() {
        let device = Device::flex();
        for (name, parameters, tensors) in [
            ("3b", 3_754_622_976, 824),
            ("7b", 8_292_166_656, 729),
            ("32b", 33_452_718_336, 1161),
            ("72b", 73_410_777_344, 1353),
        ] {
            let blueprint = blueprint(name, &IDS, &device).expect("a released size");
            assert_eq!(blueprint.num_parameters(), parameters, "{name}");
            let names: HashSet<&str> =
                blueprint.specs.iter().flat_map(|spec| &spec.tensors).map(|(name, _)| name.as_str()).collect();
            assert_eq!(names.len(), tensors, "{name}");
            assert_eq!(names.contains("lm_head.weight"), name != "3b");
        }
    }

    #[test]
    fn configurations_say_what_the_released_files_say() {
        for (name, vocabulary, tied) in [("3b", 151_936, true), ("7b", 152_064, false)] {
            let size = SIZES.iter().find(|size| size.name == name).expect("a size");
            let config = Config::from_json(Path::new("config.json"), &size.config(&IDS)).expect("a configuration");
            assert_eq!((config.vocabulary, config.tie_word_embeddings), (vocabulary, tied));
            assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 1e6));
            assert_eq!((config.heads.width, config.mrope_section), (128, [16, 24, 24]));
            assert_eq!((config.vision.depth, config.vision.window()), (32, 4));
            // those of the tokenizer beside it, not the released one's
            assert_eq!((config.image_token_id, config.video_token_id), (446, Some(447)));
        }
        assert_eq!((B3.heads, B3.kv_heads, B7.heads, B7.kv_heads), (16, 2, 28, 4));
    }

    #[test]
    fn an_unknown_size_is_answered_with_those_there_are() {
        let error = blueprint("5b", &IDS, &Device::flex()).err().expect("unknown").to_string();
        assert_eq!(error, "qwen2_5_vl has no size \"5b\"; there are tiny, 4m, 19m, 50m, 3b, 7b, 32b, 72b");
    }
}
