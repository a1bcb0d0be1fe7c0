//! Whether an expression vanishes, by its values at fixed complex points.
//!
//! Complex points, because to sympy a symbol is any complex number: `sqrt(x^2)` is not `x`.

use num_complex::Complex64;

use super::expression::Expression;

/// Places where symbols are evaluated, one per repetition and symbol.
const POINTS: usize = 8;
/// The largest value, relative to the terms it is a sum of, that passes for 0.
const TOLERANCE: f64 = 1e-11;

/// A value, and the size of the numbers that were added to get it.
#[derive(Clone, Copy)]
struct Sized {
    value: Complex64,
    size: f64,
}

/// Whether the expression is 0 at every point, of which at least half give a finite value.
pub(super) fn vanishes(expression: &Expression) -> bool {
    let mut num_finite = 0;
    for point in 0..POINTS {
        let Sized { value, size } = evaluate(expression, point);
        if !value.is_finite() || !size.is_finite() {
            continue;
        }
        num_finite += 1;
        if value.norm() > TOLERANCE * size {
            return false;
        }
    }
    num_finite * 2 >= POINTS
}

fn evaluate(expression: &Expression, point: usize) -> Sized {
    let plain = |value: Complex64| Sized { value, size: value.norm() };
    match expression {
        Expression::Number(value) => plain(value.to_f64().into()),
        Expression::Symbol(name) => plain(coordinate(name, point)),
        Expression::Pi => plain(std::f64::consts::PI.into()),
        Expression::Imaginary => plain(Complex64::i()),
        Expression::Sum(terms) => {
            let mut sum = Sized { value: Complex64::ZERO, size: 0.0 };
            for (term, is_subtracted) in terms {
                let term = evaluate(term, point);
                sum.value += if *is_subtracted { -term.value } else { term.value };
                sum.size += term.size;
            }
            sum
        }
        Expression::Product(factors) => {
            let mut product = Sized { value: Complex64::ONE, size: 1.0 };
            for (factor, divides) in factors {
                let factor = evaluate(factor, point);
                product.value = if *divides { product.value / factor.value } else { product.value * factor.value };
                // The relative error of a quotient grows with that of its divisor.
                product.size *= if *divides { factor.size / factor.value.norm_sqr() } else { factor.size };
            }
            product
        }
        Expression::Power(base, exponent) => plain(power(evaluate(base, point).value, evaluate(exponent, point).value)),
        Expression::Root(inner) => plain(evaluate(inner, point).value.sqrt()),
        Expression::Logarithm(inner) => plain(evaluate(inner, point).value.ln()),
        Expression::Factorial(inner) => plain(gamma(evaluate(inner, point).value + 1.0)),
    }
}

fn power(base: Complex64, exponent: Complex64) -> Complex64 {
    if exponent.im == 0.0 && exponent.re.fract() == 0.0 && exponent.re.abs() <= f64::from(i32::MAX) {
        base.powi(exponent.re as i32)
    } else {
        base.powc(exponent)
    }
}

/// A value for a symbol: a hash of its name and the point, in the square of side 4 around 0.
fn coordinate(name: &str, point: usize) -> Complex64 {
    let mut state = name.chars().fold(point as u64 + 1, |state, c| scramble(state ^ u64::from(u32::from(c))));
    let mut part = || {
        state = scramble(state);
        (state >> 11) as f64 / (1u64 << 53) as f64 * 4.0 - 2.0
    };
    Complex64::new(part(), part())
}

/// SplitMix64's step (Steele, Lea, Flood 2014).
fn scramble(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The gamma function by Lanczos' approximation (g = 7, 9 terms), about 15 digits.
fn gamma(z: Complex64) -> Complex64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let pi = std::f64::consts::PI;
    if z.re < 0.5 {
        return Complex64::from(pi) / ((z * pi).sin() * gamma(Complex64::ONE - z));
    }
    let z = z - 1.0;
    let series = TERMS
        .iter()
        .enumerate()
        .fold(Complex64::from(0.999_999_999_999_809_9), |sum, (i, term)| sum + *term / (z + (i + 1) as f64));
    let t = z + 7.5;
    (2.0 * pi).sqrt() * t.powc(z + 0.5) * (-t).exp() * series
}

#[cfg(test)]
mod tests {
    use num_complex::Complex64;

    use super::gamma;

    #[test]
    fn gamma_continues_the_factorial() {
        assert!((gamma(Complex64::from(6.0)) - 120.0).norm() < 1e-11);
        assert!((gamma(Complex64::from(0.5)).re - std::f64::consts::PI.sqrt()).abs() < 1e-14);
        let z = Complex64::new(0.3, 0.7);
        assert!((gamma(z + 1.0) - z * gamma(z)).norm() < 1e-13);
    }
}
