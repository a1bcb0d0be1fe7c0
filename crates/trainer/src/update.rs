//! Improves the policy with a batch: micro-batches, gradients, one optimizer step for each mini-batch.

use crate::TrainError;
use crate::batch::{CollectedGroup, Slice, ViewNumbers, least_tokens, micro_batches};
use crate::metrics::Metrics;
use crate::optimizer::{Gradients, Optimizer};
use crate::portion::halving;
use burn::tensor::{Device, Tensor, TensorData};
use percept_core::{
    Activations, Counts, Evidence, Image, Loss, Metric, Objective, Policy, Progress, Reduction, ScoreRequest, Scores,
    ScoringGroup, Tally, Tape, View, Weights,
};
use percept_ops::pad_rows;
use std::ops::Range;

/// What the updates of a step did.
#[derive(Debug, Default)]
pub struct UpdateReport {
    /// Means over the updates.
    pub metrics: Metrics,
    pub updates: usize,
    /// Updates that were skipped because the loss or the gradient was not finite.
    pub skipped: usize,
    /// Whether the last update was skipped.
    pub consecutive: usize,
    /// Tokens that went forward and backward.
    pub tokens: usize,
    /// As given, or less where memory ran out.
    pub micro_tokens: usize,
}

/// An update that is about to be made, and can still be stopped.
pub struct Moment<'a> {
    pub policy: &'a dyn Policy,
    pub optimizer: &'a Optimizer,
    pub groups: &'a [CollectedGroup],
    pub gradients: &'a Gradients,
    /// Of the gradient before clipping.
    pub norm: f64,
    pub metrics: &'a Metrics,
    /// Its number within the step, from 0.
    pub update: usize,
}

/// How a batch is worked through.
#[derive(Clone, Copy)]
pub struct Updater<'a> {
    pub objective: &'a dyn Objective,
    pub temperature: f32,
    pub prompts_per_update: usize,
    pub micro_tokens: usize,
    /// Whether only inputs of pieces are kept for the gradient, and the pieces computed again.
    pub recompute: bool,
    pub learning_rate: f64,
    pub progress: Progress,
}

