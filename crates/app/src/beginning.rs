//! How a run begins in its directory, or goes on there: with the configuration and the inputs it began with, or with changes that
//! somebody accepted.
//!
//! `config.toml` is the resolved configuration, `inputs.json` has hashes of the files it reads, `changes.jsonl` what was
//! accepted after the beginning.

use anyhow::{Context, bail, ensure};
use percept_config::{RunConfig, check_key, is_under};
use percept_trainer::{find_resume, set_aside};
use percept_weights::{fingerprint, write_atomically};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

const CONFIGURATION: &str = "config.toml";
const INPUTS: &str = "inputs.json";
pub(crate) const CHANGES: &str = "changes.jsonl";

/// Hashes of the files that a run reads, by configuration key and file name.
pub(crate) type Inputs = BTreeMap<String, BTreeMap<String, String>>;

/// Where a run begins.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// The checkpoint to go on from.
    pub(crate) checkpoint: Option<PathBuf>,
    /// Whether the number of steps may differ from the checkpoint's.
    pub(crate) may_change_length: bool,
}

/// What a run was asked to do about one that is there.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) resume: bool,
    /// Keys and sections whose change is accepted.
    pub(crate) allowed: &'a [String],
}

/// Hashes the files behind some keys; of a folder, the files in it.
pub(crate) fn inputs<'a>(keys: impl IntoIterator<Item = (&'a str, Vec<PathBuf>)>) -> anyhow::Result<Inputs> {
    let mut inputs = Inputs::new();
    for (key, paths) in keys {
        let mut files = BTreeMap::new();
        for path in paths {
            let found = if path.is_dir() { files_of(&path)? } else { vec![path] };
            for file in found {
                files.insert(file.display().to_string(), fingerprint(&file)?);
            }
        }
        inputs.insert(key.to_owned(), files);
    }
    Ok(inputs)
}

/// A folder's own files; hidden ones are nobody's input.
fn files_of(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let shown = |path: &PathBuf| !path.file_name().unwrap_or_default().to_string_lossy().starts_with('.');
    Ok(paths.filter(|path| path.is_file() && shown(path)).collect())
}

/// Makes the run directory of a new run, or finds the checkpoint of one that goes on.
pub(crate) fn begin(run_dir: &Path, run: &RunConfig, inputs: &Inputs, wish: Wish) -> anyhow::Result<Beginning> {
    wish.allowed.iter().try_for_each(|key| check_key(key, "--allow-change"))?;
    let shown = run_dir.display();
    // config.toml is the first thing a run writes, `latest` names its first checkpoint
    let has_checkpoint = run_dir.join("latest").exists() || has_steps(&run_dir.join("checkpoints"));
    if wish.resume && (has_checkpoint || !run_dir.join(CONFIGURATION).exists()) {
        return go_on(run_dir, run, inputs, wish.allowed);
    }
    ensure!(
        wish.resume || wish.allowed.is_empty(),
        "--allow-change says what may differ with --resume, which is not given"
    );
    ensure!(
        !run_dir.join("latest").exists(),
        "{shown} holds a run already: go on with --resume, or choose another directory with --set trainer.run_dir=..."
    );
    if wish.resume {
        eprintln!("{shown}: the run was stopped before its first checkpoint: it starts from the beginning");
    }
    std::fs::create_dir_all(run_dir).with_context(|| format!("{shown}: cannot be made"))?;
    write(run_dir, run, inputs)?;
    Ok(Beginning { checkpoint: None, may_change_length: false })
}

/// Whether a checkpoint stands in a folder, whole or not.
fn has_steps(checkpoints: &Path) -> bool {
    let entries = std::fs::read_dir(checkpoints).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
}

/// The newest whole checkpoint, once what changed is accepted.
fn go_on(run_dir: &Path, run: &RunConfig, inputs: &Inputs, allowed: &[String]) -> anyhow::Result<Beginning> {
    let found = find_resume(run_dir)?;
    let changes = changes(run_dir, run, inputs)?;
    let refused: Vec<&Change> =
        changes.iter().filter(|change| !allowed.iter().any(|allowed| is_under(&change.key, allowed))).collect();
    if !refused.is_empty() {
        let texts: Vec<&str> = refused.iter().map(|change| change.text.as_str()).collect();
        let mut flags: Vec<String> = refused.iter().map(|change| format!("--allow-change {}", change.key)).collect();
        flags.dedup();
        bail!(
            "{}: this is not what the run began with: {}. Put it back, or accept it: {} (`percept fork` starts a new run from a step of this one)",
            run_dir.display(),
            texts.join("; "),
            flags.join(" ")
        );
    }
    for (folder, reason) in &found.skipped {
        let kept = set_aside(folder)?.map_or_else(String::new, |kept| format!(", kept as {}", kept.display()));
        eprintln!("warning: {} is passed over: {reason}{kept}", folder.display());
    }
    if !found.skipped.is_empty() {
        eprintln!("going on from {}", found.folder.display());
    }
    if !changes.is_empty() {
        let from = found.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        note_changes(
            run_dir,
            changes.iter().map(|change| json!({ "from": from, "key": change.key, "change": change.text })),
        )?;
        changes.iter().for_each(|change| eprintln!("accepted: {}", change.text));
    }
    write(run_dir, run, inputs)?;
    Ok(Beginning { checkpoint: Some(found.folder), may_change_length: run_dir.join(CHANGES).exists() })
}

/// A key whose value, or whose files, are others than before.
struct Change {
    key: String,
    text: String,
}

fn changes(run_dir: &Path, run: &RunConfig, inputs: &Inputs) -> anyhow::Result<Vec<Change>> {
    let path = run_dir.join(CONFIGURATION);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    // without the environment: this is what was resolved then
    let before = RunConfig::parse(&path.display().to_string(), &text, &[], &[])?;
    let differences = run.differences(&before)?;
    let mut changes: Vec<Change> = differences
        .into_iter()
        .map(|difference| Change { text: difference.to_string(), key: difference.key })
        .collect();
    let path = run_dir.join(INPUTS);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(changes) };
    let before: Inputs = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    for (key, files) in inputs {
        let Some(before) = before.get(key).filter(|before| *before != files) else { continue };
        if changes.iter().any(|change| &change.key == key) {
            continue;
        }
        let names = before.keys().chain(files.keys()).filter(|name| before.get(*name) != files.get(*name));
        let mut names: Vec<&str> = names.map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        changes.push(Change { key: key.clone(), text: format!("{key}: other content in {}", names.join(", ")) });
    }
    Ok(changes)
}

/// Appends to what was accepted.
pub(crate) fn note_changes(run_dir: &Path, notes: impl Iterator<Item = Value>) -> anyhow::Result<()> {
    let path = run_dir.join(CHANGES);
    let mut text = std::fs::read_to_string(&path).unwrap_or_default();
    text.extend(notes.map(|note| format!("{note}\n")));
    Ok(write_atomically(&path, |file| file.write_all(text.as_bytes()))?)
}

/// The configuration comes last: a directory that has it has the rest.
fn write(run_dir: &Path, run: &RunConfig, inputs: &Inputs) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(inputs)?;
    write_atomically(run_dir.join(INPUTS), |file| writeln!(file, "{text}"))?;
    let text = run.to_toml()?;
    Ok(write_atomically(run_dir.join(CONFIGURATION), |file| file.write_all(text.as_bytes()))?)
}
