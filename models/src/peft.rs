//! Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`, which PEFT and vLLM load.
//!
//! PEFT names a tensor `base_model.model.` and the module's path. Since transformers 4.52 the modules of Qwen2.5-VL are
//! `model.language_model.layers...` and `model.visual...`, while checkpoints keep the older names `model.layers...` and `visual...`.

use crate::common::{Lora, Placement, read_json};
use crate::{ModelError, family};
use burn::tensor::{Tensor, TensorData};
use percept_core::{Parameter, Policy};
use percept_weights::{
    Checkpoint, Dtype, NamingScheme, StateKind, StateTensor, StateWriter, copy_companions, write_atomically,
};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// More than maps have inputs.
const MAX_RANK: u64 = 1 << 14;

/// The tensor's name in PEFT's file.
fn peft_name(name: &str) -> String {
    let module = match name.strip_prefix("model.layers.") {
        Some(rest) => format!("model.language_model.layers.{rest}"),
        None => format!("model.{name}"),
    };
    format!("base_model.model.{module}")
}

/// The name in the checkpoint of a module's path.
fn own_name(module: &str) -> Option<String> {
    let module = module.strip_prefix("base_model.model.").unwrap_or(module);
    match module.strip_prefix("model.language_model.") {
        Some(rest) => Some(format!("model.{rest}")),
        None => module.strip_prefix("model.visual.").map(|rest| format!("visual.{rest}")),
    }
}

/// Whether a folder holds an adapter.
pub(crate) fn is_adapter(folder: &Path) -> bool {
    folder.join(CONFIG).is_file()
}

/// Writes the adapters of a policy into `folder`, and beside them the configuration, tokenizer and templates of `base`, the checkpoint that
/// they were added to, so that the folder can be named wherever a checkpoint can. `alpha` and `dropout` are what the adapters were made with.
///
/// # Errors
/// When the disk refuses.
pub fn save_adapter(
    policy: &dyn Policy,
    base: &Path,
    folder: &Path,
    alpha: f64,
    dropout: f64,
) -> Result<(), ModelError> {
    let adapters: Vec<&Parameter> = policy.parameters().into_iter().filter(|p| p.is_adapter()).collect();
    let pieces = || adapters.iter().flat_map(|parameter| &parameter.pieces);
    let modules: Vec<String> = pieces()
        .filter_map(|piece| piece.name.strip_suffix(".lora_A.weight"))
        .map(|name| peft_name(name)["base_model.model.".len()..].to_owned())
        .collect();
    let rank = pieces().find(|piece| piece.name.ends_with(".lora_A.weight")).map_or(0, |piece| piece.shape[0]);
    let specs: Vec<StateTensor> =
        pieces().map(|piece| StateTensor::new(peft_name(&piece.name), StateKind::F32, piece.shape.clone())).collect();
    copy_companions(base, folder, Dtype::F32)?;
    let mut writer = StateWriter::create(folder.join(WEIGHTS), &specs, "{}")?;
    for parameter in &adapters {
        let value = parameter.value.clone();
        let value = if value.device().is_autodiff() { value.inner() } else { value };
        let values: Vec<f32> = value.into_data().try_to_vec().expect("adapters are float32");
        for piece in &parameter.pieces {
            writer.add_f32(&peft_name(&piece.name), &values[piece.range.clone()])?;
        }
    }
    writer.finish()?;
    let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.display().to_string(),
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": modules,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "use_rslora": false,
        "modules_to_save": null,
    });
    let text = serde_json::to_string_pretty(&config).expect("plain data");
    write_atomically(folder.join(CONFIG), |file| writeln!(file, "{text}"))?;
    Ok(())
}

