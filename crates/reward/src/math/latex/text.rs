//! What is written for LaTeX nodes.

use unicode_normalization::UnicodeNormalization;

use super::Unreadable;
use super::macros::{self, Alphabet, Writing};
use super::nodes::Node;
use crate::math::python;

/// The longest text that is written, in bytes. A matrix's cells are all as wide as the widest, displays inside one another
/// are indented again and again, and an accent on an accented letter may stand on each of the two.
const LONGEST: usize = 1 << 17;

/// The text of a list of nodes. Inside a formula, white space between two constructs is dropped.
///
/// # Errors
/// For what the reference fails on: a root without an argument, an empty matrix; and for a text that becomes too long.
pub(super) fn render(nodes: &[Node], formula: bool) -> Result<String, Unreadable> {
    let mut text = String::new();
    for node in nodes {
        text.push_str(&render_node(node, formula)?);
        if text.len() > LONGEST {
            return Err(Unreadable);
        }
    }
    Ok(text)
}

fn render_node(node: &Node, formula: bool) -> Result<String, Unreadable> {
    match node {
        Node::Characters(text) if formula && python::strip(text).is_empty() => Ok(String::new()),
        Node::Characters(text) => Ok(text.clone()),
        Node::Group(body) => render(body, formula),
        Node::Special(special) => Ok(special_text(special).to_owned()),
        Node::Formula { display, body } => {
            let text = render(body, true)?;
            let text = python::strip(&text);
            Ok(if *display { indented(text) } else { text.to_owned() })
        }
        Node::Environment { name, body } => environment(name, body, formula),
        Node::Macro { name, arguments } => {
            let arguments = arguments.as_deref().unwrap_or_default();
            macro_text(macros::known(name).1, arguments, formula)
        }
    }
}

fn special_text(special: &str) -> &str {
    match special {
        "&" => "   ",
        "~" => "\u{a0}",
        "``" => "“",
        "''" => "”",
        "--" => "–",
        "---" => "—",
        "!`" => "¡",
        "?`" => "¿",
        other => other,
    }
}

fn macro_text(writing: Writing, arguments: &[Option<Node>], formula: bool) -> Result<String, Unreadable> {
    let argument = |index: usize| match arguments.get(index) {
        Some(Some(node)) => render_node(node, formula),
        _ => Ok(String::new()),
    };
    match writing {
        Writing::Nothing => Ok(String::new()),
        Writing::Constant(text) => Ok(text.to_owned()),
        Writing::Arguments => (0..arguments.len()).map(argument).collect(),
        Writing::Template(pieces) if arguments.is_empty() => Ok(pieces.join("%s")),
        Writing::Template(pieces) => {
            let mut text = String::new();
            for (index, piece) in pieces.iter().enumerate() {
                text.push_str(piece);
                if index + 1 < pieces.len() {
                    text.push_str(&argument(index)?);
                }
            }
            Ok(text)
        }
        Writing::One(index, ..) if index >= arguments.len() => Err(Unreadable),
        Writing::One(index, before, after) => Ok(format!("{before}{}{after}", argument(index)?)),
        Writing::Alphabet(alphabet) => Ok(argument(0)?.chars().map(|c| in_alphabet(c, &alphabet)).collect()),
        Writing::Accent(mark) if arguments.is_empty() => Ok(format!(" {mark}")),
        Writing::Accent(mark) => {
            let text = argument(0)?;
            Ok(python::strip(&text).chars().map(|c| accented(c, mark)).collect())
        }
    }
}

fn accented(c: char, mark: char) -> String {
    let dotted = match c {
        'ı' => 'i',
        'ȷ' => 'j',
        other => other,
    };
    [dotted, mark].into_iter().nfc().collect()
}

fn in_alphabet(c: char, alphabet: &Alphabet) -> char {
    if let Some((_, letter)) = alphabet.elsewhere.iter().find(|(plain, _)| *plain == c) {
        return *letter;
    }
    let moved = match c {
        'A'..='Z' => alphabet.capitals + (c as u32 - 'A' as u32),
        'a'..='z' => alphabet.smalls + (c as u32 - 'a' as u32),
        _ => return c,
    };
    char::from_u32(moved).unwrap_or(c)
}

fn environment(name: &str, body: &[Node], formula: bool) -> Result<String, Unreadable> {
    match name {
        "array" | "pmatrix" | "bmatrix" | "smallmatrix" | "psmallmatrix" | "bsmallmatrix" => matrix(body, formula),
        "equation" | "equation*" | "eqnarray" | "eqnarray*" | "align" | "multline" | "gather" | "align*"
        | "multline*" | "gather*" | "dmath" | "dmath*" => Ok(indented(python::strip(&render(body, true)?))),
        "center" | "flushleft" | "flushright" => Ok(format!("\n{}\n", render(body, formula)?)),
        _ => render(body, formula),
    }
}

/// `[ 1 2; 3 4 ]`, the columns as wide as the widest cell.
fn matrix(body: &[Node], formula: bool) -> Result<String, Unreadable> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in body.split(|node| matches!(node, Node::Macro { name, .. } if name == "\\")) {
        let cells = row.split(|node| *node == Node::Special("&")).filter(|cell| !cell.is_empty());
        rows.push(cells.map(|cell| Ok(python::strip(&render(cell, formula)?).to_owned())).collect::<Result<_, _>>()?);
    }
    let width = rows.iter().flatten().map(|cell| cell.chars().count()).max().ok_or(Unreadable)?;
    if width.saturating_mul(rows.iter().map(Vec::len).sum()) > LONGEST {
        return Err(Unreadable);
    }
    // A width in `format!` has 16 bits.
    let padded = |cell: &String| " ".repeat(width - cell.chars().count()) + cell;
    let lines: Vec<String> = rows.iter().map(|row| row.iter().map(padded).collect::<Vec<_>>().join(" ")).collect();
    Ok(format!("[ {} ]", lines.join("; ")))
}

fn indented(text: &str) -> String {
    format!("\n    {}\n", text.replace('\n', "\n    "))
}
