//! Streams, which have nothing to wait for, and events, which are points in time.

use super::{Handle, SUCCESS, Status, nothing_to_do, put};
use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

nothing_to_do! {
    cuStreamDestroy_v2(Handle);
    cuStreamSynchronize(Handle);
    cuStreamWaitEvent(Handle, Handle, u32);
    cuStreamQuery(Handle);
    cuEventSynchronize(Handle);
    cuEventQuery(Handle);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreate(stream: *mut Handle, _flags: u32) -> Status {
    /// The handles 0, 1 and 2 mean the default streams.
    static NEXT: AtomicUsize = AtomicUsize::new(16);
    put(stream, NEXT.fetch_add(1, Ordering::Relaxed) as Handle)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreateWithPriority(stream: *mut Handle, flags: u32, _priority: c_int) -> Status {
    cuStreamCreate(stream, flags)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamIsCapturing(_stream: Handle, status: *mut c_int) -> Status {
    put(status, 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventCreate(event: *mut Handle, _flags: u32) -> Status {
    put(event, Box::into_raw(Box::new(Instant::now())) as Handle)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventRecord(event: Handle, _stream: Handle) -> Status {
    put(event as *mut Instant, Instant::now())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventDestroy_v2(event: Handle) -> Status {
    drop(Box::from_raw(event as *mut Instant));
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle) -> Status {
    let elapsed = (*(end as *const Instant)).duration_since(*(start as *const Instant));
    put(milliseconds, elapsed.as_secs_f32() * 1e3)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: Handle, end: Handle) -> Status {
    cuEventElapsedTime(milliseconds, start, end)
}
