//! The configuration's reference (`percept_config::reference`) beside the types of sections that `percept_config` does not
//! know: objectives, corruptions, verifiers. Keys, defaults and choices are the types'.

use percept_algorithms::{DapoConfig, GrpoConfig, PapoConfig};
use percept_config::reference::{CORRUPTIONS, Kind, OBJECTIVE, PAPO, Section, VERIFIER, VERIFIERS};
use percept_config::{fields_of, parse_section};
use percept_reward::{Choice, CommandConfig, Exact, Format, Numeric, Registry, VerifierConfig};
use percept_vision::CorruptionConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// The type's keys are the column's, and `resolved` holds the column's defaults.
fn assert_section<T: DeserializeOwned>(
    section: &Section,
    column: &str,
    shared: &[&'static str],
    resolved: &impl Serialize,
) {
    let mut documented: Vec<&str> = section.names(column).chain(shared.iter().copied()).collect();
    let mut typed = fields_of::<T>().to_vec();
    documented.sort_unstable();
    typed.sort_unstable();
    assert_eq!(documented, typed, "keys of {column} in [{}]", section.path);
    let resolved = Table::try_from(resolved).expect("a table");
    for name in section.names(column) {
        assert_eq!(resolved.get(name), section.default(column, name).as_ref(), "default of {column}: {name}");
    }
}

/// A word that no choice has is answered with the choices there are.
fn assert_choices<T: DeserializeOwned>(section: &Section, column: &str, given: &Table) {
    for key in section.keys.iter().filter(|key| section.names(column).any(|name| name == key.name)) {
        let Kind::Choice(words) = key.kind else { continue };
        let mut table = given.clone();
        table.insert(key.name.to_owned(), Value::from("?"));
        let message = parse_section::<T>(&table, section.path).err().expect(key.name).to_string();
        let possible = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        assert!(message.ends_with(&format!("possible: {possible}")), "{}: {message}", key.name);
    }
}

#[test]
fn objectives_are_documented_as_they_are() {
    let (grpo, dapo) = ("grpo, papo_g", "dapo, papo_d");
    assert_section::<GrpoConfig>(&OBJECTIVE, grpo, &[], &GrpoConfig::default());
    assert_section::<DapoConfig>(&OBJECTIVE, dapo, &[], &DapoConfig::default());
    assert_choices::<DapoConfig>(&OBJECTIVE, dapo, &Table::new());
    // a decorator averages as its base does, and leaves the key to it
    let papo =
        [("papo_g", PapoConfig::over_grpo()), ("papo_d", PapoConfig::over_dapo()), ("papo", PapoConfig::default())];
    for (column, config) in papo {
        assert_section::<PapoConfig>(&PAPO, column, &["average"], &config);
        assert_choices::<PapoConfig>(&PAPO, column, &Table::new());
        let mut documented: Vec<&str> = PAPO.names(column).collect();
        let mut own = PapoConfig::KEYS;
        documented.sort_unstable();
        own.sort_unstable();
        assert_eq!(documented, own);
    }
}

/// The `kind` in a section's heading.
fn kind_in(section: &Section) -> &'static str {
    section.heading.and_then(|heading| heading.rsplit('"').nth(1)).expect("a kind in quotes")
}

#[test]
fn corruptions_are_documented_as_they_are() {
    let unknown: Table = "kind = '?'".parse().expect("a table");
    let message = parse_section::<CorruptionConfig>(&unknown, "data.corruption").expect_err("no kind").to_string();
    let possible = CORRUPTIONS.iter().map(|section| format!("\"{}\"", kind_in(section))).collect::<Vec<_>>().join(", ");
    assert!(message.ends_with(&format!("possible: {possible}")), "{message}");
    for section in CORRUPTIONS {
        let kind = kind_in(section);
        let given = Table::from_iter([("kind".to_owned(), Value::from(kind))]);
        let config: CorruptionConfig = parse_section(&given, "data.corruption").expect(kind);
        let resolved = Table::try_from(&config).expect("a table");
        let typed: Vec<&str> = resolved.keys().map(String::as_str).filter(|key| *key != "kind").collect();
        let mut documented: Vec<&str> = section.names("default").collect();
        documented.sort_unstable();
        assert_eq!(documented, typed, "{kind}");
        for name in documented {
            assert_eq!(resolved.get(name), section.default("default", name).as_ref(), "{kind}: {name}");
        }
        assert_choices::<CorruptionConfig>(section, "default", &given);
    }
}

#[test]
fn verifiers_are_documented_as_they_are() {
    let section = |kind: &str| VERIFIERS.iter().find(|section| kind_in(section) == kind).expect(kind);
    let registry = Registry::default();
    // `math` has no keys, and so no table
    let mut documented: Vec<&str> = VERIFIERS.iter().map(kind_in).chain(["math"]).collect();
    documented.sort_unstable();
    assert_eq!(documented, registry.kinds().collect::<Vec<_>>());
    let (format, choice, exact) = (section("format"), section("choice"), section("exact"));
    let (numeric, command) = (section("numeric"), section("command"));
    assert_section::<Format>(format, "default", &[], &Format::default());
    assert_section::<Choice>(choice, "default", &[], &Choice::default());
    assert_section::<Exact>(exact, "default", &[], &Exact::default());
    assert_section::<Numeric>(numeric, "default", &[], &Numeric::default());
    assert_choices::<Format>(format, "default", &Table::new());
    assert_choices::<Exact>(exact, "default", &Table::new());
    assert_choices::<Numeric>(numeric, "default", &Table::new());
    let mut given: Table = "command = ['true']".parse().expect("a table");
    let program: CommandConfig = parse_section(&given, "reward.verifiers[0]").expect("a program");
    let mut resolved = Table::try_from(&program).expect("a table");
    resolved.remove("command");
    assert_section::<CommandConfig>(command, "default", &[], &resolved);

    given.extend("name = 'n'\nkind = 'command'".parse::<Table>().expect("a table"));
    let entry: VerifierConfig = given.clone().try_into().expect("an entry");
    let resolved = Table::try_from(&entry).expect("a table");
    for name in VERIFIER.names("default").filter(|name| !["name", "kind"].contains(name)) {
        assert_eq!(resolved.get(name), VERIFIER.default("default", name).as_ref(), "{name}");
    }
}

/// Code that a page shows compiles: it is a part of an example, or says that it is a sketch.
#[test]
fn code_in_the_pages_is_from_the_examples() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let examples = ["examples/custom_objective.rs", "examples/custom_verifier.rs"].map(read);
    let page = read("docs/extending.md");
    let blocks: Vec<&str> = page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let quoted = blocks.iter().filter(|block| !block.starts_with("// sketch"));
    assert!(quoted.clone().count() >= 6, "only {} blocks", blocks.len());
    for block in quoted {
        assert!(examples.iter().any(|example| example.contains(block)), "not in an example:\n{block}");
    }
}
