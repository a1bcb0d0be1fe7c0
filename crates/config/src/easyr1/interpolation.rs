//! OmegaConf's interpolations: `${data.seed}` is the value of that key, `${.seed}` of a neighbour.
//!
//! What has no value (a key that is not there, a resolver such as `${oc.env:HOME}`, a circle) is kept with the reason: it is
//! an error when the key is needed, and otherwise reported.

use super::yaml::{Content, Node};

/// Interpolations that a file may have, those inside other interpolations' values counted each time.
const MAX_STEPS: usize = 10_000;
const MAX_DEPTH: usize = 16;
const MAX_LENGTH: usize = 10_000;

/// Replace every interpolation in the tree by its value.
pub(super) fn resolve(root: &mut Node) {
    let tree = root.clone();
    let mut steps = 0;
    replace(root, &tree, &mut Vec::new(), &mut steps);
}

fn replace(node: &mut Node, tree: &Node, path: &mut Vec<String>, steps: &mut usize) {
    match &mut node.content {
        Content::Text(text) if text.contains("${") => {
            let value = evaluate(text, path, &mut Lookup { tree, steps, depth: 0 });
            node.content = value.unwrap_or_else(Content::Unresolved);
        }
        Content::List(items) => items.iter_mut().for_each(|item| replace(item, tree, path, steps)),
        Content::Table(entries) => {
            for (key, node) in entries {
                path.push(key.clone());
                replace(node, tree, path, steps);
                path.pop();
            }
        }
        _ => {}
    }
}

struct Lookup<'a> {
    tree: &'a Node,
    steps: &'a mut usize,
    depth: usize,
}

/// The value of a text with interpolations that stands under `path`, or why it has none.
fn evaluate(text: &str, path: &[String], lookup: &mut Lookup) -> Result<Content, String> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, after)) = behind.split_once('}') else { return Err("`${` is not closed".to_owned()) };
        let value = value_of(name, path, lookup)?;
        if before.is_empty() && after.is_empty() && whole.is_empty() {
            return Ok(value.content);
        }
        whole.push_str(before);
        match value.content {
            Content::Text(text) => whole.push_str(&text),
            _ => whole.push_str(&value.shown()),
        }
        if whole.len() > MAX_LENGTH {
            return Err("the text grows beyond all measure".to_owned());
        }
        rest = after;
    }
    whole.push_str(rest);
    Ok(Content::Text(whole))
}

fn value_of(name: &str, path: &[String], lookup: &mut Lookup) -> Result<Node, String> {
    *lookup.steps += 1;
    if lookup.depth == MAX_DEPTH || *lookup.steps > MAX_STEPS {
        return Err(format!("`${{{name}}}` leads in a circle, or too far"));
    }
    if let Some((resolver, _)) = name.split_once(':') {
        return Err(format!("the resolver `{resolver}` is not carried out; write the value"));
    }
    if name.contains("${") {
        return Err("an interpolation inside an interpolation; write the value".to_owned());
    }
    let key = absolute(name, path).ok_or_else(|| format!("`${{{name}}}` goes above the file's root"))?;
    let Some(node) = lookup.tree.at(&key) else {
        let hint = if key.contains('.') { "" } else { " (a shell's variable has to be written out)" };
        return Err(format!("there is no key `{key}` for `${{{name}}}`{hint}"));
    };
    match &node.content {
        Content::List(_) | Content::Table(_) => Err(format!("`{key}` is a list or table; write it out")),
        Content::Text(text) if text.len() > MAX_LENGTH => Err(format!("`{key}` is longer than {MAX_LENGTH} bytes")),
        Content::Text(text) if text.contains("${") => {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            lookup.depth += 1;
            let content = evaluate(text, &path, lookup);
            lookup.depth -= 1;
            Ok(Node { place: node.place.clone(), content: content? })
        }
        _ => Ok(node.clone()),
    }
}

/// The key from the root: each leading point is a table up.
fn absolute(name: &str, path: &[String]) -> Option<String> {
    let relative = name.trim_start_matches('.');
    let points = name.len() - relative.len();
    let mut key = if points == 0 { String::new() } else { path.get(..path.len().checked_sub(points)?)?.join(".") };
    if !key.is_empty() {
        key.push('.');
    }
    Some(key + relative.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::easyr1::yaml::load;

    fn resolved(text: &str) -> Node {
        let mut root = load(text).unwrap();
        resolve(&mut root);
        root
    }

    fn reason(text: &str) -> String {
        match resolved(text).at("x").unwrap().content.clone() {
            Content::Unresolved(reason) => reason,
            other => panic!("resolved to {other:?}"),
        }
    }

    #[test]
    fn values_keep_their_types_and_texts_are_joined() {
        let root = resolved(
            "data: {seed: 7, half: 0.5, next: '${.seed}'}\nx: ${data.seed}\ny: run_${data.seed}_${x}\nz: {w: '${..x}'}",
        );
        assert_eq!(root.at("x").unwrap().content, Content::Whole(7));
        assert_eq!(root.at("data.next").unwrap().content, Content::Whole(7));
        assert_eq!(root.at("y").unwrap().content, Content::Text("run_7_7".to_owned()));
        assert_eq!(root.at("z.w").unwrap().content, Content::Whole(7));
    }

    #[test]
    fn what_has_no_value_says_why() {
        assert_eq!(
            reason("x: ${MODEL_PATH}"),
            "there is no key `MODEL_PATH` for `${MODEL_PATH}` (a shell's variable has to be written out)"
        );
        assert_eq!(reason("x: ${a.b}"), "there is no key `a.b` for `${a.b}`");
        assert_eq!(reason("x: ${oc.env:HOME}"), "the resolver `oc.env` is not carried out; write the value");
        assert_eq!(reason("x: ${y}\ny: ${x}"), "`${y}` leads in a circle, or too far");
        assert_eq!(reason("x: ${a}\na: [1]"), "`a` is a list or table; write it out");
        assert_eq!(reason("x: '${a'"), "`${` is not closed");
        assert_eq!(reason("x: ${...a}"), "`${...a}` goes above the file's root");
    }

    #[test]
    fn doubling_ends() {
        // too deep, and short enough to be too many
        for length in [60, 14] {
            let doubled = |i: usize| format!("a{i}: '${{a{}}}${{a{}}}'\n", i + 1, i + 1);
            let chain: String = (0..length).map(doubled).collect();
            assert!(reason(&format!("x: ${{a0}}\n{chain}a{length}: ''")).contains("too far"), "{length}");
        }
    }
}