/// Loads an adapter's base with the adapter.
pub(crate) fn load(folder: &Path, placement: &Placement) -> Result<Box<dyn Policy>, ModelError> {
    let path = folder.join(CONFIG);
    let config = read_json(&path)?;
    let bad = |key: &str, expected: &str| ModelError::Config {
        path: path.clone(),
        key: key.to_owned(),
        expected: expected.to_owned(),
        found: config.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string),
    };
    let rank = config["r"].as_u64().filter(|rank| (1..=MAX_RANK).contains(rank));
    let rank = rank.ok_or_else(|| bad("r", &format!("a rank from 1 to {MAX_RANK}")))?;
    let alpha = config["lora_alpha"].as_f64().ok_or_else(|| bad("lora_alpha", "a number"))?;
    for key in ["use_rslora", "use_dora", "fan_in_fan_out"] {
        if config[key].as_bool() == Some(true) {
            return Err(bad(key, "false: other kinds of adapters are not known here"));
        }
    }
    for key in ["rank_pattern", "alpha_pattern", "modules_to_save"] {
        let value = &config[key];
        if value.as_object().is_some_and(|pattern| !pattern.is_empty())
            || value.as_array().is_some_and(|list| !list.is_empty())
        {
            return Err(bad(key, "nothing: all maps share one rank and one alpha here, and nothing else is saved"));
        }
    }
    let base = config["base_model_name_or_path"].as_str().ok_or_else(|| bad("base_model_name_or_path", "a folder"))?;
    let base = [PathBuf::from(base), folder.join(base)].into_iter().find(|base| base.join("config.json").is_file());
    let base = base.ok_or_else(|| bad("base_model_name_or_path", "the folder of a checkpoint on this machine"))?;
    let file = Checkpoint::open_file(folder.join(WEIGHTS), NamingScheme::AS_WRITTEN)?;
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    let modules: HashSet<String> =
        names.iter().filter_map(|name| own_name(name.strip_suffix(".lora_A.weight")?)).collect();
    // before so many numbers are asked for
    let ranks = names.iter().filter(|name| name.ends_with(".lora_A.weight")).map(|name| file.tensor(name));
    for found in ranks.collect::<Result<Vec<_>, _>>()? {
        if found.shape.first().is_none_or(|&rows| rows as u64 != rank) {
            return Err(bad("r", &format!("the rank of the tensors, whose first is {:?}", found.shape)));
        }
    }
    let targets = |name: &str| modules.contains(name);
    let lora = Lora { rank: rank as usize, alpha, dropout: 0.0, seed: 0, targets: &targets };
    let mut policy = (family(&base)?.load)(&base, placement, &|_| true, Some(&lora))?;
    let reason = |reason: String| ModelError::Adapter { path: folder.join(WEIGHTS), reason };
    let device = placement.device.clone();
    let mut read = 0;
    for parameter in policy.parameters_mut().into_iter().filter(|parameter| parameter.is_adapter()) {
        let mut values = vec![0.0; parameter.value.dims().iter().product()];
        for piece in &parameter.pieces {
            let found = file.to_f32(&peft_name(&piece.name))?;
            if found.len() != piece.range.len() {
                let name = peft_name(&piece.name);
                return Err(reason(format!("{name}: {} numbers, expected {:?}", found.len(), piece.shape)));
            }
            values[piece.range.clone()].copy_from_slice(&found);
            read += 1;
        }
        let value = Tensor::from_data(TensorData::new(values, parameter.value.dims()), &device);
        parameter.value = if parameter.trainable { value.require_grad() } else { value };
    }
    if read != names.len() {
        return Err(reason(format!("{} tensors, of which {read} belong to maps of this model", names.len())));
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::{own_name, peft_name};

    #[test]
    fn names_go_there_and_back() {
        for (own, peft) in [
            ("model.layers.3.self_attn.q_proj", "base_model.model.model.language_model.layers.3.self_attn.q_proj"),
            ("visual.blocks.0.attn.qkv", "base_model.model.model.visual.blocks.0.attn.qkv"),
        ] {
            assert_eq!(peft_name(own), peft);
            assert_eq!(own_name(peft).as_deref(), Some(own));
        }
    }
}
