//! What was measured, printed and as JSON.

use super::sweep::{Axis, costs};
use super::{Arguments, Measured};
use percept_weights::write_atomically;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;

pub(super) fn print(arguments: &Arguments, measured: &Measured) {
    let Measured { point, rates, .. } = measured;
    println!(
        "{} with {} ({:.1} million parameters, {}) on {}, {} threads, {}",
        arguments.objective,
        point.checkpoint.display(),
        measured.parameters as f64 / 1e6,
        measured.dtype,
        measured.device,
        rayon::current_num_threads(),
        arguments.data.display()
    );
    println!(
        "{} prompts of {:.0} tokens x {} responses x {} tokens",
        point.prompts, measured.prompt_tokens, point.responses, point.new_tokens
    );
    println!(
        "measured rates: {:.1} GFLOP/s in a product of matrices, {:.1} GB/s in a copy",
        rates.matrix_flops / 1e9,
        rates.copy_bytes / 1e9
    );
    println!(
        "step            {:>9.1} ms   {:.0} tokens/s   peak memory {:.0} MiB",
        measured.step_ms,
        measured.response_tokens() / measured.step_ms * 1e3,
        measured.peak_rss_mib
    );
    for (name, ms) in &measured.phase_ms {
        println!("  {name:<14}{ms:>9.1} ms");
    }
    println!("{:<26}{:>10} {:>10} {:>10} {:>9} {:>10}", "piece", "ms", "tokens/s", "GFLOP", "of matrix", "of copy");
    for piece in &measured.pieces {
        let tokens = piece.tokens_per_second().map_or_else(String::new, |rate| format!("{rate:.0}"));
        let share = |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.1} %", share * 100.0));
        let mfu = share((piece.flops > 0.0).then(|| piece.mfu(rates)));
        let gflop = if piece.flops > 0.0 { format!("{:.2}", piece.flops / 1e9) } else { String::new() };
        let bandwidth = share(piece.bandwidth(rates));
        println!("{:<26}{:>10.2} {tokens:>10} {gflop:>10} {mfu:>9} {bandwidth:>10}", piece.label, piece.ms);
    }
    if let Some(padded) = &measured.padded {
        let line = |name: &str, [shared, repeated]: [f64; 2]| {
            println!(
                "{name:<26}{shared:>10.2} ms, with prompts repeated {repeated:.2} ms: {:.2} times",
                repeated / shared
            );
        };
        line("scoring, shared prompts", padded.scoring_ms);
        line("training, shared prompts", padded.training_ms);
        let [shared, repeated] = padded.flops;
        println!(
            "{:<26}{:>10.2} GFLOP of training, {:.2} repeated: {:.2} times",
            "",
            shared / 1e9,
            repeated / 1e9,
            repeated / shared
        );
        println!(
            "largest differences: {:.1e} between log-probabilities, {:.1e} of the largest gradient",
            padded.log_prob_difference, padded.gradient_difference
        );
    }
    if let (Some((base, ms)), Some(overhead)) = (&measured.base, measured.overhead_percent()) {
        println!("{base} {ms:.1} ms: {} costs {overhead:.1} % more", arguments.objective);
    }
}

/// Everything that was measured. Keys stay.
pub(super) fn json(arguments: &Arguments, measured: &Measured) -> Value {
    let rates = &measured.rates;
    let parts: Map<String, Value> = measured
        .pieces
        .iter()
        .map(|piece| {
            let value = json!({
                "ms": piece.ms,
                "tokens_per_second": piece.tokens_per_second(),
                "flops": piece.flops,
                "mfu": (piece.flops > 0.0).then(|| piece.mfu(rates)),
                "bytes": piece.bytes,
                "bandwidth_share": piece.bandwidth(rates),
            });
            (piece.key.clone(), value)
        })
        .collect();
    let padded = measured.padded.map(|padded| {
        let both = |[shared, repeated]: [f64; 2]| {
            json!({ "shared_ms": shared, "repeated_ms": repeated, "ratio": repeated / shared })
        };
        json!({
            "scoring": both(padded.scoring_ms),
            "training": both(padded.training_ms),
            "flops_ratio": padded.flops[1] / padded.flops[0],
            "log_prob_difference": padded.log_prob_difference,
            "gradient_difference": padded.gradient_difference,
        })
    });
    json!({
        "objective": arguments.objective,
        "checkpoint": measured.point.checkpoint.display().to_string(),
        "parameters": measured.parameters,
        "device": measured.device,
        "dtype": measured.dtype,
        "prompts": measured.point.prompts,
        "responses": measured.point.responses,
        "new_tokens": measured.point.new_tokens,
        "micro_tokens": arguments.micro_tokens,
        "step_ms": measured.step_ms,
        "phase_ms": measured.phase_ms,
        "tokens_per_second": measured.response_tokens() / measured.step_ms * 1e3,
        "peak_rss_mib": measured.peak_rss_mib,
        "prompt_tokens": measured.prompt_tokens,
        "threads": rayon::current_num_threads(),
        "rates": rates,
        "pieces": keyed(measured),
        "parts": parts,
        "padded": padded,
        "base_step_ms": measured.base.as_ref().map(|(_, ms)| ms),
        "overhead_percent": measured.overhead_percent(),
    })
}

/// A number for each piece, by its label and unit.
fn keyed(measured: &Measured) -> Map<String, Value> {
    let one = |piece: &super::Piece| {
        let (value, unit) = match piece.tokens_per_second() {
            Some(rate) => (rate, "tokens/s"),
            None => (piece.ms, "ms"),
        };
        (format!("{} {unit}", piece.label).replace(", ", "_").replace([' ', '/'], "_"), json!(value))
    };
    measured.pieces.iter().map(one).collect()
}

pub(super) fn print_sweep(axis: Axis, measured: &[Measured], fits: &BTreeMap<String, f64>) {
    let all: Vec<BTreeMap<String, f64>> = measured.iter().map(costs).collect();
    print!("{:<22}", axis.unit());
    measured.iter().for_each(|one| print!("{:>12}", axis.value(one)));
    println!("{:>10}", "exponent");
    for (name, exponent) in fits {
        print!("{name:<22}");
        all.iter().for_each(|costs| print!("{:>9.2} ms", costs.get(name).copied().unwrap_or(f64::NAN)));
        println!("{exponent:>10.2}");
    }
}

pub(super) fn sweep_json(
    arguments: &Arguments,
    axis: Axis,
    measured: &[Measured],
    fits: &BTreeMap<String, f64>,
) -> Value {
    let points: Vec<Value> = measured.iter().map(|one| json(arguments, one)).collect();
    let values: Vec<f64> = measured.iter().map(|one| axis.value(one)).collect();
    json!({ "sweep": axis.name(), "values": values, "exponents": fits, "points": points })
}

pub(super) fn write(arguments: &Arguments, value: Value) -> anyhow::Result<()> {
    let Some(path) = &arguments.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(&value)?;
    Ok(write_atomically(path, |file| writeln!(file, "{text}"))?)
}
