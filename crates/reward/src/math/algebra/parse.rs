//! Words to a tree, with Python's precedences: `-x^2` is `-(x^2)`, `2^3^4` is `2^(3^4)`, and a multiplication that is
//! not written binds like one that is, so `1/2x` is `(1/2) x`.

use super::expression::Expression;
use super::token::Token;

/// Brackets, roots and powers nested deeper than this are not read; Python's own limit is 200.
const DEEPEST: usize = 195;

/// The tree of a whole expression; `None` when the words do not make one.
pub(super) fn read(tokens: &[Token]) -> Option<Expression> {
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let expression = parser.sum()?;
    (parser.at == tokens.len()).then_some(expression)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn sum(&mut self) -> Option<Expression> {
        let mut terms = vec![(self.product()?, false)];
        while let Some(token @ (Token::Plus | Token::Minus)) = self.peek() {
            let is_subtracted = matches!(token, Token::Minus);
            self.at += 1;
            terms.push((self.product()?, is_subtracted));
        }
        Some(single(terms, Expression::Sum))
    }

    fn product(&mut self) -> Option<Expression> {
        let mut factors = vec![(self.signed()?, false)];
        loop {
            let divides = match self.peek() {
                Some(Token::Times) => Some(false),
                Some(Token::Over) => Some(true),
                // Two things side by side are multiplied.
                Some(
                    Token::Number(_)
                    | Token::Symbol(_)
                    | Token::Pi
                    | Token::Imaginary
                    | Token::Root
                    | Token::Logarithm
                    | Token::Open,
                ) => None,
                _ => return Some(single(factors, Expression::Product)),
            };
            self.at += usize::from(divides.is_some());
            let factor = if divides.is_some() { self.signed()? } else { self.power()? };
            factors.push((factor, divides.unwrap_or(false)));
        }
    }

    /// Signs, then a power.
    fn signed(&mut self) -> Option<Expression> {
        let mut is_negative = false;
        while let Some(token @ (Token::Plus | Token::Minus)) = self.peek() {
            is_negative ^= matches!(token, Token::Minus);
            self.at += 1;
        }
        let power = self.power()?;
        Some(if is_negative { Expression::Sum(vec![(power, true)]) } else { power })
    }

    fn power(&mut self) -> Option<Expression> {
        let base = self.factorial()?;
        if !matches!(self.peek(), Some(Token::Power)) {
            return Some(base);
        }
        self.at += 1;
        let exponent = self.deeper(Self::signed)?;
        Some(Expression::Power(Box::new(base), Box::new(exponent)))
    }

    fn factorial(&mut self) -> Option<Expression> {
        let mut value = self.primary()?;
        while matches!(self.peek(), Some(Token::Factorial)) {
            self.at += 1;
            self.depth += 1;
            if self.depth > DEEPEST {
                return None;
            }
            value = Expression::Factorial(Box::new(value));
        }
        Some(value)
    }

    fn primary(&mut self) -> Option<Expression> {
        let token = self.peek()?.clone();
        self.at += 1;
        Some(match token {
            Token::Number(value) => Expression::Number(value),
            Token::Symbol(name) => Expression::Symbol(name),
            Token::Pi => Expression::Pi,
            Token::Imaginary => Expression::Imaginary,
            Token::Open => self.bracketed()?,
            Token::Root => Expression::Root(Box::new(self.argument()?)),
            Token::Logarithm => Expression::Logarithm(Box::new(self.argument()?)),
            _ => return None,
        })
    }

    fn argument(&mut self) -> Option<Expression> {
        if !matches!(self.peek(), Some(Token::Open)) {
            return None;
        }
        self.at += 1;
        self.bracketed()
    }

    /// What follows an opening bracket, to its closing one.
    fn bracketed(&mut self) -> Option<Expression> {
        let inner = self.deeper(Self::sum)?;
        if !matches!(self.peek(), Some(Token::Close)) {
            return None;
        }
        self.at += 1;
        Some(inner)
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Option<Expression>) -> Option<Expression> {
        if self.depth >= DEEPEST {
            return None;
        }
        self.depth += 1;
        let expression = read(self);
        self.depth -= 1;
        expression
    }
}

/// The one part as it is, or all of them joined.
fn single(mut parts: Vec<(Expression, bool)>, join: impl FnOnce(Vec<(Expression, bool)>) -> Expression) -> Expression {
    match parts.pop() {
        Some((only, false)) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => join(parts),
    }
}
