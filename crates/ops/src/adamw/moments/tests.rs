use super::*;

const SHAPE: [usize; 2] = [7, 45];
const LEN: usize = SHAPE[0] * SHAPE[1];
const KINDS: [MomentType; 3] = [MomentType::F32, MomentType::Bf16, MomentType::EightBit];

fn step(update: u64) -> AdamW {
    AdamW { learning_rate: 1e-3, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.01, update }
}

fn tensor(values: Vec<f32>) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, SHAPE), &Device::flex())
}

fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("float32")
}

/// Gradients with a direction of their own each, and noise.
fn gradient(update: u64) -> Tensor<2> {
    let value = |i: usize| {
        let noise = ((i as u64 * 7919 + update * 104_729) as f64 * 0.618_033_988_749).fract() as f32 - 0.5;
        ((i as f32 * 0.37).sin() * 0.5 + noise) * 10f32.powi(i as i32 % 3 - 2)
    };
    tensor((0..LEN).map(value).collect())
}

fn zeros(kind: MomentType, on_host: bool, fused: bool) -> Moments {
    let moments = Moments::zeros(SHAPE, kind, false, &Device::flex()).store();
    Moments::place(SHAPE, kind, on_host, (&Device::flex(), fused), moments).expect("moments of zero")
}

fn chance(update: u64) -> f32 {
    (update as f64 * 0.754_877_666).fract() as f32
}

/// Where parameters of 0 are after so many updates.
fn learn(moments: &mut Moments, mut parameter: Tensor<2>, updates: std::ops::RangeInclusive<u64>) -> Tensor<2> {
    for update in updates {
        parameter = moments.update(parameter, gradient(update), 0.5, &step(update), chance(update));
    }
    parameter
}

#[test]
fn every_kind_learns_nearly_the_same_everywhere() {
    let start = || tensor(vec![0.0; LEN]);
    let expected = host(learn(&mut zeros(MomentType::F32, false, true), start(), 1..=60));
    let size = expected.iter().map(|value| value.abs()).sum::<f32>();
    assert!(size > 0.02 * LEN as f32, "60 updates move, {size}");
    for (kind, allowed) in KINDS.into_iter().zip([1e-6, 0.01, 0.06]) {
        for (fused, on_host) in [(true, false), (false, false), (false, true)] {
            let found = host(learn(&mut zeros(kind, on_host, fused), start(), 1..=60));
            let off = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).sum::<f32>();
            println!("{kind:?}, fused {fused}, on the host {on_host}: {:.4}", off / size);
            assert!(off <= allowed * size, "{kind:?}, fused {fused}, on the host {on_host}: off by {off} of {size}");
            assert!(kind == MomentType::F32 || off > 0.0, "{kind:?}: nothing was rounded");
        }
    }
}

#[test]
fn what_is_stored_goes_on_bit_for_bit() {
    for kind in KINDS {
        for (fused, on_host) in [(true, false), (false, false), (false, true)] {
            let mut moments = zeros(kind, on_host, fused);
            let half = learn(&mut moments, tensor(vec![0.1; LEN]), 1..=5);
            let stored = moments.store();
            let whole = host(learn(&mut moments, half.clone(), 6..=9));
            let place = (&Device::flex(), fused);
            let mut again = Moments::place(SHAPE, kind, on_host, place, stored.clone()).expect("its own moments");
            assert_eq!(again.store(), stored, "{kind:?}");
            assert_eq!(host(learn(&mut again, half, 6..=9)), whole, "{kind:?}, fused {fused}, on the host {on_host}");
            assert_eq!(again.store(), moments.store(), "{kind:?}");
        }
    }
    let error = |kind, stored| Moments::restore(SHAPE, kind, false, &Device::flex(), stored).unwrap_err();
    let floats = || StoredMoment::Float(vec![0.0; LEN]);
    assert!(error(MomentType::EightBit, [floats(), floats()]).contains("8 are configured"));
    let short = || StoredMoment::Float(vec![0.0; 3]);
    assert!(error(MomentType::Bf16, [short(), short()]).contains("3 numbers in a moment, expected 315"));
}

/// Updates of the second moment are far below what either type tells apart.
#[test]
fn second_moments_rise_and_fall() {
    let second = |moments: &Moments| -> f32 {
        let plain = |stored: &StoredMoment| match stored {
            StoredMoment::Float(values) => values.clone(),
            StoredMoment::Coded { codes, scales } => {
                let mut values = vec![0.0; codes.len()];
                for ((codes, values), scale) in codes.chunks(BLOCK).zip(values.chunks_mut(BLOCK)).zip(scales) {
                    Code::Unsigned.decode(codes, *scale, values);
                }
                values.truncate(LEN);
                values
            }
        };
        plain(&moments.store()[1]).iter().sum::<f32>() / LEN as f32
    };
    for kind in KINDS {
        for fused in [true, false] {
            let mut moments = zeros(kind, false, fused);
            let mut parameter = tensor(vec![0.0; LEN]);
            let mut go = |moments: &mut Moments, gradient: f32, updates: std::ops::Range<u64>| {
                for update in updates {
                    let gradient = tensor(vec![gradient; LEN]);
                    parameter = moments.update(parameter.clone(), gradient, 1.0, &step(update), chance(update));
                }
                second(moments)
            };
            let high = go(&mut moments, 2.0, 1..2001);
            let expected = 4.0 * (1.0 - 0.999f32.powi(2000));
            assert!((high / expected - 1.0).abs() < 0.03, "{kind:?}, fused {fused}: rose to {high}, not {expected}");
            let low = go(&mut moments, 0.0, 2001..3501);
            let expected = high * 0.999f32.powi(1500);
            assert!((low / expected - 1.0).abs() < 0.05, "{kind:?}, fused {fused}: fell to {low}, not {expected}");
        }
    }
}
