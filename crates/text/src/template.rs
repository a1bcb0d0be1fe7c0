//! A checkpoint's chat template, rendered as transformers' `apply_chat_template` renders it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as JinjaValue};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use serde_json::{Map, Value};

use crate::python::{self, JsonStyle};
use crate::read::{describe, object_if_present, text_if_present, token_text};
use crate::strftime::strftime;
use crate::{Message, TextError, sandbox};

/// What a template is given beside the messages.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// Whether the text ends with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Further variables: `add_vision_id`, `tools`, `enable_thinking`, ...
    pub extra: Map<String, Value>,
}

/// A chat template. Jinja's own environment is transformers': blocks trimmed, loop controls, Python's string methods and
/// `json.dumps`, `raise_exception`, `strftime_now`, `{% generation %}`.
///
/// `strftime_now` is the moment the template was read (UTC), unless [`ChatTemplate::at`] sets another: a run that is resumed on
/// another day can so keep its prompts.
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    /// The name in error messages: the file.
    name: String,
    /// The template for conversations with tools, when the folder has one.
    with_tools: Option<String>,
    /// `bos_token`, `eos_token`, ... from tokenizer_config.json.
    tokens: Map<String, Value>,
    sources: String,
}

impl ChatTemplate {
    /// Reads `chat_template.jinja`, else `chat_template.json`, else the `chat_template` of `tokenizer_config.json`
    /// (a string, or a list of `{name, template}` of which `default` is taken, and `tool_use` when there are tools).
    ///
    /// # Errors
    /// When there is none, or a file cannot be read, or the template is not Jinja.
    pub fn from_folder(folder: &Path) -> Result<Self, TextError> {
        let (path, template) = find(folder)?;
        let tokens = match object_if_present(&folder.join("tokenizer_config.json"))? {
            Some(config) => config
                .iter()
                .filter(|(key, _)| key.ends_with("_token"))
                .filter_map(|(key, value)| Some((key.clone(), Value::from(token_text(value)?))))
                .collect(),
            None => Map::new(),
        };
        let name = path.display().to_string();
        match template {
            Value::String(source) => Self::new(name, &source, None, tokens),
            Value::Array(entries) => {
                let named = |wanted: &str| {
                    let entry = entries.iter().find(|entry| entry["name"] == wanted)?;
                    entry["template"].as_str()
                };
                let Some(default) = named("default") else {
                    let found: Vec<_> = entries.iter().map(|entry| entry["name"].to_string()).collect();
                    return Err(TextError::NoDefaultTemplate { path, found: found.join(", ") });
                };
                Self::new(name, default, named("tool_use"), tokens)
            }
            other => Err(TextError::Field {
                path,
                key: "chat_template".into(),
                expected: "a string or a list of {name, template}",
                found: describe(&other),
            }),
        }
    }

    /// A template given as text; `name` stands in error messages.
    ///
    /// # Errors
    /// When the template is not Jinja.
    pub fn from_source(name: &str, source: &str) -> Result<Self, TextError> {
        Self::new(name.to_owned(), source, None, Map::new())
    }

    fn new(name: String, source: &str, tools: Option<&str>, tokens: Map<String, Value>) -> Result<Self, TextError> {
        let mut environment = environment();
        let mut add = |name: &str, source: &str| {
            environment
                .add_template_owned(name.to_owned(), prepare(source))
                .map_err(|error| template_error(&error, name))
        };
        add(&name, source)?;
        let with_tools = tools.map(|source| (format!("{name} (tool_use)"), source));
        if let Some((name, source)) = &with_tools {
            add(name, source)?;
        }
        let sources = [source, tools.unwrap_or_default()].concat();
        let environment = Arc::new(environment);
        let template = Self { environment, name, with_tools: with_tools.map(|(name, _)| name), tokens, sources };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        Ok(template.at(i64::try_from(now).unwrap_or(i64::MAX)))
    }

    /// The same template with `strftime_now` at a moment, in seconds since 1970-01-01 UTC.
    pub fn at(mut self, unix_seconds: i64) -> Self {
        // A rendering that was given up on may still hold the other.
        Arc::make_mut(&mut self.environment).add_function("strftime_now", move |format: &str| {
            strftime(unix_seconds, format).map_err(|directive| {
                Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know {directive}"))
            })
        });
        self
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// When the template fails on these messages, calls `raise_exception`, or takes more than a template may (it runs in bounded
    /// steps, memory and time): with the file, the line and what it says.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String, TextError> {
        let mut context = self.tokens.clone();
        // transformers always passes these two, None unless given: templates ask `tools is none`.
        context.insert("tools".into(), Value::Null);
        context.insert("documents".into(), Value::Null);
        context.extend(options.extra.clone());
        let has_tools = !context["tools"].is_null();
        let messages = serde_json::to_value(messages).expect("messages are JSON");
        context.insert("messages".into(), messages);
        context.insert("add_generation_prompt".into(), Value::Bool(options.add_generation_prompt));

        let name = self.with_tools.as_ref().filter(|_| has_tools).unwrap_or(&self.name);
        let context = JinjaValue::from(Serde(&context));
        sandbox::render(&self.environment, name, context).map_err(|error| template_error(&error, name))
    }

