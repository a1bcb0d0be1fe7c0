//! Kernels of our own for accelerators, in CubeCL: one source for CUDA, ROCm, Metal, Vulkan and WebGPU.
//!
//! What they save is launches: of a step of decoding, a launch takes longer than a layer's share of reading the weights. Composed, a layer's
//! attention took some thirty and its rotation nine, and keys were copied in float32 for each step.

mod cache;
mod decode;
mod kernels;
mod rotate;

pub(crate) use cache::Cache;
pub(crate) use decode::Sizes;
pub(crate) use rotate::rotate;

use burn::backend::DispatchDevice;
use burn::tensor::Device;
use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

/// The device as the kernels' backend names it, where it is one of that backend's.
fn cube_device(device: &Device) -> Option<CubeDevice> {
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(device) => Some(device.clone()),
        _ => None,
    }
}

/// Whether tensors of this device are computed by kernels of this module.
pub(crate) fn serves(device: &Device) -> bool {
    crate::FUSED.load(std::sync::atomic::Ordering::Relaxed) && cube_device(device).is_some()
}

/// The type in which a kernel counts the numbers of the largest of these tensors.
fn address(tensors: &[&CubeTensor]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}

fn element(tensor: &CubeTensor) -> ElemType {
    burn::backend::cubecl::dtype_to_elem_type(tensor.dtype)
}
