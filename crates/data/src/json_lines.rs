//! Rows of one file of JSON lines: an index of where lines are; a line is read when it is asked for.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::config::{Columns, DataConfig};
use crate::dataset::{ImageSource, Place, Row};
use crate::error::{DataError, nearest};

/// Columns are looked for in this many lines: keys may be left out of some.
const LINES_FOR_COLUMNS: usize = 100;

/// The longest line, in bytes: rows hold text and paths, no pictures.
const LONGEST_LINE: u64 = 64 << 20;

/// A file of one JSON object per line, whose lines have been found.
pub(crate) struct JsonLinesFile {
    path: PathBuf,
    root: PathBuf,
    columns: Columns,
    lines: Vec<Line>,
}

/// A line that is not blank.
struct Line {
    offset: u64,
    length: u32,
    /// From 1.
    number: u32,
}

type Fields = Map<String, Value>;

impl JsonLinesFile {
    /// Finds the lines and checks the columns on the first of them.
    pub fn open(path: &Path, config: &DataConfig) -> Result<Self, DataError> {
        let lines = find_lines(path)?;
        let root = match &config.image_root {
            Some(root) => root.clone(),
            None => path.parent().unwrap_or(Path::new("")).into(),
        };
        let columns = Columns {
            problem: config.problem.clone(),
            answer: config.answer.clone(),
            images: (!config.images.is_empty()).then(|| config.images.clone()),
            solution: config.solution.clone(),
            category: config.category.clone(),
        };
        let mut source = Self { path: path.into(), root, columns, lines };
        source.columns = source.check_columns(config)?;
        Ok(source)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn num_rows(&self) -> usize {
        self.lines.len()
    }

    /// The row of the `row`-th line that is not blank.
    pub fn row(&self, row: usize) -> Result<Row, DataError> {
        let fields = self.fields(row)?;
        let Columns { problem, answer, images, solution, category } = &self.columns;
        let told = |name: &Option<String>| match name {
            Some(name) => self.optional(row, &fields, name),
            None => Ok(None),
        };
        Ok(Row {
            problem: self.required(row, &fields, "problem", problem)?,
            answer: self.required(row, &fields, "answer", answer)?,
            solution: told(solution)?,
            category: told(category)?,
            images: match images {
                Some(name) => self.images(row, &fields, name)?,
                None => Vec::new(),
            },
            place: self.place(row),
        })
    }

    fn place(&self, row: usize) -> Place {
        Place { file: self.path.clone(), row: self.lines[row].number as usize }
    }

    fn bad(&self, row: usize, field: &str, reason: impl Into<String>) -> DataError {
        DataError::Row { place: self.place(row), field: field.into(), reason: reason.into() }
    }

    fn fields(&self, row: usize) -> Result<Fields, DataError> {
        let line = &self.lines[row];
        let mut bytes = vec![0; line.length as usize];
        let mut file = File::open(&self.path).map_err(DataError::read(&self.path))?;
        file.seek(SeekFrom::Start(line.offset)).map_err(DataError::read(&self.path))?;
        file.read_exact(&mut bytes).map_err(DataError::read(&self.path))?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(Value::Array(_)) => Err(self.bad(row, "line", "is an array; expected one JSON object per line")),
            Ok(other) => Err(self.bad(row, "line", format!("expected a JSON object, found {}", kind(&other)))),
            // serde_json counts lines from the start of this one; only its column says something.
            Err(error) if error.is_eof() => Err(self.bad(row, "line", "a JSON object that does not end on its line")),
            Err(error) => Err(self.bad(row, "line", format!("not JSON from column {}: {error}", error.column()))),
        }
    }

    /// The columns, when each that is required stands in at least one of the first lines.
    fn check_columns(&self, config: &DataConfig) -> Result<Columns, DataError> {
        let (mut present, mut known) = (Vec::new(), HashSet::new());
        for row in 0..self.num_rows().min(LINES_FOR_COLUMNS) {
            // A line that does not read is reported when its row is asked for, and may be skipped then.
            for name in self.fields(row).unwrap_or_default().keys() {
                if known.insert(name.clone()) {
                    present.push(name.clone());
                }
            }
        }
        if present.is_empty() {
            return Ok(self.columns.clone());
        }
        let present: Vec<&str> = present.iter().map(String::as_str).collect();
        // Rows of text may leave the pictures' key out altogether, unless another key looks as if it were meant.
        let named = [config.images.as_str()];
        let text_only = !present.contains(&named[0]) && nearest("images", named[0], &present).is_none();
        let names = if text_only { [present.as_slice(), &named].concat() } else { present.clone() };
        config.resolve(&names).map_err(|missing| DataError::missing_column(&self.path, missing, &present))
    }

