//! The in-process sampler: cached decoding of many rows at once; finished rows leave the batch, waiting ones take their place.

use crate::choose::{Banned, Choice, choose};
use crate::device_choice::{DeviceChooser, IMPOSSIBLE};
use burn::tensor::Tensor;
use percept_core::{
    Activations, DecodeRow, Decoder, Finish, FrozenPolicy, Group, Prompt, Response, Sampler, SamplerError, SamplingSpec,
};
use percept_random::{Key, Purpose};
use rayon::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Samples with the policy in this process.
#[derive(Clone, Debug)]
pub struct InProcess {
    /// Responses decoded at once.
    pub max_rows: usize,
    /// Prompt tokens computed at once; a longer prompt is computed alone.
    pub max_prefill_tokens: usize,
}

impl InProcess {
    /// A sampler that decodes at most `max_rows` responses at once.
    pub fn new(max_rows: usize) -> Self {
        assert!(max_rows > 0, "at least one row is decoded at a time");
        Self { max_rows, max_prefill_tokens: 8192 }
    }
}

/// A response in progress.
struct Running {
    prompt: usize,
    sample: usize,
    slot: usize,
    response: Response,
}

/// A prompt some of whose responses are not finished.
struct Open {
    /// Logits of the first response token: `[1, vocabulary]`
    first: Tensor<2>,
    unfinished: usize,
}

struct Batch<'a> {
    spec: &'a SamplingSpec,
    banned: Banned,
    /// For a device whose memory is not the host's.
    chooser: Option<DeviceChooser>,
    prompts: &'a [Arc<Prompt>],
    decoder: Box<dyn Decoder + 'a>,
    waiting: VecDeque<(usize, usize)>,
    running: Vec<Running>,
    free: Vec<usize>,
    open: HashMap<usize, Open>,
    done: Vec<Vec<Option<Response>>>,
    activations: Vec<Option<Activations>>,
    max_prefill_tokens: usize,
}

impl Sampler for InProcess {
    fn sample(
        &mut self,
        policy: &FrozenPolicy,
        prompts: &[Arc<Prompt>],
        spec: &SamplingSpec,
    ) -> Result<Vec<Group>, SamplerError> {
        let per_prompt = spec.responses_per_prompt;
        let rows = self.max_rows.min(prompts.len() * per_prompt);
        let mut batch = Batch {
            spec,
            banned: Banned::new(&spec.banned_tokens),
            chooser: (!percept_ops::is_fused(&policy.device())).then(DeviceChooser::new),
            prompts,
            decoder: policy.decoder(rows, spec.max_new_tokens),
            waiting: (0..prompts.len()).flat_map(|p| (0..per_prompt).map(move |s| (p, s))).collect(),
            running: Vec::new(),
            free: (0..rows).rev().collect(),
            open: HashMap::new(),
            done: prompts.iter().map(|_| vec![None; per_prompt]).collect(),
            activations: vec![None; prompts.len()],
            max_prefill_tokens: self.max_prefill_tokens,
        };
        if spec.kept_activations > 0 {
            let of = |prompt: &Arc<Prompt>| prompt.tokens.len() + per_prompt * (spec.max_new_tokens - 1);
            batch.decoder.keep_activations(spec.kept_activations, prompts.iter().map(of).sum());
        }
        while !batch.waiting.is_empty() || !batch.running.is_empty() {
            batch.start_waiting()?;
            batch.step()?;
        }
        let groups =
            prompts.iter().zip(batch.done).zip(batch.activations).map(|((prompt, responses), activations)| Group {
                prompt: prompt.clone(),
                activations,
                responses: responses.into_iter().map(|response| response.expect("every row was finished")).collect(),
            });
        Ok(groups.collect())
    }

    fn shrink(&mut self) -> bool {
        if self.max_rows == 1 {
            return false;
        }
        self.max_rows = self.max_rows.div_ceil(2);
        self.max_prefill_tokens = self.max_prefill_tokens.div_ceil(2);
        true
    }
}

