//! `[device]`: where the tensors live.

use serde::{Deserialize, Serialize};

/// `[device]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// The backend; all but `cpu` need the Cargo feature of the same name. Default: `auto`.
    pub backend: Backend,
    /// Which of the backend's devices, from 0. Default: 0.
    pub index: usize,
    /// What weights and activations are computed in. Default: `auto`.
    pub dtype: FloatType,
    /// Threads of the CPU backend. Default: one for each processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The processor.
    Cpu,
    /// The best GPU that this build reaches, or the processor.
    #[default]
    Auto,
    /// NVIDIA.
    Cuda,
    /// Any GPU with Vulkan.
    Vulkan,
    /// Any GPU, through WebGPU.
    Webgpu,
    /// Apple.
    Metal,
    /// AMD.
    Rocm,
}

impl Backend {
    /// The name in configurations, and of the Cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Auto => "auto",
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Webgpu => "webgpu",
            Self::Metal => "metal",
            Self::Rocm => "rocm",
        }
    }
}

/// A type of floating-point numbers. Losses, gradients and learning parameters are float32 whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatType {
    /// `bf16` on CUDA, ROCm and Metal where the device computes in it, else `f32`.
    #[default]
    Auto,
    /// All 24 bits of every product, on CUDA through float64.
    F32,
    /// `f32` whose products of matrices are made by tensor cores, which read 11 of the 24 bits.
    Tf32,
    Bf16,
    F16,
}

impl FloatType {
    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}
