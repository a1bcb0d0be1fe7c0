//! Which devices have passed, so that a run's check costs seconds once and nothing afterwards.

use super::{compare, compare_rounded, refuse};
use crate::cache;
use crate::device::Found;
use crate::hardware::Hardware;
use crate::report::bar;
use burn::tensor::DType;
use percept_config::Backend;
use percept_ops::rounded_products;
use percept_weights::write_atomically;
use std::io::Write;

/// Makes sure that a device passed the short comparison, now or earlier with the same driver and build.
///
/// # Errors
/// When it computes wrong numbers.
pub(crate) fn ensure_checked(found: &Found, dtype: DType) -> anyhow::Result<()> {
    if found.backend == Backend::Cpu {
        return Ok(());
    }
    let facts = found.facts()?;
    let features = [("fusion", cfg!(feature = "fusion")), ("autotune", cfg!(feature = "autotune"))];
    let features: Vec<&str> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let key = format!(
        "{}\t{}\t{}\t{}\tpercept {}\t{}\t{}",
        found.key(),
        facts.name,
        facts.target,
        driver(&facts.hardware),
        env!("CARGO_PKG_VERSION"),
        features.join("+"),
        if rounded_products() { format!("{dtype:?}, rounded") } else { "F32".to_owned() }
    );
    let path = cache::folder().map(|folder| folder.join("checked"));
    let known = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    if known.lines().any(|line| line == key) && !percept_ops::is_any_broken() {
        return Ok(());
    }
    eprintln!("checking {} ({}) against the CPU, once for this driver and version", found.key(), facts.name);
    let progress = bar("checking");
    let mut rows = compare(&found.device, true, |_| progress.inc(1));
    if rounded_products() {
        rows.extend(compare_rounded(&found.device, dtype, |_| progress.inc(1)));
    }
    progress.finish_and_clear();
    refuse(found, &rows)?;
    if let Some(path) = path {
        let text: String = known.lines().chain([key.as_str()]).map(|line| format!("{line}\n")).collect();
        // a folder that cannot be written to costs the same seconds next time
        let _ = path.parent().map(std::fs::create_dir_all);
        let _ = write_atomically(&path, |file| file.write_all(text.as_bytes()));
    }
    Ok(())
}

/// The driver's version, as it says itself and as the system tells it: NVIDIA's kernel module, and the kernel, which brings the others'.
fn driver(hardware: &Hardware) -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let nvidia = read("/proc/driver/nvidia/version").and_then(|text| text.lines().next().map(str::to_owned));
    let kernel = read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
    let own = Some(hardware.driver.clone()).filter(|driver| !driver.is_empty());
    [own, nvidia, kernel].into_iter().flatten().collect::<Vec<_>>().join(" ")
}
