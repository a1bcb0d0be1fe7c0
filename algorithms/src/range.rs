//! The ranges in which coefficients mean something.

/// A coefficient is out of its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`objective.{key}` must be {expected}, found {found}")]
pub struct OutOfRange {
    /// Its key in `[objective]`.
    pub key: &'static str,
    pub expected: &'static str,
    pub found: f64,
}

pub(crate) fn in_range(key: &'static str, found: f64, holds: bool, expected: &'static str) -> Result<(), OutOfRange> {
    if holds { Ok(()) } else { Err(OutOfRange { key, expected, found }) }
}

pub(crate) fn at_least_zero(key: &'static str, found: f64) -> Result<(), OutOfRange> {
    in_range(key, found, found >= 0.0 && found.is_finite(), "0 or more and finite")
}
