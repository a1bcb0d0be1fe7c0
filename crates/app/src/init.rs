//! `percept init`: a checkpoint with random weights, to measure memory and speed with, or to train from nothing.

use crate::report::bar;
use anyhow::{Context, anyhow, bail};
use burn::tensor::Device;
use percept_data::shapes::{Split, TaskConfig, example};
use percept_models::{TokenIds, blueprint};
use percept_weights::{DEFAULT_MAX_SHARD_BYTES, Dtype, StagedFolder};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Most tokens of the tokenizer: bytes, special tokens and the pairs merged for the synthetic task's words.
const TOKENS: usize = 448;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Family of models: qwen2_5_vl
    #[arg(long, default_value = "qwen2_5_vl")]
    family: String,
    /// tiny (the quickstart's), 4m, 19m, 50m, or a released one: 3b, 7b, 32b, 72b
    #[arg(long)]
    size: String,
    /// Folder for the checkpoint, new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// f32, bf16 or f16; when absent, f32 for tiny and bf16 for the others
    #[arg(long)]
    dtype: Option<String>,
    /// Largest file of weights; a tensor above it has a file of its own
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MAX_SHARD_BYTES)]
    max_shard_bytes: u64,
}

/// What is to be written.
pub(crate) struct Wanted<'a> {
    family: &'a str,
    size: &'a str,
    seed: u64,
    /// The size's own when absent.
    dtype: Option<Dtype>,
    max_shard_bytes: u64,
}

impl Wanted<'_> {
    /// The quickstart's model.
    pub(crate) fn tiny(seed: u64) -> Self {
        Self { family: "qwen2_5_vl", size: "tiny", seed, dtype: None, max_shard_bytes: DEFAULT_MAX_SHARD_BYTES }
    }
}

/// What was written.
pub(crate) struct Written {
    parameters: usize,
    dtype: Dtype,
    tokens: usize,
    vocabulary: usize,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let dtype = arguments.dtype.as_deref().map(str::parse).transpose().map_err(|error| anyhow!("--dtype: {error}"))?;
    let wanted = Wanted {
        family: &arguments.family,
        size: &arguments.size,
        seed: arguments.seed,
        dtype,
        max_shard_bytes: arguments.max_shard_bytes,
    };
    let task = TaskConfig { seed: arguments.seed, ..TaskConfig::default() };
    let Written { parameters, dtype, tokens, vocabulary } = write_checkpoint(&arguments.out, &task, &wanted)?;
    let folder = arguments.out.display();
    println!("checkpoint: {folder}");
    println!(
        "{} {}: {parameters} random parameters, {} bytes in {dtype}",
        arguments.family,
        arguments.size,
        parameters * dtype.size()
    );
    println!("tokenizer: {tokens} tokens, for a vocabulary of {vocabulary}");
    println!("ask it: percept sample --checkpoint {folder} --question \"What is in the image?\" --max-new-tokens 16");
    println!("measure it: percept task --out shapes; percept bench --checkpoint {folder} --data shapes/train.parquet");
    Ok(())
}

/// Writes a tokenizer made for the task's texts and random weights, in Hugging Face layout; the folder appears whole or not at all.
pub(crate) fn write_checkpoint(folder: &Path, task: &TaskConfig, wanted: &Wanted) -> anyhow::Result<Written> {
    let tokenizer = tempfile::tempdir().context("a temporary folder")?;
    let tokens = write_tokenizer(tokenizer.path(), task)?;
    let ids = TokenIds {
        endoftext: tokens.endoftext,
        im_end: tokens.im_end,
        vision_start: tokens.vision_start,
        vision_end: tokens.vision_end,
        vision_pad: tokens.vision_pad,
        image_pad: tokens.image_pad,
        video_pad: tokens.video_pad,
    };
    // weights are drawn on the host, whatever a run's device
    let plan = blueprint(wanted.family, wanted.size, &ids, &Device::flex())?;
    assert!(tokens.len <= plan.vocabulary, "{} tokens for {} rows", tokens.len, plan.vocabulary);
    let dtype = wanted.dtype.unwrap_or(plan.dtype);
    make_way(folder)?;
    let staged = StagedFolder::create(folder)?;
    for entry in std::fs::read_dir(tokenizer.path())? {
        let from = entry?.path();
        let to = staged.path().join(from.file_name().expect("an entry has a name"));
        std::fs::copy(&from, &to).with_context(|| to.display().to_string())?;
    }
    let progress = bar("writing MB");
    let megabytes = |numbers: usize| (numbers * dtype.size() / 1_000_000) as u64;
    progress.set_length(megabytes(plan.num_parameters()));
    let told = |numbers: usize| progress.set_position(megabytes(numbers));
    let written = plan.write(staged.path(), wanted.seed, dtype, wanted.max_shard_bytes, &told);
    progress.finish_and_clear();
    written?;
    staged.publish()?;
    Ok(Written { parameters: plan.num_parameters(), dtype, tokens: tokens.len, vocabulary: plan.vocabulary })
}

fn write_tokenizer(folder: &Path, task: &TaskConfig) -> anyhow::Result<percept_text::tiny::TinyTokens> {
    let format = percept_text::FormatPrompt::load("math_perception", Path::new("."))?;
    let mut corpus = Vec::new();
    for index in 0..256 {
        let example = example(task, Split::Train, index);
        corpus.push(format.render(&example.problem)?);
        corpus.push(example.solution);
    }
    let texts: Vec<&str> = corpus.iter().map(String::as_str).collect();
    Ok(percept_text::tiny::write_tokenizer(folder, &texts, TOKENS)?)
}

/// A checkpoint takes the place of nothing but an empty folder. That is removed now, so that a place where no folder can be put is
/// found out before hours of writing.
fn make_way(folder: &Path) -> anyhow::Result<()> {
    let shown = folder.display();
    match std::fs::remove_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            bail!("{shown}: the folder is not empty; name a new one, or remove what is there")
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            bail!("{shown}: there is something that is no folder; name a new folder")
        }
        Err(error) => {
            Err(error).with_context(|| format!("{shown}: cannot be replaced by a checkpoint; name a new folder"))
        }
    }
}
