//! The registry of objectives: an explicit list. Adding a method is one line here.

use anyhow::Context;
use percept_algorithms::{Dapo, Grpo, Papo, PapoConfig};
use percept_config::{RunConfig, parse_section, unknown_kind};
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

    fn parse_table<T: DeserializeOwned>(&self, table: &Table) -> anyhow::Result<T> {
        Ok(parse_section(table, "objective").map_err(|error| self.run.place(error))?)
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
        all.add("grpo", |section| Ok(Box::new(Grpo::new(section.parse()?))));
        all.add("dapo", |section| Ok(Box::new(Dapo::new(section.parse()?))));
        all.add("papo_g", |section| papo(section, PapoConfig::over_grpo(), "grpo"));
        all.add("papo_d", |section| papo(section, PapoConfig::over_dapo(), "dapo"));
        all.add("papo", |section| match section.table.get("base").and_then(Value::as_str) {
            Some("grpo") | None => papo(section, PapoConfig::default(), "grpo"),
            Some("dapo") => papo(section, PapoConfig::default(), "dapo"),
            Some(other) => Err(unknown_kind("objective.base", other, &["grpo", "dapo"]).into()),
        });
        all
    }
}

/// PAPO over a base method.
fn papo(section: &Section, defaults: PapoConfig, base: &str) -> anyhow::Result<Box<dyn Objective>> {
    let (config, rest) = section.split(&defaults, &PapoConfig::KEYS)?;
    // a key that neither knows is reported with the suggestions of both
    let known: Vec<&str> = PapoConfig::KEYS.to_vec();
    let base: Box<dyn Objective> = match base {
        "grpo" => Box::new(Grpo::new(section.parse_table(&rest).with_context(|| near(&rest, &known))?)),
        _ => Box::new(Dapo::new(section.parse_table(&rest).with_context(|| near(&rest, &known))?)),
    };
    Ok(Box::new(Papo::new(config, base)))
}

/// Names the decorator's keys, which the base's error does not list.
fn near(_rest: &Table, known: &[&str]) -> String {
    format!("[objective] PAPO takes its base's keys and {}", known.join(", "))
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