impl Updater<'_> {
    /// Runs the updates of one collected batch; `nonfinite` counts skipped updates in a row from earlier steps.
    ///
    /// # Errors
    /// When the smallest micro-batches do not fit into memory; updates before that one are made.
    pub fn run(
        &self,
        policy: &mut dyn Policy,
        optimizer: &mut Optimizer,
        groups: &[CollectedGroup],
        nonfinite: usize,
    ) -> Result<UpdateReport, TrainError> {
        self.run_watched(policy, optimizer, groups, nonfinite, &mut |_| Ok(()))
    }

    /// The same; `watch` sees each update before it is made.
    ///
    /// # Errors
    /// As [`Updater::run`], and what `watch` gives: its update is not made then.
    pub fn run_watched(
        &self,
        policy: &mut dyn Policy,
        optimizer: &mut Optimizer,
        groups: &[CollectedGroup],
        nonfinite: usize,
        watch: &mut dyn FnMut(Moment) -> Result<(), TrainError>,
    ) -> Result<UpdateReport, TrainError> {
        let (mut report, device) =
            (UpdateReport { consecutive: nonfinite, ..UpdateReport::default() }, policy.device());
        let mut micro_tokens = self.micro_tokens;
        let mut sums = Metrics::default();
        let mut finite = 0usize;
        for mini_batch in groups.chunks(self.prompts_per_update) {
            report.updates += 1;
            let first = report.updates == 1;
            let reads = first && !self.recompute && mini_batch.iter().any(|group| group.group.activations.is_some());
            let part = |micro_tokens: usize| {
                let updater = Self { micro_tokens, ..*self };
                let (gradients, numbers, tokens) = updater.gradients_of(policy, mini_batch, reads);
                // what was not computed apart from the sampler does not check it
                let read = numbers.read(&gradients, first && !reads);
                (gradients, tokens, read)
            };
            let least = least_tokens(mini_batch.iter());
            let (gradients, tokens, (norm, metrics)) = halving(&device, &mut micro_tokens, least, part)?;
            report.tokens += tokens;
            let (groups, update) = (mini_batch, report.updates - 1);
            watch(Moment { policy, optimizer, groups, gradients: &gradients, norm, metrics: &metrics, update })?;
            let loss = metrics.get("objective/loss").unwrap_or(0.0);
            if !norm.is_finite() || !loss.is_finite() {
                report.skipped += 1;
                report.consecutive += 1;
                continue;
            }
            report.consecutive = 0;
            finite += 1;
            for (name, value) in metrics.0 {
                if name == GAP_MAX || name == GAP_KL {
                    // only the first update still has the sampler's weights
                    report.metrics.set(name, value);
                    continue;
                }
                if name == LOG_RATIO_MAX {
                    let largest = report.metrics.get(&name).unwrap_or(f64::NEG_INFINITY).max(value);
                    report.metrics.set(name, largest);
                    continue;
                }
                *sums.0.entry(name).or_default() += value;
            }
            *sums.0.entry("optimizer/grad_norm".to_owned()).or_default() += norm;
            if gradients.iter().any(Option::is_some) {
                optimizer.step(policy, gradients, norm, self.learning_rate);
            }
        }
        report.metrics.0.extend(sums.0.into_iter().map(|(name, sum)| (name, sum / finite as f64)));
        report.metrics.set("optimizer/learning_rate", self.learning_rate);
        report.metrics.set("optimizer/skipped_updates", report.skipped as f64);
        report.micro_tokens = micro_tokens;
        Ok(report)
    }

    /// The mini-batch's gradient before clipping, and its numbers, still on the device.
    pub fn gradients(&self, policy: &dyn Policy, groups: &[CollectedGroup]) -> (Gradients, Numbers, usize) {
        self.gradients_of(policy, groups, false)
    }

    /// The same; `sampled`: by the policy as it is, so that what it computed then may be used.
    fn gradients_of(
        &self,
        policy: &dyn Policy,
        groups: &[CollectedGroup],
        sampled: bool,
    ) -> (Gradients, Numbers, usize) {
        let mini_batch = sum_tallies(groups.iter().map(|group| group.tally(0..group.group.responses.len())));
        // without variance, and without a term that needs none, a group has no gradient: it is only looked at
        let idle = |group: &&CollectedGroup| {
            !self.objective.learns_without_advantage() && group.advantages.iter().all(|&advantage| advantage == 0.0)
        };
        let (quiet, active): (Vec<&CollectedGroup>, Vec<&CollectedGroup>) = groups.iter().partition(idle);
        let parts = [(active, true), (quiet, false)]
            .map(|(groups, learns)| (micro_batches(&groups, self.micro_tokens), groups, learns));
        let num_micro_batches = parts.iter().map(|(batches, _, _)| batches.len()).sum();
        let mut gradients: Gradients = policy.parameters().iter().map(|_| None).collect();
        let mut numbers = Numbers::new(policy.device().without_autodiff());
        let mut tokens = 0;
        for (batches, groups, learns) in parts {
            let frozen = (!learns && !batches.is_empty()).then(|| policy.freeze());
            let policy: &dyn Policy = frozen.as_deref().unwrap_or(policy);
            for slices in batches {
                let rows = sum_tallies(slices.iter().map(|slice| groups[slice.group].tally(slice.responses.clone())));
                tokens += rows.tokens;
                let counts = Counts { mini_batch, micro_batch: rows, num_micro_batches };
                let mut live = Live::new(policy, learns && self.recompute);
                live.sampled = sampled;
                let evidence = self.evidence(&mut live, &groups, &slices, counts);
                let gap = gap(&evidence);
                let Loss { value, metrics } = self.objective.loss(&evidence);
                numbers.push(Metric::part("objective/loss", value.clone()));
                metrics.into_iter().chain(gap).for_each(|metric| numbers.push(metric));
                if learns {
                    live.accumulate(value, &mut gradients);
                }
            }
        }
        (gradients, numbers, tokens)
    }

    /// Scores that carry gradient, of every picture asked for, computed as one batch.
    fn live(
        &self,
        scorer: &mut Live,
        groups: &[&CollectedGroup],
        slices: &[Slice],
        rows: &Rows,
        images: &[Image],
    ) -> Vec<Scores> {
        let entropy = self.objective.needs().entropy;
        let shows = |image: Image, group: usize| image == Image::Whole || groups[group].has_picture();
        let mut scoring = Vec::new();
        let mut lengths = Vec::new();
        let mut activations = Vec::new();
        for &image in images {
            let shown = slices.iter().filter(|slice| shows(image, slice.group));
            let kept = |slice: &Slice| groups[slice.group].group.activations.as_ref().filter(|_| image == Image::Whole);
            activations.extend(shown.clone().map(kept));
            scoring.extend(shown.map(|slice| groups[slice.group].scoring(image, slice.responses.clone())));
            lengths.push(rows.lengths(|group| shows(image, group)));
        }
        let request = ScoreRequest { temperature: self.temperature, entropy, dropout: Some(self.progress.step) };
        let activations: Option<Vec<&Activations>> = activations.into_iter().collect();
        let packed = scorer.score_sampled(&scoring, request, &activations.unwrap_or_default());
        let mut first = 0;
        let scores = lengths.into_iter().map(|lengths| {
            let count: usize = lengths.iter().sum();
            if count == 0 {
                let zeros = Tensor::zeros([lengths.len(), rows.tokens], &packed.device());
                return Scores { entropy: entropy.then(|| zeros.clone()), log_probs: zeros };
            }
            let own = packed.clone().narrow(0, first, count);
            first += count;
            let column = |i: usize| pad_rows(own.clone().narrow(1, i, 1), &lengths, rows.tokens);
            Scores { log_probs: column(0), entropy: entropy.then(|| column(1)) }
        });
        scores.collect()
    }

    /// Everything an objective may look at, for some responses.
    fn evidence(&self, scorer: &mut Live, groups: &[&CollectedGroup], slices: &[Slice], counts: Counts) -> Evidence {
        let device = scorer.policy.device();
        let needs = self.objective.needs();
        let rows = Rows::new(groups, slices);
        let live_views = needs.views.iter().filter(|view| view.weights == Weights::Live).map(|view| view.image);
        let images: Vec<Image> = std::iter::once(Image::Whole).chain(live_views).collect();
        let mut live = self.live(scorer, groups, slices, &rows, &images).into_iter();
        let whole = live.next().expect("the whole picture is always looked at");
        let views = needs.views.iter().map(|&view| {
            let scores = match view.weights {
                Weights::Live => live.next().expect("as many as were asked for"),
                _ => rows.constant(&device, needs.entropy, |group| find(&groups[group].views, view)),
            };
            (view, scores)
        });
        let views = views.collect();
        let behavior = rows.padded(&device, |group, response| &groups[group].group.responses[response].log_probs);
        let by_row = |value: &dyn Fn(usize, usize) -> f32| {
            let values: Vec<f32> = rows.rows.iter().map(|&(group, response)| value(group, response)).collect();
            Tensor::<2>::from_data(TensorData::new(values, [rows.rows.len(), 1]), &device)
        };
        let mask = rows.mask(&device);
        let advantage = by_row(&|group, response| groups[group].advantages[response]);
        Evidence {
            live: whole,
            behavior: Scores { log_probs: behavior, entropy: None },
            views,
            advantage: advantage.expand(mask.dims()) * mask.clone(),
            mask,
            has_picture: by_row(&|group, _| f32::from(groups[group].has_picture())),
            correct: by_row(&|group, response| groups[group].correct[response]),
            counts,
            progress: self.progress,
        }
    }
}

