//! Every operation of `ops`, with its gradients, on shapes that trip kernels: odd lengths, one row, sizes just over powers of two.

use super::{EXACT, PRODUCTS, Probe};
use burn::tensor::{DType, Device, Tensor, TensorData};
use percept_ops::{
    AdamW, AttentionPlan, CachedRow, HeadShape, KeyValueCache, KlEstimator, RotaryTable, Row, RowKeys, adamw,
    attention, attention_gradient, dropout, gather, gelu, kl, linear, masked_sum, next_key, pad_rows, rms_norm, rotate,
    swiglu, token_log_probs,
};
use percept_random::{Key, Purpose};
use std::sync::Arc;

/// Random numbers on a device, the same for the same salt.
pub(super) fn numbers(shape: [usize; 2], salt: u64, scale: f64, device: &Device) -> Tensor<2> {
    let mut stream = Key::new(salt, Purpose::Task).stream();
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| (stream.normal() * scale) as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

pub(super) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let tensor = if tensor.device().is_autodiff() { tensor.inner() } else { tensor };
    tensor.into_data().try_to_vec().expect("float32")
}

/// A function's result on random inputs of these shapes, and its gradients under a random upstream gradient.
fn with_gradients(shapes: &[[usize; 2]], device: &Device, f: impl Fn(Vec<Tensor<2>>) -> Tensor<2>) -> Vec<f32> {
    let device = device.clone().autodiff();
    let leaves: Vec<Tensor<2>> =
        shapes.iter().enumerate().map(|(i, &shape)| numbers(shape, i as u64, 1.0, &device).require_grad()).collect();
    let y = f(leaves.clone());
    let upstream = numbers(y.dims(), 99, 1.0, &device);
    let gradients = (y.clone() * upstream).sum().backward();
    let mut all = host(y);
    all.extend(leaves.iter().flat_map(|leaf| host(leaf.grad(&gradients).expect("a gradient"))));
    all
}

pub(super) fn probes() -> Vec<Probe> {
    let shape = HeadShape { heads: 6, kv_heads: 2, width: 8 };
    let groups = || AttentionPlan::shared_prefix([(5, [3, 1, 4].as_slice()), (33, [7, 17, 2].as_slice()), (1, &[1])]);
    vec![
        Probe::new("linear map", PRODUCTS, |device| {
            let mut all = Vec::new();
            for (n, input, output) in [(70, 33, 19), (1, 64, 65), (129, 17, 1)] {
                all.extend(with_gradients(
                    &[[n, input], [output, input], [1, output], [n, output]],
                    device,
                    |mut t| {
                        let (residual, bias) = (t.pop(), t.pop());
                        linear(t[0].clone(), t[1].clone(), bias, residual)
                    },
                ));
            }
            all
        }),
        Probe::new("root-mean-square normalization", EXACT, |device| {
            with_gradients(&[[65, 37], [1, 37]], device, |t| rms_norm(t[0].clone(), t[1].clone(), 1e-6))
        }),
        Probe::new("gated unit", EXACT, |device| with_gradients(&[[41, 2 * 27]], device, |t| swiglu(t[0].clone()))),
        Probe::new("Gaussian error linear unit", EXACT, |device| {
            with_gradients(&[[33, 65]], device, |t| gelu(t[0].clone().mul_scalar(2.0)))
        }),
        Probe::new("dropout", EXACT, |device| {
            let rows = Arc::new(RowKeys::new((0..33).map(|row| next_key(9, row))));
            with_gradients(&[[33, 65]], device, |t| dropout(t[0].clone(), &rows, 5, 0.3))
        }),
        Probe::new("rotary embedding", EXACT, |device| {
            let angles: Vec<f32> = (0..33 * 4).map(|i| i as f32 * 0.37).collect();
            let table = Arc::new(RotaryTable::new(&angles, 4));
            with_gradients(&[[33, 5 * 8]], device, |t| rotate(t[0].clone(), &table, 3))
        }),
        Probe::new("embedding lookup", EXACT, |device| {
            let rows = [Row::Table(3), Row::Feature(1), Row::Table(3), Row::Feature(0), Row::Table(0)];
            let rows: Arc<[Row]> = rows.into();
            with_gradients(&[[6, 7], [2, 7]], device, |t| gather(t[0].clone(), Some(t[1].clone()), &rows))
        }),
        attends("attention, causal", AttentionPlan::separate(&[1, 17, 40], true), shape),
        attends("attention, windows", AttentionPlan::separate(&[4, 16, 12], false), shape),
        attends("attention, shared prefix", groups(), shape),
        Probe::new("attention, its gradient without a graph", PRODUCTS, move |device| {
            [groups(), AttentionPlan::separate(&[4, 16, 12], false)]
                .map(Arc::new)
                .map(|plan| {
                    let packed = numbers([plan.tokens, shape.packed()], 1, 1.0, device);
                    let upstream = numbers([plan.tokens, shape.heads * shape.width], 2, 1.0, device);
                    host(attention_gradient(packed, upstream, &plan, shape))
                })
                .concat()
        }),
        Probe::new("cached attention", PRODUCTS, move |device| decoded(device, shape)),
        Probe::new("cached attention, refilled", PRODUCTS, refilled),
        Probe::new("log-probabilities and entropies", PRODUCTS, |device| {
            let targets: Arc<[u32]> = (0..33).map(|i| i * 31 % 513).collect();
            with_gradients(&[[33, 24], [513, 24]], device, |t| {
                token_log_probs(t[0].clone(), t[1].clone(), &targets, 0.7, true)
            })
        }),
        Probe::new("masked sums and padding", EXACT, |device| {
            with_gradients(&[[9, 1]], device, |t| {
                let padded = pad_rows(t[0].clone(), &[4, 0, 5], 6);
                let weights = numbers([3, 6], 5, 1.0, &t[0].device()).clamp_min(0.0);
                masked_sum(padded, weights).reshape([1, 1])
            })
        }),
        Probe::new("divergence estimators", EXACT, |device| {
            let mut all = Vec::new();
            for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::Abs] {
                all.extend(with_gradients(&[[5, 9], [5, 9]], device, |t| kl(t[0].clone(), t[1].clone(), estimator)));
            }
            all
        }),
        Probe::new("optimizer update", EXACT, |device| {
            let [p, g, m, v] = [1, 2, 3, 4].map(|salt| numbers([33, 65], salt, 1.0, device));
            let step = AdamW { learning_rate: 1e-2, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.01, update: 3 };
            let (p, [m, v]) = adamw(p, g, [m, v.abs()], 0.5, &step);
            [host(p), host(m), host(v)].concat()
        }),
    ]
}

