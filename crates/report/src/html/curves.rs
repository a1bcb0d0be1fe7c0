//! Metrics as curves of a bounded number of points.

use super::data::{Chart, Curve, round};
use super::meanings::Meanings;
use crate::Metrics;
use std::collections::BTreeMap;

/// Areas in the order of a reader's questions: is it getting better, is it healthy, is it fast. Others follow by name.
const ORDER: [&str; 14] = [
    "validation",
    "reward",
    "response",
    "advantage",
    "collect",
    "objective",
    "optimizer",
    "sft",
    "rollout",
    "prompt",
    "data",
    "speed",
    "time",
    "memory",
];

/// A chart for each metric, grouped by area.
pub(super) fn charts(runs: &[Metrics], max_points: usize) -> Vec<Chart> {
    let mut charts: BTreeMap<(usize, &str, &str), Vec<Curve>> = BTreeMap::new();
    for (run, metrics) in runs.iter().enumerate() {
        for name in metrics.columns.keys() {
            let (area, short) = split(name);
            let order = ORDER.iter().position(|known| *known == area).unwrap_or(ORDER.len());
            let points: Vec<(u64, f64)> = metrics.curve(name).collect();
            charts.entry((order, area, short)).or_default().push(curve(run, &points, max_points));
        }
    }
    let meanings = Meanings::read();
    let chart = |((_, area, name), curves): ((usize, &str, &str), Vec<Curve>)| {
        let whole = if name.starts_with(area) { name.to_owned() } else { format!("{area}/{name}") };
        let meaning = meanings.of(&whole);
        Chart { area: area.to_owned(), name: name.to_owned(), meaning: meaning.text, unit: meaning.unit, curves }
    };
    charts.into_iter().map(chart).collect()
}

/// Area and name: `reward/overall` is (`reward`, `overall`). A name without a slash belongs to the area of its first word.
fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or_else(|| (name.split('_').next().unwrap_or(name), name))
}

fn curve(run: usize, points: &[(u64, f64)], max_points: usize) -> Curve {
    let finite = |value: f64| value.is_finite().then(|| round(value));
    let mut curve = Curve {
        run,
        steps: Vec::new(),
        values: Vec::new(),
        mean_steps: Vec::new(),
        means: Vec::new(),
        every: 1,
        num_points: points.len(),
        num_nonfinite: points.iter().filter(|(_, value)| !value.is_finite()).count(),
        last: points.last().and_then(|(_, value)| finite(*value)),
    };
    let kept: Vec<(u64, f64)> = if points.len() <= max_points {
        points.to_vec()
    } else {
        // two points of a bucket, and the ends of the curve
        curve.every = points.len().div_ceil((max_points.saturating_sub(2) / 2).max(1));
        let buckets = || points.chunks(curve.every);
        let middle = |bucket: &[(u64, f64)]| bucket[bucket.len() / 2].0;
        curve.mean_steps = differences(buckets().map(middle));
        curve.means = buckets().map(|bucket| finite(mean(bucket))).collect();
        let ends = [points[0], points[points.len() - 1]];
        let peaks = buckets().flat_map(extremes).filter(|(step, _)| ends.iter().all(|end| end.0 != *step));
        [ends[0]].into_iter().chain(peaks).chain([ends[1]]).collect()
    };
    curve.steps = differences(kept.iter().map(|(step, _)| *step));
    curve.values = kept.iter().map(|(_, value)| finite(*value)).collect();
    curve
}

/// The lowest and the highest point of a bucket in the order of their steps; a bucket without a finite number is one gap.
fn extremes(bucket: &[(u64, f64)]) -> Vec<(u64, f64)> {
    let finite = || bucket.iter().filter(|(_, value)| value.is_finite());
    let lowest = finite().min_by(|a, b| a.1.total_cmp(&b.1));
    let highest = finite().max_by(|a, b| a.1.total_cmp(&b.1));
    match (lowest, highest) {
        (Some(low), Some(high)) if low.0 == high.0 => vec![*low],
        (Some(low), Some(high)) if low.0 < high.0 => vec![*low, *high],
        (Some(low), Some(high)) => vec![*high, *low],
        _ => vec![(bucket[0].0, f64::NAN)],
    }
}

