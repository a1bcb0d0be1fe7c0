//! Launches: a kernel has run when the call returns.

use super::trace::TRACE;
use super::{Handle, INVALID_VALUE, LAUNCH_FAILED, MEMORY, MODULES, SUCCESS, Status, report, settings_or_default};
use crate::run::{Kernel, Launch};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::time::Instant;

/// Runs a kernel; `parameters` are pointers to its arguments. One after the other, whatever the stream.
unsafe fn launch(
    kernel: &Kernel,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    parameters: *const *const u8,
) -> Status {
    let settings = settings_or_default();
    let values = kernel.parameter_bytes().enumerate();
    let values: Vec<&[u8]> = values.map(|(at, bytes)| std::slice::from_raw_parts(*parameters.add(at), bytes)).collect();
    let arguments = kernel.arguments(&values);
    let mut trace = TRACE.lock().unwrap_or_else(PoisonError::into_inner);
    let allowed = settings.check.then(|| {
        let modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        MEMORY.regions().and(modules.iter().flat_map(|module| module.variables()))
    });
    let shared_bytes = shared_bytes as usize;
    let (threads, fill, allowed) = (settings.threads, settings.fill, allowed.as_ref());
    let launch = Launch { grid, block, shared_bytes, arguments, threads, fill, allowed };
    let start = Instant::now();
    let ran = catch_unwind(AssertUnwindSafe(|| kernel.launch(&launch)));
    let seconds = start.elapsed().as_secs_f64();
    let (mut traffic, mut status) = (0, SUCCESS);
    match ran {
        Ok(Ok(bytes)) => traffic = bytes,
        Ok(Err(failure)) => {
            report(&failure);
            status = LAUNCH_FAILED;
        }
        Err(_) => {
            report(&format_args!("kernel {} failed", kernel.name()));
            status = LAUNCH_FAILED;
        }
    }
    trace.add(&settings, kernel, &launch, &values, [seconds, traffic as f64]);
    status
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "they are the driver's")]
pub unsafe extern "C" fn cuLaunchKernel(
    function: Handle,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    _stream: Handle,
    parameters: *const *const u8,
    extra: Handle,
) -> Status {
    if !extra.is_null() {
        report(&"arguments in one buffer are not known");
        return INVALID_VALUE;
    }
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    launch(&*(function as *const Kernel), grid, block, shared_bytes, parameters)
}

/// `CUlaunchConfig`
#[repr(C)]
pub struct Configuration {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: Handle,
    attributes: Handle,
    num_attributes: u32,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernelEx(
    configuration: *const Configuration,
    function: Handle,
    parameters: *const *const u8,
    extra: Handle,
) -> Status {
    let Configuration { grid: [a, b, c], block: [x, y, z], shared_bytes, stream, .. } = *configuration;
    cuLaunchKernel(function, a, b, c, x, y, z, shared_bytes, stream, parameters, extra)
}
