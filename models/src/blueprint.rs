//! Checkpoints with random weights, written part by part: the model itself is never in memory.

use crate::ModelError;
use crate::common::{Spec, random_values};
use percept_weights::{CheckpointWriter, Dtype, write_atomically};
use serde_json::Value;
use std::io::Write;
use std::path::Path;

/// Values that are in memory at a time.
const PART: usize = 1 << 20;

/// Ids of a tokenizer's special tokens, as config.json names them.
#[derive(Clone, Copy, Debug)]
pub struct TokenIds {
    /// Pads rows, and ends a text.
    pub endoftext: u32,
    /// Ends a turn.
    pub im_end: u32,
    pub vision_start: u32,
    pub vision_end: u32,
    pub vision_pad: u32,
    pub image_pad: u32,
    pub video_pad: u32,
}

/// A checkpoint that is yet to be written: its configuration, and the tensors that its architecture has.
pub struct Blueprint {
    /// The format that this size is usually stored in.
    pub dtype: Dtype,
    /// Rows of the embedding and of the output head; the tokenizer may have fewer tokens.
    pub vocabulary: usize,
    /// Of the random matrices.
    pub(crate) deviation: f64,
    /// config.json
    pub(crate) config: Value,
    /// preprocessor_config.json
    pub(crate) preprocessor: Value,
    pub(crate) specs: Vec<Spec>,
}

impl Blueprint {
    /// Numbers in all tensors; a head that is the embedding is counted once.
    pub fn num_parameters(&self) -> usize {
        self.specs.iter().map(Spec::len).sum()
    }

    /// Writes config.json, preprocessor_config.json and the weights into `folder`: those that `initialize` draws from the same seed.
    /// `progress` is told the numbers written so far.
    ///
    /// # Errors
    /// When the folder already holds weights, or the disk refuses.
    pub fn write(
        &self,
        folder: &Path,
        seed: u64,
        dtype: Dtype,
        max_shard_bytes: u64,
        progress: &dyn Fn(usize),
    ) -> Result<(), ModelError> {
        let tensors: Vec<_> = self.specs.iter().flat_map(|spec| spec.tensors.iter().cloned()).collect();
        let mut writer = CheckpointWriter::create(folder, dtype, &tensors, max_shard_bytes)?;
        let mut config = self.config.clone();
        config["torch_dtype"] = dtype.config_name().into();
        for (name, value) in [("config.json", &config), ("preprocessor_config.json", &self.preprocessor)] {
            write_atomically(folder.join(name), |file| writeln!(file, "{value:#}"))?;
        }
        let mut written = 0;
        for (number, spec) in (1..).zip(&self.specs) {
            for piece in spec.pieces() {
                let parts = piece.range.clone().step_by(PART).map(|from| {
                    progress(written + from);
                    random_values(spec, seed, number, self.deviation, from..piece.range.end.min(from + PART))
                });
                writer.add_parts(&piece.name, parts)?;
            }
            written += spec.len();
        }
        progress(written);
        writer.finish()?;
        Ok(())
    }
}
