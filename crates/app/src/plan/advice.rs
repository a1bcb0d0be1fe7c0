//! Whether a run fits, and the smallest change that makes it fit.

use super::capacity::Capacity;
use super::memory::Workload;

/// Share of the memory that is planned with: the system and the driver have needs of their own.
pub(crate) const USABLE: f64 = 0.95;

pub(crate) fn fits(workload: &Workload, capacity: Capacity) -> bool {
    fits_in(workload, capacity, USABLE)
}

/// Whether a run takes no more than this share of the memory.
pub(crate) fn fits_in(workload: &Workload, capacity: Capacity, share: f64) -> bool {
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

/// One key to change, and what it does to the workload; what changes no result comes first.
type Change = (&'static str, fn(&mut Workload));

/// The keys whose change would make the run smaller.
fn changes(workload: &Workload) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    if workload.sampled() > 0.0 {
        all.push(("trainer.kept_activations_mib = 0", |workload| workload.kept_activations = 0));
    }
    if !workload.recompute {
        all.push(("trainer.recompute = \"on\"", |workload| workload.recompute = true));
    }
    if workload.reference && !workload.reference_brought {
        all.push(("model.offload_reference = true", |workload| workload.reference_brought = true));
    }
    if !workload.unified && !workload.moments_on_host {
        all.push(("optimizer.offload = true", |workload| workload.moments_on_host = true));
    }
    if workload.moment_bytes > 2 {
        all.push(("optimizer.moments = \"8bit\"", |workload| workload.moment_bytes = 2));
    }
    if workload.vision_learns() {
        all.push(("model.freeze = [\"visual.*\"]", |workload| {
            for (learns, parameter) in workload.learns.iter_mut().zip(&workload.outline.parameters) {
                *learns &= !parameter.vision;
            }
        }));
    }
    if workload.reference {
        all.push(("objective.kl_coefficient = 0.0 (no reference model)", |workload| workload.reference = false));
    }
    all
}

/// The smallest change of the configuration after which the run fits: as few keys as do it, and of those the ones that change no result
/// before those that change what is learned.
pub(crate) fn change(workload: &Workload, capacity: Capacity, smallest: usize) -> Option<Vec<String>> {
    let all = changes(workload);
    let mut sets: Vec<u32> = (0..1 << all.len()).collect();
    // of two sets as large, the one whose last key comes earlier
    sets.sort_by_key(|set| (set.count_ones(), *set));
    sets.into_iter().find_map(|set| {
        let mut changed = workload.clone();
        let chosen: Vec<&Change> =
            all.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1).map(|(_, one)| one).collect();
        chosen.iter().for_each(|(_, apply)| apply(&mut changed));
        let more = smaller_portions(&changed, capacity, smallest)?;
        Some(chosen.into_iter().map(|(key, _)| (*key).to_owned()).chain(more).collect())
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
        // then other keys, those first that change no result
        let floor = Workload { micro_tokens: 400, max_rows: 1, ..workload.clone() };
        let with = |key: &str| {
            let mut changed = floor.clone();
            let (_, apply) = changes(&floor).into_iter().find(|(known, _)| known.starts_with(key)).expect("a key");
            apply(&mut changed);
            changed
        };
        let between = |key: &str| (floor.peak().device + with(key).peak().device) / 2.0 / USABLE;
        for key in ["model.offload_reference", "optimizer.moments", "model.freeze"] {
            let capacity = device(between(key));
            let found = change(&workload, capacity, 400).expect("it can fit");
            let better = |other: &str| fits(&with(other), capacity);
            let first =
                changes(&floor).into_iter().map(|(known, _)| known).find(|known| better(known)).expect("one fits");
            assert_eq!(found[0], first, "{key}");
        }
        // where no key alone is enough, several
        let mut all = floor.clone();
        changes(&floor).into_iter().for_each(|(_, apply)| apply(&mut all));
        let capacity = device(all.peak().device / USABLE * 1.0001);
        assert!(!changes(&floor).into_iter().any(|(key, _)| fits(&with(key), capacity)));
        let found = change(&workload, capacity, 400).expect("it can fit");
        assert!(
            found.iter().filter(|text| text.contains("moments") || text.contains("freeze")).count() == 2,
            "{found:?}"
        );
        assert_eq!(change(&workload, device(1e6), 400), None);
    }
}
