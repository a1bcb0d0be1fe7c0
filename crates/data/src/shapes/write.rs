//! The task as files, in the layout of the EasyR1 and PAPO data sets: columns `problem`, `answer`, `images` as
//! list<struct{bytes, path}>, and `solution`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, ListArray, RecordBatch, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Fields};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::config::{Split, TaskConfig, TaskFormat};
use super::scene::{Example, example};
use crate::error::DataError;

/// Rows of one row group: small enough to be read for the sake of one of its rows.
const ROW_GROUP: usize = 128;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSummary {
    pub splits: Vec<SplitSummary>,
}

/// One split's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitSummary {
    pub split: Split,
    pub path: PathBuf,
    pub num_rows: usize,
    /// The size of the file; pictures in files of their own are not counted.
    pub num_bytes: u64,
    /// How often each answer occurs.
    pub answers: BTreeMap<String, usize>,
}

impl fmt::Display for TaskSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for split in &self.splits {
            let answers: Vec<_> = split.answers.iter().map(|(answer, count)| format!("{answer}: {count}")).collect();
            let (path, rows, kib) = (split.path.display(), split.num_rows, split.num_bytes.div_ceil(1024));
            writeln!(f, "{path}: {rows} rows, {kib} KiB, answers {}", answers.join(", "))?;
        }
        Ok(())
    }
}

/// Draws and writes `train`, `validation` and `test` into a folder, which is made when it is not there. Each file is written
/// beside its place and renamed, so an interrupted run leaves no half of one.
///
/// # Errors
/// [`DataError::Task`] when the configuration cannot be drawn, [`DataError::Write`] when the disk refuses.
pub fn write_task(folder: &Path, config: &TaskConfig) -> Result<TaskSummary, DataError> {
    config.check()?;
    fs::create_dir_all(folder).map_err(DataError::write(folder))?;
    let splits = Split::ALL.into_iter().map(|split| write_split(folder, config, split));
    Ok(TaskSummary { splits: splits.collect::<Result<_, _>>()? })
}

fn write_split(folder: &Path, config: &TaskConfig, split: Split) -> Result<SplitSummary, DataError> {
    let extension = match config.format {
        TaskFormat::Parquet => "parquet",
        TaskFormat::Jsonl => "jsonl",
    };
    let path = folder.join(format!("{}.{extension}", split.name()));
    let partial = folder.join(format!(".{}.{extension}.partial", split.name()));
    let mut answers = BTreeMap::new();
    let rows = (0..config.num_rows(split)).map(|index| {
        let row = example(config, split, index as u64);
        *answers.entry(row.answer.clone()).or_default() += 1;
        row
    });
    let written = match config.format {
        TaskFormat::Parquet => write_parquet(&partial, split, rows),
        TaskFormat::Jsonl => write_json_lines(&partial, folder, split, rows),
    };
    let renamed = written.and_then(|()| fs::rename(&partial, &path).map_err(DataError::write(&path)));
    if let Err(error) = renamed {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    let num_bytes = fs::metadata(&path).map_err(DataError::read(&path))?.len();
    Ok(SplitSummary { split, path, num_rows: config.num_rows(split), num_bytes, answers })
}

fn write_parquet(path: &Path, split: Split, rows: impl Iterator<Item = Example>) -> Result<(), DataError> {
    let fail = |error: ParquetError| DataError::write(path)(std::io::Error::other(error));
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_dictionary_enabled(false)
        .build();
    let file = File::create(path).map_err(DataError::write(path))?;
    let schema = batch(split, &[]).map_err(|error| fail(error.into()))?.schema();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(fail)?;
    let mut rows = rows.enumerate().peekable();
    while rows.peek().is_some() {
        let group: Vec<_> = rows.by_ref().take(ROW_GROUP).collect();
        let batch = batch(split, &group).map_err(|error| fail(error.into()))?;
        writer.write(&batch).map_err(fail)?;
    }
    writer.into_inner().map_err(fail)?.sync_all().map_err(DataError::write(path))
}

fn batch(split: Split, rows: &[(usize, Example)]) -> Result<RecordBatch, ArrowError> {
    let text = |of: fn(&Example) -> &String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, row)| of(row))))
    };
    let bytes = BinaryArray::from_iter_values(rows.iter().map(|(_, row)| &row.png));
    let paths = StringArray::from_iter_values(rows.iter().map(|(index, _)| format!("{}_{index:06}.png", split.name())));
    let fields =
        Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)]);
    let pictures = StructArray::try_new(fields.clone(), vec![Arc::new(bytes), Arc::new(paths)], None)?;
    let images = ListArray::try_new(
        Arc::new(Field::new("element", DataType::Struct(fields), true)),
        OffsetBuffer::from_repeated_length(1, rows.len()),
        Arc::new(pictures),
        None,
    )?;
    RecordBatch::try_from_iter_with_nullable([
        ("problem", text(|row| &row.problem), true),
        ("answer", text(|row| &row.answer), true),
        ("images", Arc::new(images) as ArrayRef, true),
        ("solution", text(|row| &row.solution), true),
    ])
}

