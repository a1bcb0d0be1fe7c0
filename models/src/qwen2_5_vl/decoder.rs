//! Token-by-token decoding with a cache.

use super::policy::Qwen25Vl;
use super::position::rotary;
use burn::tensor::Tensor;
use percept_core::{DecodeRow, Decoder, PicturePatches, Prompt};
use percept_ops::{AttentionPlan, CachedRow, KeyValueCache, Row};
use std::collections::HashMap;
use std::sync::Arc;

/// See [`percept_core::Policy::decoder`].
pub(super) struct CachedDecoder<'a> {
    policy: &'a Qwen25Vl,
    cache: KeyValueCache,
    /// The position of a prompt's first response token.
    next: HashMap<usize, u32>,
}

impl<'a> CachedDecoder<'a> {
    pub(super) fn new(policy: &'a Qwen25Vl, rows: usize, tokens: usize) -> Self {
        let config = &policy.config;
        let cache = KeyValueCache::new(config.heads, config.num_layers, rows, tokens, &policy.device);
        Self { policy, cache, next: HashMap::new() }
    }

    fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        percept_ops::linear(hidden, self.policy.text.head(), None, None)
    }
}

impl Decoder for CachedDecoder<'_> {
    fn prefill(&mut self, prompts: &[(usize, &Prompt)]) -> Tensor<2> {
        let policy = self.policy;
        let pictures: Vec<&PicturePatches> = prompts.iter().flat_map(|(_, prompt)| &prompt.pictures).collect();
        let features = policy.features(&pictures);
        let index = features.as_ref().map_or_else(Vec::new, |features| features.index.clone());
        let mut index = index.iter();
        let (mut rows, mut positions, mut lengths, mut last) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (name, prompt) in prompts {
            let (own, places, next) = policy.prompt_rows(prompt, &mut index);
            self.next.insert(*name, next);
            lengths.push(own.len());
            rows.extend(own);
            positions.extend(places);
            last.push(Row::Table(rows.len() as u32 - 1));
        }
        let plan = Arc::new(AttentionPlan::separate(&lengths, true));
        let x = percept_ops::gather(policy.text.embedding.value.clone(), features.map(|f| f.rows), &rows.into());
        let table = Arc::new(rotary(&policy.config, &positions));
        let heads = policy.config.heads;
        let cache = &mut self.cache;
        let hidden = policy.text.forward(x, &table, heads, &last.into(), |layer, packed| {
            let mut from = 0;
            for ((name, _), length) in prompts.iter().zip(&lengths) {
                cache.insert(layer, *name, packed.clone().slice([from..from + length]));
                from += length;
            }
            percept_ops::attention(packed, &plan, heads)
        });
        self.logits(hidden)
    }

    fn step(&mut self, rows: &[DecodeRow]) -> Tensor<2> {
        let policy = self.policy;
        let place = |row: &DecodeRow| [self.next[&row.prompt] + row.length as u32; 3];
        let positions: Vec<[u32; 3]> = rows.iter().map(place).collect();
        let tokens: Arc<[Row]> = rows.iter().map(|row| Row::Table(row.token)).collect();
        let all: Arc<[Row]> = (0..rows.len() as u32).map(Row::Table).collect();
        let cached: Vec<CachedRow> =
            rows.iter().map(|row| CachedRow { slot: row.slot, prompt: row.prompt, length: row.length }).collect();
        let x = percept_ops::gather(policy.text.embedding.value.clone(), None, &tokens);
        let table = Arc::new(rotary(&policy.config, &positions));
        let cache = &mut self.cache;
        let hidden = policy.text.forward(x, &table, policy.config.heads, &all, |layer, packed| {
            cache.attend(layer, packed, &cached)
        });
        self.logits(hidden)
    }

    fn forget(&mut self, prompt: usize) {
        self.cache.remove(prompt);
        self.next.remove(&prompt);
    }
}
