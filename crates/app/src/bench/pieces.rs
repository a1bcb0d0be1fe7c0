//! Parts of a step by themselves.

use super::padded::{batches, scoring_groups};
use super::{medians, time};
use crate::cost::rates::{Rates, finish};
use crate::cost::{GroupSize, flops};
use crate::lane::{Lane, updater};
use crate::parts::Parts;
use burn::tensor::DType;
use percept_core::{DecodeRow, Prompt, ScoreRequest};
use percept_models::Outline;
use percept_models::qwen2_5_vl::Qwen25Vl;
use percept_trainer::Settings;
use std::time::Instant;

/// A part of a step, timed by itself.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Its key in JSON.
    pub(super) key: String,
    /// For people.
    pub(super) label: String,
    pub(super) ms: f64,
    /// Response tokens that it works on, where that says something.
    pub(super) tokens: Option<f64>,
    /// Of its matrix products.
    pub(super) flops: f64,
    /// That must be read and written, where that is what bounds it.
    pub(super) bytes: Option<f64>,
}

impl Piece {
    fn new(key: &str, label: &str, ms: f64, flops: f64) -> Self {
        Self { key: key.to_owned(), label: label.to_owned(), ms, tokens: None, flops, bytes: None }
    }

    pub(super) fn tokens_per_second(&self) -> Option<f64> {
        self.tokens.map(|tokens| tokens / self.ms * 1e3)
    }

    /// Share of the device's matrix rate.
    pub(super) fn mfu(&self, rates: &Rates) -> f64 {
        self.flops / (self.ms / 1e3) / rates.matrix_flops
    }

    /// Share of the device's copy rate.
    pub(super) fn bandwidth(&self, rates: &Rates) -> Option<f64> {
        self.bytes.map(|bytes| bytes / (self.ms / 1e3) / rates.copy_bytes)
    }
}

const REPEATS: usize = 5;
/// Decoding steps that are timed together.
const DECODED: usize = 16;

/// Times every part on the groups of the lane's last step.
pub(super) fn time_all(
    parts: &Parts,
    outline: &Outline,
    lane: &mut Lane,
    settings: &Settings,
    (groups, how): (&[GroupSize], flops::Training),
) -> anyhow::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let device = lane.policy.device();
    pieces.extend(vision(parts, outline, lane)?);
    decoding(parts, outline, lane, settings, groups, &mut pieces);
    let tokens: f64 = groups.iter().map(GroupSize::response_tokens).sum::<usize>() as f64;
    let forward = flops::scoring(outline, groups).total();
    let policy = lane.policy.freeze();
    let packed = batches(scoring_groups(lane), settings.micro_tokens);
    let request = ScoreRequest { temperature: 1.0, entropy: false, dropout: None };
    let ms = time(REPEATS, || packed.iter().for_each(|batch| drop(policy.score(batch, request).into_data())));
    pieces.push(Piece { tokens: Some(tokens), ..Piece::new("scoring", "scoring", ms, forward) });
    drop(policy);

    let backward = flops::backward(outline, groups, how).total();
    let [there, back] = medians(REPEATS, || {
        let (mut there, mut back) = (0.0, 0.0);
        for batch in &packed {
            let start = Instant::now();
            let loss = lane.policy.score(batch, request).sum();
            finish(&device);
            let middle = Instant::now();
            drop(loss.backward());
            finish(&device);
            there += (middle - start).as_secs_f64() * 1e3;
            back += middle.elapsed().as_secs_f64() * 1e3;
        }
        [there, back]
    });
    let piece = |key: &str, label: &str, ms: f64, flops: f64| Piece {
        tokens: Some(tokens),
        ..Piece::new(key, label, ms, flops)
    };
    pieces.push(piece("training_forward", "training, forward", there, forward));
    pieces.push(piece("training_backward", "training, backward", back, backward));

    let updater = updater(&*lane.objective, settings, 0);
    let ms = time(REPEATS, || {
        drop(updater.gradients(&*lane.policy, &lane.groups));
        finish(&device);
    });
    pieces.push(Piece { tokens: Some(tokens), ..Piece::new("training", "training", ms, forward + backward) });

    let (gradients, numbers, _) = updater.gradients(&*lane.policy, &lane.groups);
    let (norm, _) = numbers.read(&gradients, true);
    let learning: usize = gradients.iter().flatten().map(|gradient| gradient.dims().iter().product::<usize>()).sum();
    let ms = time(REPEATS, || {
        lane.optimizer.step(&mut *lane.policy, gradients.clone(), norm, 1e-6);
        finish(&device);
    });
    // reads weights, gradients and two moments, and writes all but the gradients
    let bytes = Some((learning * 7 * 4) as f64);
    pieces.push(Piece { bytes, ..Piece::new("optimizer", "optimizer", ms, 0.0) });
    Ok(pieces)
}