fn attends(name: &'static str, plan: AttentionPlan, shape: HeadShape) -> Probe {
    Probe::new(name, PRODUCTS, move |device| {
        let plan = Arc::new(plan.clone());
        with_gradients(&[[plan.tokens, shape.packed()]], device, |t| attention(t[0].clone(), &plan, shape))
    })
}

/// Three rows of two prompts, token by token.
fn decoded(device: &Device, shape: HeadShape) -> Vec<f32> {
    let mut cache = KeyValueCache::new(shape, 1, 3, 4, device, DType::F32);
    cache.insert(0, 10, numbers([5, shape.packed()], 1, 1.0, device));
    cache.insert(0, 11, numbers([17, shape.packed()], 2, 1.0, device));
    let mut all = Vec::new();
    for length in 0..4 {
        let rows = [(0, 10), (2, 10), (1, 11)].map(|(slot, prompt)| CachedRow { slot, prompt, length });
        all.extend(host(cache.attend(0, numbers([3, shape.packed()], 20 + length as u64, 1.0, device), &rows)));
    }
    all
}

/// Rows that end while others go on, and others in their places, for more steps than a row has room for, in two layers; one prompt is longer
/// than what a kernel takes at once.
fn refilled(device: &Device) -> Vec<f32> {
    let shape = HeadShape { heads: 14, kv_heads: 2, width: 32 };
    let mut cache = KeyValueCache::new(shape, 2, 3, 6, device, DType::F32);
    let numbers = |rows: usize, salt: u64| numbers([rows, shape.packed()], salt, 1.0, device);
    // slot, prompt, first step
    let responses = [(0, 10, 0), (1, 11, 2), (2, 10, 3), (0, 12, 6), (1, 12, 7)];
    let mut all = Vec::new();
    for step in 0..11 {
        match step {
            0 => (0..2).for_each(|layer| cache.insert(layer, 10, numbers(700, 30 + layer as u64))),
            2 => (0..2).for_each(|layer| cache.insert(layer, 11, numbers(33, 40 + layer as u64))),
            6 => (0..2).for_each(|layer| cache.insert(layer, 12, numbers(90, 50 + layer as u64))),
            9 => cache.remove(10),
            _ => {}
        }
        let going = responses.iter().filter(|(_, _, first)| (*first..first + 5).contains(&step));
        let rows: Vec<CachedRow> =
            going.map(|&(slot, prompt, first)| CachedRow { slot, prompt, length: step - first }).collect();
        for layer in 0..2 {
            let salt = (60 + 2 * step + layer) as u64;
            all.extend(host(cache.attend(layer, numbers(rows.len(), salt), &rows)));
        }
    }
    all
}
