//! Which numbers a dropout drops: a function of keys, the same on every device.
//!
//! A row brings a key of its own (what the row is, not where it stands), and a map has one for each of its columns; a number is dropped
//! when the two, mixed, fall below the rate. The mask is therefore the same however rows are batched, and can be computed again instead of
//! being kept. Everything stays below 2^31, so that devices that count in 32 bits with a sign agree with those that count in 64.

use crate::plan::Row;
use crate::uploaded::Uploaded;
use burn::tensor::{Int, Tensor};

/// Parts of one that a rate is counted in.
pub(crate) const PARTS: u32 = 1 << 16;

/// A key for each row of a matrix.
#[derive(Clone, Debug)]
pub struct RowKeys {
    /// As the mask mixes them.
    pub(crate) keys: Vec<u32>,
    pub(crate) uploaded: Uploaded<Tensor<2, Int>>,
}

impl RowKeys {
    pub fn new(keys: impl IntoIterator<Item = u64>) -> Self {
        Self::of_shortened(keys.into_iter().map(shortened).collect())
    }

    fn of_shortened(keys: Vec<u32>) -> Self {
        Self { keys, uploaded: Uploaded::default() }
    }

    /// The keys of some of the rows.
    ///
    /// # Panics
    /// When a row is not one of the matrix.
    #[must_use]
    pub fn of(&self, rows: &[Row]) -> Self {
        let key = |row: &Row| match row {
            Row::Table(at) => self.keys[*at as usize],
            Row::Feature(_) => panic!("a row of the matrix was expected"),
        };
        Self::of_shortened(rows.iter().map(key).collect())
    }
}

/// What follows a key: the key of a sequence's next row, from that of the row before and what the next one holds.
pub fn next_key(key: u64, holds: u64) -> u64 {
    // splitmix64's finalizer
    let mut mixed = key.wrapping_add(0x9E37_79B9_7F4A_7C15) ^ holds.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The keys of a map's columns.
pub(crate) fn columns(map: u64, width: usize) -> impl Iterator<Item = u32> {
    (0..width as u64).map(move |column| shortened(next_key(map, column)))
}

fn shortened(key: u64) -> u32 {
    (key >> 33) as u32
}

/// The factors of the mixture's two rounds, below 2^15.
pub(crate) const FACTORS: [u32; 4] = [30_011, 27_437, 25_237, 31_337];

/// A number below [`PARTS`] for a row and a column, each below 2^31.
#[inline(always)]
pub(crate) fn mixture(row: u32, column: u32) -> u32 {
    let [a, b, c, d] = FACTORS;
    let mixed = row ^ column;
    let mixed = ((mixed >> 16) * a) ^ ((mixed & 0xFFFF) * b);
    let mixed = ((mixed >> 15) * c) ^ ((mixed & 0x7FFF) * d);
    (mixed >> 8) & (PARTS - 1)
}

/// The rate in parts of [`PARTS`], and what is left is multiplied by.
pub(crate) fn threshold(rate: f64) -> (u32, f32) {
    assert!((0.0..1.0).contains(&rate), "a rate from 0 to below 1 was expected, not {rate}");
    let threshold = ((rate * f64::from(PARTS)).round() as u32).min(PARTS - 1);
    (threshold, (f64::from(PARTS) / f64::from(PARTS - threshold)) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 600;
    const WIDTH: usize = 500;

    /// Whether each number is dropped, row by row.
    fn dropped(rate: f64, map: u64) -> Vec<bool> {
        let mut key = 7;
        let rows = std::iter::repeat_with(|| {
            key = next_key(key, 5);
            key
        });
        let keys = RowKeys::new(rows.take(ROWS));
        let columns: Vec<u32> = columns(map, WIDTH).collect();
        let (threshold, _) = threshold(rate);
        keys.keys.iter().flat_map(|&row| columns.iter().map(move |&column| mixture(row, column) < threshold)).collect()
    }

    /// The share of `true`, in standard deviations of independent draws from its expectation.
    fn surprise(hits: impl Iterator<Item = bool>, expected: f64) -> f64 {
        let (mut count, mut total) = (0.0, 0.0);
        for hit in hits {
            count += f64::from(hit);
            total += 1.0;
        }
        (count - total * expected).abs() / (total * expected * (1.0 - expected)).sqrt()
    }

    #[test]
    fn numbers_are_dropped_at_the_rate_and_independently() {
        for (rate, map) in [(0.05, 1), (0.1, 2), (0.5, 3), (0.9, 4)] {
            let mask = dropped(rate, map);
            let at = |row: usize, column: usize| mask[row * WIDTH + column];
            assert!(surprise(mask.iter().copied(), rate) < 4.0, "{rate}: of all");
            for row in 0..ROWS {
                assert!(surprise((0..WIDTH).map(|column| at(row, column)), rate) < 5.0, "{rate}: row {row}");
            }
            for column in 0..WIDTH {
                assert!(surprise((0..ROWS).map(|row| at(row, column)), rate) < 5.0, "{rate}: column {column}");
            }
            let pairs = |down: usize, across: usize| {
                (0..ROWS - down).flat_map(move |row| (0..WIDTH - across).map(move |column| (row, column)))
            };
            for (down, across) in [(0, 1), (1, 0), (1, 1), (0, 7), (64, 0), (3, 128)] {
                let both = pairs(down, across).map(|(row, column)| at(row, column) && at(row + down, column + across));
                assert!(surprise(both, rate * rate) < 5.0, "{rate}: {down} down and {across} across");
            }
            // four corners of a rectangle: what a mask made of rows and columns alone gets wrong
            let odd = rate * (1.0 - rate).powi(3) * 4.0 + rate.powi(3) * (1.0 - rate) * 4.0;
            for (down, across) in [(1, 1), (17, 5), (256, 33)] {
                let corners = pairs(down, across).map(|(row, column)| {
                    at(row, column)
                        ^ at(row + down, column)
                        ^ at(row, column + across)
                        ^ at(row + down, column + across)
                });
                // corners are shared by four rectangles: twice the deviation
                assert!(surprise(corners, odd) < 8.0, "{rate}: rectangles of {down} by {across}");
            }
        }
    }

    #[test]
    fn maps_and_rows_are_told_apart() {
        let [a, b] = [1, 2].map(|map| dropped(0.5, map));
        assert_eq!(a, dropped(0.5, 1));
        assert!(surprise(a.iter().zip(&b).map(|(a, b)| a == b), 0.5) < 5.0);
        assert_ne!(next_key(1, 2), next_key(2, 1));
        let keys = RowKeys::new([1 << 40, 2 << 40, 3 << 40]);
        assert_eq!(keys.of(&[Row::Table(2), Row::Table(0)]).keys, [3 << 7, 1 << 7]);
    }

    #[test]
    fn what_is_left_makes_up_for_what_is_dropped() {
        for rate in [0.0, 0.1, 0.25, 0.999_99] {
            let (threshold, scale) = threshold(rate);
            let kept = 1.0 - f64::from(threshold) / f64::from(PARTS);
            assert!((kept * f64::from(scale) - 1.0).abs() < 1e-6, "{rate}");
        }
        assert_eq!(threshold(0.25), (1 << 14, 4.0 / 3.0));
    }
}
