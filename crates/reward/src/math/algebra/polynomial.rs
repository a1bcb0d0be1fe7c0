//! Polynomials with exact coefficients in symbols, pi and square roots of primes.

use std::collections::BTreeMap;
use std::rc::Rc;

use num_bigint::BigInt;

use super::normal::{Budget, Stop};
use super::number::Number;

/// What a polynomial is made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Atom {
    /// The square root of a prime, or of -1.
    Root(BigInt),
    Pi,
    Symbol(String),
    /// A power with a decimal exponent, by what it is written as: to sympy `x^2.0` is not `x^2`.
    Power(Rc<str>),
}

/// Atoms with their exponents, in order; a root's exponent is 1, because its square is a number.
type Monomial = Vec<(Atom, u32)>;

/// A sum of monomials; no coefficient is 0, so that a polynomial is 0 only when it has no monomial.
#[derive(Clone, Debug, Default)]
pub(super) struct Polynomial {
    terms: BTreeMap<Monomial, Number>,
}

impl Polynomial {
    pub(super) fn constant(value: Number) -> Self {
        let mut polynomial = Self::default();
        if !value.is_zero() {
            polynomial.terms.insert(Monomial::new(), value);
        }
        polynomial
    }

    pub(super) fn atom(atom: Atom) -> Self {
        Self { terms: BTreeMap::from([(vec![(atom, 1)], Number::one())]) }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value, when there is no atom in it.
    pub(super) fn as_constant(&self) -> Option<Number> {
        match self.terms.len() {
            0 => Some(Number::integer(0)),
            1 => self.terms.get(&Monomial::new()).cloned(),
            _ => None,
        }
    }

    pub(super) fn num_terms(&self) -> usize {
        self.terms.len()
    }

    pub(super) fn add(&self, other: &Self, budget: &mut Budget) -> Result<Self, Stop> {
        let mut sum = self.clone();
        budget.spend(other.num_terms())?;
        for (monomial, value) in &other.terms {
            sum.insert(monomial.clone(), value.clone())?;
        }
        Ok(sum)
    }

    pub(super) fn negated(&self) -> Self {
        Self { terms: self.terms.iter().map(|(monomial, value)| (monomial.clone(), value.negated())).collect() }
    }

    /// Every coefficient times a number that is not 0.
    pub(super) fn scaled(&self, factor: &Number) -> Result<Self, Stop> {
        let mut scaled = Self::default();
        for (monomial, value) in &self.terms {
            scaled.insert(monomial.clone(), value.multiply(factor)?)?;
        }
        Ok(scaled)
    }

    pub(super) fn multiply(&self, other: &Self, budget: &mut Budget) -> Result<Self, Stop> {
        let mut product = Self::default();
        for (left, a) in &self.terms {
            for (right, b) in &other.terms {
                budget.spend(1 + left.len() + right.len() + a.cost() + b.cost())?;
                let (monomial, factor) = join(left, right)?;
                product.insert(monomial, a.multiply(b)?.multiply(&factor)?)?;
            }
        }
        Ok(product)
    }

    fn insert(&mut self, monomial: Monomial, value: Number) -> Result<(), Stop> {
        let sum = match self.terms.get(&monomial) {
            Some(present) => present.add(&value)?,
            None => value,
        };
        if sum.is_zero() {
            self.terms.remove(&monomial);
        } else {
            self.terms.insert(monomial, sum);
        }
        Ok(())
    }
}

/// The product of two monomials, and the number that squares of roots have become.
fn join(left: &Monomial, right: &Monomial) -> Result<(Monomial, Number), Stop> {
    let mut exponents: BTreeMap<&Atom, u32> = left.iter().map(|(atom, exponent)| (atom, *exponent)).collect();
    let mut factor = Number::one();
    for (atom, exponent) in right {
        let sum = exponents.entry(atom).or_default();
        *sum = sum.checked_add(*exponent).ok_or(Stop::TooLarge)?;
        if let Atom::Root(square) = atom
            && *sum == 2
        {
            *sum = 0;
            factor = factor.multiply(&Number::integer(square.clone()))?;
        }
    }
    let monomial = exponents.into_iter().filter(|(_, exponent)| *exponent > 0);
    Ok((monomial.map(|(atom, exponent)| (atom.clone(), exponent)).collect(), factor))
}
