//! Keys and values on the device for the kernels.
//!
//! Keys are turned, `[.., w, tokens]`, so that units next to each other, which take tokens next to each other, read memory next to
//! each other. A layer's own keys and values are one tensor of one dimension, and so are those of the prompts that are in progress.

use super::decode::{Sizes, Step, attend, write};
use super::kernels::LANES;
use super::kernels::decode::OF_ROW;
use crate::columns::Columns;
use crate::composed::bucket;
use crate::{CachedRow, DeviceCache};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::collections::HashMap;

#[derive(Debug)]
pub(crate) struct Cache {
    sizes: Sizes,
    columns: Columns,
    layers: Vec<Layer>,
    /// Tokens of each prompt.
    prompts: HashMap<usize, usize>,
    /// The step in progress, its rows' table, and its prompts in order.
    step: Option<(Step, Tensor<1, Int>, Vec<usize>)>,
}

#[derive(Debug, Default)]
struct Layer {
    /// Keys `[slots, k, w, capacity]`, then values `[slots, k, capacity, w]`.
    own: Option<Tensor<1>>,
    /// Keys `[k, w, tokens]` and values `[k, tokens, w]`.
    prompts: HashMap<usize, [Tensor<3>; 2]>,
    /// Some prompts with padding: keys `[prompts, k, w, tokens]`, then values `[prompts, k, tokens, w]`.
    stack: Option<(Vec<usize>, Tensor<1>)>,
}

impl Cache {
    pub(crate) fn new(sizes: Sizes, layers: usize, slots: usize, tokens: usize) -> Self {
        Self {
            sizes,
            columns: Columns::new(slots, tokens.next_multiple_of(LANES)),
            layers: (0..layers).map(|_| Layer::default()).collect(),
            prompts: HashMap::new(),
            step: None,
        }
    }

    /// Counts a step and puts its rows' numbers on the device.
    fn start(&mut self, rows: &[CachedRow], device: &Device) -> (Step, Tensor<1, Int>, Vec<usize>) {
        let (column, columns) = self.columns.advance(rows);
        let mut prompts: Vec<usize> = Vec::new();
        let mut table: Vec<i32> = Vec::with_capacity(rows.len() * OF_ROW);
        let tokens = |prompt: &usize| *self.prompts.get(prompt).expect("the row's prompt is in the cache");
        for row in rows {
            let place = prompts.iter().position(|&prompt| prompt == row.prompt).unwrap_or_else(|| {
                prompts.push(row.prompt);
                prompts.len() - 1
            });
            table.extend([row.slot, place, tokens(&row.prompt), row.length].map(|number| number as i32));
        }
        let step = Step {
            sizes: self.sizes,
            rows: rows.len(),
            slots: self.columns.slots(),
            capacity: self.columns.capacity(),
            column,
            columns,
            prompts: prompts.len(),
            prompt_tokens: bucket(prompts.iter().map(tokens).max().expect("a row")),
        };
        let length = table.len();
        (step, Tensor::from_data(TensorData::new(table, [length]), device), prompts)
    }
}

impl DeviceCache for Cache {
    fn insert(&mut self, layer: usize, prompt: usize, packed: Tensor<2>) {
        let Sizes { heads: h, pairs: k, width: w, .. } = self.sizes;
        let tokens = packed.dims()[0];
        self.prompts.insert(prompt, tokens);
        let part = |first: usize| packed.clone().narrow(1, first * w, k * w).reshape([tokens, k, w]);
        let layer = &mut self.layers[layer];
        layer.prompts.insert(prompt, [part(h).permute([1, 2, 0]), part(h + k).permute([1, 0, 2])]);
        layer.stack = None;
    }

    fn remove(&mut self, prompt: usize) {
        self.prompts.remove(&prompt);
        for layer in &mut self.layers {
            layer.prompts.remove(&prompt);
        }
    }

    fn attend(&mut self, layer: usize, packed: Tensor<2>, rows: &[CachedRow]) -> Tensor<2> {
        let (step, table, prompts) = match self.step.take() {
            Some(step) if layer > 0 => step,
            _ => self.start(rows, &packed.device()),
        };
        let of_layer = &mut self.layers[layer];
        let size = 2 * self.columns.slots() * self.sizes.pairs * self.sizes.width * self.columns.capacity();
        let own = of_layer.own.take();
        let own = own.unwrap_or_else(|| Tensor::zeros([size], (&packed.device(), packed.dtype())));
        let own = write(own, packed.clone(), table.clone(), step);
        of_layer.own = Some(own.clone());
        let stack = of_layer.stacked(&prompts, step.prompt_tokens);
        let attended = attend(packed, own, stack, table.clone(), step);
        self.step = Some((step, table, prompts));
        attended
    }
}

impl Layer {
    /// These prompts, stacked; made again only when others are asked for.
    fn stacked(&mut self, prompts: &[usize], tokens: usize) -> Tensor<1> {
        if let Some((known, stack)) = &self.stack
            && known == prompts
        {
            return stack.clone();
        }
        let padded = |which: usize| {
            let prompts = prompts.iter().map(|prompt| {
                let part = self.prompts[prompt][which].clone();
                let (mut shape, along) = (part.dims(), 2 - which);
                shape[along] = tokens - shape[along];
                let padding = (shape[along] > 0).then(|| Tensor::zeros(shape, (&part.device(), part.dtype())));
                let part = Tensor::cat([Some(part), padding].into_iter().flatten().collect(), along);
                let length = part.shape().num_elements();
                part.reshape([length])
            });
            prompts.collect::<Vec<Tensor<1>>>()
        };
        let stack = Tensor::cat([padded(0), padded(1)].concat(), 0);
        self.stack = Some((prompts.to_vec(), stack.clone()));
        stack
    }
}
