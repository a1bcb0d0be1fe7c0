//! LaTeX to a line of plain text: `\frac{\pi}{2}` to `pi/2`.
//!
//! It follows pylatexenc 2 (`LatexNodes2Text` with its defaults), because the reference reads answers through it and
//! its habits decide what is equal: a fraction loses its braces (`\frac{a+b}{2}` is `a+b/2`), an unknown macro vanishes and
//! leaves its argument behind, the space after a macro is swallowed.

mod macros;
mod nodes;
mod text;

/// Groups nested deeper than this are not read; the reference's recursion ends a little later.
const DEEPEST: usize = 150;

/// Longer sources, in characters, are not read: they are no final answer.
const LONGEST: usize = 20_000;

/// LaTeX that the reference cannot read; it then keeps the source.
#[derive(Debug, PartialEq)]
pub(crate) struct Unreadable;

/// The expression in a form that an algebra system reads (mathruler `_parse_latex`), or `None` when it cannot be read.
pub(crate) fn to_expression(latex: &str) -> Option<String> {
    // The space keeps a mixed number's two parts apart.
    let latex = latex.replace("\\tfrac", "\\frac").replace("\\dfrac", "\\frac").replace("\\frac", " \\frac");
    let mut text = to_text(&latex).ok()?;
    for (from, to) in [('√', "sqrt"), ('π', "pi"), ('∞', "inf"), ('∪', "U"), ('·', "*"), ('×', "*")] {
        text = text.replace(from, to);
    }
    Some(super::python::strip(&text).to_owned())
}

fn to_text(latex: &str) -> Result<String, Unreadable> {
    let source: Vec<char> = latex.chars().take(LONGEST + 1).collect();
    if source.len() > LONGEST {
        return Err(Unreadable);
    }
    text::render(&nodes::parse(&source)?, false)
}

#[cfg(test)]
mod tests {
    use super::{to_expression, to_text};

    #[test]
    fn writes_formulas_as_text() {
        for (latex, expected) in [
            ("\\sqrt5", "√(5)"),
            ("\\sqrt[3]{8}", "√(8)"),
            ("\\frac12", "1/2"),
            ("\\frac{\\pi}{2} x", "π/2 x"),
            ("\\frac\\pi2", "π/2"),
            ("a}b", "ab"),
            ("{a", "a"),
            ("a\\{b\\}", "a{b}"),
            ("\\,x\\;y\\ z", " x y z"),
            ("5\\text{ cm}", "5 cm"),
            ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "[ 1; 2 ]"),
            ("\\begin{pmatrix}1&-2\\\\3&4\\end{pmatrix}", "[  1 -2;  3  4 ]"),
            ("\\begin{cases}1&2\\\\3\\end{cases}", "1   2\n3"),
            ("\\vec{a}", "a\u{20d7}"),
            ("x\\not= y", "x≠ y"),
            ("\\foo{bar}", "bar"),
            ("$a$ b", "a b"),
            ("\\[a\\]b", "\n    a\nb"),
            ("\\frac", "%s/%s"),
            ("\\frac{1}", "%s/%s1"),
            ("\\sqrt\\frac12", "√(%s/%s)12"),
            ("a\\b", "a \u{331}"),
            ("a''b--c", "a”b–c"),
            ("\\phi\\varphi", "ϕφ"),
            ("x\\begin{foo", "x\\beginfoo"),
            ("\\mathbb{R}\\mathbf{A}", "ℝ𝐀"),
            ("\\hat ab", "âb"),
            ("\\mbox{A}\\textsf{B}\\texttt C", ""),
            ("x \\geq2", "x ≥2"),
        ] {
            assert_eq!(to_text(latex).as_deref(), Ok(expected), "{latex}");
        }
    }

    #[test]
    fn says_what_cannot_be_read() {
        assert!(to_text("\\sqrt").is_err());
        assert!(to_text(&"{".repeat(10_000)).is_err());
        assert!(to_text("\\begin{pmatrix}\\end{pmatrix}").is_err());
    }

    #[test]
    fn missing_arguments_are_not_looked_for_again_and_again() {
        // Each of these doubles the work of the next when its last argument is missing.
        for piece in ["\\frac{", "\\sqrt[", "\\frac{\\sqrt[", "\\footnote["] {
            assert!(to_text(&piece.repeat(100)).is_err(), "{piece}");
        }
        assert_eq!(to_text(&"\\frac{".repeat(2)).as_deref(), Ok("%s/%s%s/%s"));
        let fractions = "\\frac{1}{2}".repeat(1500);
        assert_eq!(to_text(&fractions).map(|text| text.len()), Ok(4500));
        assert!(to_text(&"x".repeat(20_001)).is_err());
    }

    #[test]
    fn a_matrix_is_not_padded_without_bound() {
        let matrix = |cells: &str| format!("\\begin{{pmatrix}}{cells}\\end{{pmatrix}}");
        let wide = matrix(&format!("{}&1", "x".repeat(10_000)));
        assert_eq!(to_text(&wide).map(|text| text.len()), Ok(20_005));
        assert!(to_text(&matrix(&format!("{}{}", "x".repeat(10_000), "&1".repeat(1000)))).is_err());
        // Nested displays are indented line by line, which can make a cell wider than a format's width may be.
        let lines = format!("{}{}{}", "\\[a".repeat(100), "a\n\n".repeat(60), "\\]".repeat(100));
        assert!(to_text(&matrix(&lines)).is_ok());
    }

    #[test]
    fn accents_do_not_double_without_bound() {
        let accents = |times: usize| format!("{}xy{}", "\\vec{".repeat(times), "}".repeat(times));
        assert_eq!(to_text(&accents(3)).map(|text| text.chars().count()), Ok(16));
        assert!(to_text(&accents(100)).is_err());
    }

    #[test]
    fn expressions_are_what_an_algebra_system_reads() {
        assert_eq!(to_expression("4\\dfrac{3}{5}").as_deref(), Some("4 3/5"));
        assert_eq!(to_expression("2\\cdot\\sqrt{3}\\pi").as_deref(), Some("2*sqrt(3)pi"));
    }
}
