//! Modules and the kernels in them.

use super::{Handle, INVALID_PTX, MODULES, NOT_FOUND, Status, nothing_to_do, put, report, settings_or_default};
use crate::run::{Kernel, Module};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

nothing_to_do! {
    // kept, as kernels of theirs may be on their way
    cuModuleUnload(Handle);
    cuFuncSetAttribute(Handle, c_int, c_int);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(module: *mut Handle, image: *const c_char) -> Status {
    static LOADED: AtomicUsize = AtomicUsize::new(0);
    let number = LOADED.fetch_add(1, Ordering::Relaxed) + 1;
    let text = CStr::from_ptr(image).to_string_lossy();
    let dump = settings_or_default().dump.and_then(|folder| dump(&folder, number, &text));
    let read = match catch_unwind(|| Module::parse(&text)) {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => {
            let file = dump.unwrap_or_else(|| "set CUDA_DRIVER_DUMP=FOLDER to see it".to_owned());
            report(&format_args!("module {number}: {error} ({file})"));
            return INVALID_PTX;
        }
        // the message is on standard error
        Err(_) => return INVALID_PTX,
    };
    let read: &'static Module = Box::leak(Box::new(read));
    MODULES.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(read);
    put(module, std::ptr::from_ref(read) as Handle)
}

/// Writes the PTX to a file of the process and the module; returns its name.
fn dump(folder: &Path, number: usize, text: &str) -> Option<String> {
    let file = folder.join(format!("{}-{number:05}.ptx", std::process::id()));
    match std::fs::write(&file, text) {
        Ok(()) => Some(file.display().to_string()),
        Err(error) => {
            report(&format_args!("CUDA_DRIVER_DUMP: {}: {error}", file.display()));
            None
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut Handle,
    image: *const c_char,
    _count: u32,
    _options: *mut c_int,
    _values: *mut *mut c_void,
) -> Status {
    cuModuleLoadData(module, image)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) -> Status {
    let kernel = CStr::from_ptr(name).to_str().ok().and_then(|name| (*(module as *const Module)).kernel(name));
    kernel.map_or(NOT_FOUND, |kernel: &Kernel| put(function, std::ptr::from_ref(kernel) as Handle))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuFuncGetAttribute(value: *mut c_int, _attribute: c_int, _function: Handle) -> Status {
    put(value, 0)
}
