//! The functions of this crate composed from burn's operations, for every backend and as the yardstick of the fused kernels.

use crate::{AttentionPlan, CachedRow, HeadShape, RotaryTable, Row, Span};
use burn::tensor::activation::{log_softmax, sigmoid, softmax};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use std::collections::HashMap;
use std::sync::Arc;

/// See [`crate::linear`].
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<2>>, residual: Option<Tensor<2>>) -> Tensor<2> {
    let mut y = x.matmul(weight.transpose());
    if let Some(bias) = bias {
        y = y + bias;
    }
    if let Some(residual) = residual {
        y = y + residual;
    }
    y
}

/// See [`crate::rms_norm`].
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<2>, epsilon: f32) -> Tensor<2> {
    let mean = (x.clone() * x.clone()).mean_dim(1);
    x / mean.add_scalar(epsilon).sqrt() * gamma
}

/// See [`crate::swiglu`].
pub fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    let width = gate_up.dims()[1] / 2;
    let gate = gate_up.clone().narrow(1, 0, width);
    gate.clone() * sigmoid(gate) * gate_up.narrow(1, width, width)
}

/// See [`crate::rotate`].
pub fn rotate(packed: Tensor<2>, table: &Arc<RotaryTable>, heads: usize) -> Tensor<2> {
    let ([n, width], half) = (packed.dims(), table.half);
    let device = packed.device();
    let angles = |values: &Vec<f32>| Tensor::<3>::from_data(TensorData::new(values.clone(), [n, 1, half]), &device);
    let (cos, sin) = (angles(&table.cos), angles(&table.sin));
    let turned = packed.clone().narrow(1, 0, heads * 2 * half).reshape([n, heads, 2 * half]);
    let (a, b) = (turned.clone().narrow(2, 0, half), turned.narrow(2, half, half));
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    let second = b * cos + a * sin;
    let turned = Tensor::cat(vec![first, second], 2).reshape([n, heads * 2 * half]);
    if heads * 2 * half == width {
        return turned;
    }
    let rest = packed.narrow(1, heads * 2 * half, width - heads * 2 * half);
    Tensor::cat(vec![turned, rest], 1)
}

/// Heads of some rows of the packed projection: `[heads, rows, width]`.
fn heads(packed: &Tensor<2>, rows: std::ops::Range<usize>, first: usize, count: usize, width: usize) -> Tensor<3> {
    let part = packed.clone().slice([rows.clone(), first * width..(first + count) * width]);
    part.reshape([rows.len(), count, width]).swap_dims(0, 1)
}

/// `[heads, t, width]` against `[kv_heads, s, width]`, with the columns of `hidden` masked.
fn attend(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, hidden: Option<Tensor<3, Bool>>, shape: HeadShape) -> Tensor<2> {
    let ([heads, t, width], s) = (q.dims(), k.dims()[1]);
    let repeat = shape.heads / shape.kv_heads;
    let q = q.reshape([shape.kv_heads, repeat * t, width]);
    let mut scores = q.matmul(k.swap_dims(1, 2)).mul_scalar(shape.scale()).reshape([heads, t, s]);
    if let Some(hidden) = hidden {
        scores = scores.mask_fill(hidden.expand([heads, t, s]), f32::NEG_INFINITY);
    }
    let weights = softmax(scores, 2).reshape([shape.kv_heads, repeat * t, s]);
    weights.matmul(v).reshape([heads, t, width]).swap_dims(0, 1).reshape([t, heads * width])
}

/// See [`crate::attention`].
pub fn attention(packed: Tensor<2>, plan: &Arc<AttentionPlan>, shape: HeadShape) -> Tensor<2> {
    let HeadShape { heads: h, kv_heads: kv, width } = shape;
    let device = packed.device();
    let parts: Vec<Tensor<2>> = plan
        .groups
        .iter()
        .flat_map(|group| &group.spans)
        .filter(|span| !span.rows.is_empty())
        .map(|Span { rows, prefix }| {
            let with_prefix = |first: usize| {
                let own = heads(&packed, rows.clone(), first, kv, width);
                if prefix.is_empty() {
                    return own;
                }
                Tensor::cat(vec![heads(&packed, prefix.clone(), first, kv, width), own], 1)
            };
            let (t, p) = (rows.len(), prefix.len());
            let hidden = plan.causal.then(|| {
                let values: Vec<bool> = (0..t).flat_map(|i| (0..p + t).map(move |j| j > p + i)).collect();
                Tensor::<3, Bool>::from_data(TensorData::new(values, [1, t, p + t]), &device)
            });
            attend(heads(&packed, rows.clone(), 0, h, width), with_prefix(h), with_prefix(h + kv), hidden, shape)
        })
        .collect();
    Tensor::cat(parts, 0)
}

