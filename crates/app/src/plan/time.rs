//! Seconds of a step by phase, from the operations and bytes that it takes and the rates that a device was measured at.
//!
//! A phase never reaches the rate of a large product: `Shares` says how much of it, by what benchmarks found (docs/benchmarks.md).

use super::memory::Workload;
use crate::cost::rates::Rates;
use crate::cost::{GroupSize, flops};

/// Shares of the measured rates that phases reach.
struct Shares {
    /// Prompts, and scoring without gradient: of the matrix rate.
    forward: f64,
    /// Updates: of the matrix rate.
    training: f64,
    /// Maps in decoding, and its attention: of the matrix rate.
    decode: f64,
    decode_attention: f64,
    /// Reading and writing: of the copy rate.
    memory: f64,
}

/// At a width of 256; see [`Shares::at`].
const HOST: Shares = Shares { forward: 0.95, training: 0.8, decode: 0.6, decode_attention: 0.45, memory: 0.9 };
/// Not measured, and the same at every width.
const DEVICE: Shares = Shares { forward: 0.4, training: 0.4, decode: 0.3, decode_attention: 0.1, memory: 0.6 };

impl Shares {
    /// Wider products come nearer to the rate of a large one; measured at widths of 192 and 384, and the same well beyond these.
    fn at(self, width: usize) -> Self {
        let width = (width as f64 / 256.0).clamp(0.5, 1.5);
        let grown = |share: f64, power: f64| share * width.powf(power);
        Self {
            forward: grown(self.forward, 0.2),
            training: grown(self.training, 0.46),
            decode: grown(self.decode, 0.74),
            ..self
        }
    }
}

/// Passes over the batch that carry no gradient, by phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passes {
    pub(crate) reference: usize,
    pub(crate) corrupted: usize,
    /// Corrupted ones go over one of so many prompts.
    pub(crate) corrupted_every: usize,
    pub(crate) behavior: usize,
}

/// Phases with their seconds, in the order of a step.
pub(crate) fn seconds(workload: &Workload, rates: &Rates, passes: Passes) -> Vec<(&'static str, f64)> {
    let outline = &workload.outline;
    let shares = if workload.how.fused { HOST.at(outline.text.hidden) } else { DEVICE };
    let groups = workload.some(workload.prompts_per_step);
    let at = |share: f64, flops: f64| flops / (rates.matrix_flops * share);
    let moved = |bytes: f64| bytes / (rates.copy_bytes * shares.memory);
    // a group that is cut computes its prompt again
    let cut =
        || -> Vec<GroupSize> { super::memory::cut(&groups, workload.micro_tokens).into_iter().flatten().collect() };
    let parts = cut();
    let forward = flops::scoring(outline, &parts).total();
    let how = flops::Training { vision_learns: workload.vision_learns(), recompute: workload.recompute };
    let backward = flops::backward(outline, &parts, how).total();
    let live = workload.live_views as f64;
    let updates = (workload.prompts_per_step / workload.prompts_per_update.max(1)).max(1) as f64;
    let optimizer = workload.learning() as f64 * (12.0 + 2.0 * workload.moment_bytes as f64);
    let mut phases = vec![(
        "rollout",
        at(shares.forward, flops::prefill(outline, &groups).total()) + decoding(workload, rates, &shares, &groups),
    )];
    let corrupted = passes.corrupted as f64 / passes.corrupted_every as f64;
    for (name, count) in
        [("reference", passes.reference as f64), ("corrupted", corrupted), ("behavior", passes.behavior as f64)]
    {
        if count > 0.0 {
            phases.push((name, at(shares.forward, forward) * count));
        }
    }
    // what sampling computed is not computed again, but for the head
    let again = if workload.sampled() > 0.0 { flops::scoring(outline, &parts).head } else { forward };
    phases.push(("update", at(shares.training, (again + backward) * live) + updates * moved(optimizer)));
    phases
}

fn decoding(workload: &Workload, rates: &Rates, shares: &Shares, groups: &[GroupSize]) -> f64 {
    let outline = &workload.outline;
    let width = workload.how.width;
    let responses: usize = groups.iter().map(|group| group.responses.len()).sum();
    let rows = workload.max_rows.min(responses).max(1);
    let tokens: usize = groups.iter().map(GroupSize::response_tokens).sum();
    let steps = (tokens as f64 / rows as f64).ceil();
    let prompts: usize = groups.iter().map(|group| group.prompt).sum();
    let open = prompts * rows / responses.max(1);
    let weight = |rounds: bool| if rounds { width } else { 4 };
    let own = rows * workload.max_new_tokens / 2;
    let bytes = flops::decode_bytes(outline, weight, width, open, own);
    let flops = flops::decode(outline, groups);
    let maps = (flops.decoder + flops.head) / (rates.matrix_flops * shares.decode);
    let attention = flops.attention / (rates.matrix_flops * shares.decode_attention);
    maps + attention + steps * bytes / (rates.copy_bytes * shares.memory)
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::workload;
    use super::*;

    const RATES: Rates = Rates { matrix_flops: 4e11, matrix_flops_f32: 4e11, copy_bytes: 5e10 };
    const PASSES: Passes = Passes { reference: 1, corrupted: 0, corrupted_every: 1, behavior: 0 };

    fn phase(found: &[(&str, f64)], name: &str) -> f64 {
        found.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, seconds)| *seconds)
    }

    #[test]
    fn phases_grow_with_their_work() {
        let one = workload("4m");
        let found = seconds(&one, &RATES, PASSES);
        assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["rollout", "reference", "update"]);
        // a forward and a backward pass, and the optimizer
        let shares = HOST.at(one.outline.text.hidden);
        let share = shares.training / shares.forward;
        let ratio = share * phase(&found, "update") / phase(&found, "reference");
        assert!((3.0..3.3).contains(&ratio), "{ratio}");
        let kept = Workload { kept_activations: 1 << 30, ..one.clone() };
        let saved = phase(&found, "update") - phase(&seconds(&kept, &RATES, PASSES), "update");
        let saved = share * saved / phase(&found, "reference");
        assert!((0.9..1.0).contains(&saved), "the forward pass but for its head, not {saved}");
        let twice = seconds(&Workload { prompts_per_step: 16, max_rows: 128, ..one.clone() }, &RATES, PASSES);
        assert_eq!(phase(&twice, "reference"), 2.0 * phase(&found, "reference"));
        // cut groups compute their prompts again
        let cut = seconds(&Workload { micro_tokens: 300, ..one.clone() }, &RATES, PASSES);
        assert!(phase(&cut, "reference") > 1.2 * phase(&found, "reference"));
        let masked = seconds(&one, &RATES, Passes { corrupted: 1, ..PASSES });
        assert_eq!(phase(&masked, "corrupted"), phase(&found, "reference"));
        let half = seconds(&one, &RATES, Passes { corrupted: 1, corrupted_every: 2, ..PASSES });
        assert_eq!(phase(&half, "corrupted"), phase(&found, "reference") / 2.0);
    }

    #[test]
    fn few_rows_are_bound_by_memory() {
        let one = workload("50m");
        let slow = Rates { copy_bytes: RATES.copy_bytes / 10.0, ..RATES };
        let rollout = |rows: usize, rates: &Rates| {
            phase(&seconds(&Workload { max_rows: rows, ..one.clone() }, rates, PASSES), "rollout")
        };
        assert!(rollout(1, &slow) > 5.0 * rollout(1, &RATES));
        assert!(rollout(64, &slow) < 5.0 * rollout(64, &RATES));
    }
}
