//! What sampling computed, kept for the gradient.
//!
//! A step's first update has the weights that sampled, and the tokens that were sampled: what its forward pass would compute has been
//! computed, prompt by prompt and token by token. The results of maps and of attention, the expensive part, are kept by row, and put
//! together for a packed batch; normalizations, rotations and gates are computed again. Both passes compute the same function, in another
//! order of sums.

use super::config::Config;
use super::policy::Qwen25Vl;
use crate::common::Book;
use burn::tensor::{DType, Tensor};
use percept_core::{Activations, DecodeRow, ScoringGroup};
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Results of the maps and of attention in one block: projections, attention, output, gate and up, down.
const OF_BLOCK: usize = 5;
/// Those of the decoder's last block that are there for all rows; the others are for wanted ones only.
const OF_ALL_ROWS: usize = 2;
const VISION: usize = 0;
const TEXT: usize = 1;

/// The results of one kind of pass: of the vision tower, or of the decoder.
#[derive(Debug, Default)]
struct Part {
    /// Rows of each result, in the order in which they were computed.
    results: Vec<Vec<f32>>,
    widths: Vec<usize>,
    /// How many results of a pass have a row for each token or patch; the others have one for each that is wanted, or merged.
    first: usize,
    /// Rows of both kinds.
    rows: [usize; 2],
    /// Rows of which there will be at most so many, where that is known.
    most: usize,
}

/// All that a decoder's passes computed.
#[derive(Debug)]
struct Store {
    parts: [Part; 2],
    limit: usize,
    bytes: usize,
    /// Given to the only scoring that needs them, or more than were to be kept.
    gone: bool,
}

impl Store {
    /// The next rows of a result.
    fn add(&mut self, part: usize, number: usize, rows: &Tensor<2>) {
        let [count, width] = rows.dims();
        self.bytes += count * width * size_of::<f32>();
        if self.gone || self.bytes > self.limit {
            (self.gone, self.parts) = (true, [Part::default(), Part::default()]);
            return;
        }
        let part = &mut self.parts[part];
        if number == part.results.len() {
            part.results.push(Vec::with_capacity(part.most * width));
            part.widths.push(width);
        }
        percept_ops::append_rows(rows, &mut part.results[number]);
    }
}

/// Where a group's rows are.
#[derive(Debug, Default)]
struct Places {
    patches: Range<u32>,
    prompt: Range<u32>,
    /// The prompt's last row, among those that were wanted.
    last: u32,
    /// By the tokens whose rows these are: all but the response's last. Each row's place among all, and among those that were wanted.
    responses: HashMap<Vec<u32>, Vec<[u32; 2]>>,
}

/// What belongs to a group; see [`Activations`].
#[derive(Debug)]
struct OfGroup {
    store: Arc<Mutex<Store>>,
    places: Places,
}

/// A response in progress.
#[derive(Debug)]
struct Running {
    prompt: usize,
    tokens: Vec<u32>,
    /// As in [`Places`].
    rows: Vec<[u32; 2]>,
}

/// Keeps what a decoder computes.
#[derive(Debug)]
pub(super) struct Keeper {
    store: Arc<Mutex<Store>>,
    prompts: HashMap<usize, Places>,
    /// The response in each slot of the cache.
    slots: HashMap<usize, Running>,
}

impl Keeper {
    /// `limit`: bytes; `tokens`: of all prompts and responses, at most.
    pub(super) fn new(policy: &Qwen25Vl, limit: usize, tokens: usize) -> Self {
        let Config { heads, hidden_size, intermediate_size, num_layers, .. } = &policy.config;
        let of_block = heads.packed() + heads.heads * heads.width + 2 * hidden_size + 2 * intermediate_size;
        let most = tokens.min(limit / (of_block * num_layers * size_of::<f32>()));
        let text = Part { first: OF_BLOCK * (num_layers - 1) + OF_ALL_ROWS, most, ..Part::default() };
        let vision = Part { first: 1 + OF_BLOCK * policy.vision.blocks.len(), ..Part::default() };
        let store = Store { parts: [vision, text], limit, bytes: 0, gone: false };
        Self { store: Arc::new(Mutex::new(store)), prompts: HashMap::new(), slots: HashMap::new() }
    }

    /// Takes down what passes of the vision tower and of the decoder compute.
    pub(super) fn books(&self) -> [Written<'_>; 2] {
        [VISION, TEXT].map(|part| Written { store: &self.store, part, next: Cell::new(0) })
    }

    /// A pass over prompts: their names, and how many patches and tokens each has.
    pub(super) fn prompts(&mut self, prompts: impl Iterator<Item = (usize, [usize; 2])>) {
        let mut store = locked(&self.store);
        let [vision, text] = &mut store.parts;
        for (name, [patches, tokens]) in prompts {
            let next = |rows: &mut usize, count: usize| {
                *rows += count;
                (*rows - count) as u32..*rows as u32
            };
            let patches = next(&mut vision.rows[0], patches);
            let (prompt, last) = (next(&mut text.rows[0], tokens), next(&mut text.rows[1], 1).start);
            self.prompts.insert(name, Places { patches, prompt, last, responses: HashMap::new() });
        }
    }

    /// A step of decoding.
    pub(super) fn step(&mut self, rows: &[DecodeRow]) {
        for row in rows {
            if row.length == 0 {
                self.end(row.slot);
            }
            let place = {
                let rows = &mut locked(&self.store).parts[TEXT].rows;
                rows.each_mut().map(|next| {
                    *next += 1;
                    *next as u32 - 1
                })
            };
            let new = || Running { prompt: row.prompt, tokens: Vec::new(), rows: Vec::new() };
            let running = self.slots.entry(row.slot).or_insert_with(new);
            running.tokens.push(row.token);
            running.rows.push(place);
        }
    }

