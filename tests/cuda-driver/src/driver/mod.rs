//! The functions of `libcuda.so` that cudarc asks for (CUDA Driver API 12.9). Everything that a stream is given is done at once.
#![allow(non_snake_case, reason = "the names are the driver's")]
#![allow(clippy::missing_safety_doc, reason = "the driver's documentation says what each function may be given")]
// So that each function's body is not one more block: all that they do with pointers is what their callers promise.
#![allow(unsafe_op_in_unsafe_fn, reason = "the callers, by the driver's documentation, give pointers that are valid")]

mod device;
mod launch;
mod memory;
mod module;
mod stream;
mod trace;

use crate::memory::Allocations;
use crate::run::Module;
use crate::settings::{Settings, SettingsError};
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, OnceLock};

/// Whether a function did what it was asked to: a `CUresult`.
type Status = c_int;
/// Something of the driver's that a program only passes on.
type Handle = *mut c_void;

const SUCCESS: Status = 0;
const INVALID_VALUE: Status = 1;
const OUT_OF_MEMORY: Status = 2;
const INVALID_PTX: Status = 218;
const NOT_FOUND: Status = 500;
const LAUNCH_FAILED: Status = 719;
const NOT_SUPPORTED: Status = 801;

/// All device memory, and page-locked memory of the host.
static MEMORY: Allocations = Allocations::new();
/// All modules that were loaded.
static MODULES: Mutex<Vec<&'static Module>> = Mutex::new(Vec::new());

/// What the environment says, read once; `cuInit` fails where that cannot be read.
fn settings() -> &'static Result<Settings, SettingsError> {
    static SETTINGS: OnceLock<Result<Settings, SettingsError>> = OnceLock::new();
    SETTINGS.get_or_init(|| Settings::read(|name| std::env::var_os(name)))
}

/// The settings, or the defaults for a program that goes on though `cuInit` failed.
fn settings_or_default() -> Settings {
    settings().as_ref().cloned().unwrap_or_default()
}

/// Says on standard error what cannot be done.
fn report(what: &dyn std::fmt::Display) {
    eprintln!("cuda-driver: {what}");
}

/// Gives a value through a pointer.
unsafe fn put<T>(to: *mut T, value: T) -> Status {
    to.write(value);
    SUCCESS
}

/// Functions that have nothing to do.
macro_rules! nothing_to_do {
    ($($name:ident($($parameter:ty),*));* $(;)?) => { $(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($(_: $parameter),*) -> Status {
            $crate::driver::SUCCESS
        }
    )* };
}
use nothing_to_do;
