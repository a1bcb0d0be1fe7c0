//! `percept check`: does this device compute what the CPU computes?
//!
//! GPU stacks have been silently wrong (a fused kernel, a badly tuned product, a driver), and a run on such a device is lost without
//! a word. Each row computes the same numbers twice: with the fused kernels of the CPU backend in float32, and on the device.

mod memory;
mod model;
mod operations;

pub(crate) use memory::ensure_checked;

use crate::device::{DeviceFlag, Found, open};
use crate::messages::silently;
use crate::report::bar;
use anyhow::{Context, bail};
use burn::tensor::{DType, Device};
use percept_config::{Backend, DeviceConfig, RunConfig};
use percept_ops::{is_fused, rounded_products, set_fused, set_rounded_products};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    device: DeviceFlag,
    /// Also compare this checkpoint's logits on a picture
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Only what a training run checks before it starts
    #[arg(long)]
    short: bool,
}

/// Largest difference where no product of matrices is involved.
const EXACT: f64 = 1e-4;
/// Largest difference where one is, or many in a row.
const PRODUCTS: f64 = 2e-4;
/// Largest difference of log-probabilities in a type of fewer bits.
const ROUNDED: f64 = 5e-2;

type Numbers = Box<dyn Fn(&Device) -> Vec<f32>>;

/// One comparison.
pub(crate) struct Probe {
    name: &'static str,
    tolerance: f64,
    /// On the CPU.
    expected: Numbers,
    /// On the device.
    found: Numbers,
    /// Whether the device may round the operands of float32 products.
    rounded: bool,
}

impl Probe {
    /// The same numbers on both.
    fn new(name: &'static str, tolerance: f64, numbers: impl Fn(&Device) -> Vec<f32> + Clone + 'static) -> Self {
        Self::of_two(name, tolerance, numbers.clone(), numbers)
    }

    /// Numbers that are the same by two ways: the CPU's, and the device's.
    fn of_two(
        name: &'static str,
        tolerance: f64,
        expected: impl Fn(&Device) -> Vec<f32> + 'static,
        found: impl Fn(&Device) -> Vec<f32> + 'static,
    ) -> Self {
        Self { name, tolerance, expected: Box::new(expected), found: Box::new(found), rounded: false }
    }

    fn run(&self, device: &Device) -> Row {
        let expected = on(true, false, || (self.expected)(&Device::flex()));
        // a kernel that cannot be compiled, or a lost device, panics
        // the CPU is compared with itself by another way
        let found = silently(|| on(!is_fused(device), self.rounded, || (self.found)(device)));
        let error = match &found {
            Ok(found) if found.len() == expected.len() => largest(&expected, found),
            Ok(_) | Err(_) => f64::INFINITY,
        };
        Row { name: self.name, error, tolerance: self.tolerance, reason: found.err() }
    }
}

/// A comparison's result.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    /// Largest |a - b| / (1 + |b|); infinite when the device gave no numbers.
    pub error: f64,
    pub tolerance: f64,
    /// What stopped the device from giving numbers.
    pub reason: Option<String>,
}

impl Row {
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

fn largest(expected: &[f32], found: &[f32]) -> f64 {
    let error = |(&b, &a): (&f32, &f32)| {
        let error = f64::from((a - b).abs()) / (1.0 + f64::from(b.abs()));
        if error.is_nan() { f64::INFINITY } else { error }
    };
    expected.iter().zip(found).map(error).fold(0.0, f64::max)
}

/// Computes with the fused kernels on or off, and with rounded products or not.
fn on<R>(fused: bool, rounded: bool, part: impl FnOnce() -> R) -> R {
    // a panic must not leave the switches
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            set_fused(true);
            set_rounded_products(self.0);
        }
    }
    let _back = Back(rounded_products());
    set_fused(fused);
    set_rounded_products(rounded);
    part()
}

/// The switches belong to the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Compares a device with the CPU. `short`: only the rows of a whole model, which use every operation, and one update.
pub fn compare(device: &Device, short: bool, told: impl FnMut(&Row)) -> Vec<Row> {
    let mut probes = if short { Vec::new() } else { operations::probes() };
    probes.extend(model::probes());
    run_all(probes, device, told)
}

