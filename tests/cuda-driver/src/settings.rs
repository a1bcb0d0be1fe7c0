//! What the environment can change: variables that begin with `CUDA_DRIVER_`.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;

/// How the driver behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// `CUDA_DRIVER_CAPABILITY`: the compute capability, 10 times major plus minor.
    pub capability: i32,
    /// `CUDA_DRIVER_VERSION`: the CUDA version it says it supports, 1000 times major plus 10 times minor.
    pub version: i32,
    /// `CUDA_DRIVER_THREADS`: threads that run a grid's blocks.
    pub threads: usize,
    /// `CUDA_DRIVER_FILL`: the byte that new device memory and each block's shared memory is filled with.
    pub fill: u8,
    /// `CUDA_DRIVER_CHECK`: whether each access of a kernel is looked up among the allocations.
    pub check: bool,
    /// `CUDA_DRIVER_DUMP`: the folder that PTX is written to.
    pub dump: Option<PathBuf>,
    /// `CUDA_DRIVER_TRACE`: the file that gets a line for each launch.
    pub trace: Option<PathBuf>,
}

/// A variable with a value that means nothing.
#[derive(Debug)]
#[non_exhaustive]
pub struct SettingsError {
    pub variable: &'static str,
    pub expected: &'static str,
    pub found: OsString,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {:?}", self.variable, self.expected, self.found)
    }
}

impl Error for SettingsError {}

impl Default for Settings {
    fn default() -> Self {
        let threads = available_parallelism().map_or(1, NonZero::get);
        Self { capability: 90, version: 12090, threads, fill: 255, check: false, dump: None, trace: None }
    }
}

impl Settings {
    /// Settings as variables give them; those that are not set keep their default.
    ///
    /// # Errors
    /// Names the first variable that cannot be read.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, SettingsError> {
        let number = |name: &'static str, expected: &'static str, least: i32, most: i32, default: i32| {
            let Some(found) = variable(name) else { return Ok(default) };
            let number =
                found.to_str().and_then(|text| text.parse().ok()).filter(|value| (least..=most).contains(value));
            number.ok_or(SettingsError { variable: name, expected, found })
        };
        let default = Self::default();
        let most = i32::MAX;
        let threads = number("CUDA_DRIVER_THREADS", "a number from 1 to 1024", 1, 1024, 0)?;
        Ok(Self {
            capability: number("CUDA_DRIVER_CAPABILITY", "a number as 90", 10, 999, default.capability)?,
            version: number("CUDA_DRIVER_VERSION", "a number as 12090", 1000, most, default.version)?,
            threads: if threads == 0 { default.threads } else { threads as usize },
            fill: number("CUDA_DRIVER_FILL", "a byte, 0 to 255", 0, 255, default.fill.into())? as u8,
            check: number("CUDA_DRIVER_CHECK", "0 or 1", 0, 1, default.check.into())? == 1,
            dump: variable("CUDA_DRIVER_DUMP").map(PathBuf::from),
            trace: variable("CUDA_DRIVER_TRACE").map(PathBuf::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn variables_are_read_and_nonsense_is_refused() {
        let set = |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.into());
        assert_eq!(Settings::read(|_| None).expect("defaults").capability, 90);
        assert_eq!(Settings::read(set("CUDA_DRIVER_CAPABILITY", "80")).expect("80").capability, 80);
        assert_eq!(Settings::read(set("CUDA_DRIVER_FILL", "0")).expect("0").fill, 0);
        assert!(Settings::read(set("CUDA_DRIVER_CHECK", "1")).expect("1").check);
        for (name, value) in [("CUDA_DRIVER_FILL", "256"), ("CUDA_DRIVER_THREADS", "0"), ("CUDA_DRIVER_CHECK", "yes")] {
            let error = Settings::read(set(name, value)).expect_err("no such value").to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
