//! Hugging Face weight folders, in host memory and without tensors: the crates that compute convert from here.
//!
//! * [`Checkpoint`] reads one `model.safetensors`, or shards with an index, under the names a [`NamingScheme`] makes
//!   canonical, and [`Checkpoint::check`] compares them with what a model needs.
//! * [`CheckpointWriter`] writes the same layout as `save_pretrained`, one tensor at a time; [`copy_companions`] adds
//!   the configuration and tokenizer beside it, so that the folder loads in transformers as it is.
//! * [`StateFile`] and [`StateWriter`] keep a trainer's state (moments, counters, a JSON text) bit for bit.
//! * [`write_manifest`] lists a folder's files with their hashes, [`check_manifest`] finds what changed;
//!   [`fingerprint`] tells inputs apart.
//! * [`StagedFolder`], [`replace_folder`] and [`write_atomically`] make what is written appear whole or not at all.

mod checkpoint;
mod companions;
mod convert;
mod dtype;
mod error;
mod expected;
mod index;
mod manifest;
mod mapped;
mod names;
mod publish;
mod state;
mod tensor_file;
mod writer;

pub use checkpoint::{Checkpoint, TensorView};
pub use companions::copy_companions;
pub use dtype::{Dtype, StoredDtype};
pub use error::{Mismatch, WeightsError};
pub use expected::Expected;
pub use manifest::{check_manifest, fingerprint, write_manifest};
pub use names::{NamingScheme, Rename};
pub use publish::{StagedFolder, replace_folder, write_atomically};
pub use state::{StateFile, StateKind, StateTensor, StateWriter};
pub use writer::{CheckpointWriter, DEFAULT_MAX_SHARD_BYTES};
