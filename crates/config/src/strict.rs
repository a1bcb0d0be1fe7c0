//! Deserializing TOML values with errors that keep their facts: which key, what was expected, what was found.
//!
//! serde's derived code reports unknown fields, wrong types and unknown variants through the methods of
//! `serde::de::Error`; the usual error types flatten them into a sentence. [`Fault`] keeps them apart, and each level
//! of the value adds its part of the key on the way out.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;
use toml::{Table, Value};

use crate::error::one_line;

/// What went wrong, and the key under which it did (relative to the value that was deserialized).
#[derive(Debug)]
pub(crate) struct Fault {
    pub key: String,
    pub kind: FaultKind,
}

/// The kinds of [`Fault`]. `known` are the names that would have been right.
#[derive(Debug)]
pub(crate) enum FaultKind {
    UnknownField { field: String, known: &'static [&'static str] },
    Missing { field: &'static str },
    Wrong { expected: String, found: String },
    UnknownChoice { found: String, known: &'static [&'static str] },
    Other(String),
}

impl Fault {
    fn new(kind: FaultKind) -> Self {
        Self { key: String::new(), kind }
    }

    fn wrong(expected: impl Into<String>, value: &Value) -> Self {
        Self::new(FaultKind::Wrong { expected: expected.into(), found: describe(value) })
    }

    fn under(mut self, name: &str) -> Self {
        self.key = join(name, &self.key);
        self
    }
}

/// A key's path: `rollout` and `top_p` give `rollout.top_p`; an index follows without a point.
pub(crate) fn join(parent: &str, child: &str) -> String {
    match (parent, child) {
        ("", only) | (only, "") => only.to_owned(),
        (parent, child) if child.starts_with('[') => format!("{parent}{child}"),
        (parent, child) => format!("{parent}.{child}"),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {:?}", self.key, self.kind)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(FaultKind::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(FaultKind::Wrong { expected: in_words(&expected.to_string()), found: found.to_string() })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Self {
        Self::new(FaultKind::Wrong { expected: in_words(&expected.to_string()), found: format!("{len} values") })
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::new(FaultKind::UnknownChoice { found: found.to_owned(), known })
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(FaultKind::UnknownField { field: field.to_owned(), known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(FaultKind::Missing { field })
    }
}

/// serde's names for what it expects, in a user's words.
fn in_words(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "path string" => "a path in quotes",
        "a map" => "a table",
        structure if structure.starts_with("struct ") => "a table",
        other => other,
    }
    .to_owned()
}

/// A value as a user would recognize it, cut when long.
pub(crate) fn describe(value: &Value) -> String {
    const SHOWN: usize = 60;
    let kind = match value {
        Value::String(_) => "the string",
        Value::Integer(_) | Value::Float(_) => "the number",
        Value::Boolean(_) => "",
        Value::Datetime(_) => "the date",
        Value::Array(_) => "the list",
        Value::Table(_) => return "a table".to_owned(),
    };
    let text = one_line(&value.to_string());
    let shown: String = text.chars().take(SHOWN).collect();
    let rest = if shown.len() < text.len() { "..." } else { "" };
    format!("{kind} {shown}{rest}").trim_start().to_owned()
}

/// A TOML value being deserialized.
#[derive(Clone, Copy)]
pub(crate) struct Strict<'a> {
    value: &'a Value,
}

impl<'a> Strict<'a> {
    pub fn new(value: &'a Value) -> Self {
        Self { value }
    }

    /// Complete the visitor's complaint about this very value by showing the value.
    fn shown(self, fault: Fault) -> Fault {
        match fault.kind {
            FaultKind::Wrong { expected, .. } if fault.key.is_empty() => Fault::wrong(expected, self.value),
            _ => fault,
        }
    }
}

impl<'de> Deserializer<'de> for Strict<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(flag) => visitor.visit_bool(*flag),
            Value::Datetime(date) => visitor.visit_string(date.to_string()),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Value::Table(table) => visitor.visit_map(Entries::of(table, None)),
        }
        .map_err(|fault| self.shown(fault))
    }

    // TOML has no null: an optional key is there or it is not.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    // An array's visitor stops reading when it is full and would not notice what is left over.
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Array(items) if items.len() == len => self.deserialize_any(visitor),
            other => Err(Fault::wrong(format!("a list of {len} values"), other)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(text) => visitor.visit_enum(Choice(text)),
            other => Err(Fault::wrong(format!("one of {}", quoted(variants)), other)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple_struct map struct identifier ignored_any
    }
}

/// Words in quotes, for a list of what is possible.
pub(crate) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// A choice written as a word.
struct Choice<'a>(&'a str);

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = Fault;
    type Variant = <StrDeserializer<'static, Fault> as EnumAccess<'static>>::Variant;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant), Fault> {
        let word: StrDeserializer<'_, Fault> = self.0.into_deserializer();
        EnumAccess::variant_seed(word, seed)
    }
}

/// A section whose selector (`kind`) its own structure need not name: whoever looked it up has read it already.
#[derive(Clone, Copy)]
pub(crate) struct StrictSection<'a> {
    pub table: &'a Table,
    pub selector: &'static str,
}

impl<'de> Deserializer<'de> for StrictSection<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(Entries::of(self.table, None))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let unnamed = (!fields.contains(&self.selector)).then_some(self.selector);
        visitor.visit_map(Entries::of(self.table, unnamed))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        seed.deserialize(Strict::new(value)).map(Some).map_err(|fault| fault.under(&format!("[{index}]")))
    }
}

struct Entries<'a> {
    entries: toml::map::Iter<'a, String, Value>,
    skipped: Option<&'static str>,
    current: Option<(&'a String, &'a Value)>,
}

impl<'a> Entries<'a> {
    fn of(table: &'a Table, skipped: Option<&'static str>) -> Self {
        Self { entries: table.iter(), skipped, current: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let skipped = self.skipped;
        self.current = self.entries.by_ref().find(|(key, _)| Some(key.as_str()) != skipped);
        let Some((key, _)) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, value) = self.current.take().expect("serde asks for a key before its value");
        seed.deserialize(Strict::new(value)).map_err(|fault| fault.under(key))
    }
}

/// The names of a structure's fields, as its derived deserializer states them: the keys of its table.
pub fn fields_of<T: serde::de::DeserializeOwned>() -> &'static [&'static str] {
    struct Asked<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Asked<'_> {
        type Error = Fault;

        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
            Err(de::Error::custom("not a structure"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            _visitor: V,
        ) -> Result<V::Value, Fault> {
            *self.0 = fields;
            Err(de::Error::custom("only the names were wanted"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut fields: &'static [&'static str] = &[];
    // Always an error: the structure is never built.
    let _ = T::deserialize(Asked(&mut fields));
    fields
}
