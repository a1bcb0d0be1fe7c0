//! Coefficients: exact rationals, and the 53-bit floats that decimals are to sympy.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::normal::Stop;

/// Integers of more bits than this are not computed with.
const MOST_BITS: u64 = 10_000;

/// A number. A float makes every result it takes part in a float: `0.1+0.2` is not `0.3`, in sympy and here.
#[derive(Clone, Debug)]
pub(super) enum Number {
    Rational(BigRational),
    Float(f64),
}

impl Number {
    pub(super) fn integer(value: impl Into<BigInt>) -> Self {
        Self::Rational(BigRational::from_integer(value.into()))
    }

    /// A decimal literal: digits, at most one point, and an optional exponent.
    ///
    /// sympy gives a literal of more than 15 digits a precision of its own; such a one is taken exactly.
    pub(super) fn decimal(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
            None => (text, 0),
        };
        let significant = mantissa.replace('.', "");
        let significant = significant.trim_start_matches('0');
        if significant.len() <= 15 {
            return text.parse().ok().map(Self::Float);
        }
        let places = mantissa.split_once('.').map_or(0, |(_, after)| after.len() as i64);
        let power = exponent.checked_sub(places)?;
        if power.unsigned_abs() > MOST_BITS / 4 {
            return None;
        }
        let ten = BigRational::from_integer(10.into()).pow(power as i32);
        Some(Self::Rational(BigRational::from_integer(significant.parse().ok()?) * ten))
    }

    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Rational(value) => value.is_zero(),
            Self::Float(value) => *value == 0.0,
        }
    }

    pub(super) fn to_f64(&self) -> f64 {
        match self {
            Self::Rational(value) => value.to_f64().unwrap_or(f64::NAN),
            Self::Float(value) => *value,
        }
    }

    /// The value, when it is an exact integer that fits.
    pub(super) fn as_small_integer(&self) -> Option<i64> {
        match self {
            Self::Rational(value) if value.is_integer() => value.numer().to_i64(),
            _ => None,
        }
    }

    /// Whether it is an integer that [`Self::as_small_integer`] cannot give.
    pub(super) fn is_huge_integer(&self) -> bool {
        matches!(self, Self::Rational(value) if value.is_integer() && value.numer().to_i64().is_none())
    }

    /// What a product with this number costs beyond that of small numbers: reducing a rational takes time quadratic in
    /// its length.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Rational(value) => {
                let words = (value.numer().bits() + value.denom().bits()) as usize / 64;
                words + words * words / 4
            }
            Self::Float(_) => 0,
        }
    }

    pub(super) fn add(&self, other: &Self) -> Result<Self, Stop> {
        self.combine(other, |a, b| a + b, |a, b| a + b)
    }

    pub(super) fn multiply(&self, other: &Self) -> Result<Self, Stop> {
        self.combine(other, |a, b| a * b, |a, b| a * b)
    }

    pub(super) fn negated(&self) -> Self {
        match self {
            Self::Rational(value) => Self::Rational(-value),
            Self::Float(value) => Self::Float(-value),
        }
    }

    pub(super) fn reciprocal(&self) -> Result<Self, Stop> {
        match self {
            _ if self.is_zero() => Err(Stop::Undefined),
            Self::Rational(value) => Ok(Self::Rational(value.recip())),
            Self::Float(value) => Self::float(1.0 / value),
        }
    }

    fn combine(
        &self,
        other: &Self,
        exact: impl Fn(&BigRational, &BigRational) -> BigRational,
        rounded: impl Fn(f64, f64) -> f64,
    ) -> Result<Self, Stop> {
        match (self, other) {
            (Self::Rational(a), Self::Rational(b)) => {
                let bits = a.numer().bits() + a.denom().bits() + b.numer().bits() + b.denom().bits();
                if bits > MOST_BITS { Err(Stop::TooLarge) } else { Ok(Self::Rational(exact(a, b))) }
            }
            _ => Self::float(rounded(self.to_f64(), other.to_f64())),
        }
    }

    fn float(value: f64) -> Result<Self, Stop> {
        if value.is_finite() { Ok(Self::Float(value)) } else { Err(Stop::TooLarge) }
    }

    pub(super) fn is_negative(&self) -> bool {
        match self {
            Self::Rational(value) => value.is_negative(),
            Self::Float(value) => *value < 0.0,
        }
    }

    pub(super) fn one() -> Self {
        Self::Rational(BigRational::one())
    }
}
