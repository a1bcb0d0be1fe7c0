//! Where a response ends.

use super::{Rows, cases, tensor};
use burn::tensor::{Device, Tensor};
use percept_core::{
    DecodeRow, Decoder, Finish, FrozenPolicy, Parameter, Policy, Prompt, Sampler, SamplingSpec, ScoreRequest,
    ScoringGroup,
};
use percept_rollout::InProcess;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

/// A policy that says what it is told to: prompt `id` is answered by `script[id]`.
struct Scripted(Arc<Vec<Vec<u32>>>);

impl Scripted {
    fn decoder(&self) -> ScriptedDecoder {
        ScriptedDecoder { script: self.0.clone(), rows: HashMap::new() }
    }
}

struct ScriptedDecoder {
    script: Arc<Vec<Vec<u32>>>,
    /// The script's row of each prompt.
    rows: HashMap<usize, usize>,
}

const VOCABULARY: usize = 64;

impl ScriptedDecoder {
    fn logits(tokens: impl Iterator<Item = u32>) -> Tensor<2> {
        let rows: Rows =
            tokens.map(|token| (0..VOCABULARY).map(|id| f32::from(id == token as usize)).collect()).collect();
        tensor(&rows).inner()
    }
}

impl Decoder for ScriptedDecoder {
    fn prefill(&mut self, prompts: &[(usize, &Prompt)]) -> Tensor<2> {
        self.rows.extend(prompts.iter().map(|(name, prompt)| (*name, prompt.id as usize)));
        Self::logits(prompts.iter().map(|(_, prompt)| self.script[prompt.id as usize][0]))
    }

    fn step(&mut self, rows: &[DecodeRow]) -> Tensor<2> {
        Self::logits(rows.iter().map(|row| self.script[self.rows[&row.prompt]][row.length + 1]))
    }

    fn forget(&mut self, prompt: usize) {
        self.rows.remove(&prompt);
    }
}

impl Policy for Scripted {
    fn device(&self) -> Device {
        Device::flex()
    }

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn parameters(&self) -> Vec<&Parameter> {
        Vec::new()
    }

    fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        Vec::new()
    }

    fn freeze(&self) -> FrozenPolicy {
        FrozenPolicy::new(Box::new(Self(self.0.clone())))
    }

    fn score(&self, _groups: &[ScoringGroup], _request: ScoreRequest) -> Tensor<2> {
        unreachable!("sampling scores nothing")
    }

    fn decoder(&self, _rows: usize, _tokens: usize) -> Box<dyn Decoder + '_> {
        Box::new(Scripted::decoder(self))
    }
}

/// The reference masks what its sampler gave; Percept's sampler ends a response where that mask ends.
#[test]
fn a_response_ends_with_its_first_stop_token() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stops {
        One(u32),
        Many(Vec<u32>),
    }
    #[derive(Deserialize)]
    struct Case {
        response_ids: Vec<Vec<u32>>,
        eos_token_ids: Stops,
        response_mask: Rows,
    }
    let cases: Vec<Case> = cases("response_mask.json");
    for (number, case) in cases.iter().enumerate() {
        let stop_tokens = match &case.eos_token_ids {
            Stops::One(id) => vec![*id],
            Stops::Many(ids) => ids.clone(),
        };
        assert!(
            case.response_ids.concat().iter().all(|&id| (id as usize) < VOCABULARY),
            "case {number}: a larger vocabulary"
        );
        let policy = Scripted(Arc::new(case.response_ids.clone())).freeze();
        let prompt = |id| Prompt { id, tokens: vec![0], pictures: Vec::new(), corrupted: Vec::new() };
        let prompts: Vec<Arc<Prompt>> = (0..case.response_ids.len() as u64).map(|id| Arc::new(prompt(id))).collect();
        let max_new_tokens = case.response_ids[0].len();
        let spec = SamplingSpec {
            responses_per_prompt: 1,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens,
            stop_tokens: stop_tokens.clone(),
            banned_tokens: Vec::new(),
            seed: 0,
            step: 0,
            evaluation: false,
            kept_activations: 0,
        };
        // fewer places than rows: waiting rows must not get the wrong mask either
        let groups = InProcess::new(2).sample(&policy, &prompts, &spec).expect("responses");
        for (row, group) in groups.iter().enumerate() {
            let response = &group.responses[0];
            let length = response.tokens.len();
            let mask: Vec<f32> = (0..max_new_tokens).map(|t| f32::from(t < length)).collect();
            assert_eq!(mask, case.response_mask[row], "case {number}, row {row}");
            assert_eq!(response.tokens, case.response_ids[row][..length], "case {number}, row {row}");
            let stopped = stop_tokens.contains(&response.tokens[length - 1]);
            assert_eq!(response.finish == Finish::Stop, stopped, "case {number}, row {row}: why it ended");
        }
    }
    println!("{} cases", cases.len());
}
