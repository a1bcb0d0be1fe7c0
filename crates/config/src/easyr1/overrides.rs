//! Overrides as EasyR1's scripts give them: `worker.actor.optim.lr=1e-6`, laid over the file.

use std::sync::Arc;

use super::error::ImportError;
use super::yaml::{Content, Node, Place, load};
use crate::error::one_line;

/// Lay an override over the tree.
///
/// # Errors
/// It is not of the form `key=value`, its value is not YAML, or its key goes through a value that is no table.
pub(super) fn apply(root: &mut Node, argument: &str) -> Result<(), ImportError> {
    let (key, value) = parts(argument)?;
    let mut node =
        load(value).map_err(|fault| complaint(argument, format!("the value is not YAML: {}", fault.reason)))?;
    let place = Place::Override(Arc::from(one_line(argument)));
    put(&mut node, &place);
    let names: Vec<&str> = key.split('.').collect();
    let mut target = root;
    for (depth, name) in names.iter().enumerate() {
        if matches!(target.content, Content::Null) {
            target.content = Content::Table(Vec::new());
        }
        let found = target.shown();
        let Content::Table(entries) = &mut target.content else {
            let parent = names[..depth].join(".");
            return Err(complaint(argument, format!("`{parent}` is {found} in the file, and has no keys")));
        };
        let at = entries.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            entries.push(((*name).to_owned(), Node { place: place.clone(), content: Content::Null }));
            entries.len() - 1
        });
        target = &mut entries[at].1;
    }
    merge(target, node);
    Ok(())
}

/// Key and value of an override, both trimmed.
pub(super) fn parts(argument: &str) -> Result<(&str, &str), ImportError> {
    let Some((key, value)) = argument.split_once('=') else {
        return Err(complaint(argument, "there is no `=`".to_owned()));
    };
    let key = key.trim();
    let plain = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    if key.split('.').all(plain) && !key.starts_with('-') {
        return Ok((key, value.trim()));
    }
    Err(complaint(argument, format!("`{key}` is no key: names with points between them are")))
}

/// Tables are merged key by key; everything else is replaced.
fn merge(target: &mut Node, given: Node) {
    match (&mut target.content, given.content) {
        (Content::Table(entries), Content::Table(given)) => {
            for (key, node) in given {
                match entries.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, known)) => merge(known, node),
                    None => entries.push((key, node)),
                }
            }
        }
        (target_content, content) => {
            *target_content = content;
            target.place = given.place;
        }
    }
}

fn put(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.content {
        Content::List(items) => items.iter_mut().for_each(|item| put(item, place)),
        Content::Table(entries) => entries.iter_mut().for_each(|(_, node)| put(node, place)),
        _ => {}
    }
}

fn complaint(argument: &str, reason: String) -> ImportError {
    let (argument, reason) = (one_line(argument), one_line(&reason));
    let bare = argument.trim_start_matches(['-', '+']);
    let is_better = bare != argument && bare.contains('=');
    let advice = if is_better {
        format!("write `{bare}`")
    } else {
        "write key=value, as in `worker.actor.optim.lr=1e-6`".to_owned()
    };
    ImportError::Override { argument, reason, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str, arguments: &[&str]) -> Result<String, String> {
        let mut root = load(text).unwrap();
        for argument in arguments {
            apply(&mut root, argument).map_err(|error| error.to_string())?;
        }
        Ok(root.shown())
    }

    #[test]
    fn values_are_yaml_and_tables_are_merged() {
        assert_eq!(after("a: {b: 1, c: 2}", &["a.b=3", "d.e=[x, y]"]).unwrap(), "{a: {b: 3, c: 2}, d: {e: [x, y]}}");
        assert_eq!(after("a: {b: 1, c: 2}", &["a={c: 4, d: 5}", "a.b="]).unwrap(), "{a: {b: null, c: 4, d: 5}}");
        assert_eq!(after("a: null", &["a.b=x=y"]).unwrap(), "{a: {b: x=y}}");
        assert_eq!(after("", &["a=1e-6"]).unwrap(), "{a: 1e-6}");
    }

    #[test]
    fn other_forms_are_errors_with_the_form_that_is_meant() {
        let message = |argument: &str| after("a: {b: 1}", &[argument]).unwrap_err();
        let form = "write key=value, as in `worker.actor.optim.lr=1e-6`";
        assert_eq!(message("a.b"), format!("override `a.b`: there is no `=`; {form}"));
        assert_eq!(
            message("--a.b=2"),
            "override `--a.b=2`: `--a.b` is no key: names with points between them are; write `a.b=2`"
        );
        assert!(message("+a.b=2").ends_with("write `a.b=2`"));
        assert!(message("a[0].b=2").contains("`a[0].b` is no key"));
        assert!(message("a..b=2").contains("`a..b` is no key"));
        assert_eq!(message("a.b.c=2"), format!("override `a.b.c=2`: `a.b` is 1 in the file, and has no keys; {form}"));
        assert!(message("a.b=[1, 2").contains("the value is not YAML"));
    }
}