    fn required(&self, row: usize, fields: &Fields, key: &str, name: &str) -> Result<String, DataError> {
        match self.optional(row, fields, name)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            Some(_) => Err(self.bad(row, name, "is empty")),
            None => {
                let present: Vec<&str> = fields.keys().map(String::as_str).filter(|&other| other != name).collect();
                Err(match nearest(key, name, &present) {
                    Some(near) if !fields.contains_key(name) => {
                        self.bad(row, name, format!("has no value; did you mean `{near}`?"))
                    }
                    _ => self.bad(row, name, "has no value"),
                })
            }
        }
    }

    /// A text, number or truth value as text.
    fn optional(&self, row: usize, fields: &Fields, name: &str) -> Result<Option<String>, DataError> {
        match fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Bool(value)) => Ok(Some(value.to_string())),
            // As in parquet, whole floats lose their point.
            Some(Value::Number(number)) if number.is_f64() => Ok(number.as_f64().map(|value| value.to_string())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(self.bad(row, name, format!("expected text, found {}", kind(other)))),
        }
    }

    fn images(&self, row: usize, fields: &Fields, name: &str) -> Result<Vec<ImageSource>, DataError> {
        let items = match fields.get(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(items)) => items.as_slice(),
            // A column of single pictures: a row without one is a row of text.
            Some(Value::String(path)) if path.is_empty() => return Ok(Vec::new()),
            Some(single) => std::slice::from_ref(single),
        };
        let count = items.len();
        let read = |(i, item): (usize, &Value)| {
            let path = match item {
                Value::Object(picture) if picture.get("bytes").is_none_or(Value::is_null) => picture.get("path"),
                Value::Object(_) => {
                    let reason = "bytes in JSON are not read; give a path, or use parquet";
                    return Err(self.bad(row, name, format!("picture {} of {count}: {reason}", i + 1)));
                }
                other => Some(other),
            };
            match path {
                Some(Value::String(path)) if !path.is_empty() => Ok(ImageSource::Path(self.root.join(path))),
                other => {
                    let found = other.map_or("nothing", kind);
                    Err(self.bad(row, name, format!("picture {} of {count}: expected a path, found {found}", i + 1)))
                }
            }
        };
        items.iter().enumerate().map(read).collect()
    }
}

