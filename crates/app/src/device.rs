//! The only place that names backends.

use anyhow::bail;
use burn::tensor::Device;
use percept_config::{Backend, DeviceConfig};

/// The device of a run, without autodiff.
pub(crate) fn open(config: &DeviceConfig) -> anyhow::Result<Device> {
    if let Some(threads) = config.threads {
        // fails only when a pool is already running, in which case that pool stays
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    match config.backend {
        Backend::Cpu | Backend::Auto => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        Backend::Cuda => Ok(Device::cuda(config.index)),
        #[cfg(feature = "rocm")]
        Backend::Rocm => Ok(Device::rocm(config.index)),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "metal")]
        Backend::Metal => Ok(Device::metal(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "webgpu")]
        Backend::Webgpu => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[allow(unreachable_patterns)] // reachable unless every backend is compiled in
        other => {
            let name = format!("{other:?}").to_lowercase();
            bail!(
                "device.backend = {name:?} is not part of this build: build with `cargo build --release --features {name}`, \
                 or set device.backend = \"cpu\""
            )
        }
    }
}
