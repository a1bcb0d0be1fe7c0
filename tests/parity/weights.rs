//! Weight folders as transformers and safetensors write them: read, compared, and written again to the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use percept_weights::{
    Checkpoint, CheckpointWriter, DEFAULT_MAX_SHARD_BYTES, Dtype, Expected, NamingScheme, StagedFolder, WeightsError,
    copy_companions,
};
use serde_json::Value;

use super::golden;

const INDEX: &str = "model.safetensors.index.json";
const SHARDED: &str = "-bf16-sharded";

/// Every folder of `models` that holds weights.
fn checkpoints() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in golden::folders("models") {
        let entries =
            fs::read_dir(&folder).expect("the goldens can be listed").map(|entry| entry.expect("an entry").path());
        found.extend(entries.filter(|path| path.join("model.safetensors").is_file() || path.join(INDEX).is_file()));
    }
    found.sort();
    assert!(!found.is_empty(), "no checkpoint among the goldens");
    found
}

fn config(folder: &Path) -> Value {
    let text = fs::read_to_string(folder.join("config.json")).expect("config.json");
    serde_json::from_str(&text).expect("JSON")
}

fn scheme(folder: &Path) -> NamingScheme {
    match config(folder)["model_type"].as_str() {
        Some("qwen2_vl" | "qwen2_5_vl") => NamingScheme::QWEN2_VL,
        _ => NamingScheme::AS_WRITTEN,
    }
}

fn open(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder, scheme(folder)).unwrap_or_else(|error| panic!("{error}"))
}

/// Names and shapes in the order of the shards (by name within one), as the checkpoint was split.
fn layout(checkpoint: &Checkpoint) -> Vec<(String, Vec<usize>)> {
    let mut list: Vec<_> = checkpoint
        .names()
        .map(|name| (name.to_owned(), checkpoint.tensor(name).expect("listed").shape.to_vec()))
        .collect();
    if let Some(places) = weight_map(checkpoint.folder()) {
        list.sort_by_key(|(name, _)| places[name].as_str().expect("a shard's name").to_owned());
    }
    list
}

fn weight_map(folder: &Path) -> Option<serde_json::Map<String, Value>> {
    let text = fs::read_to_string(folder.join(INDEX)).ok()?;
    let index: Value = serde_json::from_str(&text).expect("JSON");
    Some(index["weight_map"].as_object().expect("a map").clone())
}

/// The bytes of the largest shard's tensors: as a limit, it splits the list at the same places.
fn largest_shard(checkpoint: &Checkpoint) -> u64 {
    let Some(places) = weight_map(checkpoint.folder()) else { return DEFAULT_MAX_SHARD_BYTES };
    let mut sizes = std::collections::BTreeMap::<&str, u64>::new();
    for (name, shard) in &places {
        let bytes = checkpoint.tensor(name).expect("listed").bytes.len() as u64;
        *sizes.entry(shard.as_str().expect("a name")).or_default() += bytes;
    }
    sizes.into_values().max().expect("a shard")
}

fn write(source: &Checkpoint, to: &Path, dtype: Dtype, list: &[(String, Vec<usize>)], max_shard_bytes: u64) {
    let mut writer = CheckpointWriter::create(to, dtype, list, max_shard_bytes).expect("creates");
    for (name, _) in list {
        writer.add(name, &source.to_f32(name).expect("reads")).expect("writes");
    }
    writer.finish().expect("finishes");
}

fn assert_same_weights(written: &Path, golden: &Path) {
    let is_weights = |name: &str| name.starts_with("model") && (name.ends_with(".safetensors") || name == INDEX);
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).expect("lists").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> =
            entries.map(|name| name.into_string().expect("utf-8")).filter(|name| is_weights(name)).collect();
        names.sort();
        names
    };
    assert_eq!(names(written), names(golden), "{}", golden.display());
    for name in names(golden) {
        let same = if name == INDEX {
            let index = |folder: &Path| -> Value {
                serde_json::from_slice(&fs::read(folder.join(&name)).expect("reads")).expect("JSON")
            };
            index(written) == index(golden)
        } else {
            fs::read(written.join(&name)).expect("reads") == fs::read(golden.join(&name)).expect("reads")
        };
        assert!(same, "{} differs when written again", golden.join(&name).display());
    }
}

