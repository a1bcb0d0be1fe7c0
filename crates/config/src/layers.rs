//! The layers of a configuration and where each value came from.
//!
//! Each layer is a TOML table with a name; crate `config` lays them over each other (tables key by key, everything else
//! whole) and remembers the origin of every value. Types are checked afterwards, on the merged table: crate `config`'s
//! own conversions would take "1e-6" in quotes for a number and round 2.5 to 3.

use std::collections::BTreeMap;

use config::{Config, Map, Source, ValueKind};
use toml::{Table, Value};

use crate::error::{ConfigError, DEFAULT_ORIGIN, one_line};
use crate::strict::join;

/// Environment variables that belong to a run begin so.
pub(crate) const ENVIRONMENT_PREFIX: &str = "PERCEPT__";

/// An override's key has at most so many names; no section is as deep.
const DEEPEST: usize = 16;

/// The run file, and where every value came from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    /// The run file's name as the user gave it.
    pub file: String,
    by_key: BTreeMap<String, String>,
}

impl Origins {
    /// The origin of a key: its own, otherwise that of the first value below it.
    pub fn of(&self, key: &str) -> Option<&str> {
        if let Some(origin) = self.by_key.get(key) {
            return Some(origin);
        }
        let below = |candidate: &str| {
            candidate.strip_prefix(key).is_some_and(|rest| rest.starts_with('.') || rest.starts_with('['))
        };
        self.by_key.iter().find(|(candidate, _)| below(candidate)).map(|(_, origin)| origin.as_str())
    }

    /// The origin of a key, `default` when no layer gave it.
    pub fn or_default(&self, key: &str) -> &str {
        self.of(key).unwrap_or(DEFAULT_ORIGIN)
    }

    /// Say in an error where its key was given, or, where none was, which file should have had it.
    pub fn place(&self, error: ConfigError) -> ConfigError {
        let given = match &error {
            ConfigError::Missing { .. } => None,
            other => other.key().and_then(|key| self.of(key)),
        };
        let place = given.unwrap_or(&self.file).to_owned();
        error.placed(&place)
    }
}

/// One layer: a table and the name under which its values are traced.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    origin: String,
    table: Table,
}

impl Layer {
    /// The run file's text; `name` is the file's name as the user gave it.
    pub fn file(name: &str, text: &str) -> Result<Self, ConfigError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let (line, column) = line_and_column(text, error.span().map_or(0, |span| span.start));
            let reason = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            ConfigError::Syntax { file: name.to_owned(), line, column, reason }
        })?;
        // Crate `config` would read `"a.b" = 1` as a path. No section is called like that.
        if let Some(key) = table.keys().find(|key| !is_bare(key)) {
            return Err(ConfigError::UnknownKey {
                origin: name.to_owned(),
                key: format!("{key:?}"),
                advice: "a section's name is a plain word, as in [rollout]".to_owned(),
            });
        }
        Ok(Self { origin: name.to_owned(), table })
    }

    /// One environment variable, `PERCEPT__SECTION__KEY`; `None` when it does not begin with [`ENVIRONMENT_PREFIX`].
    pub fn variable(name: &str, value: &str) -> Option<Result<Self, ConfigError>> {
        let path = name.strip_prefix(ENVIRONMENT_PREFIX)?.to_lowercase();
        let origin = format!("environment variable {}", one_line(name));
        Some(Self::single(origin, path.rsplit("__"), value, "PERCEPT__SECTION__KEY=value"))
    }

    /// One `--set section.key=value`.
    pub fn set(argument: &str) -> Result<Self, ConfigError> {
        const FORM: &str = "--set section.key=value";
        let origin = format!("--set {}", one_line(argument));
        match argument.split_once('=') {
            Some((path, value)) => Self::single(origin, path.trim().rsplit('.'), value, FORM),
            None => Err(ConfigError::Override { origin, reason: "there is no `=`".to_owned(), expected: FORM }),
        }
    }

    fn single<'a>(
        origin: String,
        inside_out: impl Iterator<Item = &'a str>,
        value: &str,
        expected: &'static str,
    ) -> Result<Self, ConfigError> {
        let value = match word_or_toml(value) {
            Ok(value) => value,
            Err(reason) => return Err(ConfigError::Override { origin, reason, expected }),
        };
        let mut nested = value;
        for (depth, name) in inside_out.enumerate() {
            if !is_bare(name) || depth == DEEPEST {
                let reason = match depth {
                    DEEPEST => format!("no key has more than {DEEPEST} names"),
                    _ => format!("`{}` is no key", one_line(name)),
                };
                return Err(ConfigError::Override { origin, reason, expected });
            }
            nested = Value::Table(Table::from_iter([(name.to_owned(), nested)]));
        }
        match nested {
            Value::Table(table) => Ok(Self { origin, table }),
            _ => unreachable!("splitting gives at least one name, and each name wraps a table around the value"),
        }
    }

    fn traced(&self, value: &Value) -> config::Value {
        let kind = match value {
            Value::String(text) => ValueKind::String(text.clone()),
            Value::Integer(number) => ValueKind::I64(*number),
            Value::Float(number) => ValueKind::Float(*number),
            Value::Boolean(flag) => ValueKind::Boolean(*flag),
            // No key holds a date; as a word it may be part of a name, as in runs/2026-11-22.
            Value::Datetime(date) => ValueKind::String(date.to_string()),
            Value::Array(items) => ValueKind::Array(items.iter().map(|item| self.traced(item)).collect()),
            Value::Table(table) => ValueKind::Table(self.traced_table(table)),
        };
        config::Value::new(Some(&self.origin), kind)
    }

    fn traced_table(&self, table: &Table) -> Map<String, config::Value> {
        table.iter().map(|(key, value)| (key.clone(), self.traced(value))).collect()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, config::Value>, config::ConfigError> {
        Ok(self.traced_table(&self.table))
    }
}

