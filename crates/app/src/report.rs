//! What a person sees while a run goes on.

use crate::output::is_quiet;
use indicatif::{ProgressBar, ProgressStyle};
use percept_trainer::Metrics;

/// A bar that shows after half a second of work, on standard error.
pub(crate) fn bar(what: &str) -> ProgressBar {
    let bar = if is_quiet() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("{msg:16} {wide_bar} {pos}/{len}  {elapsed} of about {duration}");
    bar.set_style(style.expect("the template is well formed"));
    bar.set_message(what.to_owned());
    bar
}

/// Columns of the table that `train` prints: heading, metric, digits.
const COLUMNS: &[(&str, &str, usize)] = &[
    ("reward", "reward/overall", 3),
    ("accuracy", "reward/accuracy", 3),
    ("validation", "validation/accuracy", 3),
    ("tokens", "response/length_mean", 1),
    ("kl ref", "objective/reference_kl", 4),
    ("kl prcp", "objective/kl_prcp", 4),
    ("entropy", "objective/nll", 3),
    ("clip", "objective/clip_fraction_high", 3),
    ("grad", "optimizer/grad_norm", 3),
    ("loss", "sft/loss", 4),
    ("tok/s", "speed/tokens_per_second", 0),
    ("seconds", "time/step_seconds", 2),
];

/// Prints a line a step under headings chosen from the first step's metrics; a bar below shows how far the run is.
pub(crate) struct Table {
    bar: ProgressBar,
    columns: Vec<(&'static str, &'static str, usize)>,
    lines: usize,
    /// Steps between lines, so that long warm starts do not flood the terminal.
    every: u64,
    steps: u64,
}

impl Table {
    pub(crate) fn new(what: &str, steps: u64, validates: bool, every: u64) -> Self {
        let bar = bar(what);
        bar.set_length(steps);
        let columns = COLUMNS.iter().copied().filter(|(_, name, _)| validates || !name.starts_with("validation"));
        Self { bar, columns: columns.collect(), lines: 0, every, steps }
    }

    pub(crate) fn report(&mut self, step: u64, metrics: &Metrics) {
        self.bar.set_position(step);
        let validated = metrics.get("validation/accuracy").is_some();
        if !step.is_multiple_of(self.every) && step != self.steps && !validated {
            return;
        }
        if self.lines == 0 && step > 0 {
            self.columns.retain(|(_, name, _)| metrics.get(name).is_some() || name.starts_with("validation"));
        }
        if self.lines == 0 {
            let heads: Vec<String> = self.columns.iter().map(|(head, _, _)| format!("{head:>11}")).collect();
            self.print(format!("{:>6}{}", "step", heads.concat()));
        }
        let cell = |&(_, name, digits): &(&str, &str, usize)| match metrics.get(name) {
            Some(value) => format!("{value:>11.digits$}"),
            None => format!("{:>11}", ""),
        };
        let cells: Vec<String> = self.columns.iter().map(cell).collect();
        self.print(format!("{step:>6}{}", cells.concat()));
        self.lines += usize::from(step > 0 || self.lines > 0);
        if step == 0 {
            // the first training step decides which columns there are
            self.lines = 0;
        }
    }

    /// The bar, for others that print while it shows.
    pub(crate) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    fn print(&self, line: String) {
        self.bar.suspend(|| println!("{line}"));
    }

    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
