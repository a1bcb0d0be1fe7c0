//! Allocations and copies. Device memory is the process's: a copy is a copy.

use super::{Handle, INVALID_VALUE, MEMORY, NOT_SUPPORTED, OUT_OF_MEMORY, SUCCESS, Status, put, settings_or_default};
use std::ffi::c_int;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> Status {
    MEMORY.allocate(bytes, settings_or_default().fill).map_or(OUT_OF_MEMORY, |memory| put(address, memory))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFree_v2(address: u64) -> Status {
    if MEMORY.free(address) { SUCCESS } else { INVALID_VALUE }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocAsync(address: *mut u64, bytes: usize, _stream: Handle) -> Status {
    cuMemAlloc_v2(address, bytes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFreeAsync(address: u64, _stream: Handle) -> Status {
    cuMemFree_v2(address)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocHost_v2(address: *mut u64, bytes: usize) -> Status {
    cuMemAlloc_v2(address, bytes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemHostAlloc(address: *mut u64, bytes: usize, _flags: u32) -> Status {
    cuMemAlloc_v2(address, bytes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFreeHost(address: u64) -> Status {
    cuMemFree_v2(address)
}

unsafe fn copy(to: u64, from: u64, bytes: usize) -> Status {
    std::ptr::copy(from as *const u8, to as *mut u8, bytes);
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoD_v2(to: u64, from: u64, bytes: usize) -> Status {
    copy(to, from, bytes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoH_v2(to: u64, from: u64, bytes: usize) -> Status {
    copy(to, from, bytes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: u64, bytes: usize, _stream: Handle) -> Status {
    copy(to, from, bytes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: u64, from: u64, bytes: usize, _stream: Handle) -> Status {
    copy(to, from, bytes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, _stream: Handle) -> Status {
    copy(to, from, bytes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, _stream: Handle) -> Status {
    (to as *mut u8).write_bytes(value, bytes);
    SUCCESS
}

/// `CU_MEMORYTYPE_HOST` and `CU_MEMORYTYPE_ARRAY`.
const HOST: c_int = 1;
const ARRAY: c_int = 3;

/// One side of a copy of rows: where the first row begins, and bytes from one to the next.
#[repr(C)]
pub struct Side {
    x_bytes: usize,
    y: usize,
    kind: c_int,
    host: u64,
    device: u64,
    array: u64,
    pitch: usize,
}

impl Side {
    fn row(&self, row: usize) -> u64 {
        let start = if self.kind == HOST { self.host } else { self.device };
        start + ((self.y + row) * self.pitch + self.x_bytes) as u64
    }
}

/// `CUDA_MEMCPY2D`
#[repr(C)]
pub struct Rows {
    from: Side,
    to: Side,
    row_bytes: usize,
    rows: usize,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpy2D_v2(rows: *const Rows) -> Status {
    let rows = &*rows;
    if rows.from.kind == ARRAY || rows.to.kind == ARRAY {
        return NOT_SUPPORTED;
    }
    for row in 0..rows.rows {
        copy(rows.to.row(row), rows.from.row(row), rows.row_bytes);
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpy2DAsync_v2(rows: *const Rows, _stream: Handle) -> Status {
    cuMemcpy2D_v2(rows)
}
