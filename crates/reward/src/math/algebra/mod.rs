//! Whether two plain-text expressions are equal as mathematics.
//!
//! The reference asks sympy whether `simplify(truth - given)` is 0. Here the difference is brought to a normal form:
//! rational functions over exact rationals, square roots of primes, pi and the symbols. What has no normal form there
//! (a root of a symbol, a logarithm, a power with a symbol in its exponent) is decided by evaluating the difference at
//! fixed complex points. Depth, size and work are bounded, so that every input is answered within milliseconds; what
//! goes over a bound is not equal.

mod expression;
mod fraction;
mod normal;
mod number;
mod numeric;
mod parse;
mod polynomial;
mod token;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use normal::Stop;

/// Longer expressions are not read.
const LONGEST: usize = 8192;

/// Whether two normalized answers are equal. Expressions that cannot be read, and those with more than two letters or
/// with powers that the reference refuses (`^{`, `^(`, `^2^`, `^10`), are not.
pub(crate) fn equal(truth: &str, given: &str) -> bool {
    // Read as one text, as the reference does: a bracket too many on one side may meet one too few on the other.
    let difference = format!("({truth})-({given})");
    if difference.len() > LONGEST || !is_admitted(&difference) {
        return false;
    }
    let Some(expression) = token::read(&difference).and_then(|tokens| parse::read(&tokens)) else { return false };
    match normal::normalize(&expression) {
        Ok(fraction) => fraction.is_zero(),
        Err(Stop::NoNormalForm) => numeric::vanishes(&expression),
        Err(Stop::Undefined | Stop::TooLarge) => false,
    }
}

/// mathruler `should_allow_eval`.
fn is_admitted(expression: &str) -> bool {
    static POWERS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\^[0-9]+\^|\^[0-9][0-9]+").expect("a valid pattern"));
    let words = expression.replace("sqrt", "").replace("frac", "");
    let letters: BTreeSet<char> = words.chars().filter(|c| c.is_alphabetic()).collect();
    letters.len() <= 2 && !expression.contains("^{") && !expression.contains("^(") && !POWERS.is_match(expression)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::equal;

    #[test]
    fn agrees_with_sympy() {
        // Verdicts of sympy 1.14 through mathruler 0.1.0.
        for (truth, given, verdict) in [
            ("4n+4", "4(n+1)", true),
            ("n^2+8n+16", "(n+4)^2", true),
            ("(x^2-y^2)^9", "(x+y)^9*(x-y)^9", true),
            ("an", "na", true),
            ("n/2", "0.5n", true),
            ("n^2-1/n-1", "n+1", false),
            ("n1", "n_1", false),
            ("2x", "x2", true),
            ("sqrt(3)/3", "1/sqrt(3)", true),
            ("4sqrt(3)", "sqrt(48)", true),
            ("sqrt(2)+sqrt(3)", "1/(sqrt(3)-sqrt(2))", true),
            ("1+sqrt(2)", "sqrt(3+2sqrt(2))", true),
            ("sqrt(3)", "1.732", false),
            ("2sqrt(-1)", "sqrt(-4)", true),
            ("2sqrt(x)", "sqrt(4x)", true),
            ("x", "sqrt(x)sqrt(x)", true),
            ("x", "sqrt(x^2)", false),
            ("sqrt(x)sqrt(y)", "sqrt(xy)", false),
            ("pi*1", "sqrt(pi^2)", true),
            ("3ln(2)", "ln(8)", true),
            ("x*(x-1)!", "x!", true),
            ("1+x^x", "x^x+1", true),
            ("(x^2)^x", "x^2^x", false),
            ("0.3", "0.1+0.2", false),
            ("3.3x", "1.1x+2.2x", false),
            (".5", "1/3+1/6", true),
            ("1/3", "0.3333333333333333", false),
            ("9/4", "1.5^2", true),
            ("1.2", "sqrt(1.44)", true),
            ("sqrt(3)", "2sqrt(0.75)", false),
            ("23/5", "4+3/5", true),
            ("11/4", "-2+3/4", false),
            ("x^2", "x^2.", false),
            ("8", "2^3.", true),
            ("j3", "3j", false),
            ("1/0", "2/0", false),
            ("x", "x/(1-1)", false),
            ("x+1-1", "((((x))))", true),
            ("y", "1/1/y", false),
            ("x", "1,2", false),
            ("x", "x<3", false),
            ("x", "|x|", false),
        ] {
            assert_eq!(equal(truth, given), verdict, "{truth} = {given}");
        }
    }

    #[test]
    fn large_inputs_are_answered() {
        for text in ["9**9**9**9", "99999999!", "2**(10**10)", "(x+y)**999", "((x+1)/(y+1))**500", "1e999999999"] {
            assert!(!equal("x", text), "{text}");
        }
        assert!(!equal("5", &"(".repeat(4000)));
        assert!(!equal("1.5", &vec!["1"; 3000].join("/")));
        assert!(equal("401x", &vec!["x"; 401].join("+")));
        let nested = format!("{}x{}", "sqrt(".repeat(150), ")".repeat(150));
        assert!(!equal("x", &nested));
        // The name of each power holds the one inside it, in quotes that are escaped once more.
        let powers = |times: usize| format!("{}x{}", "(".repeat(times), ")**.5".repeat(times));
        assert!(equal(&powers(2), &powers(2)));
        assert!(!equal("x", &powers(40)));
        let fractions = format!("{}x{}", "1/(1+".repeat(90), ")".repeat(90));
        assert!(!equal("x", &fractions));
    }

    proptest! {
        #[test]
        fn never_panics_and_is_prompt(text in "[-+*/^!().,0-9xyπ²pilnsqrt ]{0,200}") {
            let start = std::time::Instant::now();
            equal("x+1", &text);
            equal(&text, "sqrt(2)");
            prop_assert!(start.elapsed().as_secs_f64() < 1.0);
        }

        #[test]
        fn sums_may_be_reordered(terms in prop::collection::vec((-99i32..99, 0u32..4, 0u32..4), 1..8)) {
            let written = |(c, x, y): &(i32, u32, u32)| format!("({c})*x^{x}*y^{y}");
            let forward = terms.iter().map(written).collect::<Vec<_>>().join("+");
            let backward = terms.iter().rev().map(written).collect::<Vec<_>>().join("+");
            let more = format!("{backward}+1");
            prop_assert!(equal(&forward, &backward));
            prop_assert!(!equal(&forward, &more));
        }

        #[test]
        fn products_expand(a in -9i32..9, b in -9i32..9, d in 1u32..50) {
            let product = format!("(x+({a}))*(x-({b}))");
            let expanded = format!("x^2+({})x-({})", a - b, a * b);
            prop_assert!(equal(&product, &expanded));
            let (root, outside) = (format!("sqrt({})", d * d * 3), format!("{d}sqrt(3)"));
            prop_assert!(equal(&root, &outside));
        }
    }
}
