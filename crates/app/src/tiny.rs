//! A small checkpoint of the Qwen2.5-VL architecture with random weights, for the synthetic task.

use anyhow::Context;
use burn::tensor::Device;
use percept_data::shapes::{Split, TaskConfig, example};
use percept_models::qwen2_5_vl::{Config, initialize};
use percept_weights::Dtype;
use serde_json::json;
use std::path::Path;

/// Rows of the vocabulary: bytes, special tokens and the pairs merged for the task's own words.
const VOCABULARY: usize = 448;
/// Deviation of the random weights.
const DEVIATION: f64 = 0.08;

/// Writes a tokenizer made for the task's texts and about 0.7 million random weights, in Hugging Face layout.
pub(crate) fn write_checkpoint(folder: &Path, task: &TaskConfig, seed: u64) -> anyhow::Result<()> {
    let template = tempfile::tempdir().context("a temporary folder")?;
    let examples: Vec<_> = (0..256).map(|index| example(task, Split::Train, index)).collect();
    let format = percept_text::FormatPrompt::load("math_perception", Path::new("."))?;
    let mut corpus = Vec::new();
    for example in &examples {
        corpus.push(format.render(&example.problem)?);
        corpus.push(example.solution.clone());
    }
    let texts: Vec<&str> = corpus.iter().map(String::as_str).collect();
    let tokens = percept_text::tiny::write_tokenizer(template.path(), &texts, VOCABULARY)?;
    let config = json!({
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "hidden_act": "silu", "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 6, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0,
        "rope_scaling": { "type": "mrope", "mrope_section": [2, 3, 3] },
        "vocab_size": VOCABULARY, "max_position_embeddings": 4096, "tie_word_embeddings": true,
        "use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 4, "torch_dtype": "float32",
        "bos_token_id": tokens.endoftext, "eos_token_id": tokens.im_end,
        "vision_start_token_id": tokens.vision_start, "vision_end_token_id": tokens.vision_end,
        "vision_token_id": tokens.vision_pad, "image_token_id": tokens.image_pad, "video_token_id": tokens.video_pad,
        "vision_config": {
            "model_type": "qwen2_5_vl", "depth": 2, "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 172,
            "num_heads": 4, "in_chans": 3, "out_hidden_size": 96, "patch_size": 14, "spatial_merge_size": 2,
            "spatial_patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1], "tokens_per_second": 2,
            "temporal_patch_size": 2
        }
    });
    let preprocessor = json!({
        "image_processor_type": "Qwen2VLImageProcessor", "min_pixels": 784, "max_pixels": 12_845_056,
        "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73], "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11]
    });
    let write = |name: &str, value: &serde_json::Value| {
        let path = template.path().join(name);
        std::fs::write(&path, serde_json::to_string_pretty(value)? + "\n").with_context(|| path.display().to_string())
    };
    write("config.json", &config)?;
    write("preprocessor_config.json", &preprocessor)?;
    let sizes = Config::from_folder(template.path())?;
    let policy = initialize(&sizes, seed, DEVIATION, &crate_device())?;
    percept_models::save(&policy, template.path(), folder, Dtype::F32)?;
    Ok(())
}

/// Weights are drawn on the host, whatever the run's device.
fn crate_device() -> Device {
    Device::flex()
}
