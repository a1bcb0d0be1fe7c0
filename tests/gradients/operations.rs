//! Every operation of `percept_ops`, as the CPU backend's fused kernel and as the composition that other backends compute.

use super::{compare, device, host, noise, slopes, tensor};
use burn::tensor::{Device, Tensor, TensorData};
use percept_ops::{AttentionPlan, HeadShape, KlEstimator, RotaryTable, Row, composed, kl, masked_sum, pad_rows};
use std::sync::Arc;

struct Input {
    values: Vec<f32>,
    shape: [usize; 2],
}

fn input(shape: [usize; 2], size: f32, salt: u64) -> Input {
    Input { values: noise(shape[0] * shape[1], salt).into_iter().map(|value| value * size).collect(), shape }
}

type Operation<'a> = &'a dyn Fn(&[Tensor<2>]) -> Tensor<2>;

/// The gradient of each input under a random weight for each value of the result.
fn check(name: &str, inputs: &[Input], operation: Operation) {
    let leaves: Vec<Tensor<2>> =
        inputs.iter().map(|input| tensor(input.values.clone(), input.shape).require_grad()).collect();
    let result = operation(&leaves);
    let [rows, columns] = result.dims();
    let upstream = noise(rows * columns, 99);
    let gradients = (result * tensor(upstream.clone(), [rows, columns])).sum().backward();
    let mut worst = 0.0f64;
    for (i, (input, leaf)) in inputs.iter().zip(&leaves).enumerate() {
        let gradient = host(leaf.grad(&gradients).expect("each input has a gradient"));
        let value = |moved: Vec<f32>| {
            let at = |j: usize| if i == j { moved.clone() } else { inputs[j].values.clone() };
            let plain = |j: usize| Tensor::from_data(TensorData::new(at(j), inputs[j].shape), &Device::flex());
            let result = host(operation(&(0..inputs.len()).map(plain).collect::<Vec<_>>()));
            result.iter().zip(&upstream).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let found = compare(&format!("{name}, input {i}"), &gradient, &slopes(0.04, &input.values, value), 2e-4);
        worst = worst.max(found);
    }
    println!("{name}: {worst:.1e}");
}

#[test]
fn linear() {
    let all = || vec![input([5, 7], 1.0, 1), input([3, 7], 1.0, 2), input([1, 3], 1.0, 3), input([5, 3], 1.0, 4)];
    let function = |f: fn(Tensor<2>, Tensor<2>, Option<Tensor<2>>, Option<Tensor<2>>) -> Tensor<2>, name: &str| {
        check(&format!("{name} linear"), &all()[..2], &|t| f(t[0].clone(), t[1].clone(), None, None));
        check(&format!("{name} linear with bias"), &all()[..3], &|t| {
            f(t[0].clone(), t[1].clone(), Some(t[2].clone()), None)
        });
        check(&format!("{name} linear with bias and residual"), &all(), &|t| {
            f(t[0].clone(), t[1].clone(), Some(t[2].clone()), Some(t[3].clone()))
        });
        // the residual is what goes in: both ways add up in one gradient
        check(&format!("{name} linear of its own residual"), &[input([4, 6], 1.0, 5), input([6, 6], 1.0, 6)], &|t| {
            f(t[0].clone(), t[1].clone(), None, Some(t[0].clone()))
        });
    };
    function(percept_ops::linear, "fused");
    function(composed::linear, "composed");
}

#[test]
fn rms_norm() {
    let inputs = [input([4, 9], 1.5, 1), input([1, 9], 1.0, 2)];
    check("fused rms_norm", &inputs, &|t| percept_ops::rms_norm(t[0].clone(), t[1].clone(), 1e-2));
    check("composed rms_norm", &inputs, &|t| composed::rms_norm(t[0].clone(), t[1].clone(), 1e-2));
}

#[test]
fn swiglu() {
    let inputs = [input([3, 10], 3.0, 1)];
    check("fused swiglu", &inputs, &|t| percept_ops::swiglu(t[0].clone()));
    check("composed swiglu", &inputs, &|t| composed::swiglu(t[0].clone()));
}

#[test]
fn rotate() {
    let angles: Vec<f32> = (0..5 * 2).map(|i| i as f32 * 0.7).collect();
    let table = Arc::new(RotaryTable::new(&angles, 2));
    // two of three heads turn, as queries and keys beside values
    let inputs = [input([5, 12], 1.0, 1)];
    check("fused rotate", &inputs, &|t| percept_ops::rotate(t[0].clone(), &table, 2));
    check("composed rotate", &inputs, &|t| composed::rotate(t[0].clone(), &table, 2));
}

#[test]
fn attention() {
    let shape = HeadShape { heads: 4, kv_heads: 2, width: 3 };
    let plans = [
        ("shared prefix", AttentionPlan::shared_prefix([(3, [2, 0, 3].as_slice()), (2, [1].as_slice())])),
        ("causal", AttentionPlan::separate(&[4, 3], true)),
        ("windows", AttentionPlan::separate(&[4, 3], false)),
    ];
    for (name, plan) in plans {
        let inputs = [input([plan.tokens, shape.packed()], 1.5, 7)];
        let plan = Arc::new(plan);
        check(&format!("fused attention, {name}"), &inputs, &|t| percept_ops::attention(t[0].clone(), &plan, shape));
        check(&format!("composed attention, {name}"), &inputs, &|t| composed::attention(t[0].clone(), &plan, shape));
    }
}

#[test]
fn gather() {
    let rows: Arc<[Row]> = [Row::Table(2), Row::Feature(1), Row::Table(2), Row::Feature(0), Row::Table(0)].into();
    let inputs = [input([4, 3], 1.0, 1), input([2, 3], 1.0, 2)];
    check("fused gather", &inputs, &|t| percept_ops::gather(t[0].clone(), Some(t[1].clone()), &rows));
    check("composed gather", &inputs, &|t| composed::gather(t[0].clone(), Some(t[1].clone()), &rows));
}

#[test]
fn token_log_probs() {
    let targets: Arc<[u32]> = [3, 0, 10, 3].into();
    let inputs = [input([4, 5], 2.0, 1), input([11, 5], 1.0, 2)];
    for (temperature, entropy) in [(1.0, false), (0.7, false), (1.3, true)] {
        check(&format!("fused log-probs at {temperature}, entropy {entropy}"), &inputs, &|t| {
            percept_ops::token_log_probs(t[0].clone(), t[1].clone(), &targets, temperature, entropy)
        });
        check(&format!("composed log-probs at {temperature}, entropy {entropy}"), &inputs, &|t| {
            composed::token_log_probs(t[0].clone(), t[1].clone(), &targets, temperature, entropy)
        });
    }
}

#[test]
fn padding_and_masked_sums() {
    check("pad_rows", &[input([6, 1], 1.0, 1)], &|t| pad_rows(t[0].clone(), &[1, 0, 3, 2], 3));
    check("masked_sum", &[input([2, 4], 1.0, 2)], &|t| {
        let device = t[0].device();
        let weights = Tensor::from_data([[0.5, 0.0, 2.0, 0.1], [0.0, 1.0, 0.0, 0.3]], &device);
        masked_sum(t[0].clone(), weights).reshape([1, 1])
    });
}

#[test]
fn divergences() {
    // differences away from 0, where |d| has a corner, and from 2.61, where k3 is clamped
    let other = Input { values: vec![-1.0, -0.4, 0.3, 1.2, 4.0, -3.0], shape: [2, 3] };
    let live = Input { values: vec![0.0; 6], shape: [2, 3] };
    let inputs = [live, other];
    for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::Abs] {
        check(&format!("{estimator:?}"), &inputs, &|t| kl(t[0].clone(), t[1].clone(), estimator));
    }
    // beyond the clamp there is no gradient at all
    let leaf = tensor(vec![0.0], [1, 1]).require_grad();
    let gradients = kl(leaf.clone(), Tensor::from_data([[4.0]], &device()), KlEstimator::K3).sum().backward();
    assert_eq!(host(leaf.grad(&gradients).expect("a gradient")), [0.0]);
}
