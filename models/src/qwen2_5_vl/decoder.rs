//! Token-by-token decoding with a cache.

use super::activations::Keeper;
use super::policy::Qwen25Vl;
use super::position::rotary;
use super::text::TextDecoder;
use crate::common::Book;
use burn::tensor::{DType, Tensor};
use percept_core::{Activations, DecodeRow, Decoder, PicturePatches, Policy, Prompt};
use percept_ops::{AttentionPlan, CachedRow, KeyValueCache, Row};
use std::collections::HashMap;
use std::sync::Arc;

/// Models up to this many weights are laid out a second time while sampling (2 GiB in float32).
const PREPARED_WEIGHTS: usize = 1 << 29;

/// See [`percept_core::Policy::decoder`].
pub(super) struct CachedDecoder<'a> {
    policy: &'a Qwen25Vl,
    /// The policy's decoder, laid out for few rows where memory allows.
    text: TextDecoder,
    cache: KeyValueCache,
    /// The position of a prompt's first response token.
    next: HashMap<usize, u32>,
    /// Keeps what is computed, where that was asked for.
    keeper: Option<Keeper>,
}

impl<'a> CachedDecoder<'a> {
    pub(super) fn new(policy: &'a Qwen25Vl, rows: usize, tokens: usize) -> Self {
        let config = &policy.config;
        let cache = KeyValueCache::new(config.heads, config.num_layers, rows, tokens, &policy.device, policy.dtype);
        let mut text = policy.text.clone();
        let weights: usize = policy.parameters().iter().map(|p| p.value.dims().iter().product::<usize>()).sum();
        if weights <= PREPARED_WEIGHTS {
            text.prepare();
        }
        Self { policy, text, cache, next: HashMap::new(), keeper: None }
    }
}

impl Decoder for CachedDecoder<'_> {
    fn prefill(&mut self, prompts: &[(usize, &Prompt)]) -> Tensor<2> {
        let policy = self.policy;
        let pictures: Vec<&PicturePatches> = prompts.iter().flat_map(|(_, prompt)| &prompt.pictures).collect();
        let books = self.keeper.as_ref().map(Keeper::books);
        let [of_vision, of_text] = [0, 1].map(|part| books.as_ref().map(|books| &books[part] as &dyn Book));
        let features = policy.features(&pictures, None, of_vision);
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
        let x = self.text.embed(features.map(|f| f.rows), &rows.into());
        let table = Arc::new(rotary(&policy.config, &positions));
        let mut pass = policy.pass(&table, None);
        pass.along.book = of_text;
        let cache = &mut self.cache;
        let hidden = self.text.forward(x, pass, Some(&last.into()), |layer, packed| {
            let mut from = 0;
            for ((name, _), length) in prompts.iter().zip(&lengths) {
                cache.insert(layer, *name, packed.clone().narrow(0, from, *length));
                from += length;
            }
            pass.attention(packed, &plan)
        });
        if let Some(keeper) = &mut self.keeper {
            let patches = |prompt: &Prompt| prompt.pictures.iter().map(|own| own.grid.iter().product::<usize>()).sum();
            keeper.prompts(
                prompts.iter().zip(&lengths).map(|((name, prompt), tokens)| (*name, [patches(prompt), *tokens])),
            );
        }
        self.text.logits(hidden)
    }

    fn step(&mut self, rows: &[DecodeRow]) -> Tensor<2> {
        let policy = self.policy;
        let place = |row: &DecodeRow| [self.next[&row.prompt] + row.length as u32; 3];
        let positions: Vec<[u32; 3]> = rows.iter().map(place).collect();
        let tokens: Arc<[Row]> = rows.iter().map(|row| Row::Table(row.token)).collect();
        let cached: Vec<CachedRow> =
            rows.iter().map(|row| CachedRow { slot: row.slot, prompt: row.prompt, length: row.length }).collect();
        let x = self.text.embed(None, &tokens);
        let table = Arc::new(rotary(&policy.config, &positions));
        let cache = &mut self.cache;
        let books = self.keeper.as_ref().map(Keeper::books);
        let mut pass = policy.pass(&table, None);
        pass.along.book = books.as_ref().map(|[_, book]| book as &dyn Book);
        let hidden = self
            .text
            .forward(x, pass, None, |layer, packed| pass.along.result(|_| cache.attend(layer, packed, &cached)));
        if let Some(keeper) = &mut self.keeper {
            keeper.step(rows);
        }
        self.text.logits(hidden)
    }

    fn keep_activations(&mut self, bytes: usize, tokens: usize) {
        let policy = self.policy;
        // with adapters, what learns is not in the maps' results
        let keeps = percept_ops::is_fused(&policy.device) && policy.dtype == DType::F32 && !policy.has_adapters();
        self.keeper = (keeps && bytes > 0).then(|| Keeper::new(policy, bytes, tokens));
    }

    fn activations(&mut self, prompt: usize) -> Option<Activations> {
        self.keeper.as_mut()?.take(prompt)
    }

    fn forget(&mut self, prompt: usize) {
        self.cache.remove(prompt);
        self.next.remove(&prompt);
    }
}
