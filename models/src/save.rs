//! Writing a policy as a Hugging Face checkpoint.

use crate::ModelError;
use burn::tensor::DType;
use percept_core::Policy;
use percept_weights::{CheckpointWriter, DEFAULT_MAX_SHARD_BYTES, Dtype, copy_companions};
use std::path::Path;

/// Writes weights into `folder`, and beside them the configuration, tokenizer and templates of `source`, the checkpoint that the
/// policy was loaded from; the folder loads in transformers as it is.
///
/// # Errors
/// When the disk refuses, or a value does not fit `dtype`.
pub fn save(policy: &dyn Policy, source: &Path, folder: &Path, dtype: Dtype) -> Result<(), ModelError> {
    let parameters = policy.parameters();
    let pieces = parameters.iter().flat_map(|parameter| &parameter.pieces);
    let tensors: Vec<(String, Vec<usize>)> = pieces.map(|piece| (piece.name.clone(), piece.shape.clone())).collect();
    let mut writer = CheckpointWriter::create(folder, dtype, &tensors, DEFAULT_MAX_SHARD_BYTES)?;
    for parameter in parameters {
        let value = percept_ops::cast(parameter.value.clone(), DType::F32);
        let values: Vec<f32> = value.into_data().try_to_vec().expect("float32 was asked for");
        for piece in &parameter.pieces {
            writer.add(&piece.name, &values[piece.range.clone()])?;
        }
    }
    writer.finish()?;
    copy_companions(source, folder, dtype)?;
    Ok(())
}
