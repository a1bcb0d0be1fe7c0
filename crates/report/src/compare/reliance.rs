//! What a policy owes to looking: scores of the same rows with their pictures whole, spoiled, and another row's.

use super::bootstrap::{Interval, interval, ratio_interval};
use super::{RESAMPLES, write_table};
use std::fmt;

/// The condition that the others are compared with.
pub const WHOLE: &str = "whole";
/// The condition in which each row is shown another row's pictures.
pub const SWAPPED: &str = "swapped";

/// Scores under one condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What the pictures were: [`WHOLE`], [`SWAPPED`], or any other name.
    pub name: String,
    /// A score for each row, in the order of rows that all conditions share.
    pub scores: Vec<f64>,
}

/// One condition against the whole picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// As measured.
    pub name: String,
    /// Over rows.
    pub mean: f64,
    /// Bootstrap over rows.
    pub interval: Interval,
    /// The whole picture's mean less this one's.
    pub drop: f64,
    /// Paired bootstrap: rows are drawn with both their scores.
    pub drop_interval: Interval,
}

/// All conditions, and the share of the score that is lost with another row's pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Reliance {
    /// What was scored, such as `avg@8 accuracy`.
    pub score: String,
    /// Rows that were measured under all conditions.
    pub num_rows: usize,
    /// In the order given; the first is the whole picture.
    pub conditions: Vec<Condition>,
    /// (whole - swapped) / whole; nothing where the score with the whole picture is 0.
    pub reliance: Option<f64>,
    /// Paired bootstrap of the quotient; nothing where a resample has no score with the whole picture.
    pub interval: Option<Interval>,
}

/// Compares conditions, the first of them [`WHOLE`] and one of them [`SWAPPED`].
///
/// # Panics
/// When one of the two is missing, when there is no row, or when conditions differ in their number of rows.
pub fn reliance(score: &str, measured: &[Measured]) -> Reliance {
    let whole = measured.first().filter(|first| first.name == WHOLE).expect("the first condition is the whole picture");
    let swapped = measured.iter().find(|other| other.name == SWAPPED).expect("a condition with swapped pictures");
    let less = |other: &Measured| -> Vec<f64> {
        assert_eq!(other.scores.len(), whole.scores.len(), "rows of {} and of {WHOLE}", other.name);
        whole.scores.iter().zip(&other.scores).map(|(whole, other)| whole - other).collect()
    };
    let condition = |other: &Measured| {
        let differences = less(other);
        Condition {
            name: other.name.clone(),
            mean: mean(&other.scores),
            interval: interval(&other.scores),
            drop: mean(&differences),
            drop_interval: interval(&differences),
        }
    };
    let (lost, all) = (less(swapped), mean(&whole.scores));
    Reliance {
        score: score.to_owned(),
        num_rows: whole.scores.len(),
        conditions: measured.iter().map(condition).collect(),
        reliance: (all != 0.0).then(|| mean(&lost) / all),
        interval: ratio_interval(&lost, &whole.scores),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl fmt::Display for Reliance {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let head = ["picture", &self.score, "95% interval", "drop", "95% interval"];
        let mut table = vec![head.map(str::to_owned).to_vec()];
        table.extend(self.conditions.iter().enumerate().map(|(at, condition)| {
            let Interval { low, high } = condition.interval;
            let mut row =
                vec![condition.name.clone(), format!("{:.4}", condition.mean), format!("{low:.4} to {high:.4}")];
            if at > 0 {
                let Interval { low, high } = condition.drop_interval;
                row.extend([format!("{:+.4}", condition.drop), format!("{low:+.4} to {high:+.4}")]);
            }
            row
        }));
        write_table(f, &table)?;
        let reliance = match (self.reliance, self.interval) {
            (None, _) => format!("undefined: the score with the {WHOLE} picture is 0"),
            (Some(reliance), None) => {
                format!("{reliance:.4} (no interval: too few rows score with the {WHOLE} picture)")
            }
            (Some(reliance), Some(Interval { low, high })) => {
                format!("{reliance:.4} (95% interval {low:.4} to {high:.4})")
            }
        };
        writeln!(f, "\nreliance, ({WHOLE} - {SWAPPED}) / {WHOLE}: {reliance}")?;
        writeln!(f, "{} rows; intervals: bootstrap over rows, {RESAMPLES} resamples.", self.num_rows)
    }
}

#[cfg(test)]
mod tests {
    use super::{Measured, reliance};

    fn measured(name: &str, right: impl Fn(usize) -> bool) -> Measured {
        Measured { name: name.to_owned(), scores: (0..100).map(|row| f64::from(u8::from(right(row)))).collect() }
    }

    #[test]
    fn drops_are_paired_and_reliance_is_a_share() {
        let found = reliance(
            "avg@1 accuracy",
            &[
                measured("whole", |row| row < 80),
                measured("blank", |row| row < 20),
                measured("swapped", |row| row >= 60),
            ],
        );
        assert_eq!(found.conditions.iter().map(|condition| condition.mean).collect::<Vec<_>>(), [0.8, 0.2, 0.4]);
        assert_eq!(found.num_rows, 100);
        assert!((found.reliance.expect("defined") - 0.5).abs() < 1e-12);
        let [whole, blank, swapped] = &found.conditions[..] else { panic!("three conditions") };
        assert_eq!((whole.drop, whole.drop_interval.low, whole.drop_interval.high), (0.0, 0.0, 0.0));
        let width = |condition: &super::Condition| condition.drop_interval.high - condition.drop_interval.low;
        // 60 rows lose 1 and 40 nothing; swapped, 60 lose 1 and 20 gain 1: wider, though the scores' own intervals hardly differ
        assert!((blank.drop - 0.6).abs() < 1e-12 && (swapped.drop - 0.4).abs() < 1e-12);
        assert!((0.17..0.22).contains(&width(blank)) && (0.28..0.35).contains(&width(swapped)), "{found:?}");
        let interval = found.interval.expect("every resample has a right answer");
        assert!(interval.low > 0.3 && interval.low < 0.5 && interval.high > 0.5 && interval.high < 0.7, "{interval:?}");
        let table = found.to_string();
        assert!(table.contains("blank            0.2000"), "{table}");
        assert!(table.contains("reliance, (whole - swapped) / whole: 0.5000 (95% interval "), "{table}");
    }

    #[test]
    fn nothing_right_is_no_reliance() {
        let found = reliance("avg@1 accuracy", &[measured("whole", |_| false), measured("swapped", |row| row < 5)]);
        assert_eq!((found.reliance, found.interval), (None, None));
        assert!(found.to_string().contains("undefined: the score with the whole picture is 0"), "{found}");
        // one right answer in 100: a resample in three has none
        let found = reliance("avg@1 accuracy", &[measured("whole", |row| row == 3), measured("swapped", |_| false)]);
        assert_eq!((found.reliance, found.interval), (Some(1.0), None));
        assert!(found.to_string().contains("1.0000 (no interval"), "{found}");
    }

    #[test]
    fn better_without_the_picture_is_below_zero() {
        let found =
            reliance("avg@1 accuracy", &[measured("whole", |row| row < 20), measured("swapped", |row| row < 30)]);
        assert!((found.reliance.expect("defined") + 0.5).abs() < 1e-12);
    }
}
