//! Qwen2.5-VL: a vision tower with windowed and full attention, a merger, and a decoder with three-axis rotary positions.
//!
//! Reference: transformers 5.23.0, `models/qwen2_5_vl/modeling_qwen2_5_vl.py`.

mod activations;
mod config;
mod decoder;
mod excerpt;
mod features;
mod outline;
mod policy;
mod position;
mod recomputed;
mod sizes;
mod text;
mod trace;
mod vision;

pub use config::{Config, VisionConfig};
pub(crate) use excerpt::excerpt;
pub(crate) use outline::outline;
pub use policy::{Qwen25Vl, initialize, load};
pub use position::{positions, window_order};
pub(crate) use sizes::blueprint;
