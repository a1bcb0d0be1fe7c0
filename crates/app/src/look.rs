//! `percept report`, `percept export` and `percept compare`: runs to look at, during and after.

use anyhow::{Context, ensure};
use percept_report::compare::{RunScores, rows, validation};
use percept_report::{csv, html, tensorboard};
use std::path::{Path, PathBuf};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ReportArguments {
    /// Run directories; several are laid over each other
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The page to write. Without it, report.html in the first run's directory
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The page's title
    #[arg(long)]
    title: Option<String>,
    /// Pictures of at most so many MiB are put into the page
    #[arg(long, value_name = "MIB", default_value_t = 32)]
    max_pictures: u64,
}

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ExportArguments {
    /// The run's directory
    run: PathBuf,
    /// Write TensorBoard event files into this folder: scalars, texts and pictures
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
    /// Write the metrics as one CSV file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct CompareArguments {
    /// Run directories, or files that `percept eval --rows` wrote; the first is what the others are compared with
    #[arg(required = true, num_args = 2..)]
    sides: Vec<PathBuf>,
    /// Of files of rows: the score of this verifier, in place of the overall score
    #[arg(long, value_name = "NAME")]
    part: Option<String>,
}

fn tell(notes: &[String]) {
    notes.iter().for_each(|note| eprintln!("note: {note}"));
}

pub(crate) fn report(arguments: &ReportArguments) -> anyhow::Result<()> {
    let runs: Vec<&Path> = arguments.runs.iter().map(PathBuf::as_path).collect();
    let out = arguments.out.clone().unwrap_or_else(|| runs[0].join("report.html"));
    let mut options = html::Options { max_picture_bytes: arguments.max_pictures << 20, ..html::Options::default() };
    if let Some(title) = &arguments.title {
        options.title = title.clone();
    }
    tell(&html::export(&runs, &out, &options)?);
    println!("{}", out.display());
    Ok(())
}

pub(crate) fn export(arguments: &ExportArguments) -> anyhow::Result<()> {
    ensure!(
        arguments.tensorboard.is_some() || arguments.csv.is_some(),
        "nothing to write: name --tensorboard DIR, --csv FILE, or both"
    );
    if let Some(folder) = &arguments.tensorboard {
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        let done = tensorboard::export(&arguments.run, folder)?;
        tell(&done.notes);
        let (scalars, texts, pictures) = (done.num_scalars, done.num_texts, done.num_pictures);
        println!("{}: {scalars} scalars, {texts} texts, {pictures} pictures", done.path.display());
    }
    if let Some(path) = &arguments.csv {
        tell(&csv::export(&arguments.run, path)?);
        println!("{}", path.display());
    }
    Ok(())
}

pub(crate) fn compare(arguments: &CompareArguments) -> anyhow::Result<()> {
    let sides: Vec<&Path> = arguments.sides.iter().map(PathBuf::as_path).collect();
    let folders = sides.iter().filter(|side| side.is_dir()).count();
    if folders == sides.len() {
        ensure!(
            arguments.part.is_none(),
            "--part chooses a score of files of rows; run directories are compared by all of theirs"
        );
        print!("{}", validation(&sides)?);
        return Ok(());
    }
    ensure!(folders == 0, "run directories and files of rows cannot be compared with each other: give one kind");
    print!("{}", rows(&RunScores::read_all(&sides, arguments.part.as_deref())?)?);
    Ok(())
}
