//! `percept task`: the synthetic visual task.

use crate::init::{Wanted, write_checkpoint};
use crate::output::say;
use anyhow::ensure;
use percept_data::shapes::{Kind, TaskConfig, TaskFormat, write_task};
use std::path::PathBuf;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Folder for train, validation and test
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also write a small untrained checkpoint with a tokenizer for the task's texts here
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kinds of questions: count, compare, leftmost
    #[arg(long, value_delimiter = ',', default_value = "count")]
    kinds: Vec<String>,
    /// Cells on each side of the picture
    #[arg(long, default_value_t = 3)]
    grid: usize,
    /// Side of a picture in pixels
    #[arg(long, default_value_t = 84)]
    size: usize,
    #[arg(long, default_value_t = 2048)]
    train: usize,
    #[arg(long, default_value_t = 128)]
    validation: usize,
    #[arg(long, default_value_t = 256)]
    test: usize,
    /// parquet or jsonl
    #[arg(long, default_value = "parquet")]
    format: String,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let kind = |name: &String| -> anyhow::Result<Kind> {
        Ok(match name.as_str() {
            "count" => Kind::Count,
            "compare" => Kind::Compare,
            "leftmost" => Kind::Leftmost,
            other => anyhow::bail!("--kinds {other}: there are count, compare and leftmost"),
        })
    };
    ensure!(
        ["parquet", "jsonl"].contains(&arguments.format.as_str()),
        "--format is parquet or jsonl, not {}",
        arguments.format
    );
    let config = TaskConfig {
        seed: arguments.seed,
        kinds: arguments.kinds.iter().map(kind).collect::<Result<_, _>>()?,
        grid: arguments.grid,
        size: arguments.size,
        train: arguments.train,
        validation: arguments.validation,
        test: arguments.test,
        format: if arguments.format == "jsonl" { TaskFormat::Jsonl } else { TaskFormat::Parquet },
        ..TaskConfig::default()
    };
    let written = write_task(&arguments.out, &config)?;
    say!("{written}");
    if let Some(folder) = &arguments.checkpoint {
        write_checkpoint(folder, &config, &Wanted::tiny(arguments.seed))?;
        say!("checkpoint: {}", folder.display());
    }
    Ok(())
}