    /// The file the template was read from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything the templates themselves say.
    pub(crate) fn sources(&self) -> &str {
        &self.sources
    }
}

fn find(folder: &Path) -> Result<(PathBuf, Value), TextError> {
    let path = folder.join("chat_template.jinja");
    if let Some(source) = text_if_present(&path)? {
        return Ok((path, Value::String(source)));
    }
    for file in ["chat_template.json", "tokenizer_config.json"] {
        let path = folder.join(file);
        if let Some(mut object) = object_if_present(&path)?
            && let Some(template) = object.remove("chat_template").filter(|template| !template.is_null())
        {
            return Ok((path, template));
        }
    }
    Err(TextError::NoChatTemplate { folder: folder.to_owned() })
}

/// Jinja's lexer reads every line ending as `\n`. `{% generation %}` only marks the assistant's words for training on them
/// and writes nothing; as a condition that always holds it keeps its white-space control and its nesting.
fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open + 2);
        out.push_str(before);
        rest = tag;
        let Some(close) = tag.find("%}") else { break };
        let inner = &tag[..close];
        let word = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let replacement = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        out.push_str(&inner.replacen(word, replacement, 1));
        rest = &tag[close..];
    }
    out.push_str(rest);
    out
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .expect("the default delimiters are valid"),
    );
    make_python_like(&mut environment);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: &str| -> Result<JinjaValue, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
    });
    environment
}

/// What every template here shares with Jinja on Python, beyond minijinja's own likeness.
pub(crate) fn make_python_like(environment: &mut Environment<'static>) {
    sandbox::limit(environment);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(method);
    environment.add_filter("trim", |text: &str, chars: Option<&str>| match chars {
        Some(chars) => text.trim_matches(|c| chars.contains(c)).to_owned(),
        None => python::strip(text).to_owned(),
    });
    environment.set_formatter(|out, state, value| {
        if value.is_number() && !value.is_integer() {
            let number = f64::try_from(value.clone())?;
            return out.write_str(&python::float(number)).map_err(Error::from);
        }
        if value.as_str().is_none() {
            sandbox::charge_value(state, value)?;
        }
        minijinja::escape_formatter(out, state, value)
    });
}

fn method(state: &mut State, value: &JinjaValue, method: &str, args: &[JinjaValue]) -> Result<JinjaValue, Error> {
    if let (Some(text), true) = (value.as_str(), args.is_empty()) {
        match method {
            "strip" => return Ok(python::strip(text).into()),
            "lstrip" => return Ok(text.trim_start_matches(python::is_space).into()),
            "rstrip" => return Ok(text.trim_end_matches(python::is_space).into()),
            _ => {}
        }
    }
    if let Some(text) = value.as_str() {
        sandbox::charge_method(state, text, method, args)?;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// transformers' `tojson`: `json.dumps` with `ensure_ascii=False`, without Jinja's HTML escapes.
fn tojson(state: &State, value: &JinjaValue, options: Kwargs) -> Result<String, Error> {
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson(ensure_ascii=true) is not supported"));
    }
    let indent: Option<usize> = options.get("indent")?;
    let mut style = JsonStyle {
        indent,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ..Default::default()
    };
    if indent.is_some() {
        style.item_separator = ",".into();
    }
    if let Some(separators) = options.get::<Option<Vec<String>>>("separators")? {
        let [item, key] = separators.try_into().map_err(|separators: Vec<String>| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("tojson(separators=...) takes two strings, found {}", separators.len()),
            )
        })?;
        (style.item_separator, style.key_separator) = (item, key);
    }
    options.assert_all_used()?;
    sandbox::charge_value(state, value)?;
    style.longest = sandbox::bytes_left(state);
    python::json(value, &style)
}

