//! The fused kernels and the composed functions agree, in values and in gradients.

use super::*;
use burn::tensor::{Gradients, TensorData};

fn device() -> Device {
    Device::flex().autodiff()
}

/// Deterministic values in about [-1, 1].
fn values(rows: usize, columns: usize, salt: u64) -> Tensor<2> {
    let mut state = salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
    let values: Vec<f32> = (0..rows * columns)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 24) as f32) * 2.0 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), &device())
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.inner().into_data().try_to_vec().expect("float32")
}

fn close(name: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{name}: lengths");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{name}[{i}]: fused {a}, composed {b}");
    }
}

/// Compares `fused` and `composed` on the same inputs under a random upstream gradient.
fn compare(
    name: &str,
    inputs: &[Tensor<2>],
    fused: impl Fn(&[Tensor<2>]) -> Tensor<2>,
    composed: impl Fn(&[Tensor<2>]) -> Tensor<2>,
) {
    let run = |f: &dyn Fn(&[Tensor<2>]) -> Tensor<2>| {
        let leaves: Vec<Tensor<2>> = inputs.iter().map(|x| x.clone().detach().require_grad()).collect();
        let y = f(&leaves);
        let [rows, columns] = y.dims();
        let gradients: Gradients = (y.clone() * values(rows, columns, 99)).sum().backward();
        let gradients: Vec<Vec<f32>> = leaves
            .iter()
            .map(|leaf| leaf.grad(&gradients).expect("a gradient").into_data().try_to_vec().unwrap())
            .collect();
        (host(y), gradients)
    };
    let (y, dy) = run(&fused);
    let (z, dz) = run(&composed);
    close(name, &y, &z, 2e-6);
    for (i, (a, b)) in dy.iter().zip(&dz).enumerate() {
        close(&format!("{name}: gradient of input {i}"), a, b, 2e-5);
    }
}

#[test]
fn linear_maps() {
    let (x, w, b, r) = (values(70, 33, 1), values(19, 33, 2), values(1, 19, 3), values(70, 19, 4));
    let all = [x, w, b, r];
    compare(
        "linear",
        &all[..2],
        |t| linear(t[0].clone(), t[1].clone(), None, None),
        |t| composed::linear(t[0].clone(), t[1].clone(), None, None),
    );
    compare(
        "with bias",
        &all[..3],
        |t| linear(t[0].clone(), t[1].clone(), Some(t[2].clone()), None),
        |t| composed::linear(t[0].clone(), t[1].clone(), Some(t[2].clone()), None),
    );
    compare(
        "with both",
        &all,
        |t| linear(t[0].clone(), t[1].clone(), Some(t[2].clone()), Some(t[3].clone())),
        |t| composed::linear(t[0].clone(), t[1].clone(), Some(t[2].clone()), Some(t[3].clone())),
    );
    let residual = [all[0].clone(), all[1].clone(), all[3].clone()];
    compare(
        "with residual",
        &residual,
        |t| linear(t[0].clone(), t[1].clone(), None, Some(t[2].clone())),
        |t| composed::linear(t[0].clone(), t[1].clone(), None, Some(t[2].clone())),
    );
}

#[test]
fn a_weight_that_is_laid_out_is_the_same_map() {
    let [x, w, b, r] = [values(70, 33, 1), values(45, 33, 2), values(1, 45, 3), values(70, 45, 4)].map(Tensor::inner);
    let got = linear_laid_out(x.clone(), &lay_out(w.clone()), Some(b.clone()), Some(r.clone()));
    close("laid out", &host_of(got), &host_of(composed::linear(x, w, Some(b), Some(r))), 2e-6);
}

#[test]
fn an_operand_used_twice_is_not_overwritten() {
    let (x, w) = (values(5, 8, 1), values(8, 8, 2));
    let before = host(x.clone());
    let y = linear(x.clone(), w.clone(), None, Some(x.clone()));
    assert_eq!(host(x.clone()), before);
    close("residual of itself", &host(y), &host(composed::linear(x.clone(), w, None, Some(x))), 2e-6);
}

#[test]
fn normalization_gate_and_rotation() {
    compare(
        "rms_norm",
        &[values(130, 37, 1), values(1, 37, 2)],
        |t| rms_norm(t[0].clone(), t[1].clone(), 1e-6),
        |t| composed::rms_norm(t[0].clone(), t[1].clone(), 1e-6),
    );
    compare(
        "swiglu",
        &[values(41, 2 * 27, 3).mul_scalar(6.0)],
        |t| swiglu(t[0].clone()),
        |t| composed::swiglu(t[0].clone()),
    );
    compare("gelu", &[values(41, 27, 5).mul_scalar(5.0)], |t| gelu(t[0].clone()), |t| composed::gelu(t[0].clone()));
    let rows = Arc::new(RowKeys::new((0..41).map(|row| next_key(9, row))));
    for rate in [0.0, 0.1, 0.75] {
        compare(
            "dropout",
            &[values(41, 27, 6)],
            |t| dropout(t[0].clone(), &rows, 5, rate),
            |t| composed::dropout(t[0].clone(), &rows, 5, rate),
        );
    }
    let angles: Vec<f32> = (0..70 * 4).map(|i| i as f32 * 0.37).collect();
    let table = Arc::new(RotaryTable::new(&angles, 4));
    compare(
        "rotate",
        &[values(70, 5 * 8, 4)],
        |t| rotate(t[0].clone(), &table, 3),
        |t| composed::rotate(t[0].clone(), &table, 3),
    );
}

