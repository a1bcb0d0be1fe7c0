//! Runs beside each other: validation scores, and tests on the rows of a data set.
//!
//! [`validation`] reads what runs measured while they trained. [`rows`] compares scores row by row, as `percept eval --rows`
//! writes them, and says how sure a difference is. [`reliance`] says what a policy owes to looking.

mod bootstrap;
mod permutation;
mod reliance;
mod rows;
mod scores;
mod validation;

pub use bootstrap::{Interval, RESAMPLES, interval, ratio_interval};
pub use reliance::{Condition, Measured, Reliance, SWAPPED, WHOLE, reliance};
pub use rows::{Pair, RowComparison, RunMean, rows};
pub use scores::{RowScore, RunScores};
pub(crate) use validation::score as validation_score;
pub use validation::{RunScore, Score, ValidationComparison, ValidationRow, validation};

/// Columns of text, the first on the left and the others on the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            line += &if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn write_table(f: &mut std::fmt::Formatter, rows: &[Vec<String>]) -> std::fmt::Result {
    f.write_str(&table(rows))
}
