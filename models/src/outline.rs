//! What a model is made of, in numbers, before any weight is read: for planning memory and time.

use crate::common::Spec;
use burn::tensor::DType;

/// Sizes and parameters of a model.
#[derive(Clone, Debug)]
pub struct Outline {
    pub text: TextSizes,
    pub vision: VisionSizes,
    /// All parameters, in the policy's order.
    pub parameters: Vec<ParameterSizes>,
    /// The type that most weights are stored in, where it is one of floating-point numbers.
    pub stored: Option<DType>,
}

/// The decoder's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSizes {
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    /// Widths of all queries together, and of all keys (which is that of all values).
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub vocabulary: usize,
    /// Whether the output head is the embedding.
    pub tied: bool,
}

/// The vision tower's sizes; pictures are measured in patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisionSizes {
    pub hidden: usize,
    pub intermediate: usize,
    pub depth: usize,
    pub heads: usize,
    /// Blocks that see the whole picture; the others see a window.
    pub full_blocks: usize,
    /// Side of a window, in patches.
    pub window: usize,
    /// Values of one patch, of all its frames.
    pub patch_width: usize,
    /// Frames of a patch; a still picture's are the same, and one of them is computed.
    pub frames: usize,
    /// Patches that become one token.
    pub merged: usize,
}

/// One parameter: tensors of the checkpoint that are held as one matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSizes {
    /// Names of its tensors.
    pub names: Vec<String>,
    /// Numbers in it.
    pub len: usize,
    /// Numbers in a row of the matrix: the inputs of a map.
    pub columns: usize,
    /// Whether it may be held in the 16-bit type of activations when it does not learn.
    pub rounds: bool,
    /// Whether it belongs to the vision tower.
    pub vision: bool,
    /// Whether a decoding step reads all of it.
    pub decodes: bool,
}

impl ParameterSizes {
    pub(crate) fn of(spec: &Spec) -> Self {
        let names = spec.tensors.iter().map(|(name, _)| name.clone()).collect();
        Self { names, len: spec.len(), columns: spec.dims()[1], rounds: spec.rounds, vision: false, decodes: true }
    }
}

impl Outline {
    /// The parameters of adapters of this rank on the maps that are targets (by name, without `.weight`), which come behind the others.
    pub fn adapters(&self, rank: usize, targets: impl Fn(&str) -> bool) -> Vec<ParameterSizes> {
        let adapter = |parameter: &ParameterSizes| {
            let is_target = |name: &&String| name.strip_suffix(".weight").is_some_and(&targets);
            let names: Vec<String> = parameter.names.iter().filter(is_target).cloned().collect();
            let outputs = parameter.len / parameter.columns;
            let share = names.len() as f64 / parameter.names.len() as f64;
            // A of each map, and B of the rows that belong to them
            let len = rank * (names.len() * parameter.columns + (outputs as f64 * share) as usize);
            (!names.is_empty() && parameter.rounds && outputs > 1).then(|| ParameterSizes {
                names,
                len,
                columns: rank,
                rounds: false,
                ..parameter.clone()
            })
        };
        self.parameters.iter().filter_map(adapter).collect()
    }

    /// Numbers in all parameters.
    pub fn num_parameters(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.len).sum()
    }
}