#[test]
fn every_checkpoint_opens_and_fits_its_own_list() {
    for folder in checkpoints() {
        let checkpoint = open(&folder);
        let config = config(&folder);
        let declared = config["torch_dtype"].as_str().or(config["dtype"].as_str()).expect("a declared format");
        let stored = checkpoint.dtype().and_then(Dtype::from_stored).expect("a floating format");
        assert_eq!(stored.config_name(), declared, "{}", folder.display());

        let mut expected = Vec::new();
        for name in checkpoint.names() {
            let shape = checkpoint.tensor(name).expect("listed").shape;
            let values = checkpoint.to_f32(name).expect("reads");
            assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
            assert!(values.iter().all(|value| value.is_finite()), "{name}");
            expected.push(Expected::new(name, shape));
        }
        checkpoint.check(&expected).expect("fits");

        let removed = expected.pop().expect("a tensor");
        expected[0].shape.push(2);
        expected.push(Expected::new("no.such.weight", [1]));
        let Err(WeightsError::Mismatch(mismatch)) = checkpoint.check(&expected) else { panic!("must not fit") };
        assert_eq!(mismatch.unexpected, [(removed.name, removed.shape)]);
        assert_eq!((mismatch.missing.len(), mismatch.misshapen.len()), (1, 1));
    }
}

#[test]
fn a_head_is_there_when_the_configuration_does_not_tie_it() {
    for folder in checkpoints() {
        let checkpoint = open(&folder);
        let tied = config(&folder)["tie_word_embeddings"].as_bool().expect("given");
        assert!(tied || checkpoint.contains("lm_head.weight"), "{}", folder.display());
        let embedding = checkpoint.names().find(|name| name.ends_with("embed_tokens.weight")).expect("an embedding");
        let shape = checkpoint.tensor(embedding).expect("listed").shape;
        let expected: Vec<Expected> = checkpoint
            .names()
            .filter(|name| *name != "lm_head.weight")
            .map(|name| Expected::new(name, checkpoint.tensor(name).expect("listed").shape))
            .chain([Expected::tied("lm_head.weight", shape, embedding)])
            .collect();
        // An untied head has numbers of its own, so that tying it is an error.
        assert_eq!(checkpoint.check(&expected).is_ok(), tied, "{}", folder.display());
    }
}

#[test]
fn what_is_written_has_the_reference_writers_bytes() {
    for folder in checkpoints() {
        let checkpoint = open(&folder);
        let dtype = checkpoint.dtype().and_then(Dtype::from_stored).expect("a floating format");
        let to = tempfile::tempdir().expect("a temporary folder");
        write(&checkpoint, to.path(), dtype, &layout(&checkpoint), largest_shard(&checkpoint));
        assert_same_weights(to.path(), &folder);
    }
}

#[test]
fn bf16_shards_are_the_f32_weights_rounded() {
    let mut cases = 0;
    for sharded in checkpoints() {
        let name = sharded.file_name().and_then(|name| name.to_str()).expect("utf-8");
        let Some(name) = name.strip_suffix(SHARDED) else { continue };
        let (rounded, exact) = (open(&sharded), open(&sharded.with_file_name(name)));
        assert!(rounded.names().eq(exact.names()));
        let to = tempfile::tempdir().expect("a temporary folder");
        write(&exact, to.path(), Dtype::BF16, &layout(&rounded), largest_shard(&rounded));
        assert_same_weights(to.path(), &sharded);
        for name in rounded.names() {
            let pairs = rounded.to_f32(name).expect("reads").into_iter().zip(exact.to_f32(name).expect("reads"));
            for (rounded, exact) in pairs {
                assert_eq!(rounded.to_bits() & 0xffff, 0, "{name}: {rounded} is no bf16");
                // bf16 keeps 8 bits of the mantissa: nearest is within half of the last, relative to the number.
                assert!((rounded - exact).abs() <= exact.abs() * 2f32.powi(-8), "{name}: {exact} became {rounded}");
            }
        }
        cases += 1;
    }
    assert!(cases > 0, "no checkpoint among the goldens is called *{SHARDED}");
}

