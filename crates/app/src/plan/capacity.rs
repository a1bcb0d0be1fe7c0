//! How much memory there is.

use anyhow::{anyhow, bail};

/// Bytes that a run may take; nothing where the device does not tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Capacity {
    pub(crate) device: Option<f64>,
    pub(crate) host: Option<f64>,
}

/// `80GiB`, `24GB`, `16000MiB`, or a number of bytes.
pub(crate) fn parse(text: &str) -> anyhow::Result<f64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let wrong = || anyhow!("{text:?}: expected an amount of memory such as 80GiB, 24GB, 16000MiB or a number of bytes");
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 2f64.powi(10),
        "mib" => 2f64.powi(20),
        "gib" => 2f64.powi(30),
        "tib" => 2f64.powi(40),
        _ => bail!(wrong()),
    };
    if number <= 0.0 {
        bail!(wrong());
    }
    Ok(number * unit)
}

/// Bytes in words.
pub(crate) fn show(bytes: f64) -> String {
    let mib = bytes / 2f64.powi(20);
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
}

/// Host memory that this process may still take: what the system has available, and what a control group leaves.
pub(crate) fn host() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? * 1024.0;
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<f64>().ok();
    let left =
        number("/sys/fs/cgroup/memory.max").map(|limit| limit - number("/sys/fs/cgroup/memory.current").unwrap_or(0.0));
    Some(left.map_or(available, |left| left.min(available)))
}

#[cfg(test)]
mod tests {
    use super::{parse, show};

    #[test]
    fn amounts_are_read() {
        for (text, bytes) in [("80GiB", 85_899_345_920.0), ("24GB", 24e9), ("1.5 MiB", 1_572_864.0), ("512", 512.0)] {
            assert_eq!(parse(text).expect("an amount"), bytes, "{text}");
        }
        for text in ["", "GiB", "80 apples", "-3GB", "0"] {
            let error = parse(text).expect_err("no amount").to_string();
            assert!(error.contains("80GiB"), "{text}: {error}");
        }
    }

    #[test]
    fn amounts_are_shown() {
        assert_eq!(show(3.0 * 1_048_576.0), "3 MiB");
        assert_eq!(show(85_899_345_920.0), "80.00 GiB");
    }
}
