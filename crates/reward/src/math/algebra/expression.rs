//! Expressions as trees.

use super::number::Number;

/// An expression. Sums and products are flat, so that a tree is no deeper than the brackets of its source.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    Number(Number),
    Symbol(String),
    Pi,
    Imaginary,
    /// Terms, each with whether it is subtracted.
    Sum(Vec<(Expression, bool)>),
    /// Factors, each with whether it divides.
    Product(Vec<(Expression, bool)>),
    Power(Box<Expression>, Box<Expression>),
    Root(Box<Expression>),
    Logarithm(Box<Expression>),
    Factorial(Box<Expression>),
}