/// Where the lines are that are not blank. Memory holds one line at a time.
fn find_lines(path: &Path) -> Result<Vec<Line>, DataError> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(DataError::read(path))?);
    let (mut lines, mut bytes, mut offset) = (Vec::new(), Vec::new(), 0);
    for number in 1.. {
        bytes.clear();
        if file.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut bytes).map_err(DataError::read(path))? == 0 {
            break;
        }
        let mark = if number == 1 && bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        let content = &bytes[mark..];
        if !content.trim_ascii().is_empty() {
            let length = content.len() as u64;
            if length > LONGEST_LINE {
                return Err(DataError::Row {
                    place: Place { file: path.into(), row: number as usize },
                    field: "line".into(),
                    reason: format!("is longer than {LONGEST_LINE} bytes; is the file JSON lines?"),
                });
            }
            if lines.is_empty() && content.trim_ascii_start().starts_with(b"[") {
                return Err(DataError::Format {
                    path: path.into(),
                    found: "one JSON array; write one object per line".into(),
                });
            }
            lines.push(Line { offset: offset + mark as u64, length: length as u32, number });
        }
        offset += bytes.len() as u64;
    }
    Ok(lines)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(text) if text.is_empty() => "empty text",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DataSet;

    fn write(lines: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, lines).unwrap();
        (folder, path)
    }

    #[test]
    fn lines_are_found_across_blanks_marks_and_endings() {
        let text =
            "\u{feff}{\"problem\":\"a\",\"answer\":1,\"images\":\"x.png\"}\r\n\n  \n{\"problem\":\"b\",\"answer\":2.0}";
        let (folder, path) = write(text);
        let data = DataSet::open(&DataConfig::of([&path])).unwrap();
        assert_eq!(data.len(), 2);
        let row = data.row(0).unwrap();
        assert_eq!((row.problem.as_str(), row.answer.as_str(), row.place.row), ("a", "1", 1));
        assert_eq!(row.images, [ImageSource::Path(folder.path().join("x.png"))]);
        let row = data.row(1).unwrap();
        assert_eq!((row.answer.as_str(), row.images.len(), row.place.row), ("2", 0, 4));
        assert!(row.place.to_string().ends_with("rows.jsonl, line 4"), "{}", row.place);
    }

    #[test]
    fn pictures_are_paths_in_all_their_forms() {
        let (_folder, path) = write(concat!(
            r#"{"problem":"a","answer":true,"images":["x.png","/y.png",{"path":"z.png","bytes":null}]}"#,
            "\n",
            r#"{"problem":"a","answer":"b","images":null}"#,
            "\n",
            r#"{"problem":"a","answer":"b","images":[{"bytes":"AAAA"}]}"#,
            "\n",
            r#"{"problem":"a","answer":"b","images":["x.png",7]}"#,
        ));
        let config = DataConfig { image_root: Some("/root".into()), ..DataConfig::of([&path]) };
        let data = DataSet::open(&config).unwrap();
        let expected = ["/root/x.png", "/y.png", "/root/z.png"].map(|path| ImageSource::Path(path.into()));
        let row = data.row(0).unwrap();
        assert_eq!((row.answer.as_str(), row.images.as_slice()), ("true", expected.as_slice()));
        assert!(data.row(1).unwrap().images.is_empty());
        let message = data.row(2).unwrap_err().to_string();
        assert!(message.contains("line 3, `images`: picture 1 of 1: bytes in JSON"), "{message}");
        let message = data.row(3).unwrap_err().to_string();
        assert!(message.contains("picture 2 of 2: expected a path, found a number"), "{message}");
    }

    #[test]
    fn a_bad_line_is_one_rows_fault() {
        let (_folder, path) = write(concat!(
            r#"{"problem":"a","answer":"1","images":[]}"#,
            "\n{\"problem\": \"b\", \n[1]\n",
            r#"{"problem":" ","answer":"1"}"#,
            "\n",
            r#"{"problem":"a","anwser":"1"}"#,
        ));
        let data = DataSet::open(&DataConfig::of([&path])).unwrap();
        assert!(data.row(0).is_ok());
        let expected = [(2, "does not end"), (3, "array"), (4, "`problem`: is empty"), (5, "did you mean `anwser`?")];
        for (line, part) in expected {
            let error = data.row(line - 1).unwrap_err();
            assert_eq!(error.place().unwrap().row, line);
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn columns_that_stand_nowhere_are_a_mistake_of_the_configuration() {
        let (_folder, path) = write(r#"{"question":"a","answer":"1","image":"x.png"}"#);
        let message = DataSet::open(&DataConfig::of([&path])).err().unwrap().to_string();
        assert!(message.contains("no column `problem`") && message.contains("did you mean `question`?"), "{message}");
        let config = DataConfig { problem: "question".into(), ..DataConfig::of([&path]) };
        let message = DataSet::open(&config).err().unwrap().to_string();
        assert!(message.contains("no column `images`") && message.contains("did you mean `image`?"), "{message}");
        let config = DataConfig { images: "image".into(), ..config };
        assert_eq!(DataSet::open(&config).unwrap().row(0).unwrap().images.len(), 1);
    }

    #[test]
    fn a_category_is_read_where_it_is_asked_for() {
        let (_folder, path) = write(concat!(
            r#"{"problem":"a","answer":"1","subject":"algebra"}"#,
            "\n",
            r#"{"problem":"a","answer":"1","subject":7}"#,
            "\n",
            r#"{"problem":"a","answer":"1"}"#,
        ));
        let categories = |category: Option<&str>| -> Vec<Option<String>> {
            let config = DataConfig { category: category.map(str::to_owned), ..DataConfig::of([&path]) };
            let data = DataSet::open(&config).unwrap();
            (0..3).map(|row| data.row(row).unwrap().category).collect()
        };
        assert_eq!(categories(None), [None, None, None]);
        assert_eq!(categories(Some("subject")), [Some("algebra".to_owned()), Some("7".to_owned()), None]);
        let config = DataConfig { category: Some("topic".into()), ..DataConfig::of([&path]) };
        let message = DataSet::open(&config).err().unwrap().to_string();
        assert!(message.contains("no column `topic` (key `category`)"), "{message}");
        assert!(message.ends_with("did you mean `subject`?"), "{message}");
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let (_folder, path) = write("");
        // The file system keeps no bytes for it.
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let message = DataSet::open(&DataConfig::of([&path])).err().unwrap().to_string();
        assert!(message.contains("line 1, `line`: is longer than 67108864 bytes"), "{message}");
    }

    #[test]
    fn a_hundred_thousand_keys_are_read_and_not_all_said() {
        let keys: String = (0..100_000).map(|key| format!("\"k{key}\":0,")).collect();
        let (_folder, path) = write(&format!("{{{keys}\"answer\":\"1\"}}\n").repeat(2));
        let message = DataSet::open(&DataConfig::of([&path])).err().unwrap().to_string();
        assert!(message.contains("no column `problem`") && message.contains("`k0`, `k1`"), "{message}");
        assert!(message.contains(" and 99951 more") && message.len() < 1000, "{message}");
    }

    #[test]
    fn an_array_of_rows_and_an_empty_file_are_refused() {
        let (_folder, path) = write("[\n{\"problem\":\"a\"}]");
        let message = DataSet::open(&DataConfig::of([&path])).err().unwrap().to_string();
        assert!(message.contains("one object per line"), "{message}");
        let (_folder, path) = write("\n\n");
        let message = DataSet::open(&DataConfig::of([&path])).err().unwrap().to_string();
        assert!(message.ends_with("no rows"), "{message}");
    }
}