fn mean(bucket: &[(u64, f64)]) -> f64 {
    let finite: Vec<f64> = bucket.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).collect();
    finite.iter().sum::<f64>() / finite.len() as f64
}

fn differences(steps: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut before = 0;
    steps.map(|step| step - std::mem::replace(&mut before, step)).collect()
}

#[cfg(test)]
mod tests {
    use super::{charts, curve};
    use crate::Metrics;

    #[test]
    fn a_long_curve_keeps_its_peaks_and_its_means() {
        let mut points: Vec<(u64, f64)> = (1..=10_000).map(|step| (step, 1.0)).collect();
        points[5_432].1 = 50.0;
        points[7_000].1 = -50.0;
        points[17].1 = f64::NAN;
        let thinned = curve(0, &points, 2_000);
        assert!(thinned.values.len() <= 2_000 && thinned.steps.len() == thinned.values.len());
        let mut step = 0;
        let steps: Vec<u64> = thinned
            .steps
            .iter()
            .map(|more| {
                step += more;
                step
            })
            .collect();
        let at = |wanted: u64| thinned.values[steps.iter().position(|step| *step == wanted).expect("the step")];
        assert_eq!((at(5_433), at(7_001)), (Some(50.0), Some(-50.0)));
        assert!(steps.is_sorted());
        assert_eq!((steps[0], steps[steps.len() - 1]), (1, 10_000));
        assert_eq!((thinned.every, thinned.means.len(), thinned.means[0]), (11, 910, Some(1.0)));
        assert_eq!(thinned.means[5_432 / 11], Some(5.45455));
        assert_eq!((thinned.num_points, thinned.num_nonfinite), (10_000, 1));
    }

    #[test]
    fn a_short_curve_is_kept_as_it_is() {
        let short = curve(1, &[(3, 0.123_456_789), (5, f64::INFINITY), (9, 2.0)], 3);
        assert_eq!((short.steps, short.values), (vec![3, 2, 4], vec![Some(0.123_457), None, Some(2.0)]));
        assert_eq!((short.every, short.means.len(), short.last), (1, 0, Some(2.0)));
        assert!(curve(0, &[], 3).values.is_empty());
    }

    #[test]
    fn a_bucket_without_a_finite_number_is_a_gap() {
        let points = [f64::NAN, f64::NAN, f64::NAN, f64::NAN, 2.0, 3.0, 1.0, 1.5];
        let points: Vec<(u64, f64)> = (1..).zip(points).collect();
        let thinned = curve(0, &points, 6);
        assert_eq!(thinned.values, [None, Some(3.0), Some(1.0), Some(1.5)]);
        assert_eq!((thinned.steps, thinned.means), (vec![1, 5, 1, 1], vec![None, Some(1.875)]));
    }

    #[test]
    fn areas_are_in_a_readers_order() {
        let mut metrics = Metrics { steps: vec![1], ..Metrics::default() };
        for name in
            ["mine/a", "time/step_seconds", "advantage_mean", "validation/overall", "reward/format", "reward/accuracy"]
        {
            metrics.columns.insert(name.to_owned(), vec![Some(1.0)]);
        }
        let found = charts(&[metrics.clone(), metrics], 10);
        let names: Vec<String> = found.iter().map(|chart| format!("{}: {}", chart.area, chart.name)).collect();
        let expected = [
            "validation: overall",
            "reward: accuracy",
            "reward: format",
            "advantage: advantage_mean",
            "time: step_seconds",
            "mine: a",
        ];
        assert_eq!(names, expected);
        assert!(found.iter().all(|chart| chart.curves.len() == 2));
    }
}
