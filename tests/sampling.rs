//! The sampler: what it gives does not depend on how its rows are scheduled, and is what scoring gives.

use crate::tiny::{IMAGE, VOCABULARY, difference, host, policy, prompt, prompts};
use burn::tensor::{Device, Tensor};
use percept_core::{
    DecodeRow, Decoder, Finish, FrozenPolicy, Group, Image, Parameter, Policy, Prompt, Response, Sampler, SamplerError,
    SamplingSpec, ScoreRequest, ScoringGroup,
};
use percept_models::qwen2_5_vl::Qwen25Vl;
use percept_rollout::InProcess;
use std::sync::{Arc, Mutex};

/// What was asked of a decoder.
#[derive(Debug, Default)]
struct Log {
    prefills: Vec<Vec<usize>>,
    /// Rows of each step.
    steps: Vec<Vec<DecodeRow>>,
    forgotten: Vec<usize>,
}

/// A policy that keeps a log of its decoder's work.
struct Watched {
    inner: Qwen25Vl,
    log: Arc<Mutex<Log>>,
}

struct WatchedDecoder<'a> {
    inner: Box<dyn Decoder + 'a>,
    log: Arc<Mutex<Log>>,
}

impl Policy for Watched {
    fn device(&self) -> Device {
        self.inner.device()
    }
    fn vocabulary(&self) -> usize {
        self.inner.vocabulary()
    }
    fn parameters(&self) -> Vec<&Parameter> {
        self.inner.parameters()
    }
    fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        self.inner.parameters_mut()
    }
    fn freeze(&self) -> FrozenPolicy {
        self.inner.freeze()
    }
    fn score(&self, groups: &[ScoringGroup], request: ScoreRequest) -> Tensor<2> {
        self.inner.score(groups, request)
    }
    fn decoder(&self, rows: usize, tokens: usize) -> Box<dyn Decoder + '_> {
        Box::new(WatchedDecoder { inner: self.inner.decoder(rows, tokens), log: self.log.clone() })
    }
}

impl Decoder for WatchedDecoder<'_> {
    fn prefill(&mut self, prompts: &[(usize, &Prompt)]) -> Tensor<2> {
        self.log.lock().expect("one thread").prefills.push(prompts.iter().map(|(name, _)| *name).collect());
        self.inner.prefill(prompts)
    }
    fn step(&mut self, rows: &[DecodeRow]) -> Tensor<2> {
        self.log.lock().expect("one thread").steps.push(rows.to_vec());
        self.inner.step(rows)
    }
    fn forget(&mut self, prompt: usize) {
        self.log.lock().expect("one thread").forgotten.push(prompt);
        self.inner.forget(prompt);
    }
}

pub(crate) fn spec() -> SamplingSpec {
    SamplingSpec {
        responses_per_prompt: 5,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        max_new_tokens: 12,
        // a tenth of the vocabulary, so that some responses end early and some do not
        stop_tokens: (0..6).collect(),
        banned_tokens: vec![IMAGE, IMAGE + 1],
        seed: 11,
        step: 2,
        evaluation: false,
        kept_activations: 0,
    }
}

fn sample(policy: &FrozenPolicy, max_rows: usize, max_prefill_tokens: usize, spec: &SamplingSpec) -> Vec<Group> {
    let prompts: Vec<Arc<Prompt>> = prompts().into_iter().map(|(prompt, _)| prompt).collect();
    let groups = InProcess { max_rows, max_prefill_tokens }.sample(policy, &prompts, spec).expect("finite logits");
    assert_eq!(groups.len(), prompts.len());
    assert!(groups.iter().zip(&prompts).all(|(group, prompt)| Arc::ptr_eq(&group.prompt, prompt)), "groups in order");
    groups
}

fn tokens(groups: &[Group]) -> Vec<Vec<u32>> {
    groups.iter().flat_map(|group| &group.responses).map(|response| response.tokens.clone()).collect()
}

