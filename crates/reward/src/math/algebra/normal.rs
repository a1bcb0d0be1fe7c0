//! The normal form of an expression, exactly.

use std::fmt::Write;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::expression::Expression;
use super::fraction::Fraction;
use super::number::Number;
use super::polynomial::Atom;

/// Products of two terms that one normal form may cost.
const MOST_WORK: usize = 30_000;
/// The largest exponent that is multiplied out, and the largest number whose factorial is.
const LARGEST_EXPONENT: i64 = 1000;
/// Divisors tried when a number under a root is factored.
const LARGEST_DIVISOR: u64 = 20_000;

/// The longest name of a power with a decimal exponent, in bytes.
const LONGEST_NAME: usize = 8192;

/// Why there is no normal form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stop {
    /// Something that is not a rational function of symbols and square roots of numbers.
    NoNormalForm,
    /// A division by zero.
    Undefined,
    /// More work or longer numbers than is allowed.
    TooLarge,
}

/// The work that is left.
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn of(work: usize) -> Self {
        Self(work)
    }

    pub(super) fn spend(&mut self, work: usize) -> Result<(), Stop> {
        self.0 = self.0.checked_sub(work).ok_or(Stop::TooLarge)?;
        Ok(())
    }
}

/// The expression as a quotient of polynomials.
///
/// # Errors
/// See [`Stop`].
pub(super) fn normalize(expression: &Expression) -> Result<Fraction, Stop> {
    normal_form(expression, &mut Budget::of(MOST_WORK))
}

fn normal_form(expression: &Expression, budget: &mut Budget) -> Result<Fraction, Stop> {
    match expression {
        Expression::Number(value) => Ok(Fraction::number(value.clone())),
        Expression::Symbol(name) => Ok(Fraction::atom(Atom::Symbol(name.clone()))),
        Expression::Pi => Ok(Fraction::atom(Atom::Pi)),
        Expression::Imaginary => Ok(Fraction::atom(Atom::Root(BigInt::from(-1)))),
        Expression::Sum(terms) => {
            let mut sum = Fraction::number(Number::integer(0));
            for (term, is_subtracted) in terms {
                let term = normal_form(term, budget)?;
                sum = sum.add(&if *is_subtracted { term.negated() } else { term }, budget)?;
            }
            Ok(sum)
        }
        Expression::Product(factors) => {
            let mut product = Fraction::number(Number::one());
            for (factor, divides) in factors {
                let factor = normal_form(factor, budget)?;
                product = product.multiply(&if *divides { factor.reciprocal()? } else { factor }, budget)?;
            }
            Ok(product)
        }
        Expression::Power(base, exponent) => power(base, exponent, budget),
        Expression::Root(inner) => root(&normal_form(inner, budget)?, budget),
        Expression::Factorial(inner) => factorial(&normal_form(inner, budget)?),
        Expression::Logarithm(_) => Err(Stop::NoNormalForm),
    }
}

fn power(base: &Expression, exponent: &Expression, budget: &mut Budget) -> Result<Fraction, Stop> {
    let base = normal_form(base, budget)?;
    let exponent = normal_form(exponent, budget)?;
    match (exponent.as_constant(), base.as_constant()) {
        (Some(Number::Float(exponent)), Some(value)) if !value.is_negative() => {
            let value = value.to_f64().powf(exponent);
            if value.is_finite() { Ok(Fraction::number(Number::Float(value))) } else { Err(Stop::TooLarge) }
        }
        (Some(Number::Float(exponent)), None) => Ok(Fraction::atom(written(&base, exponent)?)),
        (Some(value), _) => match value.as_small_integer() {
            Some(exponent) if exponent.abs() <= LARGEST_EXPONENT => {
                let power = base.power(exponent.unsigned_abs() as u32, budget)?;
                if exponent < 0 { power.reciprocal() } else { Ok(power) }
            }
            Some(_) => Err(Stop::TooLarge),
            None if value.is_huge_integer() => Err(Stop::TooLarge),
            None => Err(Stop::NoNormalForm),
        },
        (None, _) => Err(Stop::NoNormalForm),
    }
}

