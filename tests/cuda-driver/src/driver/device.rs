//! One device, and its context.

use super::{
    Handle, INVALID_VALUE, NOT_FOUND, SUCCESS, Status, nothing_to_do, put, report, settings, settings_or_default,
};
use std::ffi::{CStr, c_char, c_int};

const NAME: &CStr = c"PTX interpreter";
const BUS: &CStr = c"0000:01:00.0";
/// Bytes of memory that the device says it has.
const MEMORY: usize = 8 << 30;
/// The one context.
const CONTEXT: Handle = 1 as Handle;

nothing_to_do! {
    cuDevicePrimaryCtxRelease_v2(c_int);
    cuCtxSetCurrent(Handle);
    cuCtxSynchronize();
    cuThreadExchangeStreamCaptureMode(*mut c_int);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuInit(_flags: u32) -> Status {
    match settings() {
        Ok(_) => SUCCESS,
        Err(error) => {
            report(error);
            INVALID_VALUE
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> Status {
    put(version, settings_or_default().version)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> Status {
    put(count, 1)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> Status {
    put(device, ordinal)
}

/// Writes a text and the zero behind it, cut to so many bytes.
unsafe fn put_text(to: *mut c_char, bytes: c_int, text: &CStr) -> Status {
    let length = text.to_bytes().len().min(bytes as usize - 1);
    to.copy_from_nonoverlapping(text.as_ptr(), length);
    put(to.add(length), 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, bytes: c_int, _device: c_int) -> Status {
    put_text(name, bytes, NAME)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetPCIBusId(name: *mut c_char, bytes: c_int, _device: c_int) -> Status {
    put_text(name, bytes, BUS)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid(uuid: *mut u8, _device: c_int) -> Status {
    uuid.write_bytes(1, 16);
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut u8, device: c_int) -> Status {
    cuDeviceGetUuid(uuid, device)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) -> Status {
    put(bytes, MEMORY)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    put(free, MEMORY);
    put(total, MEMORY)
}

/// Numbers of an H200, and 1 for whatever else is asked (most are yes or no). The numbers are those of `CUdevice_attribute`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) -> Status {
    let capability = settings_or_default().capability;
    let found = match attribute {
        // threads of a block, and along its x and y
        1..=3 => 1024,
        // threads along a block's z
        4 => 64,
        // blocks along a grid's x, y, z
        5 => i32::MAX,
        6 | 7 => 65535,
        // bytes of shared memory of a block, without and with asking for more, and of a multiprocessor
        8 => 49152,
        97 => 232_448,
        81 => 233_472,
        // lanes of a warp
        10 => 32,
        // registers of a block
        12 => 65536,
        // kHz, of the processor and of the memory
        13 => 1_980_000,
        36 => 2_619_000,
        // multiprocessors
        16 => 132,
        // bits of the memory's bus
        37 => 5120,
        // bytes of the cache that all share
        38 => 50 << 20,
        // threads of a multiprocessor
        39 => 2048,
        // compute capability
        75 => capability / 10,
        76 => capability % 10,
        _ => 1,
    };
    put(value, found)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceCanAccessPeer(can: *mut c_int, _device: c_int, _peer: c_int) -> Status {
    put(can, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut Handle, _device: c_int) -> Status {
    put(context, CONTEXT)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetCurrent(context: *mut Handle) -> Status {
    put(context, CONTEXT)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetDevice(device: *mut c_int) -> Status {
    put(device, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> Status {
    put(least, 0);
    put(greatest, -5)
}

/// Name and meaning of what functions here return.
fn meaning(status: Status) -> Option<[&'static CStr; 2]> {
    Some(match status {
        SUCCESS => [c"CUDA_SUCCESS", c"no error"],
        INVALID_VALUE => [c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"],
        super::OUT_OF_MEMORY => [c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"],
        super::INVALID_PTX => {
            [c"CUDA_ERROR_INVALID_PTX", c"PTX that the interpreter does not know: see standard error"]
        }
        NOT_FOUND => [c"CUDA_ERROR_NOT_FOUND", c"named symbol not found"],
        super::LAUNCH_FAILED => [c"CUDA_ERROR_LAUNCH_FAILED", c"a kernel failed: see standard error"],
        super::NOT_SUPPORTED => [c"CUDA_ERROR_NOT_SUPPORTED", c"the interpreter does not do this"],
        _ => return None,
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(status: Status, text: *mut *const c_char) -> Status {
    meaning(status).map_or(INVALID_VALUE, |[name, _]| put(text, name.as_ptr()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(status: Status, text: *mut *const c_char) -> Status {
    meaning(status).map_or(INVALID_VALUE, |[_, meaning]| put(text, meaning.as_ptr()))
}
