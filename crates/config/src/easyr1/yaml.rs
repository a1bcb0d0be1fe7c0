//! YAML as EasyR1 reads it (OmegaConf over PyYAML): a tree whose nodes know their lines.
//!
//! Scalars follow YAML 1.1 with OmegaConf's numbers, in which `1e-6` is one. A number with a leading zero is text, since
//! PyYAML would take it for octal. Anchors are read; merge keys, several documents and tags of one's own are refused.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

/// Deepest nesting; what is written there is no run.
const MAX_DEPTH: usize = 32;
/// Most nodes, copies through aliases counted; a run has hundreds.
const MAX_NODES: usize = 10_000;
/// Most bytes that aliases may copy.
const MAX_COPIED: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub place: Place,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Line(usize),
    Override(Arc<str>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Null,
    Flag(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
    /// An interpolation that has no value, and why.
    Unresolved(String),
}

/// Why a text is no tree, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub line: usize,
    pub column: usize,
    pub reason: String,
}

impl Node {
    /// As one line of YAML, cut when long.
    pub fn shown(&self) -> String {
        const SHOWN: usize = 80;
        let whole = self.flow();
        let shown: String = whole.chars().take(SHOWN).collect();
        if shown.len() < whole.len() { format!("{shown}...") } else { shown }
    }

    fn flow(&self) -> String {
        match &self.content {
            Content::Null => "null".to_owned(),
            Content::Flag(flag) => flag.to_string(),
            Content::Whole(number) => number.to_string(),
            Content::Number(number) => format!("{number:?}"),
            Content::Text(text) => text.escape_debug().to_string(),
            Content::List(items) => format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", ")),
            Content::Table(entries) => {
                let entries: Vec<String> =
                    entries.iter().map(|(key, node)| format!("{key}: {}", node.flow())).collect();
                format!("{{{}}}", entries.join(", "))
            }
            Content::Unresolved(_) => "an interpolation".to_owned(),
        }
    }

    /// The node under a dotted key.
    pub fn at(&self, key: &str) -> Option<&Self> {
        key.split('.').try_fold(self, |node, name| match &node.content {
            Content::Table(entries) => entries.iter().find(|(known, _)| known == name).map(|(_, node)| node),
            _ => None,
        })
    }

    /// The number of nodes, and of bytes in their texts.
    fn size(&self) -> [usize; 2] {
        let sum = |[nodes, bytes]: [usize; 2], [more, longer]: [usize; 2]| [nodes + more, bytes + longer];
        match &self.content {
            Content::Text(text) => [1, text.len()],
            Content::List(items) => items.iter().map(Self::size).fold([1, 0], sum),
            Content::Table(entries) => {
                entries.iter().map(|(key, node)| sum([0, key.len()], node.size())).fold([1, 0], sum)
            }
            _ => [1, 0],
        }
    }
}

/// Read a text of one document; an empty one is null.
pub(super) fn load(text: &str) -> Result<Node, Fault> {
    let mut loader = Loader::default();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => loader.take(event, span.start.line(), span.start.col() + 1)?,
            Err(error) => {
                let at = error.marker();
                return Err(Fault { line: at.line(), column: at.col() + 1, reason: error.info().to_owned() });
            }
        }
    }
    Ok(loader.root.unwrap_or(Node { place: Place::Line(1), content: Content::Null }))
}

/// A list or table that is not closed yet.
struct Open {
    anchor: usize,
    line: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Table { entries: Vec<(String, Node)>, key: Option<String> },
}

#[derive(Default)]
struct Loader {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    num_nodes: usize,
    num_copied: usize,
    root: Option<Node>,
}

impl Loader {
    fn take(&mut self, event: Event<'_>, line: usize, column: usize) -> Result<(), Fault> {
        let fault = |reason: &str| Err(Fault { line, column, reason: reason.to_owned() });
        match event {
            Event::DocumentStart(_) if self.root.is_some() => fault("a second document begins; a run is one document"),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let [nodes, bytes] = node.size();
                    self.num_nodes += nodes;
                    self.num_copied += bytes;
                    if self.num_copied > MAX_COPIED {
                        return fault("aliases copy more than a mebibyte");
                    }
                    let node = Node { place: Place::Line(line), content: node.content.clone() };
                    self.add(node, line, column)
                }
                None => fault("an alias stands inside what it names"),
            },
            Event::Scalar(text, style, anchor, tag) => {
                if self.takes_key(&text, line, column)? {
                    return Ok(());
                }
                let Some(content) = scalar(&text, style, tag.as_deref()) else {
                    return fault("a tag of its own; write the value without it");
                };
                let node = Node { place: Place::Line(line), content };
                if anchor != 0 {
                    self.anchors.insert(anchor, node.clone());
                }
                self.add(node, line, column)
            }
            Event::SequenceStart(anchor, _) => self.enter(anchor, Inside::List(Vec::new()), line, column),
            Event::MappingStart(anchor, _) => {
                self.enter(anchor, Inside::Table { entries: Vec::new(), key: None }, line, column)
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(column),
            _ => Ok(()),
        }
    }

    /// Whether a scalar is the key of the table it stands in.
    fn takes_key(&mut self, text: &str, line: usize, column: usize) -> Result<bool, Fault> {
        let Some(Open { inside: Inside::Table { entries, key: key @ None }, .. }) = self.open.last_mut() else {
            return Ok(false);
        };
        let fault = |reason: String| Err(Fault { line, column, reason });
        if text == "<<" {
            return fault("a merge key (`<<`); write the keys out".to_owned());
        }
        if let Some((_, first)) = entries.iter().find(|(known, _)| known == text) {
            let first = match first.place {
                Place::Line(line) => format!("line {line}"),
                Place::Override(_) => "the override".to_owned(),
            };
            return fault(format!("key `{}` stands here and in {first}; leave one", text.escape_debug()));
        }
        *key = Some(text.to_owned());
        Ok(true)
    }

    fn enter(&mut self, anchor: usize, inside: Inside, line: usize, column: usize) -> Result<(), Fault> {
        let is_key = matches!(self.open.last(), Some(Open { inside: Inside::Table { key: None, .. }, .. }));
        if is_key {
            let reason = "a list or table stands where a key is expected".to_owned();
            return Err(Fault { line, column, reason });
        }
        if self.open.len() == MAX_DEPTH {
            return Err(Fault { line, column, reason: format!("tables nest more than {MAX_DEPTH} deep") });
        }
        self.open.push(Open { anchor, line, inside });
        Ok(())
    }

    fn leave(&mut self, column: usize) -> Result<(), Fault> {
        let Some(Open { anchor, line, inside }) = self.open.pop() else { return Ok(()) };
        let content = match inside {
            Inside::List(items) => Content::List(items),
            Inside::Table { entries, .. } => Content::Table(entries),
        };
        let node = Node { place: Place::Line(line), content };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.add(node, line, column)
    }

    fn add(&mut self, node: Node, line: usize, column: usize) -> Result<(), Fault> {
        self.num_nodes += 1;
        if self.num_nodes > MAX_NODES {
            return Err(Fault { line, column, reason: format!("more than {MAX_NODES} values") });
        }
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.root = Some(node),
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Table { entries, key }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    return Err(Fault { line, column, reason: "an alias stands where a key is expected".to_owned() });
                }
            },
        }
        Ok(())
    }
}

