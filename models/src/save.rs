//! Writing a policy as a Hugging Face checkpoint.

use crate::ModelError;
use burn::tensor::DType;
use percept_core::{Parameter, Policy};
use percept_weights::{CheckpointWriter, DEFAULT_MAX_SHARD_BYTES, Dtype, copy_companions};
use std::path::Path;

/// Writes weights into `folder`, and beside them the configuration, tokenizer and templates of `source`, the checkpoint that the
/// policy was loaded from; the folder loads in transformers as it is. Adapters are merged into the weights.
///
/// # Errors
/// When the disk refuses, or a value does not fit `dtype`.
pub fn save(policy: &dyn Policy, source: &Path, folder: &Path, dtype: Dtype) -> Result<(), ModelError> {
    let all = policy.parameters();
    let parameters: Vec<(usize, &Parameter)> =
        all.into_iter().enumerate().filter(|(_, parameter)| !parameter.is_adapter()).collect();
    let pieces = parameters.iter().flat_map(|(_, parameter)| &parameter.pieces);
    let tensors: Vec<(String, Vec<usize>)> = pieces.map(|piece| (piece.name.clone(), piece.shape.clone())).collect();
    let mut writer = CheckpointWriter::create(folder, dtype, &tensors, DEFAULT_MAX_SHARD_BYTES)?;
    for (number, parameter) in parameters {
        let value = percept_ops::cast(policy.merged(number), DType::F32);
        let values: Vec<f32> = value.into_data().try_to_vec().expect("float32 was asked for");
        for piece in &parameter.pieces {
            writer.add(&piece.name, &values[piece.range.clone()])?;
        }
    }
    writer.finish()?;
    copy_companions(source, folder, dtype)?;
    Ok(())
}