#[test]
fn samples_do_not_depend_on_the_schedule() {
    let policy = policy(&Device::flex(), 1).freeze();
    let expected = sample(&policy, 64, 8192, &spec());
    for max_rows in [1, 3, 64] {
        for max_prefill_tokens in [1, 40, 8192] {
            let found = sample(&policy, max_rows, max_prefill_tokens, &spec());
            assert_eq!(tokens(&found), tokens(&expected), "{max_rows} rows, {max_prefill_tokens} prompt tokens");
            for (found, expected) in found.iter().zip(&expected) {
                for (found, expected) in found.responses.iter().zip(&expected.responses) {
                    assert_eq!(found.finish, expected.finish);
                    assert!(difference(&found.log_probs, &expected.log_probs) <= 1e-5);
                }
            }
        }
    }
    // a prompt's draw is its own: it is the same whoever else is sampled, and in whatever place
    let reversed: Vec<Arc<Prompt>> = expected.iter().rev().skip(1).map(|group| group.prompt.clone()).collect();
    let found = InProcess::new(4).sample(&policy, &reversed, &spec()).expect("finite logits");
    for (found, expected) in found.iter().zip(expected.iter().rev().skip(1)) {
        assert_eq!(found.responses.len(), 5);
        assert_eq!(tokens(std::slice::from_ref(found)), tokens(std::slice::from_ref(expected)));
    }
    // and every part of its name changes it
    for other in [
        SamplingSpec { seed: 12, ..spec() },
        SamplingSpec { step: 3, ..spec() },
        SamplingSpec { evaluation: true, ..spec() },
    ] {
        assert_ne!(tokens(&sample(&policy, 64, 8192, &other)), tokens(&expected), "{other:?}");
    }
    let responses = tokens(&expected);
    let distinct: std::collections::HashSet<&Vec<u32>> = responses.iter().collect();
    assert!(
        distinct.len() > responses.len() / 2,
        "samples of a group differ: {} of {}",
        distinct.len(),
        responses.len()
    );
}

#[test]
fn sampled_log_probs_are_what_scoring_gives() {
    let policy = policy(&Device::flex(), 1).freeze();
    let cases = [
        spec(),
        SamplingSpec { temperature: 0.7, ..spec() },
        // truncation and bans narrow the choice, not the distribution that is reported
        SamplingSpec {
            temperature: 1.3,
            top_p: 0.8,
            top_k: 20,
            min_p: 0.01,
            banned_tokens: (20..60).collect(),
            ..spec()
        },
        // greedy reports temperature 1
        SamplingSpec { temperature: 0.0, ..spec() },
    ];
    for spec in cases {
        let groups = sample(&policy, 7, 60, &spec);
        let scoring = |group: &Group| ScoringGroup {
            prompt: group.prompt.clone(),
            image: Image::Whole,
            responses: group.responses.iter().map(|response| response.tokens.as_slice().into()).collect(),
        };
        let scoring: Vec<ScoringGroup> = groups.iter().map(scoring).collect();
        let temperature = if spec.temperature == 0.0 { 1.0 } else { spec.temperature };
        let expected = host(policy.score(&scoring, ScoreRequest { temperature, entropy: false, dropout: None }));
        let responses = groups.iter().flat_map(|group| &group.responses);
        let found: Vec<f32> = responses.flat_map(|response| response.log_probs.clone()).collect();
        let off = difference(&found, &expected);
        assert!(off <= 1e-5, "{spec:?}: log-probabilities differ by {off:e}");
        println!("temperature {}: {} tokens, {off:e}", spec.temperature, found.len());
    }
}