/// See [`crate::gather`].
pub fn gather(table: Tensor<2>, features: Option<Tensor<2>>, rows: &Arc<[Row]>) -> Tensor<2> {
    let device = table.device();
    let select = |source: Tensor<2>, index: &dyn Fn(&Row) -> u32| {
        let index: Vec<i32> = rows.iter().map(|row| index(row) as i32).collect();
        source.select(0, Tensor::<1, Int>::from_data(TensorData::new(index, [rows.len()]), &device))
    };
    let from_table = select(table, &|row| if let Row::Table(at) = row { *at } else { 0 });
    let Some(features) = features else { return from_table };
    let from_features = select(features, &|row| if let Row::Feature(at) = row { *at } else { 0 });
    let is_feature: Vec<bool> = rows.iter().map(|row| matches!(row, Row::Feature(_))).collect();
    let is_feature = Tensor::<2, Bool>::from_data(TensorData::new(is_feature, [rows.len(), 1]), &device);
    let shape = from_table.dims();
    from_table.mask_where(is_feature.expand(shape), from_features)
}

/// See [`crate::token_log_probs`].
pub fn token_log_probs(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: &Arc<[u32]>,
    temperature: f32,
    entropy: bool,
) -> Tensor<2> {
    const ROWS: usize = 256;
    let n = hidden.dims()[0];
    let device = hidden.device();
    let blocks = (0..n).step_by(ROWS).map(|from| {
        let rows = ROWS.min(n - from);
        let logits = hidden.clone().narrow(0, from, rows).matmul(head.clone().transpose()).div_scalar(temperature);
        let log_probs = log_softmax(logits, 1);
        let ids: Vec<i32> = targets[from..from + rows].iter().map(|&id| id as i32).collect();
        let chosen = log_probs.clone().gather(1, Tensor::<2, Int>::from_data(TensorData::new(ids, [rows, 1]), &device));
        if !entropy {
            return chosen;
        }
        let entropy = (log_probs.clone().exp() * log_probs).sum_dim(1).neg();
        Tensor::cat(vec![chosen, entropy], 1)
    });
    Tensor::cat(blocks.collect(), 0)
}

/// Keys and values `[kv_heads, tokens, width]` of prompts and rows, on the device.
#[derive(Debug)]
pub(crate) struct DeviceCache {
    shape: HeadShape,
    prompts: HashMap<(usize, usize), [Tensor<3>; 2]>,
    rows: HashMap<(usize, usize), [Tensor<3>; 2]>,
    capacity: usize,
}

impl DeviceCache {
    pub(crate) fn new(shape: HeadShape, _layers: usize, _rows: usize, tokens: usize, _device: &Device) -> Self {
        Self { shape, prompts: HashMap::new(), rows: HashMap::new(), capacity: tokens }
    }

    fn keys_and_values(&self, packed: &Tensor<2>, rows: std::ops::Range<usize>) -> [Tensor<3>; 2] {
        let HeadShape { heads: h, kv_heads: kv, width } = self.shape;
        [h, h + kv].map(|first| heads(packed, rows.clone(), first, kv, width))
    }

    pub(crate) fn insert(&mut self, layer: usize, prompt: usize, packed: Tensor<2>) {
        let rows = 0..packed.dims()[0];
        let entry = self.keys_and_values(&packed, rows);
        self.prompts.insert((layer, prompt), entry);
    }

    pub(crate) fn remove(&mut self, prompt: usize) {
        self.prompts.retain(|(_, name), _| *name != prompt);
    }

    pub(crate) fn attend(&mut self, layer: usize, packed: Tensor<2>, rows: &[CachedRow]) -> Tensor<2> {
        let outputs = rows.iter().enumerate().map(|(at, row)| {
            assert!(row.length < self.capacity, "a row of {} tokens has no room for another", row.length);
            let new = self.keys_and_values(&packed, at..at + 1);
            let own = match self.rows.remove(&(layer, row.slot)) {
                Some(old) if row.length > 0 => {
                    let mut pairs = old.into_iter().zip(new);
                    std::array::from_fn(|_| {
                        let (old, new) = pairs.next().expect("keys and values");
                        Tensor::cat(vec![old, new], 1)
                    })
                }
                _ => new,
            };
            let prompt = self.prompts.get(&(layer, row.prompt)).expect("the row's prompt is in the cache");
            let [k, v] = [0, 1].map(|i| Tensor::cat(vec![prompt[i].clone(), own[i].clone()], 1));
            self.rows.insert((layer, row.slot), own);
            let q = heads(&packed, at..at + 1, 0, self.shape.heads, self.shape.width);
            attend(q, k, v, None, self.shape)
        });
        Tensor::cat(outputs.collect(), 0)
    }
}
