//! What sampling computed, kept for the gradient.
//!
//! A step's first update has the weights that sampled, and the tokens that were sampled: what its forward pass would compute has been
//! computed, prompt by prompt and token by token. The results of maps and of attention, the expensive part, are kept by row, and put
//! together for a packed batch; normalizations, rotations and gates are computed again. Both passes compute the same function, in another
//! order of sums.

use super::policy::Qwen25Vl;
use crate::common::Book;
use burn::tensor::{DType, Tensor};
use percept_core::{Activations, DecodeRow, ScoringGroup};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Results of the maps and of attention in one block: projections, attention, output, gate and up, down.
const OF_BLOCK: usize = 5;
/// Those of the decoder's last block that are there for all rows; the others are for wanted ones only.
const OF_ALL_ROWS: usize = 2;
const VISION: usize = 0;
const TEXT: usize = 1;

/// Results of one pass, in the order of computation; nothing once they were taken.
type Pass = Vec<Option<Tensor<2>>>;

/// All that a decoder's passes computed.
#[derive(Debug, Default)]
struct Store {
    /// Of the vision tower, and of the decoder.
    passes: [Vec<Pass>; 2],
    /// Packed tokens.
    rows: usize,
    bytes: usize,
    /// Given to the only scoring that needs them, or more than were to be kept.
    gone: bool,
}

impl Store {
    fn add(&mut self, part: usize, results: Vec<Tensor<2>>, limit: usize) -> u32 {
        let size = |result: &Tensor<2>| result.dims().iter().product::<usize>() * size_of::<f32>();
        self.bytes += results.iter().map(size).sum::<usize>();
        if self.gone || self.bytes > limit {
            (self.gone, self.passes) = (true, [Vec::new(), Vec::new()]);
            return 0;
        }
        self.passes[part].push(results.into_iter().map(Some).collect());
        self.passes[part].len() as u32 - 1
    }
}

/// A row of a pass.
type Place = (u32, u32);

/// Where a group's rows are.
#[derive(Debug, Default)]
struct Places {
    patches: Vec<Place>,
    prompt: Vec<Place>,
    /// The prompt's last row, among those that were wanted.
    last: Place,
    /// By the tokens whose rows these are: all but the response's last.
    responses: HashMap<Vec<u32>, Vec<Place>>,
}

/// What belongs to a group; see [`Activations`].
#[derive(Debug)]
struct OfGroup {
    store: Arc<Mutex<Store>>,
    places: Places,
}

/// Keeps what a decoder computes.
#[derive(Debug)]
pub(super) struct Keeper {
    store: Arc<Mutex<Store>>,
    limit: usize,
    prompts: HashMap<usize, Places>,
    /// The response in each slot of the cache: its prompt, tokens and rows.
    slots: HashMap<usize, (usize, Vec<u32>, Vec<Place>)>,
}

impl Keeper {
    pub(super) fn new(limit: usize) -> Self {
        Self { store: Arc::default(), limit, prompts: HashMap::new(), slots: HashMap::new() }
    }

    /// A pass over prompts: their names, and the rows of each among patches and tokens.
    pub(super) fn prompts(
        &mut self,
        vision: Vec<Tensor<2>>,
        text: Vec<Tensor<2>>,
        prompts: impl Iterator<Item = (usize, [usize; 2])>,
    ) {
        let mut store = locked(&self.store);
        let of_patches = if vision.is_empty() { 0 } else { store.add(VISION, vision, self.limit) };
        let of_tokens = store.add(TEXT, text, self.limit);
        let mut from = [0, 0];
        for (number, (name, counts)) in prompts.enumerate() {
            let rows = |part: usize| from[part] as u32..(from[part] + counts[part]) as u32;
            let all = |pass: u32, rows: Range<u32>| rows.map(|row| (pass, row)).collect();
            let [patches, prompt] = [all(of_patches, rows(VISION)), all(of_tokens, rows(TEXT))];
            let last = (of_tokens, number as u32);
            self.prompts.insert(name, Places { patches, prompt, last, responses: HashMap::new() });
            store.rows += counts[TEXT];
            from = [from[VISION] + counts[VISION], from[TEXT] + counts[TEXT]];
        }
    }

    /// A step of decoding.
    pub(super) fn step(&mut self, text: Vec<Tensor<2>>, rows: &[DecodeRow]) {
        let pass = {
            let mut store = locked(&self.store);
            store.rows += rows.len();
            store.add(TEXT, text, self.limit)
        };
        for (number, row) in rows.iter().enumerate() {
            if row.length == 0 {
                self.end(row.slot);
            }
            let (_, tokens, places) =
                self.slots.entry(row.slot).or_insert_with(|| (row.prompt, Vec::new(), Vec::new()));
            tokens.push(row.token);
            places.push((pass, number as u32));
        }
    }

