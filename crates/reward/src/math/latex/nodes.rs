//! The structure of LaTeX source, read as tolerantly as the reference reads it: a brace too many is skipped, one too
//! few is closed at the end, an argument that is missing leaves its macro without arguments.

use super::macros;
use super::{DEEPEST, Unreadable};
use crate::math::python;

/// A piece of LaTeX.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Characters(String),
    Group(Vec<Node>),
    Macro { name: String, arguments: Option<Vec<Option<Node>>> },
    Environment { name: String, body: Vec<Node> },
    Special(&'static str),
    Formula { display: bool, body: Vec<Node> },
}

/// Characters that stand for something else, the longest first.
const SPECIALS: [&str; 8] = ["---", "--", "``", "''", "!`", "?`", "&", "~"];

/// How often each character may be read, and what may be read on top. A macro whose arguments are missing is read again
/// without them, and so is every other one inside; the work would double with each.
const READINGS: usize = 16;
const MORE_READINGS: usize = 1000;

/// Reads a whole source.
///
/// # Errors
/// When it is nested too deeply, or read too often.
pub(super) fn parse(source: &[char]) -> Result<Vec<Node>, Unreadable> {
    let mut reader = Reader { source, at: 0, depth: 0, readings: READINGS * source.len() + MORE_READINGS };
    reader.nodes(&End::Source)
}

