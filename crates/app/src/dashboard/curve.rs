//! A metric over the steps of a run, in bounded memory.

/// As many points as the widest plot tells apart, and some.
const MOST_POINTS: usize = 1024;

pub(super) struct Curve {
    pub(super) title: String,
    pub(super) metric: String,
    /// Step and value; behind [`MOST_POINTS`] of them, two become their mean.
    points: Vec<(f64, f64)>,
    /// Values that one point is the mean of.
    stride: usize,
    waiting: Vec<f64>,
    last: Option<f64>,
}

impl Curve {
    pub(super) fn new(title: &str, metric: &str) -> Self {
        let (title, metric) = (title.to_owned(), metric.to_owned());
        Self { title, metric, points: Vec::new(), stride: 1, waiting: Vec::new(), last: None }
    }

    pub(super) fn push(&mut self, step: u64, value: f64) {
        self.last = Some(value);
        if !value.is_finite() {
            // shown as the last value, but a plot has no place for it
            return;
        }
        self.waiting.push(value);
        if self.waiting.len() < self.stride {
            return;
        }
        self.points.push((step as f64, self.waiting.iter().sum::<f64>() / self.waiting.len() as f64));
        self.waiting.clear();
        if self.points.len() >= MOST_POINTS {
            let merge = |pair: &[(f64, f64)]| (pair[1].0, (pair[0].1 + pair[1].1) / 2.0);
            self.points = self.points.chunks_exact(2).map(merge).collect();
            self.stride *= 2;
        }
    }

    pub(super) fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    pub(super) fn last(&self) -> Option<f64> {
        self.last
    }

    /// Smallest and largest value, apart from each other even where all are equal.
    pub(super) fn bounds(&self) -> [f64; 2] {
        let values = self.points.iter().map(|&(_, value)| value);
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return [0.0, 1.0];
        }
        if low < high { [low, high] } else { [low - low.abs().max(1.0) / 10.0, high + high.abs().max(1.0) / 10.0] }
    }
}

/// A number in at most seven characters.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => format!("{value}"),
        _ if size >= 1e9 => format!("{value:.1e}"),
        _ if size >= 1e6 => format!("{:.1}M", value / 1e6),
        _ if size >= 1e4 => format!("{:.1}k", value / 1e3),
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if size >= 0.001 => format!("{value:.3}"),
        _ if size == 0.0 => "0".to_owned(),
        _ => format!("{value:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_its_shape_in_bounded_memory() {
        let mut curve = Curve::new("reward", "reward/overall");
        for step in 1..=100_000 {
            curve.push(step, step as f64);
        }
        assert!(curve.points().len() < MOST_POINTS, "{}", curve.points().len());
        assert_eq!(curve.last(), Some(100_000.0));
        let [low, high] = curve.bounds();
        assert!(low < 200.0 && high > 99_800.0, "{low} {high}");
        assert!(curve.points().windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
    }

    #[test]
    fn what_is_not_a_number_is_told_and_not_drawn() {
        let mut curve = Curve::new("loss", "sft/loss");
        curve.push(1, 2.0);
        curve.push(2, f64::NAN);
        assert_eq!(curve.points(), [(1.0, 2.0)]);
        assert!(curve.last().expect("a value").is_nan());
        let [low, high] = curve.bounds();
        assert!(low < 2.0 && 2.0 < high);
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.62512, -0.5, 3e-4, 21.34, 512.4, 98_765.0, 123_456_789.0].map(short);
        assert_eq!(shown, ["0", "0.625", "-0.500", "3e-4", "21.3", "512", "98.8k", "123.5M"]);
        assert!((-60..60).all(|power| short(-1.2345 * 10f64.powi(power)).len() <= 7));
    }
}
