//! Log-probabilities of given tokens, and the entropy of their distribution, without ever holding all logits.
//!
//! Logits are made for a block of rows at a time, in both passes: the backward pass computes them again from the hidden states.

use super::bridge::{Kernel, Saved};
use super::math::{exp, max, vectorized};
use super::matrix::{Matrix, View, parallelism, product, uninitialized};
use rayon::prelude::*;
use std::sync::Arc;

/// Inputs: hidden states `[n, d]`, output head `[v, d]`; result `[n, 1]`, or `[n, 2]` with the entropy in the second column.
#[derive(Debug)]
pub(crate) struct TokenLogProbs {
    pub(crate) targets: Arc<[u32]>,
    pub(crate) temperature: f32,
    pub(crate) entropy: bool,
}

/// Logits held at once.
const BLOCK: usize = 1 << 20;

impl TokenLogProbs {
    fn rows_at_once(vocabulary: usize) -> usize {
        (BLOCK / vocabulary).clamp(16, 1024)
    }

    /// `target[rows, v] = hidden[from..from + rows] W^T / temperature`.
    fn logits(&self, hidden: &Matrix, head: &Matrix, from: usize, rows: usize, target: &mut [f32]) {
        let (d, v) = (head.columns, head.rows);
        let (left, right) = (View::rows(hidden.values(), from * d, d), View::rows(head.values(), 0, d).transposed());
        let scale = 1.0 / self.temperature;
        // SAFETY: `target` has room for rows x v values.
        unsafe {
            product((rows, v, d), target.as_mut_ptr(), v, false, left, right, scale, parallelism(rows, v, d));
        }
    }
}

impl Kernel<2> for TokenLogProbs {
    fn keeps(&self) -> [bool; 2] {
        [true, true]
    }

    /// The numbers kept are each row's log-sum-exp and entropy.
    fn forward(&self, [hidden, head]: [Matrix; 2], _: bool) -> (Matrix, Vec<f32>) {
        let (n, v) = (hidden.rows, head.rows);
        assert_eq!(self.targets.len(), n, "one target for each hidden state");
        let block = Self::rows_at_once(v).min(n.max(1));
        let mut logits = uninitialized(block * v);
        let mut kept = vec![0f32; 2 * n];
        let columns = if self.entropy { 2 } else { 1 };
        let mut output = vec![0f32; n * columns];
        for from in (0..n).step_by(block) {
            let rows = block.min(n - from);
            self.logits(&hidden, &head, from, rows, &mut logits[..rows * v]);
            let kept = kept[2 * from..2 * (from + rows)].par_chunks_exact_mut(2);
            let output = output[columns * from..columns * (from + rows)].par_chunks_exact_mut(columns);
            let targets = self.targets[from..from + rows].par_iter();
            logits[..rows * v].par_chunks_exact(v).zip(kept).zip(output).zip(targets).with_min_len(8).for_each(
                |(((logits, kept), output), &target)| {
                    let (log_sum, entropy) = log_sum_and_entropy(logits, self.entropy);
                    kept.copy_from_slice(&[log_sum, entropy]);
                    output[0] = logits[target as usize] - log_sum;
                    if self.entropy {
                        output[1] = entropy;
                    }
                },
            );
        }
        (Matrix::from_vec(output, n, columns), kept)
    }

    fn backward(&self, saved: Saved<2>, gradient: Matrix, wanted: [bool; 2]) -> [Option<Matrix>; 2] {
        let (hidden, head) = (saved.input(0), saved.input(1));
        let (n, d, v) = (hidden.rows, hidden.columns, head.rows);
        let block = Self::rows_at_once(v).min(n.max(1));
        let columns = gradient.columns;
        let mut logits = uninitialized(block * v);
        let mut dhidden = uninitialized(if wanted[0] { n * d } else { 0 });
        let mut dhead = vec![0f32; if wanted[1] { v * d } else { 0 }];
        let scale = 1.0 / self.temperature;
        for from in (0..n).step_by(block) {
            let rows = block.min(n - from);
            self.logits(hidden, head, from, rows, &mut logits[..rows * v]);
            let kept = saved.numbers[2 * from..2 * (from + rows)].par_chunks_exact(2);
            let upstream = gradient.values()[columns * from..columns * (from + rows)].par_chunks_exact(columns);
            let targets = self.targets[from..from + rows].par_iter();
            logits[..rows * v].par_chunks_exact_mut(v).zip(kept).zip(upstream).zip(targets).with_min_len(8).for_each(
                |(((logits, kept), upstream), &target)| {
                    let entropy = if columns == 2 { upstream[1] } else { 0.0 };
                    logits_gradient(logits, [kept[0], kept[1]], [upstream[0], entropy], target as usize);
                },
            );
            let dlogits = View::rows(&logits, 0, v);
            // SAFETY: sizes as allocated above.
            unsafe {
                if wanted[0] {
                    let target = dhidden[from * d..].as_mut_ptr();
                    let right = View::rows(head.values(), 0, d);
                    product((rows, d, v), target, d, false, dlogits, right, scale, parallelism(rows, d, v));
                }
                if wanted[1] {
                    let right = View::rows(hidden.values(), from * d, d);
                    let left = dlogits.transposed();
                    product((v, d, rows), dhead.as_mut_ptr(), d, true, left, right, scale, parallelism(rows, d, v));
                }
            }
        }
        [wanted[0].then(|| Matrix::from_vec(dhidden, n, d)), wanted[1].then(|| Matrix::from_vec(dhead, v, d))]
    }
}

/// log sum e^l, and the entropy of softmax(l) when it is wanted (else 0).
fn log_sum_and_entropy(logits: &[f32], entropy: bool) -> (f32, f32) {
    vectorized(
        #[inline(always)]
        || {
            let largest = max(logits);
            let mut sums = [0f32; 16];
            let mut weighted = [0f32; 16];
            let chunks = logits.chunks_exact(16);
            let rest = chunks.remainder();
            for chunk in chunks {
                for lane in 0..16 {
                    let e = exp(chunk[lane] - largest);
                    sums[lane] += e;
                    weighted[lane] += e * (chunk[lane] - largest);
                }
            }
            let (mut sum, mut product) = (sums.iter().sum::<f32>(), weighted.iter().sum::<f32>());
            for &logit in rest {
                let e = exp(logit - largest);
                sum += e;
                product += e * (logit - largest);
            }
            (largest + sum.ln(), if entropy { sum.ln() - product / sum } else { 0.0 })
        },
    )
}

/// Replaces logits by the gradient of `upstream[0] * log p(target) + upstream[1] * entropy`.
fn logits_gradient(logits: &mut [f32], [log_sum, entropy]: [f32; 2], upstream: [f32; 2], target: usize) {
    vectorized(
        #[inline(always)]
        || {
            for logit in logits.iter_mut() {
                let log_p = *logit - log_sum;
                *logit = -exp(log_p) * (upstream[0] + upstream[1] * (log_p + entropy));
            }
        },
    );
    logits[target] += upstream[0];
}