#[test]
fn gathering_and_padding() {
    let rows: Arc<[Row]> = [Row::Table(3), Row::Feature(1), Row::Table(3), Row::Feature(0), Row::Table(0)].into();
    compare(
        "gather",
        &[values(6, 7, 1), values(2, 7, 2)],
        |t| gather(t[0].clone(), Some(t[1].clone()), &rows),
        |t| composed::gather(t[0].clone(), Some(t[1].clone()), &rows),
    );
    let padded = pad_rows(Tensor::from_data([[1.0], [2.0], [3.0]], &device()), &[1, 0, 2], 3);
    assert_eq!(host(padded), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 3.0, 0.0]);
}

#[test]
fn log_probs_and_entropies() {
    for (vocabulary, temperature) in [(50, 1.0), (448, 0.7), (70_001, 1.3)] {
        let rows = if vocabulary > 1000 { 20 } else { 300 };
        let targets: Arc<[u32]> = (0..rows).map(|i| (i * 7919 % vocabulary) as u32).collect();
        let inputs = [values(rows, 24, 1).mul_scalar(3.0), values(vocabulary, 24, 2)];
        for entropy in [false, true] {
            compare(
                &format!("log-probs of {vocabulary}, entropy {entropy}"),
                &inputs,
                |t| token_log_probs(t[0].clone(), t[1].clone(), &targets, temperature, entropy),
                |t| composed::token_log_probs(t[0].clone(), t[1].clone(), &targets, temperature, entropy),
            );
        }
    }
}

#[test]
fn attention_of_groups() {
    let shape = HeadShape { heads: 6, kv_heads: 2, width: 8 };
    let plans = [
        AttentionPlan::shared_prefix([(5, [3, 1, 4].as_slice()), (300, [7, 260, 2].as_slice()), (1, [1].as_slice())]),
        AttentionPlan::separate(&[1, 17, 300], true),
        AttentionPlan::separate(&[4, 16, 12], false),
    ];
    for plan in plans {
        let (tokens, plan) = (plan.tokens, Arc::new(plan));
        compare(
            "attention",
            &[values(tokens, shape.packed(), 5).mul_scalar(2.0)],
            |t| attention(t[0].clone(), &plan, shape),
            |t| composed::attention(t[0].clone(), &plan, shape),
        );
    }
}

#[test]
fn decoding_equals_attention_over_the_whole_sequence() {
    for shape in [HeadShape { heads: 6, kv_heads: 2, width: 24 }, HeadShape { heads: 2, kv_heads: 2, width: 7 }] {
        let plan = Arc::new(AttentionPlan::shared_prefix([(5, [3, 3].as_slice()), (2, [3].as_slice())]));
        let packed = values(plan.tokens, shape.packed(), 6).inner();
        let whole = host_of(attention(packed.clone(), &plan, shape));
        let base = Device::flex();
        let device_cache = KeyValueCache { store: Store::Device(Box::new(composed::DeviceCache::new(shape, 1, 3, 3))) };
        for mut cache in [KeyValueCache::new(shape, 1, 3, 3, &base, DType::F32), device_cache] {
            cache.insert(0, 10, packed.clone().narrow(0, 0, 5));
            cache.insert(0, 11, packed.clone().narrow(0, 11, 2));
            for step in 0..3 {
                // responses of the two groups start at tokens 5, 8 and 13
                let starts = [(0, 10, 5), (2, 10, 8), (1, 11, 13)];
                let rows = starts.map(|(slot, prompt, _)| CachedRow { slot, prompt, length: step });
                let new = starts.map(|(_, _, start)| packed.clone().narrow(0, start + step, 1));
                let outputs = host_of(cache.attend(0, Tensor::cat(new.to_vec(), 0), &rows));
                let width = shape.heads * shape.width;
                for (row, (_, _, start)) in starts.iter().enumerate() {
                    let want = &whole[(start + step) * width..(start + step + 1) * width];
                    close("decoding", &outputs[row * width..(row + 1) * width], want, 2e-6);
                }
            }
        }
    }
}

fn host_of(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("float32")
}
