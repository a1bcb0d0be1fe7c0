//! Runs beside each other: validation scores, and tests on the rows of a data set.
//!
//! [`validation`] reads what runs measured while they trained. [`rows`] compares scores row by row, as `percept eval --rows`
//! writes them, and says how sure a difference is.

mod bootstrap;
mod permutation;
mod rows;
mod scores;
mod validation;

pub use bootstrap::{Interval, RESAMPLES};
pub use rows::{Pair, RowComparison, RunMean, rows};
pub use scores::{RowScore, RunScores};
pub(crate) use validation::score as validation_score;
pub use validation::{RunScore, Score, ValidationComparison, ValidationRow, validation};

/// Columns of text, the first on the left and the others on the right.
fn write_table(f: &mut std::fmt::Formatter, rows: &[Vec<String>]) -> std::fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            line += &if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