/// A power by what it is written as.
///
/// # Errors
/// When that is long: each power inside another would make it several times as long.
fn written(base: &Fraction, exponent: f64) -> Result<Atom, Stop> {
    let mut name = Name(String::new());
    write!(name, "{base:?}^{exponent}").map_err(|_| Stop::TooLarge)?;
    Ok(Atom::Power(name.0.into()))
}

/// A text that refuses to become longer than [`LONGEST_NAME`].
struct Name(String);

impl Write for Name {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        if self.0.len() + piece.len() > LONGEST_NAME {
            return Err(std::fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

fn factorial(inner: &Fraction) -> Result<Fraction, Stop> {
    let value = inner.as_constant().ok_or(Stop::NoNormalForm)?;
    match value.as_small_integer() {
        Some(n) if (0..=LARGEST_EXPONENT).contains(&n) => {
            Ok(Fraction::number(Number::integer((1..=n).map(BigInt::from).product::<BigInt>())))
        }
        Some(n) if n > LARGEST_EXPONENT => Err(Stop::TooLarge),
        _ => Err(Stop::NoNormalForm),
    }
}

/// The square root of a number, as a rational times roots of primes.
fn root(inner: &Fraction, budget: &mut Budget) -> Result<Fraction, Stop> {
    let value = match inner.as_constant().ok_or(Stop::NoNormalForm)? {
        Number::Float(value) if value >= 0.0 => return Ok(Fraction::number(Number::Float(value.sqrt()))),
        Number::Float(_) => return Err(Stop::NoNormalForm),
        Number::Rational(value) => value,
    };
    if value.is_zero() {
        return Ok(Fraction::number(Number::integer(0)));
    }
    // The root of a/b is the root of ab, divided by b.
    let (outside, primes) = squarefree(value.numer().abs() * value.denom()).ok_or(Stop::NoNormalForm)?;
    let scale = BigRational::new(outside, value.denom().clone());
    let mut result = Fraction::number(Number::Rational(scale));
    let sign = value.is_negative().then(|| BigInt::from(-1));
    for prime in primes.into_iter().chain(sign) {
        result = result.multiply(&Fraction::atom(Atom::Root(prime)), budget)?;
    }
    Ok(result)
}

/// A positive number as `outside^2` times different primes; `None` when it cannot be factored quickly.
fn squarefree(number: BigInt) -> Option<(BigInt, Vec<BigInt>)> {
    let whole_root = number.sqrt();
    if &whole_root * &whole_root == number {
        return Some((whole_root, Vec::new()));
    }
    let mut rest = number.to_u128()?;
    let mut outside = BigInt::one();
    let mut primes = Vec::new();
    let mut divisor = 2u128;
    while divisor <= u128::from(LARGEST_DIVISOR) && divisor * divisor <= rest {
        let mut is_odd = false;
        while rest.is_multiple_of(divisor) {
            rest /= divisor;
            is_odd = !is_odd;
            if !is_odd {
                outside *= divisor;
            }
        }
        if is_odd {
            primes.push(BigInt::from(divisor));
        }
        divisor += 1;
    }
    if rest > 1 {
        let rest_root = BigInt::from(rest).sqrt();
        if &rest_root * &rest_root == BigInt::from(rest) {
            outside *= rest_root;
        } else if divisor * divisor > rest {
            primes.push(BigInt::from(rest));
        } else {
            return None;
        }
    }
    Some((outside, primes))
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use num_traits::ToPrimitive;

    use super::squarefree;

    #[test]
    fn takes_squares_out_of_roots() {
        let parts = |number: u64| {
            let (outside, primes) = squarefree(number.into())?;
            Some((outside.to_u64()?, primes.iter().sum::<BigInt>().to_u64()?))
        };
        assert_eq!(parts(48), Some((4, 3)));
        assert_eq!(parts(144), Some((12, 0)));
        assert_eq!(parts(30), Some((1, 10)));
        assert_eq!(parts(1_000_003), Some((1, 1_000_003)));
        assert_eq!(parts(1_000_003 * 1_000_033), None);
    }
}