/// Compares what a run in this type does on a device, its products rounded, with the CPU in float32.
pub fn compare_rounded(device: &Device, dtype: DType, told: impl FnMut(&Row)) -> Vec<Row> {
    run_all(model::rounded(dtype), device, told)
}

fn run_all(probes: Vec<Probe>, device: &Device, mut told: impl FnMut(&Row)) -> Vec<Row> {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let run = |probe: Probe| {
        let row = probe.run(device);
        told(&row);
        row
    };
    probes.into_iter().map(run).collect()
}

/// What to do when rows fail.
fn advice(found: &Found) -> String {
    if found.backend == Backend::Cpu {
        return "the fused CPU kernels and their compositions differ: please report this with your processor's name"
            .to_owned();
    }
    let name = found.backend.name();
    format!(
        "do not train on this device as it is. Try, in this order: CUBECL_AUTOTUNE_CACHE=0 (a stale choice of kernels); \
         a build without fusion (`cargo build --release --no-default-features --features autotune,kernels,{name}`); one without autotune \
         (`--no-default-features --features fusion,kernels,{name}`); one without Percept's kernels \
         (`--no-default-features --features fusion,autotune,{name}`); a newer driver; another backend (`percept devices`). \
         The first that passes names the culprit: please report it"
    )
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = device_config(&arguments.device)?;
    let (found, placement) = open(&config)?;
    let facts = found.facts()?;
    println!("{} ({}), compared with the CPU in float32", found.key(), facts.name);
    println!("{:<44}{:>12}{:>12}", "", "error", "allowed");
    let show = |row: &Row| println!("{}", line(row));
    let progress = bar("checking");
    let mut rows = compare(&placement.device, arguments.short, |row| progress.suspend(|| show(row)));
    if rounded_products() {
        rows.extend(compare_rounded(&placement.device, placement.dtype, show));
    }
    if let Some(folder) = &arguments.checkpoint {
        let probe = model::checkpoint(folder)?;
        rows.extend(run_all(vec![probe], &placement.device, show));
    }
    progress.finish_and_clear();
    let failed: Vec<&str> = rows.iter().filter(|row| !row.passed()).map(|row| row.name).collect();
    if failed.is_empty() {
        println!("all {} comparisons passed", rows.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} of {} comparisons failed: {}", failed.len(), rows.len(), failed.join(", "));
    println!("{}", advice(&found));
    Ok(ExitCode::FAILURE)
}

fn line(row: &Row) -> String {
    let verdict = if row.passed() { "ok" } else { "WRONG" };
    let error = if row.error.is_finite() { format!("{:.1e}", row.error) } else { "no numbers".to_owned() };
    let reason = row.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{:<44}{error:>12}{:>12.0e}  {verdict}{reason}", row.name, row.tolerance)
}

fn device_config(flag: &DeviceFlag) -> anyhow::Result<DeviceConfig> {
    let mut sets = vec!["model.checkpoint=none".to_owned()];
    sets.extend(flag.sets()?);
    Ok(RunConfig::parse("--device", "", &[], &sets)?.device)
}

/// Refuses a device that fails.
fn refuse(found: &Found, rows: &[Row]) -> anyhow::Result<()> {
    let failed: Vec<String> = rows
        .iter()
        .filter(|row| !row.passed())
        .map(|row| match &row.reason {
            Some(reason) => format!("{} (no numbers: {reason})", row.name),
            None => format!("{} (off by {:.1e}, allowed {:.0e})", row.name, row.error, row.tolerance),
        })
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} computes wrong numbers: {}; {}", found.key(), failed.join(", "), advice(found))
}

/// Loads a policy for a comparison.
fn load(folder: &Path, device: &Device) -> anyhow::Result<percept_models::qwen2_5_vl::Qwen25Vl> {
    percept_models::qwen2_5_vl::Qwen25Vl::from_folder(folder, device, &|_| false)
        .with_context(|| folder.display().to_string())
}
