//! `[data]`: the data sets, how a row becomes a prompt, and what happens to pictures.

use std::fmt;
use std::path::PathBuf;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use toml::{Table, Value};

/// `[data]`. Relative paths are relative to the current folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Training data: one file or folder, or a list of them. Default: none; `train` and `sft` need it.
    #[serde(deserialize_with = "one_or_many")]
    pub train: Vec<PathBuf>,
    /// Validation data, written like `train`. Default: none, and then nothing is validated.
    #[serde(deserialize_with = "one_or_many")]
    pub validation: Vec<PathBuf>,
    /// Column with the question, `<image>` where each picture stands. Default: `problem`.
    pub problem_column: String,
    /// Column with the right answer. Default: `answer`.
    pub answer_column: String,
    /// Column with the pictures; empty for data without any. Default: `images`.
    pub image_column: String,
    /// Column with a worked solution, read by `sft` only. Default: `solution`.
    pub solution_column: String,
    /// Folder that picture paths in the data are relative to. Default: the folder of the data file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_root: Option<PathBuf>,
    /// Text put around each question: `papo` (the paper's), `none`, or a Jinja file. Default: `papo`.
    pub format_prompt: FormatPrompt,
    /// Whether special-token strings inside a question are `text` or become tokens (`allow`, the reference's
    /// behaviour). Default: `text`.
    pub special_tokens_in_text: SpecialTokensInText,
    /// Longest prompt in tokens, picture tokens included; longer ones are left out and counted. Default: 4096.
    pub max_prompt_tokens: usize,
    /// Smaller pictures are enlarged to this many pixels; a number or `"off"`. Default: 200704 (256 * 28 * 28).
    #[serde(with = "number_or_off")]
    pub min_pixels: Option<u64>,
    /// Larger pictures are shrunk to this many pixels; a number or `"off"`. Default: 1003520 (1280 * 28 * 28).
    #[serde(with = "number_or_off")]
    pub max_pixels: Option<u64>,
    /// Transparent pictures are laid over `white`, or their alpha is dropped (`drop`). Default: `white`.
    pub alpha: Alpha,
    /// What a row that cannot be used does: `stop` the run, or `skip` (counted). Default: `stop`.
    pub on_bad_row: OnBadRow,
    /// What training shows in place of a row's pictures, as a control: the `whole` pictures, `blank` (black) ones, or those of
    /// another row (`swapped`). Validation always shows the whole ones. Default: `whole`.
    pub picture: TrainingPicture,
    /// Whether each epoch visits the rows in a new order. Default: true.
    pub shuffle: bool,
    /// Pictures that claim more pixels than this are refused before they are decoded. Default: 178956970 (Pillow's).
    pub max_picture_pixels: u64,
    /// How a picture is spoiled for objectives that ask for a corrupted view: `kind` and that kind's keys.
    /// Default: `kind = "blacken"` (patches of 14 pixels, each with probability 0.6).
    pub corruption: Table,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            problem_column: "problem".to_owned(),
            answer_column: "answer".to_owned(),
            image_column: "images".to_owned(),
            solution_column: "solution".to_owned(),
            image_root: None,
            format_prompt: FormatPrompt::Papo,
            special_tokens_in_text: SpecialTokensInText::Text,
            max_prompt_tokens: 4096,
            min_pixels: Some(256 * 28 * 28),
            max_pixels: Some(1280 * 28 * 28),
            alpha: Alpha::White,
            on_bad_row: OnBadRow::Stop,
            picture: TrainingPicture::Whole,
            shuffle: true,
            max_picture_pixels: 178_956_970,
            corruption: Table::from_iter([("kind".to_owned(), Value::from("blacken"))]),
        }
    }
}

/// The text put around each question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum FormatPrompt {
    /// PAPO's `math_perception` template, built in.
    Papo,
    /// The question as it is.
    Plain,
    /// A Jinja file that is given the question as `content`.
    File(PathBuf),
}

impl From<String> for FormatPrompt {
    fn from(text: String) -> Self {
        match text.as_str() {
            "papo" => Self::Papo,
            "none" => Self::Plain,
            _ => Self::File(PathBuf::from(text)),
        }
    }
}

