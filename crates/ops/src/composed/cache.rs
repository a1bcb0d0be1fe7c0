//! Keys and values on the device, for decoding many rows with a number of launches that does not depend on how many they are.
//!
//! Own keys and values stand in one tensor a layer, a place for each slot, whose columns ([`Columns`]) are written in place. Prompts are
//! held once and stacked, padded, for the rows that refer to them.

use super::padded::bucket;
use super::{HIDDEN, cast, indices, product};
use crate::columns::Columns;
use crate::{CachedRow, DeviceCache, HeadShape};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};
use std::collections::HashMap;

/// Keys and values.
type Pair<const D: usize> = [Tensor<D>; 2];

#[derive(Debug)]
pub(crate) struct Cache {
    shape: HeadShape,
    columns: Columns,
    layers: Vec<Layer>,
    /// Tokens of each prompt.
    prompts: HashMap<usize, usize>,
    step: Option<Step>,
}

#[derive(Debug, Default)]
struct Layer {
    /// `[slots, kv_heads, capacity, width]`
    own: Option<Pair<4>>,
    /// `[kv_heads, tokens, width]`
    prompts: HashMap<usize, Pair<3>>,
    /// Some prompts as `[prompts, kv_heads, padded tokens, width]`.
    stack: Option<(Vec<usize>, Pair<4>)>,
}

/// Which rows a step has, arranged by slots and by prompts.
#[derive(Clone, Debug)]
struct Step {
    column: usize,
    /// Columns that hold anything, bucketed.
    columns: usize,
    prompts: Vec<usize>,
    prompt_tokens: usize,
    /// Places for rows of one prompt.
    per_prompt: usize,
    /// The row of each slot `[slots]`, and the slot of each row `[rows]`.
    row_of_slot: Tensor<1, Int>,
    slot_of_row: Tensor<1, Int>,
    /// The row of each place `[prompts per_prompt]`, and the place of each row `[rows]`.
    row_of_place: Tensor<1, Int>,
    place_of_row: Tensor<1, Int>,
    /// `[rows, 1, 1, prompt_tokens + columns]`
    hidden: Tensor<4, Bool>,
}

impl Cache {
    pub(crate) fn new(shape: HeadShape, layers: usize, slots: usize, tokens: usize) -> Self {
        Self {
            shape,
            columns: Columns::new(slots, tokens),
            layers: (0..layers).map(|_| Layer::default()).collect(),
            prompts: HashMap::new(),
            step: None,
        }
    }

    /// Writes the step's column, and gives the columns that hold anything.
    fn own(&mut self, layer: usize, new: &Tensor<2>, step: &Step) -> Pair<4> {
        let HeadShape { heads: h, kv_heads: k, width: w } = self.shape;
        let (slots, capacity, column) = (self.columns.slots(), self.columns.capacity(), step.column);
        let own = self.layers[layer].own.get_or_insert_with(|| {
            let zeros = || Tensor::zeros([slots, k, capacity, w], (&new.device(), new.dtype()));
            [zeros(), zeros()]
        });
        for (first, tensor) in [h, h + k].into_iter().zip(&mut *own) {
            let value = new.clone().narrow(1, first * w, k * w).reshape([slots, k, 1, w]);
            tensor.inplace(|tensor| tensor.slice_assign([0..slots, 0..k, column..column + 1, 0..w], value));
        }
        own.clone().map(|tensor| tensor.narrow(2, 0, step.columns))
    }

    /// Counts a step and arranges its rows.
    fn start(&mut self, rows: &[CachedRow], device: &Device) -> Step {
        let (column, columns) = self.columns.advance(rows);
        let columns = bucket(columns).min(self.columns.capacity());
        let mut row_of_slot = vec![0u32; self.columns.slots()];
        let mut by_prompt: Vec<(usize, Vec<usize>)> = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            row_of_slot[row.slot] = at as u32;
            match by_prompt.iter_mut().find(|(prompt, _)| *prompt == row.prompt) {
                Some((_, rows)) => rows.push(at),
                None => by_prompt.push((row.prompt, vec![at])),
            }
        }
        let tokens = |prompt: &usize| *self.prompts.get(prompt).expect("the row's prompt is in the cache");
        let prompt_tokens = bucket(by_prompt.iter().map(|(prompt, _)| tokens(prompt)).max().expect("a row"));
        let per_prompt = by_prompt.iter().map(|(_, rows)| rows.len()).max().expect("a row");
        let mut row_of_place = vec![0u32; by_prompt.len() * per_prompt];
        let mut place_of_row = vec![0u32; rows.len()];
        for (b, (_, rows)) in by_prompt.iter().enumerate() {
            for (m, &row) in rows.iter().enumerate() {
                row_of_place[b * per_prompt + m] = row as u32;
                place_of_row[row] = (b * per_prompt + m) as u32;
            }
        }
        let mut hidden = Vec::with_capacity(rows.len() * (prompt_tokens + columns));
        for row in rows {
            let known = tokens(&row.prompt);
            hidden.extend((0..prompt_tokens).map(|j| j >= known));
            hidden.extend((0..columns).map(|j| self.columns.age(column, j) > row.length));
        }
        let hidden = TensorData::new(hidden, [rows.len(), 1, 1, prompt_tokens + columns]);
        Step {
            column,
            columns,
            prompts: by_prompt.into_iter().map(|(prompt, _)| prompt).collect(),
            prompt_tokens,
            per_prompt,
            row_of_slot: indices(row_of_slot, device),
            slot_of_row: indices(rows.iter().map(|row| row.slot as u32).collect(), device),
            row_of_place: indices(row_of_place, device),
            place_of_row: indices(place_of_row, device),
            hidden: Tensor::from_data(hidden, device),
        }
    }
}