#[test]
fn names_as_in_memory_mean_the_same_tensors() {
    let mut cases = 0;
    for folder in checkpoints().into_iter().filter(|folder| !scheme(folder).renames.is_empty()) {
        let checkpoint = open(&folder);
        let dtype = checkpoint.dtype().and_then(Dtype::from_stored).expect("a floating format");
        let in_memory = |name: &str| match (name.strip_prefix("visual."), name.strip_prefix("model.")) {
            (Some(rest), _) => format!("model.visual.{rest}"),
            (_, Some(rest)) => format!("model.language_model.{rest}"),
            _ => name.to_owned(),
        };
        let renamed: Vec<_> = layout(&checkpoint).into_iter().map(|(name, shape)| (in_memory(&name), shape)).collect();
        let to = tempfile::tempdir().expect("a temporary folder");
        let mut writer =
            CheckpointWriter::create(to.path(), dtype, &renamed, largest_shard(&checkpoint)).expect("creates");
        for name in checkpoint.names() {
            writer.add(&in_memory(name), &checkpoint.to_f32(name).expect("reads")).expect("writes");
        }
        writer.finish().expect("finishes");

        let again = Checkpoint::open(to.path(), NamingScheme::QWEN2_VL).expect("opens");
        assert!(again.names().eq(checkpoint.names()), "{}", folder.display());
        for name in checkpoint.names() {
            let (one, other) = (again.tensor(name).expect("there"), checkpoint.tensor(name).expect("there"));
            assert_eq!((one.shape, one.dtype), (other.shape, other.dtype), "{name}");
            assert!(one.bytes == other.bytes, "{name}");
        }
        cases += 1;
    }
    assert!(cases > 0, "no Qwen2-VL or Qwen2.5-VL checkpoint among the goldens");
}

#[test]
fn a_new_folder_is_whole_and_declares_its_format() {
    for folder in checkpoints() {
        let checkpoint = open(&folder);
        let place = tempfile::tempdir().expect("a temporary folder");
        let destination = place.path().join("step-000001");
        for dtype in [Dtype::F16, Dtype::F32] {
            let staged = StagedFolder::create(&destination).expect("creates");
            write(&checkpoint, staged.path(), dtype, &layout(&checkpoint), DEFAULT_MAX_SHARD_BYTES);
            let copied = copy_companions(&folder, staged.path(), dtype).expect("copies");
            // The chat template has one of two names.
            let templates = ["chat_template.jinja", "chat_template.json"];
            let templates = templates.into_iter().filter(|name| folder.join(name).is_file()).collect::<Vec<_>>();
            assert!(!templates.is_empty(), "{} has no chat template", folder.display());
            for name in ["config.json", "preprocessor_config.json", "tokenizer.json"].into_iter().chain(templates) {
                assert!(copied.iter().any(|copy| copy == name), "{name} of {}: {copied:?}", folder.display());
            }
            staged.publish().expect("publishes");

            let again = open(&destination);
            assert_eq!(again.dtype(), Some(dtype.stored()));
            let (mut declared, original) = (config(&destination), config(&folder));
            assert_eq!(declared["torch_dtype"], dtype.config_name());
            declared["torch_dtype"] = original["torch_dtype"].clone();
            assert_eq!(declared, original);
        }
        // f32 holds every weight of the source exactly, so the last one written must equal it.
        let again = open(&destination);
        for name in checkpoint.names() {
            assert_eq!(again.to_f32(name).expect("reads"), checkpoint.to_f32(name).expect("reads"), "{name}");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_by_name() {
    for folder in checkpoints() {
        let entries = fs::read_dir(&folder).expect("lists").map(|entry| entry.expect("an entry").path());
        let mut shards: Vec<_> = entries
            .filter(|path| path.extension().is_some_and(|ending| ending == "safetensors"))
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("model")))
            .collect();
        shards.sort();
        let copy = tempfile::tempdir().expect("a temporary folder");
        for file in shards.iter().chain([&folder.join(INDEX)]).filter(|path| path.is_file()) {
            let name = file.file_name().expect("a name");
            fs::write(copy.path().join(name), fs::read(file).expect("reads")).expect("writes");
        }
        for shard in &shards {
            let name = shard.file_name().expect("a name").to_str().expect("utf-8");
            let whole = fs::read(shard).expect("reads");
            for length in [0, 5, 8, 100, whole.len() / 2, whole.len() - 1] {
                fs::write(copy.path().join(name), &whole[..length]).expect("writes");
                let error = Checkpoint::open(copy.path(), scheme(&folder)).err().expect("refused");
                let WeightsError::Truncated { file, found, expected } = &error else { panic!("{error}") };
                assert!(file.ends_with(name), "{error}");
                assert_eq!(*found, length as u64);
                assert!(*expected > *found && *expected <= whole.len() as u64, "{error}");
            }
            fs::write(copy.path().join(name), &whole).expect("writes");
        }
        Checkpoint::open(copy.path(), scheme(&folder)).expect("whole again");
    }
}
