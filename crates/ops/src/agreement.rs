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
    // several blocks of rows, and several parts of the sum over them
    let many = [values(3100, 12, 1), values(9, 12, 2), values(1, 9, 3), values(3100, 9, 4)];
    compare(
        "of many rows",
        &many,
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
        // tiles of fewer rows, since each has many scores
        AttentionPlan::separate(&[700], true),
        AttentionPlan::separate(&[3, 700], false),
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
fn attention_gives_a_group_the_same_bits_alone_and_among_others() {
    let shape = HeadShape { heads: 6, kv_heads: 2, width: 8 };
    let groups: [(usize, &[usize]); 3] = [(70, &[3, 130]), (9, &[50]), (1, &[64, 1])];
    let run = |packed: Tensor<2>, groups: &[(usize, &[usize])], upstream: Tensor<2>| {
        let plan = Arc::new(AttentionPlan::shared_prefix(groups.iter().copied()));
        let packed = packed.detach().require_grad();
        let y = attention(packed.clone(), &plan, shape);
        let gradients = (y.clone() * upstream).sum().backward();
        [host(y), host_of(packed.grad(&gradients).expect("a gradient"))]
    };
    let tokens: usize = groups.iter().map(|(prompt, responses)| prompt + responses.iter().sum::<usize>()).sum();
    let (packed, upstream) = (values(tokens, shape.packed(), 5), values(tokens, shape.heads * shape.width, 6));
    let among_others = run(packed.clone(), &groups, upstream.clone());
    let mut first = 0;
    for group in groups {
        let tokens = group.0 + group.1.iter().sum::<usize>();
        let part = |all: &Tensor<2>| all.clone().narrow(0, first, tokens);
        let alone = run(part(&packed), &[group], part(&upstream));
        for (alone, among_others, width) in
            [(&alone[0], &among_others[0], shape.heads * shape.width), (&alone[1], &among_others[1], shape.packed())]
        {
            assert!(alone[..] == among_others[first * width..(first + tokens) * width], "from token {first} on");
        }
        first += tokens;
    }
}

#[test]
fn decoding_equals_attention_over_the_whole_sequence() {
    for shape in [HeadShape { heads: 6, kv_heads: 2, width: 24 }, HeadShape { heads: 2, kv_heads: 2, width: 7 }] {
        // prompts and responses of fewer tokens than a panel of keys has, and of several panels
        for ([first, second], steps) in [([5, 2], 3), ([100, 33], 70)] {
            let (two, one) = ([steps, steps], [steps]);
            let plan = Arc::new(AttentionPlan::shared_prefix([(first, &two[..]), (second, &one[..])]));
            let packed = values(plan.tokens, shape.packed(), 6).inner();
            let whole = host_of(attention(packed.clone(), &plan, shape));
            let device = composed::Cache::new(shape, 1, 3, steps);
            let device = KeyValueCache { store: Store::Device(Box::new(device)) };
            // responses of the two groups, and where they start
            let behind = first + 2 * steps;
            let starts = [(0, 10, first), (2, 10, first + steps), (1, 11, behind + second)];
            for mut cache in [KeyValueCache::new(shape, 1, 3, steps, &Device::flex(), DType::F32), device] {
                cache.insert(0, 10, packed.clone().narrow(0, 0, first));
                cache.insert(0, 11, packed.clone().narrow(0, behind, second));
                for step in 0..steps {
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
}

/// In one call each, and step by step; in one block of rows, and in several.
#[test]
fn halves_of_a_block_are_the_steps_that_they_consist_of() {
    let (d, shape, inner) = (24, HeadShape { heads: 4, kv_heads: 2, width: 8 }, 20);
    for rows in [3, 70, 900] {
        let plain = |rows: usize, columns: usize, salt: u64| values(rows, columns, salt).inner();
        let map = |outputs: usize, inputs: usize, bias: bool, salt: u64| MapOf {
            weight: plain(outputs, inputs, salt),
            bias: bias.then(|| plain(1, outputs, salt + 1)),
        };
        let step = |x: Tensor<2>, map: &MapOf, residual: Option<Tensor<2>>| {
            composed::linear(x, map.weight.clone(), map.bias.clone(), residual)
        };
        let norm = NormOf { gamma: plain(1, d, 3), epsilon: 1e-6 };
        let normed = |x: &Tensor<2>| composed::rms_norm(x.clone(), norm.gamma.clone(), norm.epsilon);
        let angles: Vec<f32> = (0..rows * 4).map(|i| i as f32 * 0.37).collect();
        let table = Arc::new(RotaryTable::new(&angles, 4));
        let x = plain(rows, d, 1);
        assert!(has_halves(&x) && !has_halves(&values(rows, d, 1)));
        for bias in [false, true] {
            let qkv = map(shape.packed(), d, bias, 10);
            let want = host_of(composed::rotate(step(normed(&x), &qkv, None), &table, 6));
            let found = host_of(before_attention(x.clone(), norm.clone(), qkv, &table, 6));
            close("before attention", &found, &want, 2e-6);
            let maps = [map(d, 32, bias, 20), map(2 * inner, d, bias, 30), map(d, inner, bias, 40)];
            let attended = plain(rows, 32, 2);
            let y = step(attended.clone(), &maps[0], Some(x.clone()));
            let gated = composed::swiglu(step(normed(&y), &maps[1], None));
            let want = host_of(step(gated, &maps[2], Some(y)));
            let before = host_of(x.clone());
            let found = host_of(after_attention(x.clone(), attended, norm.clone(), maps));
            close("after attention", &found, &want, 5e-6);
            assert_eq!(host_of(x.clone()), before, "what others hold is not overwritten");
        }
    }
}

fn host_of(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("float32")
}