impl DeviceCache for Cache {
    fn insert(&mut self, layer: usize, prompt: usize, packed: Tensor<2>) {
        let HeadShape { heads: h, kv_heads: k, width: w } = self.shape;
        let tokens = packed.dims()[0];
        self.prompts.insert(prompt, tokens);
        let part = |first: usize| packed.clone().narrow(1, first * w, k * w).reshape([tokens, k, w]).swap_dims(0, 1);
        let layer = &mut self.layers[layer];
        layer.prompts.insert(prompt, [part(h), part(h + k)]);
        layer.stack = None;
    }

    fn remove(&mut self, prompt: usize) {
        self.prompts.remove(&prompt);
        for layer in &mut self.layers {
            layer.prompts.remove(&prompt);
        }
    }

    fn attend(&mut self, layer: usize, packed: Tensor<2>, rows: &[CachedRow]) -> Tensor<2> {
        let device = packed.device();
        let step = match self.step.take() {
            Some(step) if layer > 0 => step,
            _ => self.start(rows, &device),
        };
        self.step = Some(step.clone());
        let HeadShape { heads: h, kv_heads: k, width: w } = self.shape;
        let (n, slots, fold, dtype) = (rows.len(), self.columns.slots(), h / k, packed.dtype());
        let new = packed.clone().select(0, step.row_of_slot.clone());
        let [keys, values] = self.own(layer, &new, &step);
        let [prompt_keys, prompt_values] = self.layers[layer].stacked(&step);
        let (b, m, p, c) = (step.prompts.len(), step.per_prompt, step.prompt_tokens, step.columns);

        let queries = packed.narrow(1, 0, h * w);
        let by_prompt = |x: Tensor<2>, width: usize| -> Tensor<4> {
            let x: Tensor<5> = x.select(0, step.row_of_place.clone()).reshape([b, m, k, fold, width]);
            x.permute([0, 2, 1, 3, 4]).reshape([b, k, m * fold, width])
        };
        let from_prompt = |x: Tensor<4>, width: usize| -> Tensor<2> {
            let x: Tensor<5> = x.reshape([b, k, m, fold, width]);
            x.permute([0, 2, 1, 3, 4]).reshape([b * m, k * fold * width]).select(0, step.place_of_row.clone())
        };
        let by_slot = |x: Tensor<2>, width: usize| -> Tensor<4> {
            x.select(0, step.row_of_slot.clone()).reshape([slots, k, fold, width])
        };
        let from_slot = |x: Tensor<4>, width: usize| -> Tensor<2> {
            x.reshape([slots, k * fold * width]).select(0, step.slot_of_row.clone())
        };
        // scores in float32, as in the attention of whole sequences
        let wide = |x: Tensor<4>| cast(x, DType::F32);
        let before = product(wide(by_prompt(queries.clone(), w)), wide(prompt_keys).swap_dims(2, 3));
        let before = from_prompt(before, p).reshape([n, k, fold, p]);
        let behind = product(wide(by_slot(queries, w)), wide(keys).swap_dims(2, 3));
        let behind = from_slot(behind, c).reshape([n, k, fold, c]);
        let scores = Tensor::cat(vec![before, behind], 3).mul_scalar(self.shape.scale());
        let scores = scores.mask_fill(step.hidden.clone().expand([n, k, fold, p + c]), HIDDEN);
        let weights = cast(softmax(scores, 3), dtype);
        let before = weights.clone().narrow(3, 0, p).reshape([n, k * fold * p]);
        let before = from_prompt(product(by_prompt(before, p), prompt_values), w);
        let behind = weights.narrow(3, p, c).reshape([n, k * fold * c]);
        before + from_slot(product(by_slot(behind, c), values), w)
    }
}

impl Layer {
    /// The step's prompts, stacked; made again only when others are asked for.
    fn stacked(&mut self, step: &Step) -> Pair<4> {
        if let Some((prompts, stack)) = &self.stack
            && *prompts == step.prompts
        {
            return stack.clone();
        }
        let stack = [0, 1].map(|which| {
            let prompts = step.prompts.iter().map(|prompt| {
                let [k, tokens, w] = self.prompts[prompt][which].dims();
                let prompt = self.prompts[prompt][which].clone();
                let padding = step.prompt_tokens - tokens;
                if padding == 0 {
                    return prompt.unsqueeze_dim(0);
                }
                let zeros = Tensor::zeros([k, padding, w], (&prompt.device(), prompt.dtype()));
                Tensor::cat(vec![prompt, zeros], 1).unsqueeze_dim(0)
            });
            Tensor::cat(prompts.collect(), 0)
        });
        self.stack = Some((step.prompts.clone(), stack.clone()));
        stack
    }
}
