//! A run of EasyR1 or PAPO as a run of Percept: `examples/config.yaml` and the overrides of a script become TOML.
//!
//! Keys that are absent have EasyR1's own defaults, not Percept's, since that is what the run would have done. What has no
//! counterpart and changes nothing that is learned is reported; what would change it (another advantage, a divergence in
//! the reward) is an error that names the override to go on with.
//!
//! Keys, values and meanings: EasyR1 `verl/trainer/config.py`, `verl/workers/*/config.py`; PAPO (fork of EasyR1) at fb63bf4.

mod data;
mod draft;
mod error;
mod interpolation;
mod objective;
mod overrides;
mod source;
#[cfg(test)]
mod tests;
mod trainer;
mod unmatched;
mod worker;
mod yaml;

use std::fs;
use std::path::Path;

pub use error::ImportError;

use crate::RunConfig;
use draft::Draft;
use source::Source;
use yaml::{Content, Node};

/// A run that was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The run file: what differs from Percept's defaults. It has been parsed and checked.
    pub toml: String,
    /// Keys without a counterpart.
    pub unmatched: Vec<Unmatched>,
    /// Keys whose meaning differs.
    pub notes: Vec<Note>,
}

/// A key that is given and has no counterpart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// Its full path in the YAML file.
    pub key: String,
    /// Its value, as one line of YAML.
    pub value: String,
    /// Why it has none, or where Percept has it.
    pub why: String,
}

/// A key whose meaning differs, or that needs something done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its full path in the YAML file.
    pub key: String,
    pub text: String,
}

/// Import a YAML file with overrides laid over it, each `key=value` as the scripts give them to `verl.trainer.main`.
///
/// # Errors
/// The file cannot be read or is not YAML, an override is not of that form, a value is of the wrong type or asks for what
/// Percept does not do, or the values contradict each other.
pub fn import(path: &Path, overrides: &[String]) -> Result<Imported, ImportError> {
    let text = fs::read_to_string(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
    convert(&path.display().to_string(), &text, overrides)
}

/// The same from a text; `file` stands in messages.
///
/// # Errors
/// As [`import`], but for reading.
pub fn convert(file: &str, text: &str, overrides: &[String]) -> Result<Imported, ImportError> {
    let mut source = Source::new(file, tree(file, text, overrides)?);
    let mut draft = Draft::new();
    data::convert(&mut source, &mut draft)?;
    objective::convert(&mut source, &mut draft)?;
    worker::convert(&mut source, &mut draft)?;
    trainer::convert(&mut source, &mut draft)?;
    named_file(&mut source, file)?;
    unmatched::report(&mut source);
    let given = if overrides.is_empty() { String::new() } else { format!(" and {} overrides", overrides.len()) };
    let toml = draft.to_toml(&format!("Imported from {file}{given}. What is not written here is a default."));
    let checked = RunConfig::parse("imported", &toml, &[], &[]);
    checked.map_err(|error| ImportError::Refused { file: file.to_owned(), error: error.into() })?;
    let Source { unmatched, notes, .. } = source;
    Ok(Imported { toml, unmatched, notes })
}

fn tree(file: &str, text: &str, overrides: &[String]) -> Result<Node, ImportError> {
    let syntax = |line, column, reason| ImportError::Syntax { file: file.to_owned(), line, column, reason };
    let mut root = yaml::load(text).map_err(|fault| syntax(fault.line, fault.column, fault.reason))?;
    if matches!(root.content, Content::Null) && overrides.is_empty() {
        return Err(syntax(1, 1, "the file is empty; expected data:, algorithm:, worker: and trainer:".to_owned()));
    }
    if !matches!(root.content, Content::Table(_) | Content::Null) {
        let reason = format!("expected data:, algorithm:, worker: and trainer:, found {}", root.shown());
        return Err(syntax(1, 1, reason));
    }
    for argument in overrides {
        overrides::apply(&mut root, argument)?;
    }
    interpolation::resolve(&mut root);
    Ok(root)
}

/// Scripts name the file among the overrides: `config=examples/configs/config_grpo.yaml`.
fn named_file(source: &mut Source, file: &str) -> Result<(), ImportError> {
    let Some(named) = source.text("config")? else { return Ok(()) };
    let last = |path: &str| path.rsplit(['/', '\\']).next().map(str::to_owned);
    if last(&named) != last(file) {
        source.note("config", format!("the overrides were made for `{named}`; the file that was read is `{file}`"));
    }
    Ok(())
}
