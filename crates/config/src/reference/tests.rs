use std::collections::BTreeSet;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::*;
use crate::strict::fields_of;
use crate::{
    DataConfig, DeviceConfig, LoraConfig, ModelConfig, OptimizerConfig, RewardConfig, RolloutConfig, RunConfig,
    SftConfig, TrainerConfig, ValidationConfig,
};

const LEAST: &str = "[model]\ncheckpoint = 'm'\n[model.lora]\n";
/// Keys whose default is another key's value: resolved, they have one.
const DERIVED: [&str; 4] =
    ["model.reference", "trainer.run_dir", "trainer.prompts_per_try", "validation.max_new_tokens"];

fn resolved() -> Table {
    let run = RunConfig::parse("run.toml", LEAST, &[], &[]).expect("the least run");
    run.to_toml().expect("TOML").parse().expect("a table")
}

fn at<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let value = table.get(first)?;
    if rest.is_empty() { Some(value) } else { at(value.as_table()?, rest) }
}

fn assert_keys<T: DeserializeOwned>(path: &str) {
    let section = RUN.iter().find(|section| section.path == path).unwrap_or_else(|| panic!("[{path}] has no table"));
    let names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
    assert_eq!(names, fields_of::<T>(), "keys of [{path}]");
}

#[test]
fn every_typed_key_is_there_and_none_else() {
    assert_keys::<ModelConfig>("model");
    assert_keys::<LoraConfig>("model.lora");
    assert_keys::<DataConfig>("data");
    assert_keys::<RolloutConfig>("rollout");
    assert_keys::<ValidationConfig>("validation");
    assert_keys::<RewardConfig>("reward");
    assert_keys::<OptimizerConfig>("optimizer");
    assert_keys::<TrainerConfig>("trainer");
    assert_keys::<SftConfig>("sft");
    assert_keys::<OptimizerConfig>("sft.optimizer");
    assert_keys::<DeviceConfig>("device");
    let tables: BTreeSet<&str> =
        sections().iter().map(|section| section.path.split('.').next().expect("a path")).collect();
    // `origins` is no key: it is skipped when a run is read
    assert_eq!(tables, fields_of::<RunConfig>().iter().copied().collect());
}

#[test]
fn defaults_are_those_of_a_run() {
    let table = resolved();
    for section in RUN {
        for key in section.keys {
            let path = format!("{}.{}", section.path, key.name);
            let found = at(&table, &path);
            match key.default {
                Fallback::Toml(text) => assert_eq!(found, Some(&text.parse().expect("TOML")), "{path}"),
                Fallback::Required => assert!(found.is_some(), "{path}"),
                Fallback::Words(_) if matches!(key.kind, Kind::Table) || DERIVED.contains(&path.as_str()) => {
                    assert!(found.is_some(), "{path}");
                }
                Fallback::Words(_) => assert_eq!(found, None, "{path} has a default"),
                Fallback::ByColumn(_) => panic!("{path}: a run has one default"),
            }
        }
    }
    let missing = RunConfig::parse("run.toml", "", &[], &[]).expect_err("a required key").to_string();
    assert!(missing.contains("`model.checkpoint` is missing"), "{missing}");
}

#[test]
fn types_are_those_of_the_defaults() {
    for section in sections() {
        let values = section.keys.iter().flat_map(|key| {
            section.columns.iter().filter_map(move |column| Some((key, section.default(column, key.name)?)))
        });
        for (key, value) in values {
            let fits = match key.kind {
                Kind::Text | Kind::Path => value.is_str(),
                Kind::Choice(words) => value.as_str().is_some_and(|word| words.contains(&word)),
                Kind::Whole | Kind::WholeOrOff | Kind::WholeOrAuto => value.is_integer(),
                Kind::Number => value.is_float(),
                Kind::TwoNumbers => value.as_array().is_some_and(|both| both.len() == 2),
                Kind::Flag => value.is_bool(),
                Kind::Paths | Kind::Texts | Kind::Tables => value.is_array(),
                Kind::Table => value.is_table(),
            };
            assert!(fits, "{}.{} = {value} is no {:?}", section.path, key.name, key.kind);
        }
    }
}

/// What a run says to a value that fits no type is what the table says the type is.
#[test]
fn a_wrong_value_is_answered_with_the_type() {
    for section in RUN {
        for key in section.keys {
            let (wrong, expected) = match key.kind {
                Kind::Choice(words) => ("'?'", format!("possible: {}", crate::strict::quoted(words))),
                Kind::Text => ("3", "a string".to_owned()),
                Kind::Path => ("3", "a path in quotes".to_owned()),
                Kind::Paths => ("3", "a path in quotes or a list of them".to_owned()),
                Kind::Whole => ("'x'", "a whole number, 0 or more".to_owned()),
                Kind::WholeOrOff => ("'x'", "or \"off\"".to_owned()),
                Kind::WholeOrAuto => ("'x'", "or \"auto\"".to_owned()),
                Kind::Number => ("'x'", "a number".to_owned()),
                Kind::TwoNumbers => ("[1]", "a list of 2 values".to_owned()),
                Kind::Flag => ("'x'", "true or false".to_owned()),
                Kind::Texts | Kind::Tables => ("3", "a list".to_owned()),
                Kind::Table => ("3", "a table".to_owned()),
            };
            let set = format!("{}.{}={wrong}", section.path, key.name);
            let text = if key.name == "lora" { "[model]\ncheckpoint = 'm'" } else { LEAST };
            let message =
                RunConfig::parse("run.toml", text, &[], std::slice::from_ref(&set)).expect_err(&set).to_string();
            assert!(message.contains(&expected), "{set}: {message}");
        }
    }
}

#[test]
fn defaults_by_kind() {
    assert_eq!(OBJECTIVE.default("grpo, papo_g", "clip_high"), Some(Value::Float(0.3)));
    assert_eq!(OBJECTIVE.default("dapo, papo_d", "clip_high"), Some(Value::Float(0.28)));
    assert_eq!(OBJECTIVE.default("grpo, papo_g", "filter_key"), None);
    assert!(!OBJECTIVE.names("grpo, papo_g").any(|name| name == "filter_key"));
    assert!(OBJECTIVE.names("dapo, papo_d").any(|name| name == "overlong_buffer_tokens"));
    assert_eq!(PAPO.default("papo_d", "token_mask_top_p"), None);
}

#[test]
fn the_page_shows_what_the_tables_say() {
    const BEGIN: &str = "<!-- generated from the code; PERCEPT_BLESS=1 cargo test -p percept-config writes it -->\n";
    const END: &str = "<!-- end of what is generated -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = std::fs::read_to_string(&path).expect("docs/configuration.md");
    let (head, rest) = page.split_once(BEGIN).expect("the line where the generated part begins");
    let (shown, tail) = rest.split_once(END).expect("the line where the generated part ends");
    let expected = format!("\n{}", reference());
    if std::env::var_os("PERCEPT_BLESS").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{expected}{END}{tail}")).expect("docs/configuration.md");
        return;
    }
    let differs = shown.lines().zip(expected.lines()).find(|(shown, expected)| shown != expected);
    assert_eq!(differs, None, "docs/configuration.md is old: PERCEPT_BLESS=1 cargo test -p percept-config writes it");
    assert_eq!(shown, expected, "docs/configuration.md is old: PERCEPT_BLESS=1 cargo test -p percept-config writes it");
}
