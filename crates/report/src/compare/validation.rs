//! Final and best validation scores of runs.

use super::write_table;
use crate::{Metrics, ReportError, run};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// A score and when it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Steps done.
    pub step: u64,
    /// The score.
    pub value: f64,
}

/// A validation score of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunScore {
    /// The last one measured.
    pub last: Score,
    /// The highest one, and of equal ones the first.
    pub best: Score,
}

/// One validation score of all runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidationRow {
    /// The metric, such as `validation/overall`.
    pub name: String,
    /// For each run; `None` where it never measured it.
    pub scores: Vec<Option<RunScore>>,
}

/// What runs measured while they trained.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidationComparison {
    /// The runs' names, in the order given.
    pub runs: Vec<String>,
    /// `validation/overall` first, then the others in alphabetical order.
    pub rows: Vec<ValidationRow>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Compares the validation scores of run directories.
///
/// # Errors
/// When a run's metrics cannot be read.
pub fn validation(runs: &[&Path]) -> Result<ValidationComparison, ReportError> {
    let metrics = runs.iter().map(|run| Metrics::read(run)).collect::<Result<Vec<_>, _>>()?;
    let is_score = |name: &&String| name.starts_with("validation/") && *name != "validation/rows";
    let names: BTreeSet<&String> = metrics.iter().flat_map(|metrics| metrics.columns.keys()).filter(is_score).collect();
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort_by_key(|name| *name != "validation/overall");
    let row = |name: &String| ValidationRow {
        name: name.clone(),
        scores: metrics.iter().map(|metrics| score(metrics, name)).collect(),
    };
    let mut notes: Vec<String> = metrics.iter().flat_map(|metrics| metrics.notes.clone()).collect();
    let run_names = run::names(runs);
    for (name, metrics) in run_names.iter().zip(&metrics) {
        if !metrics.columns.keys().any(|name| is_score(&name)) {
            notes.push(format!("{name}: the run measured no validation (data.validation, trainer.validation)"));
        }
    }
    Ok(ValidationComparison { rows: names.into_iter().map(row).collect(), runs: run_names, notes })
}

pub(crate) fn score(metrics: &Metrics, name: &str) -> Option<RunScore> {
    let scores = metrics.curve(name).map(|(step, value)| Score { step, value }).filter(|score| score.value.is_finite());
    scores.fold(None, |found: Option<RunScore>, last| {
        let best = found.map(|found| found.best).filter(|best| best.value >= last.value).unwrap_or(last);
        Some(RunScore { last, best })
    })
}

impl fmt::Display for ValidationComparison {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (at, row) in self.rows.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            let mut table = vec![[row.name.as_str(), "last", "at step", "best", "at step"].map(str::to_owned).to_vec()];
            for (run, score) in self.runs.iter().zip(&row.scores) {
                let cells = score.map_or(vec!["-".to_owned()], |score| {
                    [score.last, score.best]
                        .iter()
                        .flat_map(|s| [format!("{:.4}", s.value), s.step.to_string()])
                        .collect()
                });
                table.push([vec![run.clone()], cells].concat());
            }
            write_table(f, &table)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "\n{note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Score, validation};
    use std::path::Path;

    fn write(folder: &Path, text: &str) {
        std::fs::create_dir(folder).expect("a folder");
        std::fs::write(folder.join("metrics.jsonl"), text).expect("written");
    }

    #[test]
    fn last_and_best_of_each_score() {
        let folder = tempfile::tempdir().expect("a folder");
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        write(
            &first,
            "{\"step\":0,\"validation/overall\":0.25,\"validation/accuracy\":0.2,\"validation/rows\":9}\n\
             {\"step\":5,\"validation/overall\":0.75}\n{\"step\":6,\"reward/overall\":1}\n\
             {\"step\":10,\"validation/overall\":0.5}\n{\"step\":15,\"validation/overall\":0.75}\n",
        );
        write(&second, "{\"step\":1,\"reward/overall\":1}\n");
        let found = validation(&[&first, &second]).expect("a comparison");
        assert_eq!(
            found.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(),
            ["validation/overall", "validation/accuracy"]
        );
        let score = found.rows[0].scores[0].expect("measured");
        assert_eq!((score.last, score.best), (Score { step: 15, value: 0.75 }, Score { step: 5, value: 0.75 }));
        assert_eq!(found.rows[0].scores[1], None);
        assert!(found.notes[0].starts_with("second: the run measured no validation"));
        let table = found.to_string();
        assert!(table.contains("first               0.7500       15  0.7500        5"), "{table}");
    }
}
