//! The configuration's reference (`percept_config::reference`) beside the types of sections that `percept_config` does not
//! know: objectives, corruptions, verifiers. Keys, defaults and choices are the types'.

use percept_algorithms::{DapoConfig, GrpoConfig, PapoConfig};
use percept_config::reference::{CORRUPTIONS, Kind, OBJECTIVE, PAPO, Section, VERIFIER, VERIFIERS};
use percept_config::{fields_of, parse_section};
use percept_reward::{Choice, CommandConfig, Exact, Format, Numeric, VerifierConfig};
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

#[test]
fn corruptions_are_documented_as_they_are() {
    for section in CORRUPTIONS {
        let heading = section.heading.expect("a heading");
        let kind = heading.rsplit('"').nth(1).expect("a kind in quotes");
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
    let section = |kind: &str| {
        let heading = format!("`kind = \"{kind}\"`");
        VERIFIERS.iter().find(|section| section.heading == Some(&heading)).expect(kind)
    };
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