#[test]
fn finished_rows_leave_and_waiting_ones_take_their_place() {
    let log = Arc::new(Mutex::new(Log::default()));
    let watched = Watched { inner: policy(&Device::flex(), 1), log: log.clone() };
    let groups = sample(&FrozenPolicy::new(Box::new(watched)), 4, 60, &spec());
    let log = Arc::into_inner(log).expect("the policy is gone").into_inner().expect("one thread");

    let responses: Vec<&Response> = groups.iter().flat_map(|group| &group.responses).collect();
    let (mut stopped, mut cut_off) = (0, 0);
    for response in &responses {
        let (last, before) = response.tokens.split_last().expect("a response has a token");
        assert_eq!(response.tokens.len(), response.log_probs.len());
        assert!(before.iter().all(|token| !spec().stop_tokens.contains(token)), "nothing follows a stop token");
        match response.finish {
            Finish::Stop => {
                assert!(spec().stop_tokens.contains(last), "the stop token is part of the response");
                assert!(response.tokens.len() <= 12);
                stopped += 1;
            }
            Finish::Length => {
                assert_eq!(response.tokens.len(), 12);
                assert!(!spec().stop_tokens.contains(last), "a stop token at the limit is a stop");
                cut_off += 1;
            }
        }
    }
    assert!(stopped > 0 && cut_off > 0, "{stopped} stopped, {cut_off} were cut off: both kinds must be seen");

    // a token that ends a response is never computed on, so each row costs a step less than it has tokens
    let rows: usize = log.steps.iter().map(Vec::len).sum();
    assert_eq!(
        rows,
        responses.iter().map(|response| response.tokens.len() - 1).sum::<usize>(),
        "rows that were computed"
    );
    for rows in &log.steps {
        let mut slots: Vec<usize> = rows.iter().map(|row| row.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        assert!(slots.len() == rows.len() && slots.iter().all(|&slot| slot < 4), "a place for each row: {rows:?}");
    }
    // a row may leave at its first token, so a step can have fewer rows than places; without refilling, only the first steps would be full
    let full = log.steps.iter().filter(|rows| rows.len() == 4).count();
    assert!(full * 2 > log.steps.len(), "{full} of {} steps were full", log.steps.len());
    let prefilled: Vec<usize> = log.prefills.concat();
    assert_eq!(prefilled, [0, 1, 2, 3, 4], "each prompt is computed once");
    let mut forgotten = log.forgotten;
    forgotten.sort_unstable();
    assert_eq!(forgotten, prefilled, "and forgotten when its last response is done");
}

#[test]
fn banned_tokens_never_appear_and_limits_hold() {
    let policy = policy(&Device::flex(), 1).freeze();
    let free = SamplingSpec { stop_tokens: Vec::new(), banned_tokens: Vec::new(), ..spec() };
    let seen = tokens(&sample(&policy, 64, 8192, &free)).concat();
    for temperature in [1.0, 0.0] {
        // half of the vocabulary, and with it half of what is drawn without bans
        let banned: Vec<u32> = (0..VOCABULARY as u32).filter(|id| id % 2 == 0).collect();
        assert!(banned.iter().filter(|id| seen.contains(id)).count() > 10, "tokens that would be drawn are banned");
        let spec = SamplingSpec { temperature, banned_tokens: banned.clone(), ..free.clone() };
        let drawn = tokens(&sample(&policy, 6, 8192, &spec)).concat();
        assert!(drawn.iter().all(|token| !banned.contains(token)), "temperature {temperature}");
    }
    for max_new_tokens in [1, 2, 30] {
        let spec = SamplingSpec { max_new_tokens, ..free.clone() };
        for response in sample(&policy, 6, 8192, &spec).iter().flat_map(|group| &group.responses) {
            assert_eq!((response.tokens.len(), response.finish), (max_new_tokens, Finish::Length));
        }
    }
    let nothing = SamplingSpec { banned_tokens: (0..VOCABULARY as u32).collect(), ..spec() };
    let prompts = [prompt(77, &[], 3)];
    let refused = InProcess::new(1).sample(&policy, &prompts, &nothing);
    assert!(matches!(refused, Err(SamplerError::NothingToSample { prompt: 77 })), "{refused:?}");
}
