//! What runs out of memory is done again in smaller portions.
//!
//! Backends tell by panicking that a device's memory is used up, and often only when a result is read. What is repeated therefore reads
//! its results, and changes nothing before it has. On the CPU the system ends a program that takes too much memory: there a run has to
//! fit from the start, which `trainer.micro_tokens = "auto"` sees to.

use crate::TrainError;
use burn::tensor::Device;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Whether a panic's message says that memory was used up: those of cubecl, wgpu, CUDA, HIP and Vulkan.
pub fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_ascii_lowercase().replace(['-', '_'], " ");
    ["out of memory", "out of device memory", "out of host memory", "can't allocate buffer of size"]
        .iter()
        .any(|words| message.contains(words))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<String>() {
        Some(text) => text,
        None => panic.downcast_ref::<&str>().copied().unwrap_or_default(),
    }
}

/// What ran out of memory, in the backend's words; other panics go on.
fn attempt<R>(device: &Device, part: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(part)).map_err(|panic| {
        let text = message(&*panic);
        if !is_out_of_memory(text) {
            resume_unwind(panic);
        }
        // pages of buffers that are gone are kept for the next ones, which have other sizes now
        device.memory_cleanup();
        text.lines().find(|line| is_out_of_memory(line)).unwrap_or(text).trim().to_owned()
    })
}

/// Runs a part with `micro_tokens`, halved each time that memory runs out, until it fits.
///
/// # Errors
/// When micro-batches of `least` tokens, which are not cut any smaller, do not fit either.
pub(crate) fn halving<R>(
    device: &Device,
    micro_tokens: &mut usize,
    least: usize,
    mut part: impl FnMut(usize) -> R,
) -> Result<R, TrainError> {
    loop {
        match attempt(device, || part(*micro_tokens)) {
            Ok(result) => return Ok(result),
            Err(reason) if *micro_tokens <= least => return Err(TrainError::OutOfMemory { reason }),
            Err(reason) => {
                let half = (*micro_tokens / 2).max(least);
                tracing::warn!(
                    "out of memory with micro-batches of {micro_tokens} tokens; again with {half}: {reason}"
                );
                *micro_tokens = half;
            }
        }
    }
}

/// Runs a part again for as long as memory runs out and `shrink` finds something to make smaller.
///
/// # Errors
/// When nothing is left to make smaller.
pub(crate) fn shrinking<S, R>(
    device: &Device,
    state: &mut S,
    mut shrink: impl FnMut(&mut S) -> bool,
    mut part: impl FnMut(&mut S) -> R,
) -> Result<R, TrainError> {
    loop {
        match attempt(device, || part(state)) {
            Ok(result) => return Ok(result),
            Err(reason) if !shrink(state) => return Err(TrainError::OutOfMemory { reason }),
            Err(reason) => tracing::warn!("out of memory in sampling; again with fewer rows at once: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_backends() {
        for text in [
            "out of device memory allocating 4096 bytes",
            "An out-of-memory error happened during launch",
            "can't allocate buffer of size: 9663676416",
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "called `Result::unwrap()` on an `Err` value: ERROR_OUT_OF_DEVICE_MEMORY",
            "wgpu error: Out of Memory",
            "Device(OutOfMemory): Not enough memory left: out of memory",
        ] {
            assert!(is_out_of_memory(text), "{text}");
        }
        for text in ["index out of bounds", "the device was lost", "shapes [2, 3] and [3, 2]"] {
            assert!(!is_out_of_memory(text), "{text}");
        }
    }

    #[test]
    fn portions_shrink_until_they_fit_or_cannot() {
        let device = Device::flex();
        let fits = |limit: usize| {
            move |tokens: usize| {
                assert!(tokens <= limit, "out of device memory allocating {tokens} bytes");
                tokens
            }
        };
        let mut tokens = 1000;
        assert_eq!(halving(&device, &mut tokens, 100, fits(300)).expect("it fits"), 250);
        assert_eq!(tokens, 250);
        let mut tokens = 1000;
        let error = halving(&device, &mut tokens, 400, fits(300)).expect_err("400 are not cut").to_string();
        assert!(error.contains("out of device memory allocating 400 bytes"), "{error}");
        let other = catch_unwind(|| halving(&Device::flex(), &mut 8, 1, |_| -> usize { panic!("a mistake") }));
        assert_eq!(message(&*other.expect_err("another panic goes on")), "a mistake");
    }
}
