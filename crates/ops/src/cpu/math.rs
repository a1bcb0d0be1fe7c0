//! Exponentials that the compiler turns into vector instructions.

/// Runs a loop compiled for the widest vectors of this processor.
///
/// The closure's body is inlined into a function compiled with the processor's features, so plain loops over slices become vector
/// code; write it `#[inline(always)]`.
#[inline(always)]
pub(crate) fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    struct Body<F>(F);
    impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Body<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Body(body))
}

/// e^x within 2 units in the last place; 0 below -87.3 (where the result is no longer a normal number).
///
/// Cody-Waite reduction to |r| <= ln 2 / 2 and a polynomial of degree 6, without branches.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to the nearest integer
    let clamped = x.clamp(-88.0, 88.7);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-0.693_359_4, clamped);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.388_967_6e-3f32;
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_66e-2);
    let p = p.mul_add(r, 1.666_666_6e-1);
    let p = p.mul_add(r, 0.5);
    let p = (p * r).mul_add(r, r) + 1.0;
    let scale = f32::from_bits((shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127)) << 23);
    if x < -87.3 { 0.0 } else { p * scale }
}

#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The normal distribution's share below x, Phi(x), and its density.
///
/// Phi(-u) = e^(-u^2 / 2) q(u) for u >= 0, where q falls without bends from 1/2. As t times a polynomial of degree 8 in
/// t = 1 / (1 + 0.265 u), fitted to the least largest relative error for u up to 14, it is right within 1.2e-8; in single precision Phi
/// is right within 2e-7, its density within 1.5e-7, and small values of it within 1e-6 of themselves as long as x > -5.
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    const FITTED: [f32; 9] = [
        0.105_741_56,
        0.105_246_66,
        0.102_700_986,
        0.060_313_09,
        0.137_953_15,
        -0.116_362_68,
        0.217_815_04,
        -0.144_228_68,
        0.030_820_87,
    ];
    let u = x.abs();
    let t = 1.0 / u.mul_add(0.265, 1.0);
    let mut q = FITTED[8];
    for power in (0..8).rev() {
        q = q.mul_add(t, FITTED[power]);
    }
    let bell = exp(-0.5 * u * u);
    let tail = q * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, bell * 0.398_942_3)
}

const LANES: usize = 16;

/// Replaces values by e^((value - offset) scale), and gives their sum, in a fixed order (16 partial sums) whatever the vector width.
#[inline(always)]
pub(crate) fn exponentials(values: &mut [f32], offset: f32, scale: f32) -> f32 {
    let mut partial = [0f32; LANES];
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp((chunk[lane] - offset) * scale);
            partial[lane] += chunk[lane];
        }
    }
    rest.iter_mut().for_each(|value| *value = exp((*value - offset) * scale));
    fold(partial) + rest.iter().sum::<f32>()
}

/// Inner product in a fixed order.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut partial = [0f32; LANES];
    let (x, y) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = x.remainder().iter().zip(y.remainder()).map(|(a, b)| a * b).sum();
    for (x, y) in x.zip(y) {
        for lane in 0..LANES {
            partial[lane] = x[lane].mul_add(y[lane], partial[lane]);
        }
    }
    fold(partial) + rest
}

/// Largest value; negative infinity for none.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut partial = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            partial[lane] = if chunk[lane] > partial[lane] { chunk[lane] } else { partial[lane] };
        }
    }
    partial.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// The sum of the lanes, in a fixed order.
#[inline(always)]
pub(crate) fn fold(mut partial: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            partial[lane] += partial[lane + width];
        }
        width /= 2;
    }
    partial[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_within_two_units_in_the_last_place() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / want - 1.0).abs() < 2.4e-7, "exp({x}) = {got}, not {want}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    /// Phi by a series of its own, x phi(x) (1 + x^2 / 3 + x^4 / 15 + ...) from one half, or a continued fraction far out.
    fn normal_in_double_precision(x: f64) -> (f64, f64) {
        let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let u = x.abs();
        let tail = if u < 3.0 {
            let (mut term, mut sum) = (u, u);
            for odd in (3..200).step_by(2) {
                term *= u * u / f64::from(odd);
                sum += term;
            }
            0.5 - density * sum
        } else {
            density / (1..200).rev().fold(u, |fraction, k| u + f64::from(k) / fraction)
        };
        (if x < 0.0 { tail } else { 1.0 - tail }, density)
    }

    #[test]
    fn the_normal_distribution_and_its_density() {
        assert!((normal_in_double_precision(1.96).0 - 0.975_002_104_851_780).abs() < 1e-14);
        assert!((normal_in_double_precision(-5.0).0 / 2.866_515_718_791_94e-7 - 1.0).abs() < 1e-12);
        for i in -140_000..=140_000 {
            let x = i as f32 * 1e-4;
            let ((below, density), (want, bell)) = (normal(x), normal_in_double_precision(f64::from(x)));
            let (apart, of_density) = ((f64::from(below) - want).abs(), (f64::from(density) - bell).abs());
            assert!(apart < 2e-7 && of_density < 1.5e-7, "at {x}: {below} and {density}, not {want} and {bell}");
            assert!(x < -5.0 || apart < 1e-6 * want, "at {x}: {below}, not {want}");
        }
        assert_eq!(normal(0.0).0, 0.5);
        assert_eq!([normal(f32::INFINITY).0, normal(f32::NEG_INFINITY).0], [1.0, 0.0]);
        assert!(normal(f32::NAN).0.is_nan());
    }

    #[test]
    fn reductions() {
        let a: Vec<f32> = (0..37).map(|i| (i as f32 - 11.0) * 0.5).collect();
        assert_eq!(max(&a), 12.5);
        assert_eq!(max(&[]), f32::NEG_INFINITY);
        assert_eq!(dot(&a, &a), a.iter().map(|x| x * x).sum::<f32>());
        let mut powers = a.clone();
        let total = exponentials(&mut powers, 1.5, 0.25);
        assert!(powers.iter().zip(&a).all(|(power, x)| *power == exp((x - 1.5) * 0.25)));
        assert!((total - powers.iter().sum::<f32>()).abs() < 1e-5 * total);
    }
}