impl From<FormatPrompt> for String {
    fn from(prompt: FormatPrompt) -> Self {
        match prompt {
            FormatPrompt::Papo => "papo".to_owned(),
            FormatPrompt::Plain => "none".to_owned(),
            FormatPrompt::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// What special-token strings inside a question are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpecialTokensInText {
    /// Ordinary text.
    Text,
    /// Tokens, as in the reference.
    Allow,
}

/// What happens to a picture's transparency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alpha {
    /// The picture is laid over white.
    White,
    /// The alpha channel is left out.
    Drop,
}

/// What a row that cannot be used does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Stop the run with file, row, field and reason.
    Stop,
    /// Leave the row out and count it.
    Skip,
}

/// What training shows in place of a row's pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainingPicture {
    /// The row's own.
    Whole,
    /// Black ones of the same size.
    Blank,
    /// Those of another row.
    Swapped,
}

/// A path, or a list of paths.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    struct Paths;

    impl<'de> Visitor<'de> for Paths {
        type Value = Vec<PathBuf>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a path in quotes or a list of them")
        }

        fn visit_str<E>(self, path: &str) -> Result<Self::Value, E> {
            Ok(vec![PathBuf::from(path)])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut paths: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(path) = paths.next_element()? {
                all.push(path);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_any(Paths)
}

/// `Some` as a number, `None` as the word "off".
mod number_or_off {
    use std::fmt;

    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    const OFF: &str = "off";

    pub fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(number) => serializer.serialize_u64(*number),
            None => serializer.serialize_str(OFF),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        struct NumberOrOff;

        impl Visitor<'_> for NumberOrOff {
            type Value = Option<u64>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, 1 or more, or \"off\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                match u64::try_from(number) {
                    Ok(number) if number > 0 => Ok(Some(number)),
                    _ => Err(E::invalid_value(Unexpected::Signed(number), &self)),
                }
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
                if word == OFF { Ok(None) } else { Err(E::invalid_value(Unexpected::Str(word), &self)) }
            }
        }

        deserializer.deserialize_any(NumberOrOff)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::parse_section;

    fn read(text: &str) -> Result<DataConfig, String> {
        parse_section(&text.parse().unwrap(), "data").map_err(|error| error.to_string())
    }

    #[test]
    fn one_path_is_a_list_of_one() {
        assert_eq!(read("train = 'a.parquet'").unwrap().train, [Path::new("a.parquet")]);
        assert_eq!(read("train = ['a', 'b']").unwrap().train, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(
            read("train = 3").unwrap_err(),
            "configuration: `data.train` must be a path in quotes or a list of them, found the number 3"
        );
        assert_eq!(
            read("train = ['a', 3]").unwrap_err(),
            "configuration: `data.train[1]` must be a path in quotes, found the number 3"
        );
    }

    #[test]
    fn pixel_bounds_can_be_off() {
        let data = read("min_pixels = 'off'\nmax_pixels = 10").unwrap();
        assert_eq!((data.min_pixels, data.max_pixels), (None, Some(10)));
        for wrong in ["0", "-5", "'on'", "2.5"] {
            let message = read(&format!("min_pixels = {wrong}")).unwrap_err();
            assert!(
                message.contains("`data.min_pixels` must be a whole number, 1 or more, or \"off\", found the"),
                "{message}"
            );
        }
    }

    #[test]
    fn the_format_prompt_is_a_name_or_a_file() {
        assert_eq!(read("").unwrap().format_prompt, FormatPrompt::Papo);
        assert_eq!(read("format_prompt = 'none'").unwrap().format_prompt, FormatPrompt::Plain);
        let file = read("format_prompt = 'prompts/mine.jinja'").unwrap().format_prompt;
        assert_eq!(file, FormatPrompt::File(PathBuf::from("prompts/mine.jinja")));
        assert_eq!(String::from(file), "prompts/mine.jinja");
    }

    #[test]
    fn choices_are_words() {
        assert_eq!(read("on_bad_row = 'skip'\nalpha = 'drop'").unwrap().on_bad_row, OnBadRow::Skip);
        assert_eq!(
            read("on_bad_row = 'skipp'").unwrap_err(),
            "configuration: `data.on_bad_row` cannot be \"skipp\"; did you mean \"skip\"? (possible: \"stop\", \"skip\")"
        );
    }
}
