//! `percept import-config`: a run of EasyR1 or PAPO as a run file.

use anyhow::Context;
use percept_config::easyr1::import;
use percept_weights::write_atomically;
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// EasyR1's or PAPO's YAML file
    file: PathBuf,
    /// Overrides as their scripts give them: worker.actor.optim.lr=1e-6
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Write the run file here; without it, it is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let imported = import(&arguments.file, &arguments.overrides)?;
    match &arguments.out {
        Some(path) => {
            write_atomically(path, |file| file.write_all(imported.toml.as_bytes()))
                .with_context(|| format!("{}: cannot be written", path.display()))?;
            println!("{}", path.display());
        }
        None => print!("{}", imported.toml),
    }
    // beside the file, so that standard output is the file alone
    for note in &imported.notes {
        eprintln!("note: {}: {}", note.key, note.text);
    }
    for unmatched in &imported.unmatched {
        eprintln!("left out: {} = {}: {}", unmatched.key, unmatched.value, unmatched.why);
    }
    Ok(())
}
