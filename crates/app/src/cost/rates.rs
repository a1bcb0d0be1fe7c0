//! What a device reaches: measured in under a second or two, so that times can be told as shares of it.

use anyhow::Context;
use burn::tensor::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;

/// Rates of a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rates {
    /// Operations a second of a large product of matrices, in the type of activations.
    pub(crate) matrix_flops: f64,
    /// The same in float32, which embeddings and the output head are computed in.
    pub(crate) matrix_flops_f32: f64,
    /// Bytes a second that a large copy reads and writes, together.
    pub(crate) copy_bytes: f64,
}

/// Seconds that one measurement should take, at least.
const LONG_ENOUGH: f64 = 0.02;
/// Each is repeated, and the best counts.
const REPEATS: usize = 5;
/// Bytes of the copy: far more than caches hold.
const COPIED: usize = 256 << 20;

impl Rates {
    /// Measures a device (without gradient).
    pub(crate) fn measure(device: &Device, dtype: DType) -> Self {
        let matrix_flops_f32 = matrix(device, DType::F32);
        let matrix_flops = if dtype == DType::F32 { matrix_flops_f32 } else { matrix(device, dtype) };
        Self { matrix_flops, matrix_flops_f32, copy_bytes: copy(device) }
    }

    /// Rates from a file, measured elsewhere.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let place = || {
            format!(
                "{}: expected JSON with the numbers matrix_flops, matrix_flops_f32 and copy_bytes (`percept bench --json` \
                 and `percept plan --json` write them under \"rates\")",
                path.display()
            )
        };
        let value: serde_json::Value = serde_json::from_str(&text).with_context(place)?;
        // the whole report of another command also does
        let value = value.get("rates").cloned().unwrap_or(value);
        let rates: Self = serde_json::from_value(value).with_context(place)?;
        for (key, rate) in [
            ("matrix_flops", rates.matrix_flops),
            ("matrix_flops_f32", rates.matrix_flops_f32),
            ("copy_bytes", rates.copy_bytes),
        ] {
            anyhow::ensure!(
                rate > 0.0 && rate.is_finite(),
                "{}: {key}: expected a rate above 0, found {rate}",
                path.display()
            );
        }
        Ok(rates)
    }
}

/// Waits until a device has done what it was given.
pub(crate) fn finish(device: &Device) {
    if let Err(error) = device.sync() {
        panic!("the device failed: {error:?}");
    }
}

fn best(device: &Device, mut part: impl FnMut()) -> f64 {
    let mut seconds = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        part();
        finish(device);
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    seconds
}

/// Squares of growing size until one takes long enough.
fn matrix(device: &Device, dtype: DType) -> f64 {
    let mut size = 512usize;
    loop {
        let square = || Tensor::<2>::ones([size, size], (device, dtype)).mul_scalar(1.0 / size as f32);
        let (x, weight) = (square(), square());
        let product = || drop(percept_ops::linear(x.clone(), weight.clone(), None, None));
        product();
        finish(device);
        let seconds = best(device, product);
        if seconds >= LONG_ENOUGH || size >= 8192 {
            return 2.0 * (size as f64).powi(3) / seconds;
        }
        size *= 2;
    }
}

fn copy(device: &Device) -> f64 {
    let bytes = 2.0 * COPIED as f64;
    if percept_ops::is_fused(device) {
        let source = vec![1f32; COPIED / 4];
        let mut target = vec![0f32; COPIED / 4];
        let part = 1 << 16;
        let seconds = best(device, || {
            target.par_chunks_mut(part).zip(source.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
        });
        return bytes / seconds;
    }
    let rows = COPIED / 4 / 1024;
    let x = Tensor::<2>::ones([rows, 1024], device);
    // a product with a number reads and writes each value once
    let part = || drop(x.clone().mul_scalar(1.5));
    part();
    finish(device);
    bytes / best(device, part)
}
