//! Where the time of a run went.

use super::data::{Phases, round};
use crate::Metrics;

/// Bars of a chart.
const MAX_BARS: usize = 240;

/// Means of the phases over bars of equal numbers of steps; `None` of a run that did not measure its steps.
pub(super) fn phases(metrics: &Metrics) -> Option<Phases> {
    let whole = metrics.columns.get("time/step_seconds")?;
    let rows: Vec<usize> = (0..whole.len()).filter(|row| whole[*row].is_some_and(f64::is_finite)).collect();
    let seconds = |column: &[Option<f64>], row: usize| column[row].filter(|seconds| seconds.is_finite()).unwrap_or(0.0);
    let named = metrics.columns.iter().filter_map(|(name, column)| {
        let phase = name.strip_prefix("time/")?.strip_suffix("_seconds").filter(|phase| *phase != "step")?;
        Some((phase.to_owned(), rows.iter().map(|row| seconds(column, *row)).collect::<Vec<f64>>()))
    });
    let mut all: Vec<(String, Vec<f64>)> = named.collect();
    // what no phase counts
    let rest = |at: usize| (seconds(whole, rows[at]) - all.iter().map(|(_, column)| column[at]).sum::<f64>()).max(0.0);
    let rest: Vec<f64> = (0..rows.len()).map(rest).collect();
    let total = |column: &[f64]| column.iter().sum::<f64>();
    all.retain(|(_, column)| total(column) > 0.0);
    all.sort_by(|a, b| total(&b.1).total_cmp(&total(&a.1)));
    if total(&rest) > 0.0 {
        all.push(("other".to_owned(), rest));
    }
    let every = rows.len().div_ceil(MAX_BARS).max(1);
    let mean = |bar: &[f64]| round(total(bar) / bar.len() as f64);
    let step = |row: usize| metrics.steps[row];
    Some(Phases {
        spans: rows.chunks(every).map(|bar| (step(bar[0]), step(bar[bar.len() - 1]))).collect(),
        seconds: all.iter().map(|(_, column)| column.chunks(every).map(mean).collect()).collect(),
        totals: all.iter().map(|(_, column)| round(total(column))).collect(),
        names: all.into_iter().map(|(name, _)| name).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::phases;
    use crate::Metrics;

    #[test]
    fn bars_add_up_to_the_steps() {
        let column = |value: f64| (0..480).map(|at| (at > 0).then_some(value)).collect::<Vec<_>>();
        let mut metrics = Metrics { steps: (0..480).collect(), ..Metrics::default() };
        let idle = ("time/idle_seconds", 0.0);
        for (name, value) in
            [("time/step_seconds", 10.0), ("time/data_seconds", 1.0), ("time/update_seconds", 6.0), idle]
        {
            metrics.columns.insert(name.to_owned(), column(value));
        }
        let mut validation = vec![None; 480];
        validation[2] = Some(2.0);
        metrics.columns.insert("time/validation_seconds".to_owned(), validation);
        let found = phases(&metrics).expect("phases");
        assert_eq!(found.names, ["update", "data", "validation", "other"]);
        assert_eq!(found.totals, [2874.0, 479.0, 2.0, 1435.0]);
        // step 0 is the validation before training, which is no step
        assert_eq!((found.spans[0], found.spans[239]), ((1, 2), (479, 479)));
        assert_eq!(found.seconds.iter().map(|bars| bars[0]).collect::<Vec<_>>(), [6.0, 1.0, 1.0, 2.0]);
        assert_eq!(phases(&Metrics::default()), None);
    }
}
