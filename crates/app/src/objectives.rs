//! The registry of objectives: an explicit list. Adding a method is one line here.

use anyhow::Context;
use percept_algorithms::{Dapo, DapoConfig, Grpo, GrpoConfig, OutOfRange, Papo, PapoConfig};
use percept_config::{ConfigError, RunConfig, nearest, parse_section, unknown_kind, wrong_value};
use percept_core::Objective;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use toml::{Table, Value};

/// The `[objective]` section of a run.
pub struct Section<'a> {
    pub table: &'a Table,
    run: &'a RunConfig,
}

impl Section<'_> {
    /// The section as a method's configuration; unknown keys are errors with a suggestion.
    ///
    /// # Errors
    /// When a key is unknown or a value wrong.
    pub fn parse<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        self.parse_table(self.table)
    }

    /// A range that a value does not keep, said as the run file's other mistakes are.
    fn ranged(&self, check: Result<(), OutOfRange>) -> anyhow::Result<()> {
        let placed = |OutOfRange { key, expected, found }| {
            self.run.place(wrong_value(&format!("objective.{key}"), expected, &found.to_string()))
        };
        Ok(check.map_err(placed)?)
    }

    fn parse_table<T: DeserializeOwned>(&self, table: &Table) -> anyhow::Result<T> {
        Ok(parse_section(table, "objective").map_err(|error| self.run.place(error))?)
    }

    /// What a decorator leaves to its base.
    fn parse_base<T: DeserializeOwned>(&self, rest: &Table) -> anyhow::Result<T> {
        let placed = |error| with_own_keys(self.run.place(error), &PapoConfig::KEYS);
        Ok(parse_section(rest, "objective").map_err(placed)?)
    }

    /// A decorator's configuration over `defaults`, and what is left of the section for its base.
    fn split<T: DeserializeOwned + serde::Serialize>(&self, defaults: &T, own: &[&str]) -> anyhow::Result<(T, Table)> {
        let mut table = Table::try_from(defaults).context("defaults of a decorator")?;
        let mut base = self.table.clone();
        for (key, value) in self.table {
            let shared = key == "average";
            if own.contains(&key.as_str()) || shared {
                table.insert(key.clone(), value.clone());
            }
            if own.contains(&key.as_str()) || key == "base" {
                base.remove(key);
            }
        }
        Ok((self.parse_table(&table)?, base))
    }
}

type Build = dyn Fn(&Section) -> anyhow::Result<Box<dyn Objective>> + Send + Sync;

/// Objectives by kind.
#[derive(Clone)]
pub struct Objectives(Vec<(&'static str, Arc<Build>)>);

impl Default for Objectives {
    fn default() -> Self {
        let mut all = Self(Vec::new());
        all.add("grpo", |section| grpo(section, section.parse()?));
        all.add("dapo", |section| dapo(section, section.parse()?));
        all.add("papo_g", |section| papo(section, PapoConfig::over_grpo(), "grpo"));
        all.add("papo_d", |section| papo(section, PapoConfig::over_dapo(), "dapo"));
        all.add("papo", |section| match section.table.get("base").and_then(Value::as_str) {
            Some("grpo") | None => papo(section, PapoConfig::default(), "grpo"),
            Some("dapo") => papo(section, PapoConfig::default(), "dapo"),
            Some(other) => Err(unknown_base(section.run, other).into()),
        });
        all
    }
}

fn grpo(section: &Section, config: GrpoConfig) -> anyhow::Result<Box<dyn Objective>> {
    section.ranged(config.check())?;
    Ok(Box::new(Grpo::new(config)))
}

fn dapo(section: &Section, config: DapoConfig) -> anyhow::Result<Box<dyn Objective>> {
    section.ranged(config.check())?;
    Ok(Box::new(Dapo::new(config)))
}

/// PAPO over a base method.
fn papo(section: &Section, defaults: PapoConfig, base: &str) -> anyhow::Result<Box<dyn Objective>> {
    let (config, rest) = section.split(&defaults, &PapoConfig::KEYS)?;
    section.ranged(config.check())?;
    let base = match base {
        "grpo" => grpo(section, section.parse_base(&rest)?)?,
        _ => dapo(section, section.parse_base(&rest)?)?,
    };
    Ok(Box::new(Papo::new(config, base)))
}

/// A key that the base does not know may have been meant for the decorator.
fn with_own_keys(error: ConfigError, own: &[&str]) -> ConfigError {
    match error {
        ConfigError::UnknownKey { origin, key, advice } if !advice.starts_with("did you mean") => {
            let advice = match nearest(key.trim_start_matches("objective."), own.iter().copied()) {
                Some(name) => format!("did you mean `objective.{name}`?"),
                None => format!("{advice}, {}", own.join(", ")),
            };
            ConfigError::UnknownKey { origin, key, advice }
        }
        other => other,
    }
}

/// `objective.base` names a method as `objective.kind` does.
fn unknown_base(run: &RunConfig, base: &str) -> ConfigError {
    match unknown_kind("objective", base, &["grpo", "dapo"]) {
        ConfigError::UnknownChoice { origin, found, advice, .. } => {
            run.place(ConfigError::UnknownChoice { origin, key: "objective.base".to_owned(), found, advice })
        }
        other => other,
    }
}

impl Objectives {
    pub(crate) fn add(
        &mut self,
        kind: &'static str,
        build: impl Fn(&Section) -> anyhow::Result<Box<dyn Objective>> + Send + Sync + 'static,
    ) {
        self.0.retain(|(known, _)| *known != kind);
        self.0.push((kind, Arc::new(build)));
    }

    /// The objective of a run.
    ///
    /// # Errors
    /// When the kind is unknown, or its section wrong.
    pub fn build(&self, run: &RunConfig) -> anyhow::Result<Box<dyn Objective>> {
        let kind = run.objective_kind()?;
        let known: Vec<&str> = self.0.iter().map(|(kind, _)| *kind).collect();
        let entry = self.0.iter().find(|(known, _)| *known == kind);
        let (_, build) = entry.ok_or_else(|| run.place(unknown_kind("objective", kind, &known)))?;
        build(&Section { table: &run.objective, run })
    }
}
