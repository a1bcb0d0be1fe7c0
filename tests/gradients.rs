//! Gradients against finite differences: of every objective, of every operation, and of a whole policy under the trainer's own loss.
//!
//! The differences are of fourth order, f'(x) = (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h, so that h can be so large that float32
//! leaves three digits. Inputs keep away from the edges of clips, by more than 2 h.

mod objectives;
mod operations;
mod policy;

use burn::tensor::{Device, Tensor, TensorData};

fn device() -> Device {
    Device::flex().autodiff()
}

/// Deterministic values in [-1, 1).
fn noise(count: usize, salt: u64) -> Vec<f32> {
    let mut stream = percept_random::Key::new(salt, percept_random::Purpose::Initialization).stream();
    (0..count).map(|_| (stream.uniform() * 2.0 - 1.0) as f32).collect()
}

fn tensor(values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), &device())
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("float32")
}

fn number(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.into_data().try_to_vec::<f32>().expect("float32")[0])
}

/// The derivative of `f` at 0.
fn slope(h: f64, f: impl Fn(f64) -> f64) -> f64 {
    (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h)
}

/// The derivative with respect to each value of `at`.
fn slopes(h: f64, at: &[f32], f: impl Fn(Vec<f32>) -> f64) -> Vec<f64> {
    let one = |i: usize| {
        slope(h, |step| {
            let mut moved = at.to_vec();
            moved[i] = (f64::from(moved[i]) + step) as f32;
            f(moved)
        })
    };
    (0..at.len()).map(one).collect()
}

/// Largest difference in units of the largest slope.
fn compare(what: &str, gradient: &[f32], slopes: &[f64], tolerance: f64) -> f64 {
    assert_eq!(gradient.len(), slopes.len(), "{what}: numbers");
    let scale = slopes.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    assert!(scale > 0.0, "{what}: nothing depends on this");
    let mut worst = 0.0f64;
    for (i, (&gradient, slope)) in gradient.iter().zip(slopes).enumerate() {
        let difference = (f64::from(gradient) - slope).abs() / scale;
        // written so that a NaN fails
        assert!(difference <= tolerance, "{what}[{i}]: gradient {gradient}, slope {slope} (largest {scale})");
        worst = worst.max(difference);
    }
    worst
}