fn find(views: &[(View, Option<ViewNumbers>)], view: View) -> Option<&ViewNumbers> {
    let (_, numbers) = views.iter().find(|(name, _)| *name == view).expect("views were filled in when collecting");
    numbers.as_ref()
}

fn sum_tallies(tallies: impl Iterator<Item = Tally>) -> Tally {
    tallies.fold(Tally::default(), |a, b| Tally {
        tokens: a.tokens + b.tokens,
        rows: a.rows + b.rows,
        picture_tokens: a.picture_tokens + b.picture_tokens,
        picture_rows: a.picture_rows + b.picture_rows,
        correct_tokens: a.correct_tokens + b.correct_tokens,
        correct_rows: a.correct_rows + b.correct_rows,
    })
}

/// How far the trainer's log-probabilities are from the sampler's: before the first update, only by rounding.
fn gap(evidence: &Evidence) -> [Metric; 3] {
    let live = evidence.live.log_probs.clone().detach();
    let gap = (live - evidence.behavior.log_probs.clone()) * evidence.mask.clone();
    let largest = Metric { name: GAP_MAX, value: gap.clone().abs().max(), reduction: Reduction::Max };
    let ratio = Metric { name: LOG_RATIO_MAX, value: gap.clone().max(), reduction: Reduction::Max };
    let tokens = evidence.counts.mini_batch.tokens as f32;
    [largest, ratio, Metric::part(GAP_KL, gap.neg().sum().div_scalar(tokens))]
}

const GAP_MAX: &str = "rollout/logprob_gap_max";
/// Largest log of a token's probability under the policy over that under the one that sampled.
pub(crate) const LOG_RATIO_MAX: &str = "objective/log_ratio_max";
const GAP_KL: &str = "rollout/logprob_gap_kl";

/// Scores that carry gradient, by a graph or by tapes.
pub(crate) struct Live<'a> {
    policy: &'a dyn Policy,
    recompute: bool,
    /// Whether the policy is the one that sampled.
    sampled: bool,
    /// The scores, as beginnings of the loss's graph, and how it goes on below them.
    tapes: Vec<(Tensor<2>, Box<dyn Tape + 'a>)>,
}

impl<'a> Live<'a> {
    pub(crate) fn new(policy: &'a dyn Policy, recompute: bool) -> Self {
        Self { policy, recompute, sampled: false, tapes: Vec::new() }
    }