pub(crate) fn template_error(error: &Error, name: &str) -> TextError {
    let reason = match error.detail() {
        _ if error.kind() == ErrorKind::OutOfFuel => sandbox::USED_UP.to_owned(),
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    TextError::Template { template: error.name().unwrap_or(name).to_owned(), line: error.line().unwrap_or(0), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Item};

    fn render(source: &str, messages: &[Message], extra: &str) -> Result<String, TextError> {
        let extra = serde_json::from_str(extra).unwrap();
        ChatTemplate::from_source("t.jinja", source)?
            .at(0)
            .render(messages, &RenderOptions { add_generation_prompt: true, extra })
    }

    fn user(text: &str) -> Message {
        Message::user(Content::Text(text.into()))
    }

    #[test]
    fn blocks_are_trimmed_as_in_transformers() {
        let source =
            "{% for m in messages %}\n    {% if true %}\n  [{{ m.content }}]\n    {% endif %}\n{% endfor %}\nend\n";
        assert_eq!(render(source, &[user("a"), user("b")], "{}").unwrap(), "  [a]\n  [b]\nend");
    }

    #[test]
    fn python_in_templates() {
        for (source, expected) in [
            ("{{ x | tojson }}", "{\"b\": 1, \"a\": [1e-07, true, null, \"é<\"]}"),
            ("{{ x | tojson(separators=(',', ':')) }}", "{\"b\":1,\"a\":[1e-07,true,null,\"é<\"]}"),
            ("{{ x.a[0] }} {{ x.a[1] }} {{ x.a[2] }} {{ missing }}|", "1e-07 True None |"),
            ("{{ ' \u{1f}a '.strip() }}{{ ' b\u{1f}' | trim }}{{ 'xcx' | trim('x') }}", "abc"),
            ("{{ 'a</think>b'.split('</think>')[-1] }}{{ 'abc'.startswith('ab') }}{{ 'abc'[1:] }}", "bTruebc"),
            (
                "{% for k, v in x.items() %}{{ k }}{% if loop.first %}{% continue %}{% endif %},{% break %}{% endfor %}",
                "ba,",
            ),
            (
                "{{ tools is none }}{{ documents is none }}{{ 'role' in messages[0] }}{{ 'uSER' | capitalize }}",
                "TrueTrueTrueUser",
            ),
            ("{{ strftime_now('%d %b %Y') }}", "01 Jan 1970"),
            ("a {%- generation -%} b {% endgeneration %}\nc", "ab c"),
            ("one\r\ntwo\rthree", "one\ntwo\nthree"),
            ("{{ messages[-1].content }}{{ messages[0]['content'] is string }}", "hiTrue"),
        ] {
            let rendered = render(source, &[user("hi")], r#"{"x": {"b": 1, "a": [1e-7, true, null, "é<"]}}"#);
            assert_eq!(rendered.unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let raised = render("a\n{{ raise_exception('roles must alternate') }}", &[], "{}").unwrap_err().to_string();
        assert_eq!(raised, "t.jinja, line 2: roles must alternate");
        let syntax = render("a\n\n{% if %}", &[], "{}").unwrap_err().to_string();
        assert!(syntax.starts_with("t.jinja, line 3: "), "{syntax}");
    }

    #[test]
    fn the_folder_is_searched_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
        let rendered =
            || ChatTemplate::from_folder(folder.path()).and_then(|t| t.render(&[], &RenderOptions::default()));
        assert!(matches!(rendered(), Err(TextError::NoChatTemplate { .. })));
        write("tokenizer_config.json", r#"{"chat_template": [{"name": "rag", "template": "rag"}]}"#);
        assert!(rendered().unwrap_err().to_string().contains("found \"rag\""));
        let list =
            r#"[{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "list {{ eos_token }}"}]"#;
        write("tokenizer_config.json", &format!(r#"{{"eos_token": {{"content": "</s>"}}, "chat_template": {list}}}"#));
        assert_eq!(rendered().unwrap(), "list </s>");
        let options = RenderOptions { extra: serde_json::from_str(r#"{"tools": [1]}"#).unwrap(), ..Default::default() };
        assert_eq!(ChatTemplate::from_folder(folder.path()).unwrap().render(&[], &options).unwrap(), "tools");
        write("chat_template.json", r#"{"chat_template": "json"}"#);
        assert_eq!(rendered().unwrap(), "json");
        write("chat_template.jinja", "jinja {{ eos_token }}");
        assert_eq!(rendered().unwrap(), "jinja </s>");
        write("chat_template.jinja", "{% endif %}");
        assert!(rendered().unwrap_err().to_string().contains("chat_template.jinja, line 1"));
    }

    #[test]
    fn items_reach_the_template() {
        let source = "{% for c in messages[0].content %}{% if c.type == 'image' or 'image' in c %}<I>{% else %}{{ c.text }}{% endif %}{% endfor %}";
        let message = Message::user(Content::Items(vec![Item::text("see "), Item::image(), Item::text("?")]));
        assert_eq!(render(source, &[message], "{}").unwrap(), "see <I>?");
    }
}
