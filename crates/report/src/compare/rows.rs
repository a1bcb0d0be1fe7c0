//! Means with intervals, and each run against the first on the rows that both have.

use super::bootstrap::{Interval, interval};
use super::permutation::p_value;
use super::{RESAMPLES, RunScores, write_table};
use crate::ReportError;
use std::fmt;

/// The mean of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunMean {
    /// The run.
    pub name: String,
    /// Rows that it has.
    pub num_rows: usize,
    /// Over its rows.
    pub mean: f64,
    /// Bootstrap over rows.
    pub interval: Interval,
}

/// A run against the first one.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The first run.
    pub baseline: String,
    /// The other one.
    pub name: String,
    /// Rows that both have.
    pub num_rows: usize,
    /// Mean over these rows of the run's score less the baseline's.
    pub difference: f64,
    /// Paired bootstrap: rows are drawn with both their scores.
    pub interval: Interval,
    /// Rows where the run is better.
    pub num_better: usize,
    /// Rows where the run is worse.
    pub num_worse: usize,
    /// Exact and two-sided: how often runs that are alike would differ as much, by chance.
    pub p_value: f64,
    /// Whether the test is the permutation test of the differences; otherwise it is that of their signs.
    pub uses_sizes: bool,
}

/// Runs compared row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowComparison {
    /// The runs in the order given.
    pub means: Vec<RunMean>,
    /// Every run but the first, against the first.
    pub pairs: Vec<Pair>,
}

/// Compares runs row by row; the first is the baseline.
///
/// # Errors
/// With fewer than two runs, without rows, or when a run has no row in common with the first.
pub fn rows(runs: &[RunScores]) -> Result<RowComparison, ReportError> {
    let [baseline, others @ ..] = runs else { return Err(too_few(runs.len())) };
    if others.is_empty() {
        return Err(too_few(runs.len()));
    }
    let means = runs.iter().map(mean).collect::<Result<_, _>>()?;
    let pairs = others.iter().map(|other| pair(baseline, other)).collect::<Result<_, _>>()?;
    Ok(RowComparison { means, pairs })
}

fn too_few(given: usize) -> ReportError {
    ReportError::TooFew { what: "a comparison", needed: "two runs", given }
}

fn mean(run: &RunScores) -> Result<RunMean, ReportError> {
    let scores: Vec<f64> = run.by_row().into_values().collect();
    if scores.is_empty() {
        return Err(ReportError::TooFew { what: "the mean of a run", needed: "one row", given: 0 });
    }
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    Ok(RunMean { name: run.name.clone(), num_rows: scores.len(), mean, interval: interval(&scores) })
}

fn pair(baseline: &RunScores, run: &RunScores) -> Result<Pair, ReportError> {
    let (first, second) = (baseline.by_row(), run.by_row());
    let differences: Vec<f64> =
        first.iter().filter_map(|(row, score)| second.get(row).map(|other| other - score)).collect();
    if differences.is_empty() {
        return Err(ReportError::NoCommonRows { first: baseline.name.clone(), second: run.name.clone() });
    }
    let (p_value, uses_sizes) = p_value(&differences);
    Ok(Pair {
        baseline: baseline.name.clone(),
        name: run.name.clone(),
        num_rows: differences.len(),
        difference: differences.iter().sum::<f64>() / differences.len() as f64,
        interval: interval(&differences),
        num_better: differences.iter().filter(|difference| **difference > 0.0).count(),
        num_worse: differences.iter().filter(|difference| **difference < 0.0).count(),
        p_value,
        uses_sizes,
    })
}

impl fmt::Display for RowComparison {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let cells = |row: &[&str]| row.iter().map(|cell| (*cell).to_owned()).collect::<Vec<String>>();
        let mut table = vec![cells(&["run", "rows", "mean", "95% interval"])];
        table.extend(self.means.iter().map(|run| {
            let interval = format!("{:.4} to {:.4}", run.interval.low, run.interval.high);
            vec![run.name.clone(), run.num_rows.to_string(), format!("{:.4}", run.mean), interval]
        }));
        write_table(f, &table)?;
        let baseline = self.pairs.first().map_or("", |pair| pair.baseline.as_str());
        writeln!(f)?;
        let against = format!("against {baseline}");
        let mut table = vec![cells(&[&against, "rows", "difference", "95% interval", "better", "worse", "p"])];
        table.extend(self.pairs.iter().map(|pair| {
            let p = if pair.p_value < 0.0001 { "< 0.0001".to_owned() } else { format!("{:.4}", pair.p_value) };
            vec![
                pair.name.clone(),
                pair.num_rows.to_string(),
                format!("{:+.4}", pair.difference),
                format!("{:+.4} to {:+.4}", pair.interval.low, pair.interval.high),
                pair.num_better.to_string(),
                pair.num_worse.to_string(),
                if pair.uses_sizes { p } else { format!("{p} *") },
            ]
        }));
        write_table(f, &table)?;
        writeln!(f, "\nIntervals: bootstrap over rows, {RESAMPLES} resamples. p: exact permutation test, two-sided.")?;
        if self.pairs.iter().any(|pair| !pair.uses_sizes) {
            writeln!(f, "*: of the signs alone, since the scores are not multiples of one unit.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::rows;
    use crate::compare::{RowScore, RunScores};

    fn run(name: &str, scores: &[(usize, f64)]) -> RunScores {
        let rows = scores.iter().map(|(row, score)| RowScore { row: row.to_string(), score: *score }).collect();
        RunScores { name: name.to_owned(), rows }
    }

    #[test]
    fn rows_are_paired_by_name_not_by_place() {
        let first: Vec<(usize, f64)> = (0..40).map(|row| (row, f64::from(u8::from(row % 2 == 0)))).collect();
        let second: Vec<(usize, f64)> =
            (5..45).rev().map(|row| (row, f64::from(u8::from(row % 2 == 0 || row % 5 == 0)))).collect();
        let found = rows(&[run("base", &first), run("papo", &second)]).expect("a comparison");
        let pair = &found.pairs[0];
        // rows 5, 15, 25 and 35
        assert_eq!((pair.num_rows, pair.num_better, pair.num_worse), (35, 4, 0));
        assert!((pair.difference - 4.0 / 35.0).abs() < 1e-12 && (pair.p_value - 0.125).abs() < 1e-12);
        assert!(pair.interval.low >= 0.0 && pair.interval.high < 0.25, "{:?}", pair.interval);
        assert_eq!((found.means[0].mean, found.means[1].num_rows), (0.5, 40));
        let table = found.to_string();
        assert!(table.contains("papo            35     +0.1143"), "{table}");
        assert!(table.contains("0.1250"), "{table}");
    }

    #[test]
    fn a_row_that_stands_there_twice_counts_once() {
        let found = rows(&[run("a", &[(1, 0.0), (1, 1.0), (2, 1.0)]), run("b", &[(1, 0.5), (2, 1.0)])]);
        let found = found.expect("a comparison");
        assert_eq!((found.means[0].num_rows, found.means[0].mean), (2, 0.75));
        assert_eq!((found.pairs[0].difference, found.pairs[0].p_value), (0.0, 1.0));
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let error = rows(&[run("a", &[(1, 0.0)])]).expect_err("one run").to_string();
        assert_eq!(error, "a comparison needs at least two runs, and was given 1; name more of them");
        let error = rows(&[run("a", &[(1, 0.0)]), run("b", &[(2, 0.0)])]).expect_err("no common row").to_string();
        assert!(error.contains("a and b have no row in common"), "{error}");
    }
}
