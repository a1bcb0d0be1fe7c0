//! Validation: responses to every row, graded; avg@k and pass@k.

use crate::settings::{RolloutSettings, Settings};
use crate::step::grade_groups;
use crate::{Grader, TaskSource, TrainError};
use percept_core::{FrozenPolicy, Prompt, Sampler};
use std::sync::Arc;

/// A row's graded responses. Its pictures are not kept: those of a whole data set are gigabytes.
#[derive(Clone, Debug)]
pub struct RowResult {
    /// The visit, which names the prompt in random streams.
    pub visit: u64,
    pub problem: String,
    pub answer: String,
    pub category: Option<String>,
    /// File and row.
    pub place: String,
    pub texts: Vec<String>,
    pub rewards: Vec<f32>,
    pub parts: Vec<(String, Vec<f32>)>,
    pub correct: Vec<f32>,
}

impl RowResult {
    /// The mean of the row's scores in a rubric part, or of the overall reward; nothing when the rubric has no such part.
    pub fn mean(&self, part: &str) -> Option<f64> {
        let scores = match part {
            "overall" => &self.rewards,
            _ => &self.parts.iter().find(|(name, _)| name == part)?.1,
        };
        Some(scores.iter().map(|&score| f64::from(score)).sum::<f64>() / scores.len() as f64)
    }

    /// The unbiased estimate of passing within k tries, for k up to the number of responses.
    pub fn pass_at(&self, k: usize) -> f64 {
        let right = self.correct.iter().filter(|&&correct| correct > 0.0).count();
        pass_at_k(self.correct.len(), right, k)
    }
}

/// Means over rows.
#[derive(Clone, Debug)]
pub struct Evaluation {
    pub rows: Vec<RowResult>,
    /// Rows that were skipped.
    pub skipped: usize,
    pub responses_per_prompt: usize,
}

impl Evaluation {
    /// Mean over rows of the mean of their scores (avg@k) in a rubric part, or of the overall reward.
    pub fn average(&self, part: &str) -> Option<f64> {
        let means: Option<Vec<f64>> = self.rows.iter().map(|row| row.mean(part)).collect();
        means.filter(|means| !means.is_empty()).map(|means| means.iter().sum::<f64>() / means.len() as f64)
    }

    /// What a checkpoint is judged by: accuracy when the rubric has it, else the overall reward.
    pub fn score(&self) -> f64 {
        self.average(self.judged_by()).unwrap_or(0.0)
    }

    /// The name of the part that [`Evaluation::score`] averages.
    pub fn judged_by(&self) -> &'static str {
        if self.average("accuracy").is_some() { "accuracy" } else { "overall" }
    }

    /// The unbiased estimate of passing within k tries, for k up to the number of responses.
    pub fn pass_at(&self, k: usize) -> f64 {
        self.rows.iter().map(|row| row.pass_at(k)).sum::<f64>() / self.rows.len().max(1) as f64
    }
}

/// 1 - C(n - c, k) / C(n, k): the chance that k of n responses, c of them right, hold a right one (Chen et al., arXiv 2107.03374).
pub fn pass_at_k(n: usize, right: usize, k: usize) -> f64 {
    if n - right < k {
        return 1.0;
    }
    1.0 - ((n - right + 1)..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

/// Samples and grades the first `limit` rows (all when absent), `batch` prompts at a time; `progress` is told how many are done.
///
/// # Errors
/// When data, sampling or verification fail.
#[allow(clippy::too_many_arguments)]
pub fn evaluate(
    policy: &FrozenPolicy,
    source: &mut dyn TaskSource,
    sampler: &mut dyn Sampler,
    grader: &dyn Grader,
    settings: &Settings,
    sampling: &RolloutSettings,
    limit: Option<usize>,
    progress: &dyn Fn(usize, usize),
) -> Result<Evaluation, TrainError> {
    let total = source.num_rows().min(limit.unwrap_or(usize::MAX));
    let spec = sampling.spec(settings, 0, true);
    let (mut rows, mut skipped) = (Vec::with_capacity(total), 0);
    let mut visit = 0;
    while visit < total {
        let mut tasks = Vec::new();
        while visit < total && tasks.len() < sampling.prompts_per_step {
            match source.task(visit as u64)? {
                Some(task) => tasks.push(Arc::new(task)),
                None => skipped += 1,
            }
            visit += 1;
        }
        let prompts: Vec<Arc<Prompt>> = tasks.iter().map(|task| task.prompt.clone()).collect();
        if !prompts.is_empty() {
            let groups = sampler.sample(policy, &prompts, &spec)?;
            rows.extend(grade_groups(grader, tasks, groups)?.into_iter().map(|group| RowResult {
                visit: group.task.prompt.id,
                problem: group.task.problem.clone(),
                answer: group.task.answer.clone(),
                category: group.task.category.clone(),
                place: group.task.place.clone(),
                texts: group.texts,
                rewards: group.rewards,
                parts: group.parts,
                correct: group.correct,
            }));
        }
        progress(visit, total);
    }
    Ok(Evaluation { rows, skipped, responses_per_prompt: sampling.responses_per_prompt })
}

#[cfg(test)]
mod tests {
    use super::pass_at_k;

    #[test]
    fn passing_within_k_tries() {
        assert_eq!(pass_at_k(8, 0, 1), 0.0);
        assert!((pass_at_k(8, 2, 1) - 0.25).abs() < 1e-12);
        assert!((pass_at_k(4, 2, 2) - (1.0 - 1.0 / 6.0)).abs() < 1e-12);
        assert_eq!(pass_at_k(4, 3, 2), 1.0);
    }
}
