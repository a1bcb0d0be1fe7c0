//! Quotients of polynomials. They are not reduced: two of them are equal when their difference's numerator is 0.

use super::normal::{Budget, Stop};
use super::number::Number;
use super::polynomial::{Atom, Polynomial};

/// `above / below`; `below` is not 0.
#[derive(Clone, Debug)]
pub(super) struct Fraction {
    above: Polynomial,
    below: Polynomial,
}

impl Fraction {
    pub(super) fn number(value: Number) -> Self {
        Self::whole(Polynomial::constant(value))
    }

    pub(super) fn atom(atom: Atom) -> Self {
        Self::whole(Polynomial::atom(atom))
    }

    fn whole(above: Polynomial) -> Self {
        Self { above, below: Polynomial::constant(Number::one()) }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.above.is_zero()
    }

    /// The value, when there is no atom in it.
    pub(super) fn as_constant(&self) -> Option<Number> {
        let above = self.above.as_constant()?;
        above.multiply(&self.below.as_constant()?.reciprocal().ok()?).ok()
    }

    pub(super) fn add(&self, other: &Self, budget: &mut Budget) -> Result<Self, Stop> {
        let below = self.below.multiply(&other.below, budget)?;
        let left = self.above.multiply(&other.below, budget)?;
        let right = other.above.multiply(&self.below, budget)?;
        Self { above: left.add(&right, budget)?, below }.with_monic_constant()
    }

    pub(super) fn negated(&self) -> Self {
        Self { above: self.above.negated(), below: self.below.clone() }
    }

    pub(super) fn multiply(&self, other: &Self, budget: &mut Budget) -> Result<Self, Stop> {
        let above = self.above.multiply(&other.above, budget)?;
        Self { above, below: self.below.multiply(&other.below, budget)? }.with_monic_constant()
    }

    pub(super) fn reciprocal(&self) -> Result<Self, Stop> {
        if self.above.is_zero() {
            return Err(Stop::Undefined);
        }
        Self { above: self.below.clone(), below: self.above.clone() }.with_monic_constant()
    }

    /// By repeated squaring; `0^0` is 1.
    pub(super) fn power(&self, exponent: u32, budget: &mut Budget) -> Result<Self, Stop> {
        let mut result = Self::number(Number::one());
        let mut square = self.clone();
        let mut rest = exponent;
        while rest > 0 {
            if rest & 1 == 1 {
                result = result.multiply(&square, budget)?;
            }
            rest >>= 1;
            if rest > 0 {
                square = square.multiply(&square.clone(), budget)?;
            }
        }
        Ok(result)
    }

    /// Divides by a denominator that is a number, so that constants stay small.
    fn with_monic_constant(self) -> Result<Self, Stop> {
        let Some(value) = self.below.as_constant() else { return Ok(self) };
        Ok(Self::whole(self.above.scaled(&value.reciprocal()?)?))
    }
}