/// Lines at `path`, and pictures in `images/SPLIT/` of the folder.
fn write_json_lines(
    path: &Path,
    folder: &Path,
    split: Split,
    rows: impl Iterator<Item = Example>,
) -> Result<(), DataError> {
    let pictures = folder.join("images").join(split.name());
    let partial = folder.join("images").join(format!(".{}.partial", split.name()));
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(DataError::write(&partial))?;
    }
    fs::create_dir_all(&partial).map_err(DataError::write(&partial))?;
    let mut lines = BufWriter::new(File::create(path).map_err(DataError::write(path))?);
    for (index, row) in rows.enumerate() {
        let name = format!("{index:06}.png");
        let picture = partial.join(&name);
        fs::write(&picture, &row.png).map_err(DataError::write(&picture))?;
        let line = serde_json::json!({
            "problem": row.problem,
            "answer": row.answer,
            "images": [format!("images/{}/{name}", split.name())],
            "solution": row.solution,
        });
        writeln!(lines, "{line}").map_err(DataError::write(path))?;
    }
    let file = lines.into_inner().map_err(|error| DataError::write(path)(error.into_error()))?;
    file.sync_all().map_err(DataError::write(path))?;
    if pictures.exists() {
        fs::remove_dir_all(&pictures).map_err(DataError::write(&pictures))?;
    }
    fs::rename(&partial, &pictures).map_err(DataError::write(&pictures))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataConfig, DataSet, ImageSource};

    fn small(format: TaskFormat) -> TaskConfig {
        TaskConfig { train: 300, validation: 10, test: 20, format, ..TaskConfig::default() }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for format in [TaskFormat::Parquet, TaskFormat::Jsonl] {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join("task");
            let config = small(format);
            let summary = write_task(&folder, &config).unwrap();
            // Once more over what is there.
            assert_eq!(write_task(&folder, &config).unwrap(), summary);
            assert_eq!(summary.splits[0].answers.values().copied().collect::<Vec<_>>(), [75; 4]);
            for split in Split::ALL {
                let chosen = DataConfig { split: Some(split.name().into()), ..DataConfig::of([&folder]) };
                let data = DataSet::open(&chosen).unwrap();
                assert_eq!(data.len(), config.num_rows(split));
                for index in 0..data.len() {
                    let (row, drawn) = (data.row(index).unwrap(), example(&config, split, index as u64));
                    assert_eq!((row.problem.as_str(), &row.answer), (drawn.problem.as_str(), &drawn.answer));
                    assert_eq!((row.solution.as_deref(), row.images.len()), (Some(drawn.solution.as_str()), 1));
                    assert_eq!(matches!(row.images[0], ImageSource::Bytes(_)), format == TaskFormat::Parquet);
                    assert_eq!(row.read_image(0).unwrap(), drawn.png);
                }
            }
            let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert!(left.iter().all(|name| !name.to_string_lossy().contains("partial")), "{left:?}");
        }
    }

    #[test]
    fn the_same_configuration_gives_the_same_bytes() {
        let root = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            write_task(&root.path().join(name), &small(TaskFormat::Parquet)).unwrap();
            fs::read(root.path().join(name).join("train.parquet")).unwrap()
        };
        assert_eq!(read("a"), read("b"));
    }

    #[test]
    fn an_unwritable_folder_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let message = write_task(&file.join("task"), &small(TaskFormat::Parquet)).unwrap_err().to_string();
        assert!(message.contains("task: cannot be written"), "{message}");
    }
}
