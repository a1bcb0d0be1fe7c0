//! The exact two-sided test of paired differences.
//!
//! Under the hypothesis that two runs are alike, each row's difference d_i could as well have the other sign. The p-value
//! is the share of all 2^n choices of signs whose sum is at least as far from 0 as the sum found: Fisher's randomization
//! test. It is counted, not sampled. Scores are averages of a few responses, so that differences are multiples of one
//! unit, and the distribution of the sum is built up row by row on whole numbers. Where no such unit is found, signs alone
//! are tested (the same test with each d_i replaced by its sign).
//!
//! For scores of 0 and 1 both are the sign test, which is McNemar's exact test.

/// Units tried are 1 / 1, 1 / 2, ... 1 / this.
const MAX_DENOMINATOR: u32 = 1000;
/// Additions that the exact distribution may take: seconds.
const MAX_WORK: f64 = 2e9;

/// The p-value, and whether the sizes of the differences were used, or only their signs.
pub(super) fn p_value(differences: &[f64]) -> (f64, bool) {
    if let Some(units) = whole_numbers(differences) {
        return (of_whole_numbers(&units), true);
    }
    let signs: Vec<i64> =
        differences.iter().filter(|value| **value != 0.0).map(|value| value.signum() as i64).collect();
    (of_whole_numbers(&signs), false)
}

/// Differences other than 0 as multiples of their greatest common unit, when there is one and the sum is small enough.
fn whole_numbers(differences: &[f64]) -> Option<Vec<i64>> {
    let in_units = |denominator: u32| -> Option<Vec<i64>> {
        let whole = |value: &f64| {
            let scaled = value * f64::from(denominator);
            // scores are means in single precision
            ((scaled - scaled.round()).abs() < 1e-4).then_some(scaled.round() as i64)
        };
        differences.iter().filter(|value| value.abs() > 1e-6).map(whole).collect()
    };
    let units = (1..=MAX_DENOMINATOR).find_map(in_units)?;
    let divisor = units.iter().fold(0, |divisor, unit| gcd(divisor, unit.unsigned_abs())).max(1) as i64;
    let units: Vec<i64> = units.iter().map(|unit| unit / divisor).collect();
    let total: f64 = units.iter().map(|unit| unit.abs() as f64).sum();
    (total * units.len() as f64 <= MAX_WORK).then_some(units)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The share of choices of signs with |sum| at least as large as the one found.
fn of_whole_numbers(units: &[i64]) -> f64 {
    let found = units.iter().sum::<i64>().unsigned_abs();
    // the sum is the total less twice what is negative: probabilities of what is negative
    let total: usize = units.iter().map(|unit| unit.unsigned_abs() as usize).sum();
    let mut negative = vec![0.0; total + 1];
    negative[0] = 1.0;
    let mut reached = 0;
    for unit in units.iter().map(|unit| unit.unsigned_abs() as usize) {
        reached += unit;
        for sum in (0..=reached).rev() {
            let flipped = if sum >= unit { negative[sum - unit] } else { 0.0 };
            negative[sum] = 0.5 * (negative[sum] + flipped);
        }
    }
    let is_far = |sum: usize| (total as i64 - 2 * sum as i64).unsigned_abs() >= found;
    let p: f64 = negative.iter().enumerate().filter(|(sum, _)| is_far(*sum)).map(|(_, share)| share).sum();
    p.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::p_value;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn scores_of_0_and_1_are_the_sign_test() {
        // 8 wins, 2 losses: 2 * (1 + 10 + 45) / 2^10
        let differences = [[1.0; 8].as_slice(), &[-1.0; 2], &[0.0; 5]].concat();
        let (p, sizes) = p_value(&differences);
        assert!(close(p, 2.0 * 56.0 / 1024.0) && sizes, "{p}");
        assert_eq!(p_value(&[0.0; 4]).0, 1.0);
        assert_eq!(p_value(&[1.0, -1.0]).0, 1.0);
    }

    #[test]
    fn the_distribution_is_that_of_all_choices_of_signs() {
        let differences: [f64; 9] = [0.25, -0.5, 0.75, 0.125, 0.125, -0.25, 1.0, 0.5, 0.375];
        let found = differences.iter().sum::<f64>().abs();
        let far = (0..1_u32 << 9).filter(|signs| {
            let sign = |at: usize| if signs >> at & 1 == 1 { -1.0 } else { 1.0 };
            let sum: f64 = differences.iter().enumerate().map(|(at, value)| sign(at) * value).sum();
            sum.abs() >= found - 1e-9
        });
        let (p, sizes) = p_value(&differences);
        assert!(close(p, far.count() as f64 / 512.0) && sizes, "{p}");
        // thirds in single precision
        let thirds = [f64::from(1.0_f32 / 3.0), f64::from(2.0_f32 / 3.0), 1.0];
        assert!(close(p_value(&thirds).0, 0.25) && p_value(&thirds).1);
    }

    #[test]
    fn scores_without_a_unit_are_tested_by_sign() {
        let (p, sizes) = p_value(&[0.123_456_7, 0.765_432_1, 0.222_333_9, 0.918_273_6]);
        assert!(close(p, 0.125) && !sizes, "{p}");
    }

    #[test]
    fn many_rows_are_quick_and_stay_probabilities() {
        let differences: Vec<f64> = (0..4000).map(|at| f64::from(at % 9 - 4) / 8.0 + 0.125).collect();
        let (p, sizes) = p_value(&differences);
        assert!(p > 0.0 && p < 1e-10 && sizes, "{p}");
    }
}