    /// `activations`: of each group, or nothing.
    fn score_sampled(
        &mut self,
        groups: &[ScoringGroup],
        request: ScoreRequest,
        activations: &[&Activations],
    ) -> Tensor<2> {
        if self.sampled && !activations.is_empty() {
            return self.policy.score_sampled(groups, request, activations);
        }
        self.score(groups, request)
    }

    pub(crate) fn score(&mut self, groups: &[ScoringGroup], request: ScoreRequest) -> Tensor<2> {
        if !self.recompute {
            return self.policy.score(groups, request);
        }
        let (scores, tape) = self.policy.score_recomputed(groups, request);
        let scores = Tensor::from_inner(scores).require_grad();
        self.tapes.push((scores.clone(), tape));
        scores
    }

    /// Backward, and the gradients added to those so far.
    pub(crate) fn accumulate(self, loss: Tensor<1>, into: &mut Gradients) {
        if !loss.is_tracked() {
            // nothing that learns was looked at: pictures alone learn, and there is none
            return;
        }
        let scale = self.policy.loss_scale();
        let loss = if scale == 1.0 { loss } else { loss.mul_scalar(scale) };
        let mut gradients = loss.backward();
        let mut add = |number: usize, gradient: Tensor<2>| {
            let gradient = if scale == 1.0 { gradient } else { gradient.div_scalar(scale) };
            let sum: &mut Option<Tensor<2>> = &mut into[number];
            *sum = Some(match sum.take() {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        };
        for (scores, tape) in self.tapes {
            if let Some(upstream) = scores.grad_remove(&mut gradients) {
                tape.backward(upstream, &mut add);
            }
        }
        for (number, parameter) in self.policy.parameters().into_iter().enumerate() {
            if let Some(gradient) = parameter.trainable.then(|| parameter.value.grad_remove(&mut gradients)).flatten() {
                add(number, gradient);
            }
        }
    }
}

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

/// Responses of a micro-batch as padded rows.
struct Rows<'a> {
    groups: &'a [&'a CollectedGroup],
    rows: Vec<(usize, usize)>,
    tokens: usize,
}

impl<'a> Rows<'a> {
    fn new(groups: &'a [&'a CollectedGroup], slices: &[Slice]) -> Self {
        let all = |slice: &Slice| -> Vec<(usize, usize)> {
            let responses: Range<usize> = slice.responses.clone();
            responses.map(|response| (slice.group, response)).collect()
        };
        let rows: Vec<(usize, usize)> = slices.iter().flat_map(all).collect();
        let length = |&(group, response): &(usize, usize)| groups[group].group.responses[response].tokens.len();
        let tokens = rows.iter().map(length).max().unwrap_or(0);
        Self { groups, rows, tokens }
    }

    /// Each row's length, or 0 for rows of groups that are not shown.
    fn lengths(&self, shown: impl Fn(usize) -> bool) -> Vec<usize> {
        let length = |&(group, response): &(usize, usize)| {
            if shown(group) { self.groups[group].group.responses[response].tokens.len() } else { 0 }
        };
        self.rows.iter().map(length).collect()
    }

    fn tensor(&self, device: &Device, fill: impl Fn(usize, usize, &mut [f32])) -> Tensor<2> {
        let mut values = vec![0f32; self.rows.len() * self.tokens];
        for (row, &(group, response)) in values.chunks_exact_mut(self.tokens).zip(&self.rows) {
            fill(group, response, row);
        }
        Tensor::from_data(TensorData::new(values, [self.rows.len(), self.tokens]), device)
    }

    fn mask(&self, device: &Device) -> Tensor<2> {
        self.tensor(device, |group, response, row| {
            row[..self.groups[group].group.responses[response].tokens.len()].fill(1.0);
        })
    }

    fn padded(&self, device: &Device, numbers: impl Fn(usize, usize) -> &'a [f32]) -> Tensor<2> {
        self.tensor(device, |group, response, row| {
            let numbers = numbers(group, response);
            row[..numbers.len()].copy_from_slice(numbers);
        })
    }

    /// Numbers of a view; zeros where the group has none, which may be all groups.
    fn constant(&self, device: &Device, entropy: bool, view: impl Fn(usize) -> Option<&'a ViewNumbers>) -> Scores {
        let log_probs = self.padded(device, |group, response| view(group).map_or(&[][..], |v| &v.log_probs[response]));
        let entropies = |group: usize, response: usize| -> &'a [f32] {
            view(group).and_then(|v| v.entropies.as_ref()).map_or(&[][..], |entropies| &entropies[response])
        };
        Scores { log_probs, entropy: entropy.then(|| self.padded(device, entropies)) }
    }
}
