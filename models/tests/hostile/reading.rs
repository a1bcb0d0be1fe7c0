//! What is done with a checkpoint's configuration, whatever it says; the fuzz targets do the same.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::Device;
use percept_core::Policy;
use percept_models::qwen2_5_vl::{Config, initialize};
use percept_models::{Described, Lora, ModelError, Placement, load, load_adapted, outline, save_adapter, special_ids};
use percept_weights::{CheckpointWriter, Dtype};

const CONFIG: &str = "config.json";
const ADAPTER: &str = "adapter_config.json";

/// The smallest model of the family, in the layout of the released files and as transformers writes it now.
pub fn model_configs() -> Vec<Vec<u8>> {
    let vision = r#"{"depth": 1, "hidden_size": 8, "intermediate_size": 12, "num_heads": 2, "in_chans": 3, "out_hidden_size": 8,
        "patch_size": 2, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 8, "fullatt_block_indexes": [0]}"#;
    let text = r#""hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "rms_norm_eps": 1e-6, "vocab_size": 16"#;
    [
        format!(
            r#"{{"model_type": "qwen2_5_vl", {text}, "rope_theta": 1000000.0, "rope_scaling": {{"mrope_section": [0, 1, 1]}},
            "tie_word_embeddings": true, "image_token_id": 14, "video_token_id": 15, "vision_config": {vision}}}"#
        ),
        format!(
            r#"{{"model_type": "qwen2_5_vl", "text_config": {{{text}, "head_dim": 4,
            "rope_parameters": {{"rope_theta": 10000.0, "mrope_section": [1, 1, 0]}}}},
            "tie_word_embeddings": true, "image_token_id": 14, "vision_config": {vision}}}"#
        ),
    ]
    .map(String::into_bytes)
    .into()
}

/// The description of an adapter of rank 2 on the base in `.`.
pub fn adapter_configs() -> Vec<Vec<u8>> {
    vec![std::fs::read(whole().1.join(ADAPTER)).expect("an adapter")]
}

/// Folders of a whole checkpoint and of an adapter to it, made once.
fn whole() -> &'static (PathBuf, PathBuf) {
    static WHOLE: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let root = tempfile::tempdir().expect("a folder").keep();
        let (base, adapter) = (root.join("base"), root.join("adapter"));
        for folder in [&base, &adapter] {
            std::fs::create_dir(folder).expect("a folder");
        }
        std::fs::write(base.join(CONFIG), &model_configs()[0]).expect("writes");
        let device = Device::flex();
        let config = Config::from_folder(&base).expect("a configuration");
        let model = initialize(&config, 1, 0.02, &device).expect("a model");
        let parameters = model.parameters();
        let pieces = || parameters.iter().flat_map(|parameter| &parameter.pieces);
        let tensors: Vec<_> = pieces().map(|piece| (piece.name.clone(), piece.shape.clone())).collect();
        let mut writer = CheckpointWriter::create(&base, Dtype::F32, &tensors, 1 << 30).expect("writes");
        for parameter in &parameters {
            let values: Vec<f32> = parameter.value.clone().into_data().try_to_vec().expect("float32");
            for piece in &parameter.pieces {
                writer.add_parts(&piece.name, [values[piece.range.clone()].to_vec()]).expect("writes");
            }
        }
        writer.finish().expect("writes");
        let placement = Placement { kept_features: 1 << 20, ..Placement::from(&device) };
        let targets = |name: &str| name.ends_with("q_proj");
        let lora = Lora { rank: 2, alpha: 4.0, dropout: 0.1, seed: 1, targets: &targets };
        let policy = load_adapted(&base, &placement, &lora).expect("an adapted model");
        save_adapter(&*policy, &base, &adapter, 4.0, 0.1).expect("writes");
        (base, adapter)
    })
}

/// The files of `folder` with one of them replaced.
fn with(folder: &Path, name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for file in std::fs::read_dir(folder).expect("a folder") {
        let file = file.expect("a file");
        if file.file_name() != name {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("copies");
        }
    }
    std::fs::write(copy.path().join(name), bytes).expect("writes");
    copy
}

/// Where a reader fails, the message names what it read.
fn told<T>(result: Result<T, ModelError>, folder: &Path) -> Option<T> {
    let base = whole().0.to_string_lossy();
    let named = |error: ModelError| {
        let words = error.to_string();
        assert!(words.contains(&*folder.to_string_lossy()) || words.contains(&*base), "{words}");
    };
    result.map_err(named).ok()
}

/// Plans for, and loads, a checkpoint with this configuration. Says whether it could be loaded.
pub fn model_config(bytes: &[u8]) -> bool {
    let folder = with(&whole().0, CONFIG, bytes);
    let device = Device::flex();
    told(special_ids(folder.path()), folder.path());
    if let Some(outline) = told(outline(Described::Folder(folder.path()), &device), folder.path()) {
        assert!(outline.num_parameters() > 0);
    }
    told(load(folder.path(), &device, &|_| false), folder.path()).is_some()
}

/// Loads an adapter with this description. Says whether it could be loaded.
pub fn adapter_config(bytes: &[u8]) -> bool {
    let folder = with(&whole().1, ADAPTER, bytes);
    told(load(folder.path(), &Device::flex(), &|_| false), folder.path()).is_some()
}
