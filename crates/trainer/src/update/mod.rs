//! Improves the policy with a batch: micro-batches, gradients, one optimizer step for each mini-batch.

mod live;
mod numbers;
mod rows;

use crate::TrainError;
use crate::batch::{CollectedGroup, Slice, ViewNumbers, least_tokens, micro_batches};
use crate::metrics::Metrics;
use crate::optimizer::{Gradients, Optimizer};
use crate::portion::halving;
use burn::tensor::{Tensor, TensorData};
use numbers::{GAP_KL, GAP_MAX, gap};
use percept_core::{
    Activations, Counts, Evidence, Image, Loss, Metric, Objective, Policy, Progress, ScoreRequest, Scores, Tally, View,
    Weights,
};
use percept_ops::pad_rows;
use rows::Rows;

pub(crate) use live::Live;
pub(crate) use numbers::LOG_RATIO_MAX;
pub use numbers::Numbers;

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
            group.advantages.iter().all(|&advantage| advantage == 0.0)
                && !self.objective.learns_without_advantage(group.has_picture())
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
        let device = scorer.device();
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