    /// The response in a slot is complete.
    fn end(&mut self, slot: usize) {
        let Some((prompt, tokens, places)) = self.slots.remove(&slot) else { return };
        if let Some(own) = self.prompts.get_mut(&prompt) {
            own.responses.insert(tokens, places);
        }
    }

    /// What belongs to a prompt whose responses are complete.
    pub(super) fn take(&mut self, prompt: usize) -> Option<Activations> {
        let slots: Vec<usize> =
            self.slots.iter().filter(|(_, (own, ..))| *own == prompt).map(|(slot, _)| *slot).collect();
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
#[derive(Default)]
pub(super) struct Written(RefCell<Vec<Tensor<2>>>);

impl Written {
    pub(super) fn results(self) -> Vec<Tensor<2>> {
        self.0.into_inner()
    }
}

impl Book for Written {
    fn known(&self) -> Option<Tensor<2>> {
        None
    }

    fn computed(&self, result: &Tensor<2>) {
        self.0.borrow_mut().push(result.clone());
    }
}

/// A pass that a packed batch's rows are read from.
struct Source {
    store: Arc<Mutex<Store>>,
    pass: usize,
    /// Whether nothing else needs it.
    last_use: bool,
}

/// Gives the results of a packed batch, in the order of computation.
pub(super) struct Reading {
    part: usize,
    sources: Vec<Source>,
    /// (source, row) of each row of the first results, and of those behind them.
    rows: [Vec<Place>; 2],
    /// How many results are of the first kind.
    first: usize,
    next: Cell<usize>,
}

impl Book for Reading {
    fn known(&self) -> Option<Tensor<2>> {
        let number = self.next.replace(self.next.get() + 1);
        let result = |source: &Source| {
            let mut store = locked(&source.store);
            let result = &mut store.passes[self.part][source.pass][number];
            let result = if source.last_use { result.take() } else { result.clone() };
            result.expect("every result is read once")
        };
        let results: Vec<Tensor<2>> = self.sources.iter().map(result).collect();
        Some(percept_ops::collect_rows(&results, &self.rows[usize::from(number >= self.first)]))
    }

    fn computed(&self, _: &Tensor<2>) {}
}

impl Reading {
    /// What the vision tower (where it is computed at all) and the decoder computed of these groups, where all of it was kept.
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
            let of = |place: &Place| (number, *place);
            let before = tokens.len();
            patches.extend(places.patches.iter().map(of));
            tokens.extend(places.prompt.iter().map(of));
            for response in &group.responses {
                wanted.push((number, places.last));
                let (_, fed) = response.split_last()?;
                if !fed.is_empty() {
                    let own = places.responses.get(fed)?.iter().map(of);
                    tokens.extend(own.clone());
                    wanted.extend(own);
                }
            }
            stores[number].1 += tokens.len() - before;
        }
        if stores.iter().any(|(store, _)| locked(store).gone) {
            return None;
        }
        let mut offsets = [Vec::new(), Vec::new()];
        let mut sources = [Vec::new(), Vec::new()];
        for (store, used) in stores {
            let mut own = locked(store);
            let last_use = used == own.rows;
            own.gone |= last_use;
            for part in [VISION, TEXT] {
                offsets[part].push(sources[part].len() as u32);
                let passes = 0..own.passes[part].len();
                sources[part].extend(passes.map(|pass| Source { store: store.clone(), pass, last_use }));
            }
        }
        let [of_vision, of_text] = sources;
        let places = |part: usize, rows: Vec<(usize, Place)>| -> Vec<Place> {
            rows.into_iter().map(|(store, (pass, row))| (offsets[part][store] + pass, row)).collect()
        };
        let merge = policy.config.vision.spatial_merge_size.pow(2) as u32;
        let patches = places(VISION, patches);
        let merged = patches.iter().step_by(merge as usize).map(|&(source, row)| (source, row / merge)).collect();
        let vision = (!of_vision.is_empty()).then(|| Self {
            part: VISION,
            sources: of_vision,
            rows: [patches, merged],
            first: 1 + OF_BLOCK * policy.vision.blocks.len(),
            next: Cell::new(0),
        });
        let text = Self {
            part: TEXT,
            sources: of_text,
            rows: [places(TEXT, tokens), places(TEXT, wanted)],
            first: OF_BLOCK * (policy.text.blocks.len() - 1) + OF_ALL_ROWS,
            next: Cell::new(0),
        };
        Some([vision, Some(text)])
    }
}
