//! What is done with files of a checkpoint, whatever they hold; the fuzz targets do the same.

use std::path::Path;

use percept_weights::{
    Checkpoint, CheckpointWriter, Dtype, Expected, NamingScheme, StateFile, StateKind, StateTensor, StateWriter,
    WeightsError, copy_companions,
};

const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const SCHEME: NamingScheme = NamingScheme::QWEN2_VL;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Where a reader fails, the message names what it read.
fn told<T>(result: Result<T, WeightsError>, folder: &Path) -> Option<T> {
    let named = |error: WeightsError| assert!(error.to_string().contains(&*folder.to_string_lossy()), "{error}");
    result.map_err(named).ok()
}

/// Opens a folder of weights, compares it with a model and reads every tensor. Says whether it could be opened.
fn open(folder: &Path) -> bool {
    let Some(checkpoint) = told(Checkpoint::open(folder, SCHEME), folder) else { return false };
    let layers = (0..10).map(|layer| format!("model.layers.{layer}.self_attn.q_proj.weight.of_a_long_name"));
    let names = ["model.norm.weight", "lm_head.weight"].map(str::to_owned).into_iter().chain(layers);
    let expected: Vec<Expected> = names.map(|name| Expected::new(name, [2])).collect();
    told(checkpoint.check(&expected), folder);
    let mut num_parameters = 0;
    for name in checkpoint.names() {
        let view = checkpoint.tensor(name).expect("it is listed");
        num_parameters += view.shape.iter().product::<usize>();
        if let Some(values) = told(checkpoint.to_f32(name), folder) {
            assert_eq!(values.len(), view.shape.iter().product::<usize>());
        }
    }
    assert_eq!(checkpoint.num_parameters(), num_parameters);
    assert_eq!(checkpoint.dtype().is_some(), checkpoint.names().len() > 0);
    true
}

/// Opens a checkpoint of this one file.
pub fn safetensors(bytes: &[u8]) -> bool {
    let folder = folder();
    std::fs::write(folder.path().join(FILE), bytes).expect("writes");
    open(folder.path())
}

/// Opens a checkpoint of two shards with this index.
pub fn index(bytes: &[u8]) -> bool {
    let folder = folder();
    write_checkpoint(folder.path(), 8);
    std::fs::write(folder.path().join(INDEX), bytes).expect("writes");
    open(folder.path())
}

/// Opens a trainer's state and reads every tensor as what it may be.
pub fn state(bytes: &[u8]) -> bool {
    let folder = folder();
    let path = folder.path().join("trainer.safetensors");
    std::fs::write(&path, bytes).expect("writes");
    let Some(state) = told(StateFile::open(&path), folder.path()) else { return false };
    let _ = state.json().len();
    for name in state.names() {
        let count = state.shape(name).expect("it is listed").iter().product::<usize>();
        let counts = [
            told(state.f32(name), folder.path()).map(|values| values.len()),
            told(state.i64(name), folder.path()).map(|values| values.len()),
            told(state.u64(name), folder.path()).map(|values| values.len()),
            told(state.u8(name), folder.path()).map(|values| values.len()),
        ];
        assert!(counts.into_iter().flatten().all(|found| found == count), "{name}: {counts:?}");
    }
    told(state.f32("moment1.nrom"), folder.path());
    true
}

/// Copies a `config.json` beside weights of another format. Says whether it could be.
pub fn config(bytes: &[u8]) -> bool {
    let (from, to) = (folder(), folder());
    std::fs::write(from.path().join("config.json"), bytes).expect("writes");
    told(copy_companions(from.path(), to.path(), Dtype::F32), from.path()).is_some()
}

fn write_checkpoint(folder: &Path, max_shard_bytes: u64) {
    let tensors =
        [("model.norm.weight", vec![2]), ("visual.blocks.0.bias", vec![1, 2]), ("lm_head.weight", vec![2, 1])];
    let tensors = tensors.map(|(name, shape)| (name.to_owned(), shape));
    let mut writer = CheckpointWriter::create(folder, Dtype::BF16, &tensors, max_shard_bytes).expect("creates");
    for (name, _) in &tensors {
        writer.add(name, &[1.0, -2.0]).expect("adds");
    }
    writer.finish().expect("finishes");
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).expect("it was written")
}

/// A file as this crate writes it, and one with every other format that a header may name.
pub fn safetensors_files() -> Vec<Vec<u8>> {
    let folder = folder();
    write_checkpoint(folder.path(), 1 << 20);
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},
        "b":{"dtype":"F16","shape":[2,1],"data_offsets":[8,12]},"c":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[12,15]},
        "d":{"dtype":"BOOL","shape":[],"data_offsets":[15,16]},"e":{"dtype":"F4","shape":[2],"data_offsets":[16,17]},
        "f":{"dtype":"U16","shape":[0,9],"data_offsets":[17,17]}}"#;
    let other = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[7; 17]].concat();
    vec![read(folder.path(), FILE), other]
}

pub fn indexes() -> Vec<Vec<u8>> {
    let folder = folder();
    write_checkpoint(folder.path(), 8);
    vec![read(folder.path(), INDEX)]
}

pub fn states() -> Vec<Vec<u8>> {
    let folder = folder();
    let path = folder.path().join("trainer.safetensors");
    let tensors = [
        StateTensor::new("moment1.norm", StateKind::F32, [2, 1]),
        StateTensor::new("visits", StateKind::I64, [1]),
        StateTensor::new("keys", StateKind::U64, [1]),
        StateTensor::new("codes", StateKind::U8, [3]),
    ];
    let mut writer = StateWriter::create(&path, &tensors, "{\"step\": 7, \"note\": \"\\u00e9\"}").expect("creates");
    writer.add_f32("moment1.norm", &[1.0, f32::NAN]).expect("adds");
    writer.add_i64("visits", &[-1]).expect("adds");
    writer.add_u64("keys", &[u64::MAX]).expect("adds");
    writer.add_u8("codes", &[0, 128, 255]).expect("adds");
    writer.finish().expect("finishes");
    vec![read(folder.path(), "trainer.safetensors")]
}

pub fn configs() -> Vec<Vec<u8>> {
    [
        r#"{"torch_dtype": "bfloat16", "text_config": {"dtype" : "float16", "rope_theta": 1000000.0}, "hidden_size": 2048}"#,
        r#"{"dtype": "auto", "architectures": ["Qwen2_5_VLForConditionalGeneration"], "torch_dtype":null}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
