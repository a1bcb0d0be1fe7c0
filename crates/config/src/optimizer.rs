//! `[optimizer]` and `[sft.optimizer]`, and the learning rate of each step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// `[optimizer]`, also `[sft.optimizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Which optimizer. Default: `adamw`.
    pub kind: OptimizerKind,
    /// Peak learning rate. Default: 1e-6.
    pub learning_rate: f64,
    /// Decay of the averages of gradient and squared gradient. Default: [0.9, 0.999].
    pub betas: [f64; 2],
    /// Added to the root of the squared average. Default: 1e-8.
    pub eps: f64,
    /// Decoupled weight decay, times the learning rate. Default: 0.01.
    pub weight_decay: f64,
    /// Longest gradient (Euclidean norm over all parameters). Default: 1.0; `inf` is off.
    pub max_grad_norm: f64,
    /// How moments are held between updates: 8 bytes a parameter for both, 4, or 2. Default: `f32`.
    pub moments: MomentType,
    /// Whether moments stay in the host's memory between updates; on the CPU they do. Default: false.
    pub offload: bool,
    /// How the learning rate moves after the warm-up. Default: `constant`.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises to its peak. Default: 0.
    pub warmup_steps: usize,
    /// Share of the peak that `linear` and `cosine` end at. Default: 0.0.
    pub final_ratio: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Adamw,
            learning_rate: 1e-6,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            moments: MomentType::F32,
            offload: false,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            final_ratio: 0.0,
        }
    }
}

/// The optimizers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay.
    Adamw,
}

/// How moments are held between updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MomentType {
    #[serde(rename = "f32")]
    F32,
    /// Rounded up or down by chance.
    #[serde(rename = "bf16")]
    Bf16,
    /// Block-wise quantization (arXiv 2110.02861).
    #[serde(rename = "8bit")]
    EightBit,
}

impl MomentType {
    /// Bytes of both moments of a parameter, without the scales of blocks.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 8,
            Self::Bf16 => 4,
            Self::EightBit => 2,
        }
    }
}

/// The learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Stays at the peak.
    Constant,
    /// Falls in a straight line.
    Linear,
    /// Falls along half a cosine.
    Cosine,
}

impl OptimizerConfig {
    /// The share of `learning_rate` in force at `step` (from 0) of a run of `total_steps`. A step is a trainer step (one
    /// rollout, all of its updates), as in the reference.
    ///
    /// With a warm-up of `w` steps the factor is `(step + 1) / w` until it reaches 1; afterwards it is 1, or falls towards
    /// `final_ratio`, which it would reach at step `total_steps`. So the first step learns, and so does the last. (The
    /// reference counts from 0 and loses its whole first step: `verl/utils/torch_functional.py`, PAPO fb63bf4.)
    pub fn schedule_factor(&self, step: u64, total_steps: u64) -> f64 {
        let warmup = self.warmup_steps as u64;
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let decay_steps = total_steps.saturating_sub(warmup).max(1);
        let progress = ((step - warmup) as f64 / decay_steps as f64).min(1.0);
        let height = match self.schedule {
            Schedule::Constant => return 1.0,
            Schedule::Linear => 1.0 - progress,
            Schedule::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        };
        self.final_ratio + (1.0 - self.final_ratio) * height
    }

    /// The learning rate in force at `step` (from 0) of a run of `total_steps`: see [`Self::schedule_factor`].
    pub fn learning_rate_at(&self, step: u64, total_steps: u64) -> f64 {
        self.learning_rate * self.schedule_factor(step, total_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn optimizer(schedule: Schedule, warmup_steps: usize, final_ratio: f64) -> OptimizerConfig {
        OptimizerConfig { schedule, warmup_steps, final_ratio, ..Default::default() }
    }

    #[test]
    fn the_first_step_learns() {
        let factors = |warmup| -> Vec<f64> {
            let optimizer = optimizer(Schedule::Constant, warmup, 0.0);
            (0..5).map(|step| optimizer.schedule_factor(step, 100)).collect()
        };
        assert_eq!(factors(0), [1.0; 5]);
        assert_eq!(factors(1), [1.0; 5]);
        assert_eq!(factors(4), [0.25, 0.5, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn linear_falls_in_equal_parts() {
        let linear = optimizer(Schedule::Linear, 2, 0.0);
        let factors: Vec<f64> = (0..6).map(|step| linear.schedule_factor(step, 6)).collect();
        assert_eq!(factors, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
        assert_eq!(optimizer(Schedule::Linear, 0, 0.1).schedule_factor(5, 10), 0.1 + 0.9 * 0.5);
    }

    #[test]
    fn cosine_is_halfway_in_the_middle() {
        let cosine = optimizer(Schedule::Cosine, 10, 0.2);
        assert_eq!(cosine.schedule_factor(10, 30), 1.0);
        assert!((cosine.schedule_factor(20, 30) - 0.6).abs() < 1e-12);
        let quarter = 0.2 + 0.8 * 0.5 * (1.0 + (PI / 4.0).cos());
        assert!((cosine.schedule_factor(15, 30) - quarter).abs() < 1e-12);
    }

    #[test]
    fn past_the_end_it_stays_at_the_end() {
        for schedule in [Schedule::Linear, Schedule::Cosine] {
            assert!((optimizer(schedule, 3, 0.25).schedule_factor(50, 20) - 0.25).abs() < 1e-12);
            // A warm-up as long as the run leaves nothing to decay over.
            assert_eq!(optimizer(schedule, 4, 0.0).schedule_factor(3, 4), 1.0);
        }
        assert_eq!(optimizer(Schedule::Constant, 0, 0.0).schedule_factor(500, 20), 1.0);
    }

    #[test]
    fn the_rate_is_the_factor_times_the_peak() {
        assert_eq!(optimizer(Schedule::Constant, 4, 0.0).learning_rate_at(1, 10), 0.5e-6);
    }
}
