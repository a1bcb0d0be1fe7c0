//! Python's ways of writing and stripping values, where templates show them and Rust's differ.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// White space as `str.strip()` sees it: Unicode's, and the four information separators.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// `text.strip()`
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// How `json.dumps(value, ensure_ascii=False, ...)` lays its output out.
#[derive(Clone, Debug)]
pub(crate) struct JsonStyle {
    pub indent: Option<usize>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
    /// In bytes.
    pub longest: usize,
}

impl Default for JsonStyle {
    fn default() -> Self {
        Self {
            indent: None,
            item_separator: ", ".into(),
            key_separator: ": ".into(),
            sort_keys: false,
            longest: usize::MAX,
        }
    }
}

/// `json.dumps(value, ensure_ascii=False)` with the given separators and indentation.
pub(crate) fn json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    write_json(&mut out, value, style, 0)?;
    Ok(out)
}

fn write_json(out: &mut String, value: &Value, style: &JsonStyle, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
        ValueKind::Number => {
            let number = f64::try_from(value.clone())?;
            out.push_str(&json_float(number));
        }
        ValueKind::String => write_string(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.map(|item| (None, item)).collect();
            write_items(out, ('[', ']'), items, style, depth)?;
        }
        ValueKind::Map => {
            let mut items = Vec::new();
            for key in value.try_iter()? {
                let item = value.get_item(&key)?;
                items.push((Some(json_key(&key)?), item));
            }
            if style.sort_keys {
                items.sort_by(|a, b| a.0.cmp(&b.0));
            }
            write_items(out, ('{', '}'), items, style, depth)?;
        }
        kind => {
            return Err(Error::new(
                ErrorKind::BadSerialization,
                format!("a value of type {kind} is not JSON serializable"),
            ));
        }
    }
    Ok(())
}

fn write_items(
    out: &mut String,
    (open, close): (char, char),
    items: Vec<(Option<String>, Value)>,
    style: &JsonStyle,
    depth: usize,
) -> Result<(), Error> {
    out.push(open);
    let new_line = |out: &mut String, depth: usize| -> Result<(), Error> {
        let Some(indent) = style.indent else { return Ok(()) };
        let spaces = indent.saturating_mul(depth);
        check_length(out.len().saturating_add(spaces), style)?;
        out.push('\n');
        out.push_str(&" ".repeat(spaces));
        Ok(())
    };
    let empty = items.is_empty();
    for (position, (key, item)) in items.into_iter().enumerate() {
        if position > 0 {
            // With an indentation Python's default separator loses its space; callers pass "," then.
            out.push_str(&style.item_separator);
        }
        new_line(out, depth + 1)?;
        if let Some(key) = key {
            write_string(out, &key);
            out.push_str(&style.key_separator);
        }
        write_json(out, &item, style, depth + 1)?;
        check_length(out.len(), style)?;
    }
    if !empty {
        new_line(out, depth)?;
    }
    out.push(close);
    Ok(())
}

fn check_length(length: usize, style: &JsonStyle) -> Result<(), Error> {
    if length > style.longest {
        return Err(Error::new(ErrorKind::OutOfFuel, "the JSON becomes too long"));
    }
    Ok(())
}

/// Keys that are not strings become strings, as in `json.dumps`.
fn json_key(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => json(key, &JsonStyle::default()),
        kind => Err(Error::new(ErrorKind::BadSerialization, format!("a key of type {kind} is not JSON serializable"))),
    }
}

fn write_string(out: &mut String, text: &str) {
    use std::fmt::Write;
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

fn json_float(number: f64) -> String {
    if number.is_nan() {
        "NaN".into()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        float(number)
    }
}

/// `repr(number)`: the shortest digits that read back the same, with an exponent below 1e-4 and from 1e16 on.
pub(crate) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').expect("{:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} writes an integer exponent");
    if (-4..16).contains(&exponent) {
        return format!("{number:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        // Each right-hand side is what `repr` prints in CPython.
        for (number, expected) in [
            (1.5, "1.5"),
            (2.0, "2.0"),
            (-0.0, "-0.0"),
            (1e-7, "1e-07"),
            (1.25e-5, "1.25e-05"),
            (0.0001, "0.0001"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (123456789.125, "123456789.125"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(float(number), expected);
        }
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let value: serde_json::Value = serde_json::from_str(
            r#"{"z": [1, 2.0, true, null, []], "a": {"é<&>'": "\"\\\n\t\u0001\u007f/"}, "e": {}}"#,
        )
        .unwrap();
        let value = Value::from(minijinja::value::Serde(&value));
        let plain = json(&value, &JsonStyle::default()).unwrap();
        assert_eq!(
            plain,
            "{\"z\": [1, 2.0, true, null, []], \"a\": {\"é<&>'\": \"\\\"\\\\\\n\\t\\u0001\u{7f}/\"}, \"e\": {}}"
        );
        let style = JsonStyle { indent: Some(2), item_separator: ",".into(), sort_keys: true, ..JsonStyle::default() };
        let indented = json(&value, &style).unwrap();
        assert!(indented.starts_with("{\n  \"a\": {\n    \"é<&>'\""));
        assert!(indented.ends_with("\"z\": [\n    1,\n    2.0,\n    true,\n    null,\n    []\n  ]\n}"));
        assert!(json(&Value::UNDEFINED, &JsonStyle::default()).is_err());
    }

    #[test]
    fn strip_knows_the_information_separators() {
        assert_eq!(strip("\u{1f}\u{85}\u{a0} a b\u{3000}\n"), "a b");
        assert_eq!(strip("\u{200b}a"), "\u{200b}a");
    }
}
