//! What is done with data files, whatever they hold; the fuzz targets do the same.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, ListBuilder, StringDictionaryBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use percept_data::shapes::{Split, TaskConfig, example};
use percept_data::{DataConfig, DataSet};

/// How many rows are read from either end: a file may hold as many as it likes.
const ROWS: usize = 40;

/// Opens a data set of this one file and reads rows of it. Says how many could be read.
fn rows(name: &str, bytes: &[u8]) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("writes");
    open(&path)
}

fn open(path: &Path) -> usize {
    let data = match DataSet::open(&DataConfig::of([path])) {
        Ok(data) => data,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return 0;
        }
    };
    let ends = (0..data.len().min(ROWS)).chain(data.len().saturating_sub(ROWS).max(ROWS)..data.len());
    let read = |row: usize| match data.row(row) {
        Ok(row) => usize::from(!row.problem.trim().is_empty()),
        Err(error) => {
            assert!(error.to_string().contains("rows."), "{error}");
            0
        }
    };
    ends.map(read).sum()
}

pub fn json_lines(bytes: &[u8]) -> usize {
    rows("rows.jsonl", bytes)
}

pub fn parquet(bytes: &[u8]) -> usize {
    rows("rows.parquet", bytes)
}

/// Reads a description of the synthetic task, and draws the first rows of what it asks for. Says whether it could be drawn.
pub fn task(bytes: &[u8]) -> bool {
    let Ok(config) = serde_json::from_slice::<TaskConfig>(bytes) else { return false };
    if let Err(error) = config.check() {
        assert!(!error.to_string().is_empty());
        return false;
    }
    // Any picture may be asked for; small ones are drawn sooner.
    let config = TaskConfig { size: config.size.min(8 * config.grid), ..config };
    for index in (0..3).chain([u64::MAX]) {
        assert!(!example(&config, Split::Train, index).answer.is_empty());
    }
    true
}

/// Descriptions of the synthetic task.
pub fn tasks() -> Vec<Vec<u8>> {
    let default = serde_json::to_vec(&TaskConfig::default()).expect("a configuration is JSON");
    let other = r#"{"kinds":["count","compare","leftmost"],"colours":["red","blue","green"],"shapes":["circle"],"targets":[],"grid":4,
        "size":96,"min_count":0,"max_count":9,"max_distractors":20,"format":"jsonl"}"#;
    vec![default, other.into()]
}

/// Files of JSON lines.
pub fn json_files() -> Vec<Vec<u8>> {
    [
        "{\"problem\":\"<image>a\",\"answer\":1,\"images\":[\"x.png\",{\"path\":\"z.png\",\"bytes\":null}]}\n\n{\"problem\":\"b\",\
         \"answer\":true,\"images\":null,\"solution\":\"c\"}\r\n",
        "\u{feff}{\"problem\":\"\\u00e9\",\"answer\":2.5e3,\"images\":\"x.png\",\"more\":{\"a\":[[]]}}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Parquet files with every compression that is read, pages of both versions, dictionaries, lists and many pages.
pub fn parquet_files() -> Vec<Vec<u8>> {
    let properties = WriterProperties::builder;
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let many_pages = properties().set_max_row_group_row_count(Some(25)).set_data_page_row_count_limit(4);
    vec![
        written(6, properties().set_compression(Compression::SNAPPY)),
        written(6, properties().set_compression(zstd).set_writer_version(WriterVersion::PARQUET_2_0)),
        written(60, many_pages.set_write_batch_size(4)),
        written(5, properties().set_dictionary_enabled(false).set_compression(zstd)),
    ]
}

fn written(rows: usize, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let problems = StringArray::from_iter_values((0..rows).map(|row| format!("what is {row}?")));
    let answers = Int64Array::from_iter((0..rows).map(|row| (row % 3 > 0).then_some(row as i64)));
    let mut solutions = StringDictionaryBuilder::<Int32Type>::new();
    let mut images = ListBuilder::new(BinaryBuilder::new());
    for row in 0..rows {
        solutions.append_value(["add", "count"][row % 2]);
        (0..row % 3).for_each(|picture| images.values().append_value([picture as u8; 9]));
        images.append(true);
    }
    let columns = [
        ("problem", Arc::new(problems) as ArrayRef),
        ("answer", Arc::new(answers) as ArrayRef),
        ("images", Arc::new(images.finish()) as ArrayRef),
        ("solution", Arc::new(solutions.finish()) as ArrayRef),
    ];
    let columns = columns.map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("a batch");
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties.build())).expect("a writer");
    writer.write(&batch).expect("writes to memory");
    writer.close().expect("writes to memory");
    bytes
}
