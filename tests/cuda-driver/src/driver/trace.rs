//! A line for each launch, in the file that `CUDA_DRIVER_TRACE` names.

use super::{MEMORY, report};
use crate::run::{Kernel, Launch};
use crate::settings::Settings;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::Mutex;

/// Numbers that are shown of each pointer's memory.
const SHOWN: usize = 6;

/// What was launched so far.
#[derive(Debug)]
pub(super) struct Trace {
    launches: usize,
    /// In kernels, altogether.
    seconds: f64,
    file: Option<File>,
}

/// Held while a kernel runs.
pub(super) static TRACE: Mutex<Trace> = Mutex::new(Trace { launches: 0, seconds: 0.0, file: None });

impl Trace {
    /// Adds a launch that is done, which took so many seconds and moved so many bytes; `values` are its arguments.
    pub(super) fn add(
        &mut self,
        settings: &Settings,
        kernel: &Kernel,
        launch: &Launch<'_>,
        values: &[&[u8]],
        [seconds, bytes]: [f64; 2],
    ) {
        let Some(path) = &settings.trace else { return };
        self.launches += 1;
        self.seconds += seconds;
        let Launch { grid, block, .. } = launch;
        let (number, total) = (self.launches, self.seconds);
        let mut line =
            format!("{number} {} {grid:?} {block:?} {seconds:.6} s of {total:.3} s, {bytes} bytes", kernel.name());
        for value in values {
            add_memory(&mut line, value);
        }
        line.push('\n');
        let open = || OpenOptions::new().create(true).append(true).open(path);
        let file = match &mut self.file {
            Some(file) => Ok(file),
            none => open().map(|file| none.insert(file)),
        };
        if let Err(error) = file.and_then(|file| file.write_all(line.as_bytes())) {
            report(&format_args!("CUDA_DRIVER_TRACE: {}: {error}", path.display()));
        }
    }
}

/// Where an argument points into device memory: the address, and the first numbers there as f32.
fn add_memory(line: &mut String, value: &[u8]) {
    let Ok(address) = value.try_into().map(u64::from_le_bytes) else { return };
    let Some(bytes) = MEMORY.bytes_from(address) else { return };
    let numbers = (0..SHOWN.min(bytes / 4)).map(|at| {
        // SAFETY: so many bytes lie in the allocation.
        unsafe { (address as *const f32).add(at).read_unaligned() }
    });
    let numbers: Vec<String> = numbers.map(|number| format!("{number:.4}")).collect();
    write!(line, " {address:x}[{}]", numbers.join(" ")).expect("a string takes everything");
}
