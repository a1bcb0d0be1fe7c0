//! Percentile bootstrap of a mean, and of a ratio of means (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13).

/// Resamples of each interval.
pub const RESAMPLES: usize = 10_000;

const SEED: u64 = 0x5eed_9e2c_e97c_0001;

/// A 95% confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The 2.5th percentile over resamples.
    pub low: f64,
    /// The 97.5th percentile over resamples.
    pub high: f64,
}

/// The 95% interval of the mean of `values`, of which there is at least one. The same values in the same order give the same interval.
pub fn interval(values: &[f64]) -> Interval {
    assert!(!values.is_empty(), "an interval of {} values", values.len());
    let mean = |rows: &mut dyn Iterator<Item = usize>| rows.map(|row| values[row]).sum::<f64>() / values.len() as f64;
    middle(&resampled(values.len(), mean))
}

/// The 95% interval of the sum of `above` over the sum of `below`, drawn in pairs; nothing where a resample's sum below is 0.
pub fn ratio_interval(above: &[f64], below: &[f64]) -> Option<Interval> {
    assert!(!above.is_empty() && above.len() == below.len(), "pairs of {} and {} values", above.len(), below.len());
    let ratio = |rows: &mut dyn Iterator<Item = usize>| {
        let (above, below) = rows.fold((0.0, 0.0), |(a, b), row| (a + above[row], b + below[row]));
        above / below
    };
    let ratios = resampled(above.len(), ratio);
    ratios.iter().all(|ratio| ratio.is_finite()).then(|| middle(&ratios))
}

/// A statistic of each resample of rows, in order of size.
fn resampled(num_rows: usize, statistic: impl Fn(&mut dyn Iterator<Item = usize>) -> f64) -> Vec<f64> {
    let num_rows = num_rows as u64;
    let of = |resample: u64| {
        let counters = resample * num_rows..(resample + 1) * num_rows;
        statistic(&mut counters.map(|counter| draw(counter, num_rows)))
    };
    let mut all: Vec<f64> = (0..RESAMPLES as u64).map(of).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// From the 2.5th to the 97.5th percentile.
fn middle(sorted: &[f64]) -> Interval {
    let percentile = |share: f64| {
        let place = share * (sorted.len() - 1) as f64;
        let (below, part) = (place.floor() as usize, place.fract());
        sorted[below] + part * (sorted[(below + 1).min(sorted.len() - 1)] - sorted[below])
    };
    Interval { low: percentile(0.025), high: percentile(0.975) }
}

/// A number below `bound`, a function of the counter alone.
fn draw(counter: u64, bound: u64) -> usize {
    // the upper half of a product: its bias is bound / 2^64
    ((u128::from(splitmix64(SEED, counter)) * u128::from(bound)) >> 64) as usize
}

/// The n-th number of SplitMix64 (Steele, Lea and Flood, 2014).
fn splitmix64(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{draw, interval, ratio_interval, splitmix64};

    #[test]
    fn numbers_are_those_of_the_reference() {
        // the first of the generator seeded with 1234567, as published with many implementations
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([0, 1, 2].map(|counter| splitmix64(1_234_567, counter)), expected);
    }

    #[test]
    fn draws_are_even() {
        let mut counts = [0; 7];
        (0..70_000).for_each(|counter| counts[draw(counter, 7)] += 1);
        assert!(counts.iter().all(|count| (9_700..10_300).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_interval_is_that_of_the_normal_approximation_where_that_holds() {
        // 400 scores, 60% right: standard error sqrt(0.6 * 0.4 / 400) = 0.0245
        let values: Vec<f64> = (0..400).map(|at| f64::from(u8::from(at % 5 < 3))).collect();
        let found = interval(&values);
        assert!((found.low - (0.6 - 1.96 * 0.0245)).abs() < 0.004, "{found:?}");
        assert!((found.high - (0.6 + 1.96 * 0.0245)).abs() < 0.004, "{found:?}");
        assert_eq!(interval(&values), found);
    }

    #[test]
    fn equal_values_have_no_spread() {
        let found = interval(&[0.25; 9]);
        assert_eq!((found.low, found.high), (0.25, 0.25));
    }
    #[test]
    fn a_ratio_is_drawn_in_pairs() {
        let below: Vec<f64> = (0..60).map(|at| f64::from(1 + at % 4)).collect();
        let half: Vec<f64> = below.iter().map(|value| value / 2.0).collect();
        let found = ratio_interval(&half, &below).expect("sums are above 0");
        assert!((found.low - 0.5).abs() < 1e-12 && (found.high - 0.5).abs() < 1e-12, "{found:?}");
        // over ones it is a mean
        let values: Vec<f64> = (0..50).map(|at| f64::from(u8::from(at % 3 == 0))).collect();
        let (ratio, mean) = (ratio_interval(&values, &[1.0; 50]).expect("sums are above 0"), interval(&values));
        assert!((ratio.low - mean.low).abs() < 1e-12 && (ratio.high - mean.high).abs() < 1e-12);
        // one value above 0 in five: a third of the resamples miss it
        assert_eq!(ratio_interval(&[0.0; 5], &[0.0, 0.0, 1.0, 0.0, 0.0]), None);
    }
}
