//! Words of an expression, as Python's tokenizer and sympy's implicit multiplication divide them: `4na` is 4, n, a.

use super::number::Number;

/// A word.
#[derive(Clone, Debug)]
pub(super) enum Token {
    Number(Number),
    Symbol(String),
    Pi,
    /// The imaginary unit, written `3j` after a number.
    Imaginary,
    Root,
    Logarithm,
    Plus,
    Minus,
    Times,
    Over,
    Power,
    Open,
    Close,
    Factorial,
}

/// Names of two letters that mean something else to sympy or Python than a product of symbols, and make the
/// reference's evaluation fail or come out as nothing equal.
const RESERVED: [&str; 24] = [
    "nan", "oo", "zoo", "gff", "rf", "ff", "re", "im", "csc", "frac", "li", "jn", "yn", "fft", "ntt", "fu", "eye",
    "all", "id", "as", "if", "in", "is", "or",
];

/// Greek letters' names are not split into letters; these are the ones of two letters.
const GREEK: [&str; 3] = ["mu", "nu", "xi"];

/// Divides an expression into words; `None` when it holds something that is not arithmetic.
pub(super) fn read(text: &str) -> Option<Vec<Token>> {
    let source: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    // How many words stood before the last line break.
    let mut broken_at = 0;
    let mut at = 0;
    while let Some(c) = source.get(at).copied() {
        if broken_at > 0 && broken_at == tokens.len() && !c.is_whitespace() && is_juxtaposed(tokens.last(), c) {
            return None;
        }
        let next = source.get(at + 1).copied();
        if c.is_ascii_digit() || (c == '.' && next.is_some_and(|c| c.is_ascii_digit())) {
            at = number(&source, at, &mut tokens)?;
            continue;
        }
        if c.is_alphanumeric() || c == '_' {
            at = name(&source, at, &mut tokens)?;
            continue;
        }
        let (token, length) = match c {
            '+' => (Token::Plus, 1),
            '-' => (Token::Minus, 1),
            '*' if next == Some('*') => (Token::Power, 2),
            '*' => (Token::Times, 1),
            // Floor division.
            '/' if next == Some('/') => return None,
            '/' => (Token::Over, 1),
            '^' => (Token::Power, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            // The double factorial, and `!=`.
            '!' if matches!(next, Some('!' | '=')) => return None,
            '!' => (Token::Factorial, 1),
            ' ' | '\t' | '\u{c}' => {
                at += 1;
                continue;
            }
            '\n' => {
                broken_at = tokens.len();
                at += 1;
                continue;
            }
            _ => return None,
        };
        tokens.push(token);
        at += length;
    }
    Some(tokens)
}

/// Whether nothing but a line break stands where a multiplication would have to be understood; it is not across one.
fn is_juxtaposed(before: Option<&Token>, after: char) -> bool {
    let ends = matches!(
        before,
        Some(Token::Number(_) | Token::Symbol(_) | Token::Pi | Token::Imaginary | Token::Close | Token::Factorial)
    );
    ends && (after.is_alphanumeric() || matches!(after, '_' | '.' | '('))
}

/// A number at `at`; returns where it ends.
fn number(source: &[char], at: usize, tokens: &mut Vec<Token>) -> Option<usize> {
    let (mut end, mut text) = digits(source, at);
    let mut is_decimal = false;
    if source.get(end) == Some(&'.') {
        let (after, fraction) = digits(source, end + 1);
        text = format!("{text}.{fraction}");
        end = after;
        is_decimal = true;
    }
    if matches!(source.get(end), Some('e' | 'E')) {
        let sign = source.get(end + 1).copied().filter(|c| matches!(c, '+' | '-'));
        let (after, exponent) = digits(source, end + 1 + usize::from(sign.is_some()));
        if !exponent.is_empty() {
            text = format!("{text}e{}{exponent}", sign.map_or(String::new(), String::from));
            end = after;
            is_decimal = true;
        }
    }
    let is_imaginary = matches!(source.get(end), Some('j' | 'J'));
    if !is_decimal && !is_imaginary && text.starts_with('0') {
        // Hexadecimal and its like; otherwise `024` is a 0 and a 24.
        if matches!(source.get(end), Some('x' | 'X' | 'o' | 'O' | 'b' | 'B')) && text == "0" {
            return None;
        }
        let zeros = text.len() - text.trim_start_matches('0').len();
        if zeros < text.len() {
            tokens.push(Token::Number(Number::integer(0)));
            return Some(at + zeros);
        }
    }
    let value =
        if is_decimal { Number::decimal(&text)? } else { Number::integer(text.parse::<num_bigint::BigInt>().ok()?) };
    tokens.push(Token::Number(value));
    if is_imaginary {
        tokens.extend([Token::Times, Token::Imaginary]);
        end += 1;
    }
    Some(end)
}

/// Digits from `at` on, single underscores between them left out.
fn digits(source: &[char], at: usize) -> (usize, String) {
    let is_digit = |at: usize| source.get(at).is_some_and(|c| c.is_ascii_digit());
    let mut end = at;
    let mut text = String::new();
    while is_digit(end) || (source.get(end) == Some(&'_') && end > at && is_digit(end + 1)) {
        if source[end] != '_' {
            text.push(source[end]);
        }
        end += 1;
    }
    (end, text)
}

/// A name at `at`, split into letters and numbers unless it is known; returns where it ends.
fn name(source: &[char], at: usize, tokens: &mut Vec<Token>) -> Option<usize> {
    let length = source[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
    let end = at + length;
    let word: String = source[at..end].iter().collect();
    let next = source.get(end).copied();
    match word.as_str() {
        "pi" => tokens.push(Token::Pi),
        "sqrt" | "ln" if next == Some('(') => {
            tokens.push(if word == "ln" { Token::Logarithm } else { Token::Root });
        }
        "sqrt" | "ln" => return None,
        reserved if RESERVED.contains(&reserved) => return None,
        whole if length == 1 && source[at].is_alphabetic() => tokens.push(Token::Symbol(whole.to_owned())),
        whole if whole.contains('_') || GREEK.contains(&whole) => tokens.push(Token::Symbol(whole.to_owned())),
        // The factorial takes a whole name: `na!` is `(na)!`, while `na^2` is `n a^2`.
        _ if next == Some('!') => {
            tokens.push(Token::Open);
            letters(&source[at..end], tokens)?;
            tokens.push(Token::Close);
        }
        _ => letters(&source[at..end], tokens)?,
    }
    Some(end)
}

fn letters(word: &[char], tokens: &mut Vec<Token>) -> Option<()> {
    let mut at = 0;
    while at < word.len() {
        let digits: String = word[at..].iter().take_while(|c| c.is_ascii_digit()).collect();
        if digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        if !digits.is_empty() {
            tokens.push(Token::Number(Number::integer(digits.parse::<num_bigint::BigInt>().ok()?)));
            at += digits.len();
        } else if word[at].is_alphabetic() {
            tokens.push(Token::Symbol(word[at].to_string()));
            at += 1;
        } else {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::read;

    fn words(text: &str) -> Option<String> {
        read(text).map(|tokens| format!("{tokens:?}"))
    }

    #[test]
    fn divides_names_and_numbers() {
        assert_eq!(words("4na"), words("4 n a"));
        assert_eq!(words("pi4"), words("p i 4"));
        assert_eq!(words("n12"), words("n 12"));
        assert_eq!(words("024"), words("0 24"));
        assert_ne!(words("n_1"), words("n 1"));
        assert_ne!(words("xi"), words("x i"));
        assert_eq!(words("na!"), words("(n a)!"));
        assert_eq!(words("1_000"), words("1000"));
        assert_eq!(words("(y\n)+\n1"), words("(y)+1"));
        assert_eq!(words("x\n2"), None);
        assert_eq!(words("x024"), None);
        for text in ["x<3", "1,2", "n²", "x=1", "oo", "5//2", "0x1f", "x.y", "sqrt3", "5#"] {
            // `sqrt3` is a name of letters, not a root.
            assert_eq!(words(text).is_none(), text != "sqrt3", "{text}");
        }
    }
}