/// What ends the list of nodes being read.
enum End {
    Source,
    /// A closing brace or bracket.
    Closing(char),
    Environment(String),
    Formula(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Character(String),
    Macro(String),
    Begin(String),
    Finish(String),
    Open(char),
    Close(char),
    Formula(&'static str),
    Special(&'static str),
    Comment,
}

struct Token {
    kind: Kind,
    /// White space before the token.
    space: String,
    start: usize,
    end: usize,
}

struct Reader<'a> {
    source: &'a [char],
    at: usize,
    depth: usize,
    /// How many tokens may still be read.
    readings: usize,
}

impl Reader<'_> {
    /// The token at `at`, or the white space that remains when the source ends first.
    fn token(&self, at: usize, brackets: bool, environments: bool) -> Result<Token, String> {
        let mut space = String::new();
        let mut start = at;
        while let Some(c) = self.source.get(start).copied().filter(|c| python::is_space(*c)) {
            space.push(c);
            start += 1;
            if space.ends_with("\n\n") {
                space.truncate(space.len() - 2);
                let kind = Kind::Character("\n\n".to_owned());
                return Ok(Token { kind, space, start: start - 2, end: start });
            }
        }
        let token = |kind, length: usize, space| Ok(Token { kind, space, start, end: start + length });
        let rest = &self.source[start..];
        match rest {
            [] => Err(space),
            ['\\'] => Err(String::new()),
            ['\\', ..] => Ok(self.macro_token(start, space, environments)),
            ['%', ..] => {
                let end = rest.iter().position(|c| matches!(c, '\n' | '\r')).unwrap_or(rest.len());
                token(Kind::Comment, end, space)
            }
            ['{', ..] => token(Kind::Open('{'), 1, space),
            ['}', ..] => token(Kind::Close('}'), 1, space),
            ['[', ..] if brackets => token(Kind::Open('['), 1, space),
            [']', ..] if brackets => token(Kind::Close(']'), 1, space),
            ['$', '$', ..] => token(Kind::Formula("$$"), 2, space),
            ['$', ..] => token(Kind::Formula("$"), 1, space),
            [c, ..] => match SPECIALS.iter().find(|special| starts_with(rest, special)) {
                Some(special) => token(Kind::Special(special), special.len(), space),
                None => token(Kind::Character(c.to_string()), 1, space),
            },
        }
    }

    /// The macro whose backslash is at `start`; the white space after its name belongs to it.
    fn macro_token(&self, start: usize, space: String, environments: bool) -> Token {
        let name_at = start + 1;
        let letters = self.source[name_at..].iter().take_while(|c| c.is_alphabetic()).count();
        let mut end = name_at + letters.max(1);
        let name: String = self.source[name_at..end].iter().collect();
        let formula = match name.as_str() {
            "[" => Some("\\["),
            "]" => Some("\\]"),
            "(" => Some("\\("),
            ")" => Some("\\)"),
            _ => None,
        };
        if let Some(delimiter) = formula {
            return Token { kind: Kind::Formula(delimiter), space, start, end };
        }
        if environments && (name == "begin" || name == "end") {
            return match self.environment_name(end) {
                Some((environment, end)) if name == "begin" => {
                    Token { kind: Kind::Begin(environment), space, start, end }
                }
                Some((environment, end)) => Token { kind: Kind::Finish(environment), space, start, end },
                None => Token { kind: Kind::Character(format!("\\{name}")), space, start, end },
            };
        }
        if letters > 0 {
            let mut newlines = 0;
            while let Some(c) = self.source.get(end).filter(|c| python::is_space(**c)) {
                newlines = if *c == '\n' { newlines + 1 } else { 0 };
                end += 1;
                if newlines == 2 {
                    end -= 2;
                    break;
                }
            }
        }
        Token { kind: Kind::Macro(name), space, start, end }
    }

    /// `{name}` at `at`: the name, and where it ends.
    fn environment_name(&self, at: usize) -> Option<(String, usize)> {
        let open = at + self.source[at..].iter().take_while(|c| python::is_space(**c)).count();
        if self.source.get(open) != Some(&'{') {
            return None;
        }
        let allowed = |c: &&char| c.is_alphanumeric() || matches!(c, '_' | '*' | ' ' | '.' | '-');
        let name: String = self.source[open + 1..].iter().take_while(allowed).collect();
        let close = open + 1 + name.chars().count();
        (!name.is_empty() && self.source.get(close) == Some(&'}')).then_some((name, close + 1))
    }

    fn spend(&mut self) -> Result<(), Unreadable> {
        self.readings = self.readings.checked_sub(1).ok_or(Unreadable)?;
        Ok(())
    }

    fn nodes(&mut self, end: &End) -> Result<Vec<Node>, Unreadable> {
        if self.depth >= DEEPEST {
            return Err(Unreadable);
        }
        self.depth += 1;
        let mut nodes = Vec::new();
        let mut characters = String::new();
        loop {
            self.spend()?;
            let token = match self.token(self.at, matches!(end, End::Closing(']')), true) {
                Ok(token) => token,
                Err(space) => {
                    characters.push_str(&space);
                    self.at += space.chars().count();
                    break;
                }
            };
            self.at = token.end;
            characters.push_str(&token.space);
            if let Kind::Character(text) = &token.kind {
                characters.push_str(text);
                continue;
            }
            if !characters.is_empty() {
                nodes.push(Node::Characters(std::mem::take(&mut characters)));
            }
            if matches!(end, End::Formula("$")) && token.kind == Kind::Formula("$$") {
                // Only the first of the two ends this formula.
                self.at -= 1;
                break;
            }
            if ends(end, &token.kind) {
                break;
            }
            nodes.extend(self.node(token)?);
        }
        if !characters.is_empty() {
            nodes.push(Node::Characters(characters));
        }
        self.depth -= 1;
        Ok(nodes)
    }

    /// The node that a token begins; `None` for comments and for what does not belong where it stands.
    fn node(&mut self, token: Token) -> Result<Option<Node>, Unreadable> {
        Ok(match token.kind {
            Kind::Character(_) | Kind::Close(_) | Kind::Finish(_) | Kind::Comment => None,
            // A closing delimiter that nothing opened.
            Kind::Formula("\\)" | "\\]") => None,
            Kind::Formula(open) => {
                let close = match open {
                    "\\(" => "\\)",
                    "\\[" => "\\]",
                    same => same,
                };
                let body = self.nodes(&End::Formula(close))?;
                Some(Node::Formula { display: matches!(open, "$$" | "\\["), body })
            }
            Kind::Open(brace) => Some(self.group(brace)?),
            Kind::Begin(name) => {
                let before = self.at;
                if self.arguments(macros::environment_arguments(&name))?.is_none() {
                    self.at = before;
                }
                let body = self.nodes(&End::Environment(name.clone()))?;
                Some(Node::Environment { name, body })
            }
            Kind::Macro(name) => {
                let before = self.at;
                let arguments = self.arguments(macros::known(&name).0)?;
                if arguments.is_none() {
                    self.at = before;
                }
                Some(Node::Macro { name, arguments })
            }
            Kind::Special(special) => Some(Node::Special(special)),
        })
    }

    /// The group whose opening brace has just been read.
    fn group(&mut self, brace: char) -> Result<Node, Unreadable> {
        let close = if brace == '[' { ']' } else { '}' };
        Ok(Node::Group(self.nodes(&End::Closing(close))?))
    }

    /// The arguments of a macro; `None` when the source ends before they do.
    fn arguments(&mut self, specification: &str) -> Result<Option<Vec<Option<Node>>>, Unreadable> {
        let mut arguments = Vec::new();
        for kind in specification.chars() {
            // Only `\\` may not be separated from its optional argument.
            let touching = specification == "*[";
            let argument = match kind {
                '{' => match self.expression()? {
                    Some(node) => Some(node),
                    None => return Ok(None),
                },
                '[' => self.optional(touching)?,
                _ => match self.token(self.at, false, true) {
                    Ok(Token { kind: Kind::Character(text), end, .. }) if text == "*" => {
                        self.at = end;
                        Some(Node::Characters(text))
                    }
                    Ok(_) => None,
                    Err(_) => return Ok(None),
                },
            };
            arguments.push(argument);
        }
        Ok(Some(arguments))
    }

    fn optional(&mut self, touching: bool) -> Result<Option<Node>, Unreadable> {
        match self.token(self.at, true, false) {
            Ok(token) if token.kind == Kind::Open('[') && !(touching && token.start > self.at) => {
                self.at = token.end;
                self.group('[').map(Some)
            }
            _ => Ok(None),
        }
    }

    /// One required argument: a group, or the next single token. `None` at the end of the source.
    fn expression(&mut self) -> Result<Option<Node>, Unreadable> {
        loop {
            self.spend()?;
            let Ok(token) = self.token(self.at, false, false) else { return Ok(None) };
            let before = token.start;
            self.at = token.end;
            return Ok(Some(match token.kind {
                Kind::Comment => continue,
                Kind::Open(brace) => self.group(brace)?,
                // What closes something further out is no argument.
                Kind::Close(_) | Kind::Finish(_) | Kind::Begin(_) => {
                    self.at = before;
                    Node::Characters(String::new())
                }
                Kind::Macro(name) if name == "end" => {
                    self.at = before;
                    Node::Characters(String::new())
                }
                Kind::Macro(name) => Node::Macro { name, arguments: None },
                Kind::Formula(delimiter) if delimiter.starts_with('\\') => {
                    Node::Macro { name: delimiter.to_owned(), arguments: None }
                }
                Kind::Formula(delimiter) => Node::Characters(delimiter.to_owned()),
                Kind::Special(special) => Node::Special(special),
                Kind::Character(text) => Node::Characters(text),
            }));
        }
    }
}

fn starts_with(source: &[char], prefix: &str) -> bool {
    prefix.chars().enumerate().all(|(i, c)| source.get(i) == Some(&c))
}

fn ends(end: &End, token: &Kind) -> bool {
    match (end, token) {
        (End::Closing(brace), Kind::Close(found)) => brace == found,
        (End::Environment(name), Kind::Finish(found)) => name == found,
        (End::Formula(delimiter), Kind::Formula(found)) => delimiter == found,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, parse};

    #[test]
    fn macros_take_their_arguments() {
        let source: Vec<char> = "\\frac{1}2x".chars().collect();
        let one = Node::Group(vec![Node::Characters("1".into())]);
        let arguments = Some(vec![Some(one), Some(Node::Characters("2".into()))]);
        let expected = [Node::Macro { name: "frac".into(), arguments }, Node::Characters("x".into())];
        assert_eq!(parse(&source).as_deref(), Ok(expected.as_slice()));
    }
}
