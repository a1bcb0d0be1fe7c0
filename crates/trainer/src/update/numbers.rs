//! Numbers that a mini-batch is looked at by, read back together.

use crate::metrics::Metrics;
use crate::optimizer::Gradients;
use burn::tensor::{Device, Tensor};
use percept_core::{Evidence, Metric, Reduction};

pub(super) const GAP_MAX: &str = "rollout/logprob_gap_max";
/// Largest log of a token's probability under the policy over that under the one that sampled.
pub(crate) const LOG_RATIO_MAX: &str = "objective/log_ratio_max";
pub(super) const GAP_KL: &str = "rollout/logprob_gap_kl";

/// Numbers of a mini-batch's micro-batches, read back together.
pub struct Numbers {
    metrics: Vec<Metric>,
    device: Device,
}

impl Numbers {
    pub(crate) fn new(device: Device) -> Self {
        Self { metrics: Vec::new(), device }
    }

    pub(crate) fn push(&mut self, metric: Metric) {
        let value = if metric.value.device().is_autodiff() { metric.value.inner() } else { metric.value };
        self.metrics.push(Metric { value, ..metric });
    }

    /// The gradient's global norm and the reduced metrics, in one read-back; `first` keeps the gap to the sampler.
    pub fn read(self, gradients: &Gradients, first: bool) -> (f64, Metrics) {
        let squares = gradients.iter().flatten().map(|g| (g.clone() * g.clone()).sum());
        let mut tensors: Vec<Tensor<1>> = self.metrics.iter().map(|metric| metric.value.clone()).collect();
        let num_metrics = tensors.len();
        tensors.extend(squares);
        if tensors.is_empty() {
            tensors.push(Tensor::zeros([1], &self.device));
        }
        let values: Vec<f32> = Tensor::cat(tensors, 0).into_data().try_to_vec().expect("float32");
        let norm = values[num_metrics..].iter().map(|&square| f64::from(square)).sum::<f64>().sqrt();
        let mut metrics = Metrics::default();
        let mut variances = Vec::new();
        for (metric, &value) in self.metrics.iter().zip(&values) {
            if !first && (metric.name == GAP_MAX || metric.name == GAP_KL) {
                continue;
            }
            let entry = metrics.0.entry(metric.name.to_owned()).or_insert(0.0);
            match metric.reduction {
                Reduction::Max => *entry = entry.max(f64::from(value)),
                Reduction::Sum => *entry += f64::from(value),
                Reduction::VarianceOf(mean) => {
                    *entry += f64::from(value);
                    variances.push((metric.name, mean));
                }
            }
        }
        variances.dedup();
        for (name, mean) in variances {
            let square = metrics.get(mean).unwrap_or(0.0).powi(2);
            let entry = metrics.0.get_mut(name).expect("summed above");
            *entry = (*entry - square).max(0.0);
        }
        (norm, metrics)
    }
}

/// How far the trainer's log-probabilities are from the sampler's: before the first update, only by rounding.
pub(super) fn gap(evidence: &Evidence) -> [Metric; 3] {
    let live = evidence.live.log_probs.clone().detach();
    let gap = (live - evidence.behavior.log_probs.clone()) * evidence.mask.clone();
    let largest = Metric { name: GAP_MAX, value: gap.clone().abs().max(), reduction: Reduction::Max };
    let ratio = Metric { name: LOG_RATIO_MAX, value: gap.clone().max(), reduction: Reduction::Max };
    let tokens = evidence.counts.mini_batch.tokens as f32;
    [largest, ratio, Metric::part(GAP_KL, gap.neg().sum().div_scalar(tokens))]
}
