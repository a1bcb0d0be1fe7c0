//! How costs grow: the same measurement at several lengths or sizes, and an exponent fitted to each cost.

use super::{Arguments, Measured, Point};
use anyhow::ensure;
use std::collections::BTreeMap;

/// What is varied.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// Tokens of a prompt
    Prompt,
    /// Responses to a prompt
    Group,
    /// Tokens of a response
    Response,
    /// Parameters: several --checkpoint
    Model,
}

/// Multiples of the first value, where none are given.
const MULTIPLES: [usize; 4] = [1, 2, 4, 8];

impl Axis {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Group => "group",
            Self::Response => "response",
            Self::Model => "model",
        }
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Prompt => "prompt tokens",
            Self::Group => "responses to a prompt",
            Self::Response => "response tokens",
            Self::Model => "parameters",
        }
    }

    /// Where a measurement stands.
    pub(super) fn value(self, measured: &Measured) -> f64 {
        match self {
            Self::Prompt => measured.prompt_tokens,
            Self::Group => measured.point.responses as f64,
            Self::Response => measured.point.new_tokens as f64,
            Self::Model => measured.parameters as f64,
        }
    }

    pub(super) fn describe(self, measured: &Measured) -> String {
        format!("{} {}", self.value(measured), self.unit())
    }
}

/// The next point to measure, behind those that are.
pub(super) fn next(
    axis: Axis,
    arguments: &Arguments,
    first: &Point,
    done: &[Measured],
) -> anyhow::Result<Option<Point>> {
    let at = done.len();
    if axis == Axis::Model {
        ensure!(arguments.checkpoint.len() >= 2, "--sweep model: give --checkpoint twice or more");
        return Ok(arguments
            .checkpoint
            .get(at)
            .map(|checkpoint| Point { checkpoint: checkpoint.clone(), ..first.clone() }));
    }
    let start = match axis {
        Axis::Group => first.responses,
        Axis::Response => first.new_tokens,
        // prompts as the data has them are the first measurement
        _ => match (first.prompt_tokens, done.first()) {
            (Some(tokens), _) => tokens,
            (None, Some(measured)) => measured.prompt_tokens.ceil() as usize,
            (None, None) if arguments.sweep_values.is_empty() => return Ok(Some(first.clone())),
            (None, None) => 0,
        },
    };
    let value = match arguments.sweep_values.as_slice() {
        [] => MULTIPLES.get(at).map(|factor| factor * start),
        values => {
            ensure!(values.len() >= 2, "--sweep-values: give two or more, for a slope");
            values.get(at).copied()
        }
    };
    let Some(value) = value else { return Ok(None) };
    let mut point = first.clone();
    match axis {
        Axis::Prompt => point.prompt_tokens = Some(value),
        Axis::Group => point.responses = value,
        Axis::Response => point.new_tokens = value,
        Axis::Model => unreachable!("answered above"),
    }
    Ok(Some(point))
}

/// Milliseconds of each phase and piece of a measurement.
pub(super) fn costs(measured: &Measured) -> BTreeMap<String, f64> {
    let phases = measured.phase_ms.iter().map(|(name, ms)| (format!("phase {name}"), *ms));
    let pieces = measured.pieces.iter().map(|piece| (piece.key.replace('_', " "), piece.ms));
    std::iter::once(("step".to_owned(), measured.step_ms)).chain(phases).chain(pieces).collect()
}

/// The exponent of each cost that all measurements have.
pub(super) fn fit(axis: Axis, measured: &[Measured]) -> BTreeMap<String, f64> {
    let all: Vec<BTreeMap<String, f64>> = measured.iter().map(costs).collect();
    let exponent_of = |name: &String| {
        let points = measured.iter().zip(&all).map(|(one, costs)| Some((axis.value(one), *costs.get(name)?)));
        exponent(&points.collect::<Option<Vec<_>>>()?)
    };
    let names = all.first().map(|first| first.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    names.into_iter().filter_map(|name| exponent_of(&name).map(|exponent| (name, exponent))).collect()
}

/// The slope of ln y over ln x by least squares; nothing without two different x, or where a number has no logarithm.
fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    if points.iter().any(|&(x, y)| x <= 0.0 || y <= 0.0) {
        return None;
    }
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let mean_x = logs.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = logs.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let together: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    (spread > 0.0).then(|| together / spread)
}

#[cfg(test)]
mod tests {
    use super::exponent;

    #[test]
    fn a_power_is_found() {
        let points = [64.0, 128.0, 256.0, 512.0f64].map(|x| (x, 3.0 * x.powf(1.25)));
        assert!((exponent(&points).expect("a slope") - 1.25).abs() < 1e-12);
        // one point off moves the slope, and does not decide it
        let mut noisy = points;
        noisy[1].1 *= 1.2;
        let found = exponent(&noisy).expect("a slope");
        assert!((found - 1.25).abs() > 1e-3 && (found - 1.25).abs() < 0.1, "{found}");
    }

    #[test]
    fn what_has_no_slope_is_left_out() {
        assert_eq!(exponent(&[(2.0, 1.0), (2.0, 4.0)]), None);
        assert_eq!(exponent(&[(2.0, 0.0), (4.0, 1.0)]), None);
    }
}