fn vision(parts: &Parts, outline: &Outline, lane: &Lane) -> anyhow::Result<Option<Piece>> {
    let pictures: Vec<_> = lane.groups.iter().flat_map(|group| &group.task.prompt.pictures).collect();
    if pictures.is_empty() {
        return Ok(None);
    }
    let model = Qwen25Vl::from_folder(&parts.run.model.checkpoint, parts.placement.clone(), &|_| false)?;
    let grids: Vec<[usize; 3]> = pictures.iter().map(|picture| picture.grid).collect();
    let ms = time(REPEATS, || drop(model.image_features(&pictures).into_data()));
    let label = format!("vision of {} pictures", pictures.len());
    Ok(Some(Piece::new("vision", &label, ms, flops::vision(outline, &grids))))
}

/// Prompts, and steps of decoding at several numbers of rows.
fn decoding(
    parts: &Parts,
    outline: &Outline,
    lane: &Lane,
    settings: &Settings,
    groups: &[GroupSize],
    pieces: &mut Vec<Piece>,
) {
    let policy = lane.policy.freeze();
    let named: Vec<(usize, &Prompt)> = lane.groups.iter().map(|group| &*group.task.prompt).enumerate().collect();
    let ms = time(REPEATS, || drop(policy.decoder(1, 1).prefill(&named).into_data()));
    let label = format!("prefill of {} prompts", named.len());
    pieces.push(Piece::new("prefill", &label, ms, flops::prefill(outline, groups).total()));
    let per_prompt = settings.rollout.responses_per_prompt;
    let dtype = parts.placement.dtype;
    for batch in [1, 8, 64, 256] {
        if batch > 64.max(named.len() * per_prompt) {
            continue;
        }
        let mut decoder = policy.decoder(batch, DECODED + 1);
        decoder.prefill(&named);
        let prompt = |slot: usize| slot / per_prompt % named.len();
        let ms = time(REPEATS, || {
            for length in 0..DECODED {
                let row = |slot| DecodeRow { slot, prompt: prompt(slot), token: 1, length };
                let rows: Vec<DecodeRow> = (0..batch).map(row).collect();
                drop(decoder.step(&rows).into_data());
            }
        });
        let sizes: Vec<GroupSize> = (0..batch)
            .map(|slot| GroupSize {
                pictures: Vec::new(),
                responses: vec![DECODED + 1],
                ..groups[prompt(slot)].clone()
            })
            .collect();
        let used = 1 + (0..batch).map(prompt).max().unwrap_or(0);
        let prompt_tokens: usize = groups[..used].iter().map(|group| group.prompt).sum();
        let own = |length: usize| batch * (length + 1);
        // weights that learn are rounded for sampling, too
        let width = |rounds: bool| if rounds { dtype.size() } else { DType::F32.size() };
        let read = |length| flops::decode_bytes(outline, width, dtype.size(), prompt_tokens, own(length));
        pieces.push(Piece {
            tokens: Some((batch * DECODED) as f64),
            bytes: Some((0..DECODED).map(read).sum()),
            ..Piece::new(
                &format!("decode_{batch}"),
                &format!("decode at batch {batch}"),
                ms,
                flops::decode(outline, &sizes).total(),
            )
        });
    }
}