impl Batch<'_> {
    /// Gives free places to waiting rows, computing their prompts where that has not happened yet.
    fn start_waiting(&mut self) -> Result<(), SamplerError> {
        let starting: Vec<(usize, usize)> = {
            let places = self.free.len().min(self.waiting.len());
            self.waiting.drain(..places).collect()
        };
        if starting.is_empty() {
            return Ok(());
        }
        let mut new: Vec<usize> = starting.iter().map(|(prompt, _)| *prompt).collect();
        new.dedup();
        new.retain(|prompt| !self.open.contains_key(prompt));
        let mut from = 0;
        while from < new.len() {
            let mut tokens = 0;
            let fits = new[from..].iter().take_while(|&&prompt| {
                tokens += self.prompts[prompt].tokens.len();
                tokens <= self.max_prefill_tokens
            });
            let to = from + fits.count().max(1);
            self.prefill(&new[from..to]);
            from = to;
        }
        let places: Vec<(usize, usize, usize)> = starting.iter().map(|&(prompt, sample)| (prompt, sample, 0)).collect();
        let firsts = starting.iter().map(|(prompt, _)| self.open[prompt].first.clone()).collect();
        let choices = self.choose(Tensor::cat(firsts, 0), &places)?;
        for ((prompt, sample), choice) in starting.into_iter().zip(choices) {
            let slot = self.free.pop().expect("as many places as rows were taken");
            let response = Response { tokens: Vec::new(), log_probs: Vec::new(), finish: Finish::Length };
            self.running.push(Running { prompt, sample, slot, response });
            let last = self.running.len() - 1;
            self.running[last].push(choice);
        }
        self.retire();
        Ok(())
    }

    fn prefill(&mut self, prompts: &[usize]) {
        let named: Vec<(usize, &Prompt)> = prompts.iter().map(|&prompt| (prompt, &*self.prompts[prompt])).collect();
        let logits = self.decoder.prefill(&named);
        for (row, &prompt) in prompts.iter().enumerate() {
            let first = logits.clone().narrow(0, row, 1);
            self.open.insert(prompt, Open { first, unfinished: self.spec.responses_per_prompt });
        }
    }

    /// One more token for every running row.
    fn step(&mut self) -> Result<(), SamplerError> {
        if self.running.is_empty() {
            return Ok(());
        }
        let row = |row: &Running| {
            let (token, before) = row.response.tokens.split_last().expect("a running row has a token");
            DecodeRow { slot: row.slot, prompt: row.prompt, token: *token, length: before.len() }
        };
        let rows: Vec<DecodeRow> = self.running.iter().map(row).collect();
        let logits = self.decoder.step(&rows);
        let places: Vec<(usize, usize, usize)> =
            self.running.iter().map(|row| (row.prompt, row.sample, row.response.tokens.len())).collect();
        let choices = self.choose(logits, &places)?;
        for (row, choice) in self.running.iter_mut().zip(choices) {
            row.push(choice);
        }
        self.retire();
        Ok(())
    }

    /// The numbers in [0, 1) by which tokens are chosen for each (prompt, sample, position).
    fn uniforms(&self, places: &[(usize, usize, usize)]) -> Vec<f64> {
        let purpose = if self.spec.evaluation { Purpose::Evaluation } else { Purpose::Sampling };
        let key = Key::new(self.spec.seed, purpose).step(self.spec.step);
        let uniform = |&(prompt, sample, position): &(usize, usize, usize)| {
            key.prompt(self.prompts[prompt].id).sample(sample as u32).uniform_at(position as u64)
        };
        places.iter().map(uniform).collect()
    }

    /// Chooses a token for each row of `[rows, vocabulary]`, where the logits are.
    fn choose(&mut self, logits: Tensor<2>, places: &[(usize, usize, usize)]) -> Result<Vec<Choice>, SamplerError> {
        let uniforms = self.uniforms(places);
        let nothing = |prompt: usize| SamplerError::NothingToSample { prompt: self.prompts[prompt].id };
        let Some(chooser) = &mut self.chooser else {
            let vocabulary = logits.dims()[1];
            let logits = host(logits);
            let rows = logits.par_chunks_exact(vocabulary).zip(places).zip(&uniforms);
            let (spec, banned) = (self.spec, &self.banned);
            let chosen =
                rows.map(|((row, place), &uniform)| choose(row, spec, banned, uniform).ok_or_else(|| nothing(place.0)));
            return chosen.collect();
        };
        // one read-back of two numbers a row
        let pairs = host(chooser.choose(logits, self.spec, &uniforms));
        let choice = |(pair, place): (&[f32], &(usize, usize, usize))| {
            let chosen = Choice { token: pair[0] as u32, log_prob: pair[1] };
            if chosen.log_prob > IMPOSSIBLE { Ok(chosen) } else { Err(nothing(place.0)) }
        };
        pairs.chunks_exact(2).zip(places).map(choice).collect()
    }

    /// Takes finished rows out of the batch and frees what only they needed.
    fn retire(&mut self) {
        let spec = self.spec;
        for row in &mut self.running {
            let last = row.response.tokens.last().expect("a running row has a token");
            if spec.stop_tokens.contains(last) {
                row.response.finish = Finish::Stop;
            }
        }
        let finished =
            |row: &mut Running| row.response.finish == Finish::Stop || row.response.tokens.len() >= spec.max_new_tokens;
        for row in self.running.extract_if(.., finished) {
            self.free.push(row.slot);
            self.done[row.prompt][row.sample] = Some(row.response);
            let open = self.open.get_mut(&row.prompt).expect("a running row's prompt is open");
            open.unfinished -= 1;
            if open.unfinished == 0 {
                self.open.remove(&row.prompt);
                self.activations[row.prompt] = self.decoder.activations(row.prompt);
                self.decoder.forget(row.prompt);
            }
        }
    }
}

impl Running {
    fn push(&mut self, choice: Choice) {
        self.response.tokens.push(choice.token);
        self.response.log_probs.push(choice.log_prob);
    }
}

fn host(logits: Tensor<2>) -> Vec<f32> {
    logits.into_data().try_to_vec().expect("logits are float32")
}