/// `None` for a tag that is not YAML's own.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Option<Content> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => None,
        Some(tag) if tag.suffix == "str" => Some(Content::Text(text.to_owned())),
        None if style != ScalarStyle::Plain => Some(Content::Text(text.to_owned())),
        _ => Some(plain(text)),
    }
}

/// A scalar without quotes.
fn plain(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Content::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Content::Flag(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Content::Flag(false),
        ".inf" | "+.inf" | ".Inf" | ".INF" | "inf" | "+inf" => return Content::Number(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" | "-inf" => return Content::Number(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" | "nan" => return Content::Number(f64::NAN),
        _ => {}
    }
    let digits = text.trim_start_matches(['+', '-']);
    let starts = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let looks = starts && digits.chars().all(|c| c.is_ascii_digit() || "._eE+-".contains(c));
    let octal = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    if !looks || octal {
        return Content::Text(text.to_owned());
    }
    let number = text.replace('_', "");
    match (number.parse::<i64>(), number.parse::<f64>()) {
        (Ok(whole), _) => Content::Whole(whole),
        (_, Ok(number)) => Content::Number(number),
        _ => Content::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Content {
        load(text).unwrap().content
    }

    fn reason(text: &str) -> String {
        let Fault { line, reason, .. } = load(text).unwrap_err();
        format!("{line}: {reason}")
    }

    #[test]
    fn scalars_are_omegaconfs() {
        assert_eq!(value("1e-6"), Content::Number(1e-6));
        assert_eq!(value("1.0e-2"), Content::Number(0.01));
        assert_eq!(value("4_194_304"), Content::Whole(4_194_304));
        assert_eq!(value("-1"), Content::Whole(-1));
        assert_eq!(value("off"), Content::Flag(false));
        assert_eq!(value("~"), Content::Null);
        assert_eq!(value(""), Content::Null);
        assert_eq!(value("'3'"), Content::Text("3".to_owned()));
        assert_eq!(value("!!str 3"), Content::Text("3".to_owned()));
        assert_eq!(value("010"), Content::Text("010".to_owned()));
        assert_eq!(value("2026-01-30"), Content::Text("2026-01-30".to_owned()));
        assert_eq!(value("..."), Content::Null);
        assert_eq!(value("a.b"), Content::Text("a.b".to_owned()));
    }

    #[test]
    fn keys_know_their_lines_and_aliases_are_copies() {
        let root = load("a:\n  b: &x [1, two]\nc: *x\n").unwrap();
        assert_eq!(root.at("a.b").unwrap().place, Place::Line(2));
        assert_eq!(root.at("c").unwrap().place, Place::Line(3));
        assert_eq!(root.at("c").unwrap().shown(), "[1, two]");
        assert_eq!(root.at("a.d"), None);
    }

    #[test]
    fn what_is_not_read_is_said() {
        assert_eq!(reason("a: 1\na: 2"), "2: key `a` stands here and in line 1; leave one");
        assert_eq!(reason("a: 1\n---\nb: 2"), "2: a second document begins; a run is one document");
        assert_eq!(reason("a: &x {b: 1}\nc:\n  <<: *x"), "3: a merge key (`<<`); write the keys out");
        assert_eq!(reason("a: !mine 3"), "1: a tag of its own; write the value without it");
        assert_eq!(reason("? [a]\n: 1"), "1: a list or table stands where a key is expected");
        assert!(reason("a: [1, 2").starts_with("1:") || reason("a: [1, 2").starts_with("2:"));
        assert!(reason(&"[".repeat(40)).contains("deep"));
        let bomb = format!("a: &a [{}]\nb: &b [{}]\nc: [{}]", "1, ".repeat(99), "*a, ".repeat(99), "*b, ".repeat(99));
        assert_eq!(reason(&bomb), "2: more than 10000 values");
    }
}