    /// The response in a slot is complete.
    fn end(&mut self, slot: usize) {
        let Some(Running { prompt, tokens, rows }) = self.slots.remove(&slot) else { return };
        if let Some(own) = self.prompts.get_mut(&prompt) {
            own.responses.insert(tokens, rows);
        }
    }

    /// What belongs to a prompt whose responses are complete.
    pub(super) fn take(&mut self, prompt: usize) -> Option<Activations> {
        let own = |(slot, running): (&usize, &Running)| (running.prompt == prompt).then_some(*slot);
        let slots: Vec<usize> = self.slots.iter().filter_map(own).collect();
        slots.into_iter().for_each(|slot| self.end(slot));
        let (places, store) = (self.prompts.remove(&prompt)?, self.store.clone());
        let (gone, bytes) = {
            let store = locked(&store);
            (store.gone, store.bytes)
        };
        (!gone).then(|| Activations::new(OfGroup { store, places }, bytes))
    }
}

fn locked(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes down what a pass computes.
pub(super) struct Written<'a> {
    store: &'a Mutex<Store>,
    part: usize,
    next: Cell<usize>,
}

impl Book for Written<'_> {
    fn known(&self) -> Option<Tensor<2>> {
        None
    }

    fn computed(&self, result: &Tensor<2>) {
        let number = self.next.replace(self.next.get() + 1);
        locked(self.store).add(self.part, number, result);
    }
}

/// Gives the results of a packed batch, in the order of computation.
pub(super) struct Reading {
    part: usize,
    /// What is read from, and whether nothing else needs it.
    stores: Vec<(Arc<Mutex<Store>>, bool)>,
    /// (store, row) of each row of the first results, and of those behind them.
    rows: [Vec<(u32, u32)>; 2],
    next: Cell<usize>,
}

impl Book for Reading {
    fn known(&self) -> Option<Tensor<2>> {
        let number = self.next.replace(self.next.get() + 1);
        let mut stores: Vec<MutexGuard<Store>> = self.stores.iter().map(|(store, _)| locked(store)).collect();
        let parts: Vec<&Part> = stores.iter().map(|store| &store.parts[self.part]).collect();
        let width = parts.iter().find_map(|part| part.widths.get(number)).copied().expect("a result of each map");
        let sources: Vec<&[f32]> =
            parts.iter().map(|part| part.results.get(number).map_or(&[][..], |rows| rows.as_slice())).collect();
        let first = parts.iter().any(|part| number < part.first);
        let rows = &self.rows[usize::from(!first)];
        let in_order = || rows.iter().enumerate().all(|(i, &(_, row))| row as usize == i);
        if let ([(_, true)], true) = (&self.stores[..], rows.len() * width == sources[0].len() && in_order()) {
            // all there is, and nothing else needs it
            return Some(percept_ops::from_rows(
                std::mem::take(&mut stores[0].parts[self.part].results[number]),
                width,
            ));
        }
        let result = percept_ops::collect_rows(&sources, width, rows);
        for (store, (_, last_use)) in stores.iter_mut().zip(&self.stores) {
            if let (true, Some(rows)) = (*last_use, store.parts[self.part].results.get_mut(number)) {
                *rows = Vec::new();
            }
        }
        Some(result)
    }

    fn computed(&self, _: &Tensor<2>) {}
}

impl Reading {
    /// What the vision tower (where it was computed) and the decoder computed of these groups, where all of it was kept.
    pub(super) fn of(policy: &Qwen25Vl, groups: &[ScoringGroup], kept: &[&Activations]) -> Option<[Option<Self>; 2]> {
        if policy.dtype != DType::F32 || !percept_ops::is_fused(&policy.device) || kept.len() != groups.len() {
            return None;
        }
        let kept: Vec<&OfGroup> = kept.iter().map(|kept| kept.get::<OfGroup>()).collect::<Option<_>>()?;
        let mut stores: Vec<(&Arc<Mutex<Store>>, usize)> = Vec::new();
        let (mut patches, mut tokens, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for (group, OfGroup { store, places }) in groups.iter().zip(&kept) {
            let number = stores.iter().position(|(known, _)| Arc::ptr_eq(known, store)).unwrap_or_else(|| {
                stores.push((store, 0));
                stores.len() - 1
            });
            let of = |row: u32| (number as u32, row);
            let before = tokens.len();
            patches.extend(places.patches.clone().map(of));
            tokens.extend(places.prompt.clone().map(of));
            for response in &group.responses {
                wanted.push(of(places.last));
                let (_, fed) = response.split_last()?;
                if !fed.is_empty() {
                    let own = places.responses.get(fed)?;
                    tokens.extend(own.iter().map(|rows| of(rows[0])));
                    wanted.extend(own.iter().map(|rows| of(rows[1])));
                }
            }
            stores[number].1 += tokens.len() - before;
        }
        if stores.iter().any(|(store, _)| locked(store).gone) {
            return None;
        }
        let sees = stores.iter().any(|(store, _)| !locked(store).parts[VISION].results.is_empty());
        let stores: Vec<(Arc<Mutex<Store>>, bool)> = stores
            .into_iter()
            .map(|(store, used)| {
                let mut own = locked(store);
                own.gone = used == own.parts[TEXT].rows[0];
                (store.clone(), own.gone)
            })
            .collect();
        let merge = policy.config.vision.spatial_merge_size.pow(2);
        let merged = patches.iter().step_by(merge).map(|&(store, row)| (store, row / merge as u32)).collect();
        let reading = |part: usize, rows| Self { part, stores: stores.clone(), rows, next: Cell::new(0) };
        Some([sees.then(|| reading(VISION, [patches, merged])), Some(reading(TEXT, [tokens, wanted]))])
    }
}
