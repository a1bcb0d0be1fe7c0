//! Which steps are kept when all are too much.

use std::collections::{BTreeMap, BTreeSet};

/// Keeps every n-th step and the last, with the smallest n for which the sizes of the kept steps add up to at most `limit`;
/// none when not even the last step fits. Evenly, because a page that shows only the end of a run, or only its beginning,
/// misleads.
pub(crate) fn spread(sizes: &BTreeMap<u64, u64>, limit: u64) -> BTreeSet<u64> {
    let steps: Vec<(u64, u64)> = sizes.iter().map(|(step, size)| (*step, *size)).collect();
    let Some(last) = steps.len().checked_sub(1) else { return BTreeSet::new() };
    let kept = |stride: usize| (0..=last).rev().step_by(stride);
    let fits = |stride: &usize| kept(*stride).map(|at| steps[at].1).sum::<u64>() <= limit;
    (1..=steps.len()).find(fits).map(|stride| kept(stride).map(|at| steps[at].0).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn the_smallest_stride_that_fits() {
        let sizes = (1..=10).map(|step| (step, 10)).collect();
        let steps = |limit| spread(&sizes, limit).into_iter().collect::<Vec<u64>>();
        assert_eq!(steps(100), (1..=10).collect::<Vec<_>>());
        assert_eq!(steps(99), [2, 4, 6, 8, 10]);
        assert_eq!(steps(49), [1, 4, 7, 10]);
        assert_eq!(steps(10), [10]);
        assert_eq!(steps(9), [0; 0]);
        assert!(spread(&std::collections::BTreeMap::new(), 9).is_empty());
    }
}
