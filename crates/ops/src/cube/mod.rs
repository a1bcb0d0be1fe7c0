//! Kernels of our own for accelerators, in CubeCL: one source for CUDA, ROCm, Metal, Vulkan and WebGPU.
//!
//! What they save in decoding is launches, of which one takes longer than a layer's share of reading the weights: composed, a layer's
//! attention took some thirty and its rotation nine, and keys were copied in float32 for each step. In training they save passes over
//! memory: the gradient of a part of a row is composed of zeros, a copy and a sum, each as large as the whole, and an attention's scores were
//! masked, put together, normalized and taken apart again.

mod attention;
mod cache;
mod decode;
mod gate;
mod kernels;
mod rotate;
mod softmax;
mod take;

pub(crate) use attention::{attend, gradient};
pub(crate) use cache::Cache;
pub(crate) use decode::Sizes;
pub(crate) use gate::swiglu;
pub(crate) use rotate::rotate;
pub(crate) use take::take;

use burn::backend::DispatchDevice;
use burn::tensor::{Device, Shape};
use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
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

/// Numbers of a vector for rows of this width.
fn across(width: usize) -> usize {
    if width.is_multiple_of(kernels::LANES) { kernels::LANES } else { 1 }
}

/// A tensor of this shape beside another, of its type.
fn empty(beside: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(beside.client.clone(), beside.device.clone(), shape, beside.dtype)
}

fn element(tensor: &CubeTensor) -> ElemType {
    burn::backend::cubecl::dtype_to_elem_type(tensor.dtype)
}