/// Lay the layers over the run file, the last on top.
pub(crate) fn merge(file: Layer, layers: Vec<Layer>) -> Result<(Table, Origins), ConfigError> {
    let mut origins = Origins { file: file.origin.clone(), by_key: BTreeMap::new() };
    let builder =
        std::iter::once(file).chain(layers).fold(Config::builder(), |builder, layer| builder.add_source(layer));
    let merged = builder.build().map_err(|error| ConfigError::Merge(error.to_string()))?;
    match untraced(merged.cache, "", &mut origins) {
        Value::Table(table) => Ok((table, origins)),
        _ => unreachable!("the root of a configuration is a table"),
    }
}

fn untraced(value: config::Value, key: &str, origins: &mut Origins) -> Value {
    if let Some(origin) = value.origin() {
        origins.by_key.insert(key.to_owned(), origin.to_owned());
    }
    match value.kind {
        ValueKind::Boolean(flag) => Value::Boolean(flag),
        ValueKind::I64(number) => Value::Integer(number),
        ValueKind::Float(number) => Value::Float(number),
        ValueKind::String(text) => Value::String(text),
        ValueKind::Array(items) => {
            let item = |(index, item)| untraced(item, &format!("{key}[{index}]"), origins);
            Value::Array(items.into_iter().enumerate().map(item).collect())
        }
        ValueKind::Table(table) => Value::Table(
            table
                .into_iter()
                .map(|(name, value)| (name.clone(), untraced(value, &join(key, &name), origins)))
                .collect(),
        ),
        other => unreachable!("layers hold TOML values only, found {other:?}"),
    }
}

/// A value as TOML, or, when it is none and does not look like one, the word itself.
fn word_or_toml(text: &str) -> Result<Value, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("there is no value (an empty string is written \"\")".to_owned());
    }
    match text.parse::<Value>() {
        Ok(value) => Ok(value),
        Err(error) if text.starts_with(['[', '{', '"', '\'']) => {
            let reason = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            Err(format!("the value is not valid TOML: {reason} (strings in a list or table stand in quotes)"))
        }
        Err(_) => Ok(Value::String(text.to_owned())),
    }
}

fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-')
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |position| position + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Layer {
        Layer::file("run.toml", text).unwrap()
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let base = file("[rollout]\ntop_p = 0.9\ntop_k = 5\nmin_p = 0.1\n[data]\ntrain = ['a', 'b']");
        let (table, origins) = merge(
            base,
            vec![
                Layer::variable("PERCEPT__ROLLOUT__TOP_K", "6").unwrap().unwrap(),
                Layer::variable("PERCEPT__ROLLOUT__MIN_P", "0.2").unwrap().unwrap(),
                Layer::set("rollout.min_p=0.3").unwrap(),
                Layer::set("data.train=['c']").unwrap(),
            ],
        )
        .unwrap();
        let expected: Table =
            "rollout = {top_p = 0.9, top_k = 6, min_p = 0.3}\ndata = {train = ['c']}".parse().unwrap();
        assert_eq!(table, expected);
        assert_eq!(origins.of("rollout.top_p"), Some("run.toml"));
        assert_eq!(origins.of("rollout.top_k"), Some("environment variable PERCEPT__ROLLOUT__TOP_K"));
        assert_eq!(origins.of("rollout.min_p"), Some("--set rollout.min_p=0.3"));
        assert_eq!(origins.of("data.train[0]"), Some("--set data.train=['c']"));
        assert_eq!(origins.of("rollout.seed"), None);
        assert_eq!(origins.or_default("rollout.seed"), "default");
    }

    #[test]
    fn values_are_toml_and_bare_words_are_strings() {
        let read = |text: &str| word_or_toml(text).unwrap();
        assert_eq!(read("1e-6"), Value::Float(1e-6));
        assert_eq!(read(" 12 "), Value::Integer(12));
        assert_eq!(read("true"), Value::Boolean(true));
        assert_eq!(read("inf"), Value::Float(f64::INFINITY));
        assert_eq!(read("cosine"), Value::String("cosine".into()));
        assert_eq!(read("data/virl39k"), Value::String("data/virl39k".into()));
        assert_eq!(read("'3'"), Value::String("3".into()));
        assert_eq!(read("[1, 2]"), Value::Array(vec![Value::Integer(1), Value::Integer(2)]));
        assert_eq!(read("5\n[x]"), Value::String("5\n[x]".into()));
        assert_eq!(read("a=b"), Value::String("a=b".into()));
    }

    #[test]
    fn a_date_is_a_word() {
        let (table, _) = merge(file(""), vec![Layer::set("trainer.run_dir=2026-11-22").unwrap()]).unwrap();
        assert_eq!(table["trainer"]["run_dir"], Value::String("2026-11-22".into()));
    }

    #[test]
    fn malformed_overrides_say_what_form_is_expected() {
        let message = |argument: &str| Layer::set(argument).unwrap_err().to_string();
        assert_eq!(message("rollout.top_k"), "--set rollout.top_k: there is no `=`; expected --set section.key=value");
        assert_eq!(
            message("rollout..top_k=1"),
            "--set rollout..top_k=1: `` is no key; expected --set section.key=value"
        );
        assert_eq!(message("=1"), "--set =1: `` is no key; expected --set section.key=value");
        assert!(message("rollout.top_k=").contains("there is no value"));
        assert!(
            message("model.freeze=[visual.*]").contains("not valid TOML"),
            "{}",
            message("model.freeze=[visual.*]")
        );
        let variable = Layer::variable("PERCEPT__", "1").unwrap().unwrap_err().to_string();
        assert_eq!(variable, "environment variable PERCEPT__: `` is no key; expected PERCEPT__SECTION__KEY=value");
        assert!(Layer::variable("PERCEPT_GOLDEN", "x").is_none());
    }

    #[test]
    fn syntax_errors_name_line_and_column_on_one_line() {
        let message = Layer::file("run.toml", "[rollout]\ntop_p = = 1\n").unwrap_err().to_string();
        assert!(message.starts_with("run.toml, line 2, column 9: not valid TOML: "), "{message}");
        assert!(!message.contains('\n'), "{message}");
        let twice = Layer::file("run.toml", "[rollout]\ntop_p = 1\ntop_p = 2\n").unwrap_err().to_string();
        assert!(twice.contains("line 3") && twice.contains("duplicate"), "{twice}");
    }

    #[test]
    fn quoted_paths_are_no_sections() {
        let message = Layer::file("run.toml", "\"rollout.top_p\" = 1").unwrap_err().to_string();
        assert!(message.contains("unknown key `\"rollout.top_p\"`"), "{message}");
    }
}
