//! `data:` to `[data]`, and what of it are lengths and portions.

use toml::Value;

use super::draft::Draft;
use super::error::ImportError;
use super::source::Source;

/// PAPO's prompt, which Percept has built in as `papo`.
const PAPO_PROMPT: &str = "math_perception.jinja";
/// Percept's default of `trainer.micro_tokens`.
const MICRO_TOKENS: i64 = 16_384;

pub(super) fn convert(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    files(source, draft, "data.train_files", "data.train")?;
    files(source, draft, "data.val_files", "data.validation")?;
    draft.set("data.problem_column", source.text("data.prompt_key")?.unwrap_or_else(|| "prompt".to_owned()));
    draft.set("data.answer_column", source.text("data.answer_key")?.unwrap_or_else(|| "answer".to_owned()));
    draft.set("data.image_column", source.text("data.image_key")?.unwrap_or_else(|| "images".to_owned()));
    if let Some(folder) = source.text("data.image_dir")? {
        draft.set("data.image_root", folder);
    }
    prompt(source, draft)?;
    pixels(source, draft, "data.min_pixels", "data.min_pixels", 512 * 512)?;
    pixels(source, draft, "data.max_pixels", "data.max_pixels", 2048 * 2048)?;
    lengths(source, draft)?;
    draft.set("data.shuffle", source.flag("data.shuffle")?.unwrap_or(true));
    let seed = source.count("data.seed")?.unwrap_or(1);
    draft.set("trainer.seed", seed);
    if source.count("worker.rollout.seed")?.is_some_and(|sampling| sampling != seed) {
        source.leave("worker.rollout.seed", "one seed for everything random, trainer.seed, which is data.seed's");
    }
    if source.flag("data.filter_overlong_prompts")? == Some(false) {
        source.leave("data.filter_overlong_prompts", "longer prompts are always left out and counted, never cut");
    }
    Ok(())
}

fn files(source: &mut Source, draft: &mut Draft, key: &str, path: &'static str) -> Result<(), ImportError> {
    let Some(files) = source.texts(key)? else { return Ok(()) };
    let mut folders = Vec::new();
    for file in files {
        let (folder, split) = file.split_once('@').unwrap_or((&file, ""));
        if !split.is_empty() {
            source.note(
                key,
                format!(
                    "the part `@{split}` is left out: name the files of that split, or a folder that holds no others"
                ),
            );
        }
        if is_hub_name(folder) {
            source.note(
                key,
                format!(
                    "if `{folder}` is a name on Hugging Face: hf download --repo-type dataset {folder} \
                     --local-dir {folder}"
                ),
            );
        }
        folders.push(folder.to_owned());
    }
    match <[String; 1]>::try_from(folders) {
        Ok([one]) if one.is_empty() => Err(source.wrong(key, "a file or folder", "")),
        Ok([one]) => {
            draft.set(path, one);
            Ok(())
        }
        Err(several) => {
            draft.set(path, several);
            Ok(())
        }
    }
}

/// Whether a path looks like `owner/name`: EasyR1 asks the hub for those that are no folder.
pub(super) fn is_hub_name(path: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && !name.starts_with(['.', '~']) && !name.contains(['\\', ' ']);
    let ends_as_file = [".parquet", ".json", ".jsonl", ".ndjson"].iter().any(|ending| path.ends_with(ending));
    !ends_as_file && path.split('/').count() == 2 && path.split('/').all(is_name)
}

fn prompt(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    const KEY: &str = "data.format_prompt";
    let key = if source.is_given(KEY) { KEY } else { "data.format_prompt_path" };
    source.text(KEY)?;
    let prompt = match source.text(key)? {
        None => "none".to_owned(),
        Some(text) if text.contains(['\n', '{']) => {
            return Err(source.unsupported(
                key,
                "a prompt in the configuration itself",
                "write it to a Jinja file, and the file's path here",
            ));
        }
        Some(path) if path == PAPO_PROMPT || path.ends_with(&format!("/{PAPO_PROMPT}")) => {
            source.note(
                key,
                format!("`{PAPO_PROMPT}` is built in as `papo`; if yours was changed, set data.format_prompt to it"),
            );
            "papo".to_owned()
        }
        Some(path) => path,
    };
    draft.set("data.format_prompt", prompt);
    Ok(())
}

fn pixels(
    source: &mut Source,
    draft: &mut Draft,
    key: &str,
    path: &'static str,
    default: i64,
) -> Result<(), ImportError> {
    let given = source.count(key)?;
    let value = match given {
        Some(number) => Value::from(number),
        None if source.is_written(key) => Value::from("off"),
        None => Value::from(default),
    };
    draft.set(path, value);
    Ok(())
}

fn lengths(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    let prompt = source.count("data.max_prompt_length")?.unwrap_or(512);
    let response = source.count("data.max_response_length")?.unwrap_or(512);
    draft.set("data.max_prompt_tokens", prompt);
    draft.set("rollout.max_new_tokens", response);
    let longest = prompt.saturating_add(response);
    if longest > MICRO_TOKENS {
        draft.set_with("trainer.micro_tokens", longest, "the longest prompt and response");
    }
    draft.set("rollout.prompts_per_step", source.count("data.rollout_batch_size")?.unwrap_or(512));
    Ok(())
}
