//! Whether a run fits, and the smallest change that makes it fit.

use super::capacity::Capacity;
use super::memory::Workload;

/// Share of the memory that is planned with: the system and the driver have needs of their own.
pub(crate) const USABLE: f64 = 0.95;

pub(crate) fn fits(workload: &Workload, capacity: Capacity) -> bool {
    fits_in(workload, capacity, USABLE)
}

fn fits_in(workload: &Workload, capacity: Capacity, share: f64) -> bool {
    let peak = workload.peak();
    let within = |bytes: f64, limit: Option<f64>| limit.is_none_or(|limit| bytes <= limit * share);
    within(peak.device, capacity.device) && within(peak.host, capacity.host)
}

/// The largest micro-batch between `smallest` and all tokens of an update that fits into this share of the memory, rounded down to a
/// multiple of 256 where that is not below the smallest.
pub(crate) fn largest_micro_tokens(
    workload: &Workload,
    capacity: Capacity,
    smallest: usize,
    share: f64,
) -> Option<usize> {
    let with = |micro_tokens: usize| Workload { micro_tokens, ..workload.clone() };
    let fits = |micro_tokens: usize| fits_in(&with(micro_tokens), capacity, share);
    if !fits(smallest) {
        return None;
    }
    let all: usize = workload.some(workload.prompts_per_update).iter().map(|group| group.rows()).sum();
    let (mut low, mut high) = (smallest, all.max(smallest));
    if fits(high) {
        return Some(high);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some((low / 256 * 256).max(smallest))
}

/// Share of the memory that a choice of ours takes: predictions may be 15 % low.
const CAREFUL: f64 = 0.8;

/// Tokens computed at once where the configuration leaves the choice: the most that fit with some room, or the smallest there are.
pub(crate) fn chosen_micro_tokens(workload: &Workload, capacity: Capacity, smallest: usize) -> usize {
    largest_micro_tokens(workload, capacity, smallest, CAREFUL).unwrap_or(smallest)
}

/// Half as many rows, and so on, until it fits.
fn fewer_rows(workload: &Workload, capacity: Capacity) -> Option<usize> {
    let mut rows = workload.max_rows;
    while rows > 1 {
        rows /= 2;
        if fits(&Workload { max_rows: rows, ..workload.clone() }, capacity) {
            return Some(rows);
        }
    }
    None
}

/// The smallest change of the configuration after which the run fits: first what changes no result, then what changes what is learned.
pub(crate) fn change(workload: &Workload, capacity: Capacity, smallest: usize) -> Option<Vec<String>> {
    let mut frozen = workload.clone();
    for (learns, parameter) in frozen.learns.iter_mut().zip(&frozen.outline.parameters) {
        *learns &= !parameter.vision;
    }
    let without_reference = Workload { reference: false, ..workload.clone() };
    let both = Workload { reference: false, ..frozen.clone() };
    let freeze = "model.freeze = [\"visual.*\"]".to_owned();
    let kl = "objective.kl_coefficient = 0.0 (no reference model)".to_owned();
    let mut ways = vec![(workload.clone(), Vec::new())];
    if workload.vision_learns() {
        ways.push((frozen, vec![freeze.clone()]));
    }
    if workload.reference {
        ways.push((without_reference, vec![kl.clone()]));
        if workload.vision_learns() {
            ways.push((both, vec![freeze, kl]));
        }
    }
    ways.into_iter().find_map(|(workload, done)| {
        let more = smaller_portions(&workload, capacity, smallest)?;
        Some(done.into_iter().chain(more).collect())
    })
}

/// Nothing, smaller micro-batches, fewer rows, or both: whichever makes it fit first.
fn smaller_portions(workload: &Workload, capacity: Capacity, smallest: usize) -> Option<Vec<String>> {
    if fits(workload, capacity) {
        return Some(Vec::new());
    }
    let micro = |workload: &Workload| {
        let smaller = largest_micro_tokens(workload, capacity, smallest.min(workload.micro_tokens), USABLE)?;
        Some(format!("trainer.micro_tokens = {}", smaller.min(workload.micro_tokens)))
    };
    let rows = |workload: &Workload| Some(format!("rollout.max_rows = {}", fewer_rows(workload, capacity)?));
    if let Some(change) = micro(workload).or_else(|| rows(workload)) {
        return Some(vec![change]);
    }
    let least = Workload { micro_tokens: smallest.min(workload.micro_tokens), ..workload.clone() };
    let fewer = fewer_rows(&least, capacity)?;
    let narrow = Workload { max_rows: fewer, ..workload.clone() };
    Some(vec![format!("rollout.max_rows = {fewer}"), micro(&narrow)?])
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::workload;
    use super::*;

    fn device(bytes: f64) -> Capacity {
        Capacity { device: Some(bytes), host: None }
    }

    #[test]
    fn the_largest_micro_batch_fits_and_the_next_does_not() {
        let workload = workload("4m");
        let at = |micro_tokens: usize| Workload { micro_tokens, ..workload.clone() }.peak().device;
        let (low, high) = (at(400), at(usize::MAX));
        let capacity = device((low + high) / 2.0 / USABLE);
        let found = largest_micro_tokens(&workload, capacity, 400, USABLE).expect("one fits");
        assert!(found > 400 && found.is_multiple_of(256), "{found}");
        assert!(at(found) <= (low + high) / 2.0);
        assert!(at(found + 512) > (low + high) / 2.0, "{found} could be larger");
        assert_eq!(largest_micro_tokens(&workload, device(low * 0.5), 400, USABLE), None);
        // nothing is larger than an update
        let all: usize = workload.some(workload.prompts_per_update).iter().map(|group| group.rows()).sum();
        assert_eq!(largest_micro_tokens(&workload, device(1e15), 400, USABLE), Some(all));
    }

    #[test]
    fn what_changes_no_result_is_changed_first() {
        let workload = workload("19m");
        let least = Workload { micro_tokens: 400, ..workload.clone() };
        let (most, less) = (workload.peak().device, least.peak().device);
        assert!(less < most);
        let found = change(&workload, device((most + less) / 2.0 / USABLE), 400).expect("it can fit");
        assert!(found.len() == 1 && found[0].starts_with("trainer.micro_tokens = "), "{found:?}");
        assert_eq!(change(&workload, device(most / USABLE * 1.001), 400), Some(Vec::new()));
        // rows only matter where sampling is what is largest
        let wide = Workload { max_rows: 4096, prompts_per_step: 1024, ..least };
        let narrow = Workload { max_rows: 64, ..wide.clone() };
        let found = change(&wide, device(narrow.peak().device / USABLE * 1.01), 400).expect("it can fit");
        assert!(found[0].starts_with("rollout.max_rows = "), "{found:?}");
        // then what is learned
        let floor = Workload { micro_tokens: 400, max_rows: 1, ..workload.clone() };
        let mut frozen = floor.clone();
        frozen.learns.iter_mut().zip(&frozen.outline.parameters).for_each(|(learns, p)| *learns &= !p.vision);
        let between = (floor.peak().device + frozen.peak().device) / 2.0;
        let found = change(&workload, device(between / USABLE), 400).expect("it can fit");
        assert_eq!(found[0], "model.freeze = [\"visual.*\"]");
        assert_eq!(change(&workload, device(1e6), 400), None);
    }
}
