//! Faults that are made to happen: power cuts, disks that refuse. `PERCEPT_KILLS` and `PERCEPT_DISK_FAULTS` say how many.

#[cfg(target_os = "linux")]
mod disk;
mod incident;
#[cfg(unix)]
mod kills;

use crate::program::Place;
use crate::torn::assert_same_run;

/// How often, where nothing else is asked for.
fn count(variable: &str, usual: usize) -> usize {
    std::env::var(variable)
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}: no number")))
}

fn same_end(place: &Place, left: &str, right: &str) {
    assert_same_run(place.path(), left, right);
}
