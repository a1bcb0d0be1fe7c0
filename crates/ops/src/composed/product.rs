//! Products of matrices, with all bits of float32 where that is asked for.

use super::cast;
use crate::{is_processor, rounded_products};
use burn::tensor::{DType, Device, Tensor};
use std::sync::{Mutex, PoisonError};

/// `a b`, over the last two dimensions.
///
/// On a device that may round float32 (see [`crate::set_rounded_products`]), float32 is multiplied in float64 unless rounding is allowed;
/// so are the gradients.
///
/// # Shapes
/// `a` `[.., n, k]`, `b` `[.., k, m]`, of one type; result `[.., n, m]` of that type.
pub fn product<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    if a.dtype() != DType::F32 || rounded_products() || !may_round(&a.device()) {
        return a.matmul(b);
    }
    exactly(a, b)
}

fn exactly<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    cast(cast(a, DType::F64).matmul(cast(b, DType::F64)), DType::F32)
}

/// Whether the device's kernels may multiply float32 in fewer bits: kernels are chosen by their speed (cubek-matmul 0.3.1, `adjust_dtypes`), and
/// only backends that have float64, CUDA's and ROCm's, have such types.
fn may_round(device: &Device) -> bool {
    static ASKED: Mutex<Vec<(Device, bool)>> = Mutex::new(Vec::new());
    let device = device.clone().without_autodiff();
    if is_processor(&device) {
        return false;
    }
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = asked.iter().find(|(known, _)| *known == device) {
        return *known;
    }
    let rounds = device.supports_dtype(DType::F64);
    asked.push((device, rounds));
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    /// Values and gradients of the way by float64 are those of float32, for every rank that attention needs.
    #[test]
    fn the_exact_product_is_the_product() {
        let device = Device::flex().autodiff();
        let numbers = |shape: [usize; 4], salt: usize| {
            let count = shape.iter().product();
            let value = |i: usize| ((i * 37 + salt * 101) % 61) as f32 / 30.0 - 1.0;
            let data = TensorData::new((0..count).map(value).collect::<Vec<f32>>(), shape);
            Tensor::<4>::from_data(data, &device).require_grad()
        };
        let host = |tensor: Tensor<4>| tensor.into_data().try_to_vec::<f32>().expect("float32");
        let results = [exactly::<4>, |a: Tensor<4>, b: Tensor<4>| a.matmul(b)].map(|product| {
            let (a, b, upstream) = (numbers([2, 3, 5, 7], 1), numbers([2, 3, 7, 4], 2), numbers([2, 3, 5, 4], 3));
            let c = product(a.clone(), b.clone());
            assert_eq!(c.dtype(), DType::F32);
            let gradients = (c.clone() * upstream).sum().backward();
            let gradient = |leaf: &Tensor<4>| host(leaf.grad(&gradients).expect("a gradient"));
            [host(c.inner()), gradient(&a), gradient(&b)]
        });
        for (exact, plain) in results[0].iter().zip(&results[1]) {
            for (x, y) in exact.iter().zip(plain) {
                assert!((x - y).abs() < 1e-6 * (1.0 + y.abs()), "{x} and {y}");
            }
        }
    }
}
