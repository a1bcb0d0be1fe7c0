//! `[device]`: where the tensors live.

use serde::{Deserialize, Serialize};

/// `[device]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// The backend; all but `cpu` need the Cargo feature of the same name. Default: `cpu`.
    pub backend: Backend,
    /// Which of the backend's devices, from 0. Default: 0.
    pub index: usize,
    /// Threads of the CPU backend. Default: one for each processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The processor.
    #[default]
    Cpu,
    /// The best device that was built in and is there.
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
