//! Rows of one parquet file, decoded in short stretches when they are asked for.

use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow_array::RecordBatch;
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};
use parquet::file::reader::{ChunkReader, Length};

use crate::columns;
use crate::config::{Columns, DataConfig};
use crate::dataset::{Place, Row};
use crate::error::DataError;
use crate::pages::{self, Bounded};
use crate::windows::Window;

/// A stretch holds about this many bytes, so that neighbours are decoded together and strangers are not.
const WINDOW_BYTES: usize = 4 << 20;
/// ... and at most this many rows: a dictionary makes rows look smaller on disk than they are in memory.
const WINDOW_ROWS: usize = 64;
/// Rows that are all alike may take less than a byte; with fewer bytes than this the footer is damaged.
const ROWS_PER_BYTE: u64 = 64;
/// The deepest nesting of columns; pictures are three deep.
const DEEPEST: usize = 64;
/// The stack that a footer is read on, and more of it for each of the footer's bytes. It takes memory only where it is used.
const STACK: usize = 2 << 20;
const STACK_PER_BYTE: usize = 512;

/// A parquet file whose footer has been read.
pub(crate) struct ParquetFile {
    path: PathBuf,
    root: PathBuf,
    metadata: ArrowReaderMetadata,
    columns: Columns,
    mask: ProjectionMask,
    /// Index of each row group's first row, and at the end the number of rows.
    starts: Vec<usize>,
    /// The number of rows in a stretch, for each row group.
    strides: Vec<usize>,
    /// What is wrong with the pages of each row group, once they have been looked at.
    complaints: Vec<OnceLock<Result<(), String>>>,
}

impl ParquetFile {
    /// Reads the footer and checks the columns.
    pub fn open(path: &Path, config: &DataConfig) -> Result<Self, DataError> {
        let file = Bounded(File::open(path).map_err(DataError::read(path))?);
        let metadata = load(&file).map_err(|reason| unreadable(path, reason))?;
        let present: Vec<&str> = metadata.schema().fields().iter().map(|field| field.name().as_str()).collect();
        let columns = config.resolve(&present).map_err(|missing| DataError::missing_column(path, missing, &present))?;
        let wanted = columns.names();
        let roots = (0..present.len()).filter(|&root| wanted.contains(&present[root]));
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let mut source = Self {
            path: path.into(),
            root: match &config.image_root {
                Some(root) => root.clone(),
                None => path.parent().unwrap_or(Path::new("")).into(),
            },
            columns,
            mask,
            starts: vec![0],
            strides: Vec::new(),
            complaints: Vec::new(),
            metadata,
        };
        source.check_types()?;
        source.index()?;
        Ok(source)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn num_rows(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    /// The stretch of rows that is decoded together with `row`.
    pub fn window(&self, row: usize) -> Range<usize> {
        let group = self.group_of(row);
        let (first, end) = (self.starts[group], self.starts[group + 1]);
        let start = first + (row - first) / self.strides[group] * self.strides[group];
        start..end.min(start + self.strides[group])
    }

    /// Decodes a stretch of rows of one row group.
    pub fn read(&self, rows: Range<usize>) -> Result<Window, DataError> {
        let group = self.group_of(rows.start);
        let (first, end) = (self.starts[group], self.starts[group + 1]);
        let selection =
            RowSelection::from_consecutive_ranges(std::iter::once(rows.start - first..rows.end - first), end - first);
        let file = File::open(&self.path).map_err(DataError::read(&self.path))?;
        let decode = || -> Result<Vec<RecordBatch>, String> {
            self.check_pages(group)?;
            ParquetRecordBatchReaderBuilder::new_with_metadata(Bounded(file), self.metadata.clone())
                .with_projection(self.mask.clone())
                .with_row_groups(vec![group])
                .with_row_selection(selection)
                .with_batch_size(rows.len())
                .build()
                .map_err(|error| error.to_string())?
                .map(|batch| batch.map_err(|error| error.to_string()))
                .collect()
        };
        let reason = match unpanicked(decode) {
            Ok(batches) => match batches.iter().map(RecordBatch::num_rows).sum::<usize>() {
                count if count == rows.len() => return Ok(Window { start: rows.start, batches }),
                count => format!("{count} of {} rows are there", rows.len()),
            },
            Err(reason) => reason,
        };
        Err(self.bad(rows.start, &format!("row group {group}"), format!("cannot be decoded: {reason}")))
    }

    /// The file's row `row`, from a stretch that holds it.
    pub fn row(&self, window: &Window, row: usize) -> Result<Row, DataError> {
        let (batch, at) = window.locate(row);
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            column.unwrap_or_else(|| panic!("column {name} was asked for and not decoded"))
        };
        let required = |name: &str| match columns::text(column(name), at) {
            Some(text) if !text.trim().is_empty() => Ok(text),
            Some(_) => Err(self.bad(row, name, "is empty".into())),
            None => Err(self.bad(row, name, "has no value".into())),
        };
        let told = |name: &Option<String>| name.as_ref().and_then(|name| columns::text(column(name), at));
        Ok(Row {
            problem: required(&self.columns.problem)?,
            answer: required(&self.columns.answer)?,
            solution: told(&self.columns.solution),
            category: told(&self.columns.category),
            images: match &self.columns.images {
                Some(name) => {
                    columns::images(column(name), at, &self.root).map_err(|reason| self.bad(row, name, reason))?
                }
                None => Vec::new(),
            },
            place: self.place(row),
        })
    }

    fn place(&self, row: usize) -> Place {
        Place { file: self.path.clone(), row }
    }

    fn bad(&self, row: usize, field: &str, reason: String) -> DataError {
        DataError::Row { place: self.place(row), field: field.into(), reason }
    }

    /// Whether the pages of a row group hold what they claim; looked up once.
    fn check_pages(&self, group: usize) -> Result<(), String> {
        let check = || {
            let metadata = self.metadata.metadata();
            let chunks = metadata.row_group(group).columns().iter().enumerate();
            for (leaf, chunk) in chunks.filter(|(leaf, _)| self.mask.leaf_included(*leaf)) {
                let file = File::open(&self.path).map_err(|error| error.to_string())?;
                let index = metadata.page_index().and_then(|index| index.page_locations(group, leaf).cloned());
                let rows = self.starts[group + 1] - self.starts[group];
                let complaint = |error| format!("column `{}`: {error}", chunk.column_path().string());
                pages::check(file, chunk, rows, index).map_err(complaint)?;
            }
            Ok(())
        };
        self.complaints[group].get_or_init(|| unpanicked(check)).clone()
    }

    fn group_of(&self, row: usize) -> usize {
        self.starts.partition_point(|&start| start <= row) - 1
    }

    fn check_types(&self) -> Result<(), DataError> {
        type Check = fn(&DataType) -> bool;
        let scalar: (Check, _) = (columns::is_scalar, "text, a number or a truth value");
        let text: (Check, _) = (columns::is_text, "text");
        let pictures: (Check, _) = (
            columns::is_images,
            "pictures: struct{bytes: binary, path: string}, binary or paths, one or a list of them",
        );
        let images = self.columns.images.as_ref().map(|name| ("images", name, pictures));
        let solution = self.columns.solution.as_ref().map(|name| ("solution", name, scalar));
        let category = self.columns.category.as_ref().map(|name| ("category", name, scalar));
        let required = [("problem", &self.columns.problem, text), ("answer", &self.columns.answer, scalar)];
        for (key, name, (fits, expected)) in required.into_iter().chain(images).chain(solution).chain(category) {
            let kind = match self.metadata.schema().column_with_name(name) {
                Some((_, field)) => field.data_type(),
                None => continue,
            };
            if !fits(kind) {
                let (path, name, found) = (self.path.clone(), name.clone(), kind.to_string());
                return Err(DataError::ColumnType { path, key, name, expected, found });
            }
        }
        Ok(())
    }

    /// Counts the rows of each row group and chooses its stretches.
    fn index(&mut self) -> Result<(), DataError> {
        let most_rows = self.file_bytes()?.saturating_mul(ROWS_PER_BYTE).min(u32::MAX.into());
        for group in self.metadata.metadata().row_groups() {
            let mut bytes = 0usize;
            for (leaf, chunk) in group.columns().iter().enumerate().filter(|(leaf, _)| self.mask.leaf_included(*leaf)) {
                bytes = bytes.saturating_add(usize::try_from(chunk.uncompressed_size()).unwrap_or(0));
                if !matches!(
                    chunk.compression(),
                    Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_)
                ) {
                    return Err(DataError::Codec {
                        path: self.path.clone(),
                        column: self.metadata.parquet_schema().column(leaf).path().string(),
                        codec: chunk.compression().to_string(),
                    });
                }
            }
            // A number in the footer costs nothing, and much is made as long as a data set has rows.
            let rows = usize::try_from(group.num_rows()).ok();
            let end = rows.and_then(|rows| self.num_rows().checked_add(rows)).filter(|end| *end as u64 <= most_rows);
            let (Some(rows), Some(end)) = (rows, end) else {
                let reason = format!("a row group of {} rows, and the file can hold {most_rows}", group.num_rows());
                return Err(unreadable(&self.path, reason));
            };
            self.starts.push(end);
            self.strides.push((WINDOW_BYTES / (bytes / rows.max(1)).max(1)).clamp(1, WINDOW_ROWS));
            self.complaints.push(OnceLock::new());
        }
        Ok(())
    }

    fn file_bytes(&self) -> Result<u64, DataError> {
        Ok(std::fs::metadata(&self.path).map_err(DataError::read(&self.path))?.len())
    }
}

/// Reads the footer. Crate `parquet` follows a schema's nesting with the stack, so that it is given one that is as deep as a footer
/// of this length can nest, and what nests deeper than data does is refused before it leaves that stack.
fn load(file: &Bounded) -> Result<ArrowReaderMetadata, String> {
    let work = || {
        let metadata = load_any(file).map_err(|error| error.to_string())?;
        let leaves = metadata.parquet_schema().columns().iter();
        match leaves.map(|leaf| leaf.path().parts().len()).max() {
            Some(depth) if depth > DEEPEST => Err(format!("a column is nested {depth} deep")),
            _ => Ok(metadata),
        }
    };
    // The footer's length stands before the last four bytes.
    let length = file.get_bytes(file.len().saturating_sub(8), 4).unwrap_or_default();
    let footer = length.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
    let stack = STACK + STACK_PER_BYTE.saturating_mul(file.len().min(footer.into()) as usize);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, || unpanicked(work));
        let thread = thread.map_err(|error| format!("there is no room for its footer of {footer} bytes: {error}"))?;
        thread.join().expect("the work's panics are errors")
    })
}

/// The footer, and the offset index, which lets a read skip pages; statistics would only take memory.
fn load_any(file: &Bounded) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ParquetMetaDataOptions::new().with_column_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let footer = ParquetMetaDataReader::new().with_metadata_options(Some(options)).parse_and_finish(file)?;
    pages::check_indexes(file, &footer)?;
    let mut reader =
        ParquetMetaDataReader::new_with_metadata(footer).with_offset_index_policy(PageIndexPolicy::Optional);
    reader.read_page_indexes(file)?;
    // The types are parquet's own: those that Arrow's writers add would let texts grow beyond 2 GiB.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ArrowReaderMetadata::try_new(Arc::new(reader.finish()?), options)
}

impl Columns {
    fn names(&self) -> Vec<&str> {
        let required = [&self.problem, &self.answer];
        let optional = [&self.images, &self.solution, &self.category].into_iter().flatten();
        required.into_iter().chain(optional).map(String::as_str).collect()
    }
}

fn unreadable(path: &Path, reason: String) -> DataError {
    DataError::Parquet { path: path.into(), reason }
}

/// Crate `parquet` panics on some files that contradict themselves: one bad file or row must not end a run.
fn unpanicked<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|payload| {
        let words = payload.downcast_ref::<&str>().copied();
        let message = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        Err(format!("its parts contradict each other ({message})"))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int8Type;
    use arrow_array::{
        Array, ArrayRef, BinaryArray, BinaryViewArray, DictionaryArray, Int64Array, LargeBinaryArray, LargeListArray,
        LargeStringArray, ListArray, NullArray, StringArray, StringViewArray, StructArray,
    };
    use arrow_buffer::OffsetBuffer;
    use arrow_schema::{Field, Fields};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Repetition, Type as PhysicalType, ZstdLevel};
    use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::types::Type;

    use super::*;
    use crate::{DataSet, ImageSource};

    struct Fixture {
        folder: tempfile::TempDir,
        path: PathBuf,
    }

    fn write(columns: Vec<(&str, ArrayRef)>, properties: WriterPropertiesBuilder) -> Fixture {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, c)| (name, c, true))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        Fixture { folder, path }
    }

    fn snappy() -> WriterPropertiesBuilder {
        WriterProperties::builder().set_compression(Compression::SNAPPY)
    }

    fn texts(count: usize, of: impl Fn(usize) -> String) -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..count).map(of)))
    }

    fn open(fixture: &Fixture) -> Result<DataSet, DataError> {
        DataSet::open(&DataConfig::of([&fixture.path]))
    }

    fn message<T>(result: Result<T, DataError>) -> String {
        result.err().expect("an error").to_string()
    }

    fn pictures(bytes: ArrayRef, paths: ArrayRef) -> StructArray {
        let field = |name, column: &ArrayRef| Field::new(name, column.data_type().clone(), true);
        StructArray::new(Fields::from(vec![field("bytes", &bytes), field("path", &paths)]), vec![bytes, paths], None)
    }

    #[test]
    fn rows_come_back_from_every_group_and_window() {
        const ROWS: usize = 300;
        let blob = |row: usize| vec![row as u8; 1 + row % 7];
        // Row i has i % 3 pictures.
        let lengths: Vec<usize> = (0..ROWS).map(|row| row % 3).collect();
        let count = lengths.iter().sum();
        let blobs = BinaryArray::from_iter_values((0..ROWS).flat_map(|row| vec![blob(row); row % 3]));
        let items = pictures(Arc::new(blobs), Arc::new(NullArray::new(count)));
        let field = Arc::new(Field::new("item", items.data_type().clone(), true));
        let images = ListArray::new(field, OffsetBuffer::from_lengths(lengths), Arc::new(items), None);
        for compression in [Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default()), Compression::UNCOMPRESSED] {
            let properties =
                WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(110));
            let columns = vec![
                ("unused", texts(ROWS, |row| "x".repeat(row))),
                ("images", Arc::new(images.clone()) as ArrayRef),
                ("answer", Arc::new(Int64Array::from_iter_values(0..ROWS as i64)) as ArrayRef),
                ("problem", texts(ROWS, |row| format!("problem {row}"))),
            ];
            let fixture = write(columns, properties);
            let data = open(&fixture).unwrap();
            assert_eq!(data.len(), ROWS);
            // 7 and 300 have no common divisor: every row, far from the last.
            for row in (0..ROWS).map(|i| i * 7 % ROWS) {
                let read = data.row(row).unwrap();
                assert_eq!((read.problem, read.answer), (format!("problem {row}"), row.to_string()));
                assert_eq!(read.images, vec![ImageSource::Bytes(blob(row)); row % 3]);
                assert_eq!(read.place, Place { file: fixture.path.clone(), row });
                assert_eq!(read.solution, None);
            }
        }
    }

    #[test]
    fn large_view_and_dictionary_types_survive_the_file() {
        let blobs: [ArrayRef; 2] = [
            Arc::new(LargeBinaryArray::from(vec![Some(b"ab".as_slice()), None])),
            Arc::new(BinaryViewArray::from(vec![Some(b"ab".as_slice()), None])),
        ];
        for blob in blobs {
            let items = pictures(blob, Arc::new(LargeStringArray::from(vec![None, Some("p.png")])));
            let field = Arc::new(Field::new("element", items.data_type().clone(), true));
            let images = LargeListArray::new(field, OffsetBuffer::from_lengths([0, 2]), Arc::new(items), None);
            let fixture = write(
                vec![
                    ("problem", Arc::new(StringViewArray::from(vec!["a", "b"])) as ArrayRef),
                    ("answer", Arc::new(LargeStringArray::from(vec!["1", "2"]))),
                    ("images", Arc::new(images)),
                    ("solution", Arc::new(["x", "x"].into_iter().collect::<DictionaryArray<Int8Type>>())),
                ],
                snappy(),
            );
            let config = DataConfig { solution: Some("solution".into()), ..DataConfig::of([&fixture.path]) };
            let data = DataSet::open(&config).unwrap();
            assert!(data.row(0).unwrap().images.is_empty());
            assert_eq!(data.row(0).unwrap().solution.as_deref(), Some("x"));
            let path = fixture.folder.path().join("p.png");
            let row = data.row(1).unwrap();
            assert_eq!(row.images, [ImageSource::Bytes(b"ab".to_vec()), ImageSource::Path(path.clone())]);
            let error = row.read_image(1).unwrap_err();
            assert_eq!(error.place(), Some(&row.place));
            assert!(error.to_string().contains("row 1, `images[1]`: picture"), "{error}");
            std::fs::write(path, "png").unwrap();
            assert_eq!(row.read_image(1).unwrap(), b"png");
        }
    }

    #[test]
    fn a_category_is_read_where_it_is_asked_for() {
        let fixture = write(
            vec![
                ("problem", texts(3, |row| row.to_string())),
                ("answer", texts(3, |row| row.to_string())),
                ("images", Arc::new(NullArray::new(3)) as ArrayRef),
                ("level", Arc::new(Int64Array::from(vec![Some(2), None, Some(1)]))),
                ("clip", Arc::new(BinaryArray::from(vec![b"x".as_slice(); 3]))),
            ],
            snappy(),
        );
        let of = |name: &str| DataConfig { category: Some(name.into()), ..DataConfig::of([&fixture.path]) };
        let data = DataSet::open(&of("level")).unwrap();
        let categories: Vec<_> = (0..3).map(|row| data.row(row).unwrap().category).collect();
        assert_eq!(categories, [Some("2".to_owned()), None, Some("1".to_owned())]);
        assert_eq!(open(&fixture).unwrap().row(0).unwrap().category, None);
        // a column may be asked for twice
        assert_eq!(DataSet::open(&of("problem")).unwrap().row(2).unwrap().category.as_deref(), Some("2"));
        let said = message(DataSet::open(&of("clip")));
        assert!(said.contains("column `clip` (key `category`) should hold text, a number or a truth value"), "{said}");
    }

    #[test]
    fn rows_of_several_files_follow_each_other() {
        let columns = |from: usize, count| {
            let images = Arc::new(NullArray::new(count)) as ArrayRef;
            let number = move |row: usize| (from + row).to_string();
            vec![("problem", texts(count, number)), ("answer", texts(count, number)), ("images", images)]
        };
        let (one, none, two) =
            (write(columns(0, 5), snappy()), write(columns(5, 0), snappy()), write(columns(5, 70), snappy()));
        let data = DataSet::open(&DataConfig::of([&one.path, &none.path, &two.path])).unwrap();
        assert_eq!(data.files().map(|(_, rows)| rows).collect::<Vec<_>>(), [5, 0, 70]);
        for index in (0..75).rev() {
            assert_eq!(data.row(index).unwrap().problem, index.to_string());
        }
        assert_eq!(data.row(5).unwrap().place, Place { file: two.path.clone(), row: 0 });
        assert!(message(open(&none)).ends_with("no rows"));
    }

    #[test]
    fn a_bad_row_leaves_its_neighbours_alone() {
        let problems = StringArray::from(vec![Some("a"), None, Some(""), Some("d"), Some("BROKEN"), Some("f")]);
        let images = StringArray::from(vec![None::<&str>; 6]);
        let fixture = write(
            vec![
                ("problem", Arc::new(problems) as ArrayRef),
                ("answer", texts(6, |row| row.to_string())),
                ("images", Arc::new(images)),
            ],
            WriterProperties::builder().set_dictionary_enabled(false),
        );
        let mut bytes = std::fs::read(&fixture.path).unwrap();
        let at: Vec<_> = (0..bytes.len() - 6).filter(|&i| &bytes[i..i + 6] == b"BROKEN").collect();
        assert_eq!(at.len(), 1, "the text stands in its page alone");
        bytes[at[0]] = 0xFF;
        std::fs::write(&fixture.path, bytes).unwrap();
        let data = open(&fixture).unwrap();
        for row in [0, 3, 5] {
            assert_eq!(data.row(row).unwrap().answer, row.to_string());
        }
        for (row, part) in [(1, "`problem`: has no value"), (2, "`problem`: is empty"), (4, "cannot be decoded")] {
            let error = data.row(row).unwrap_err();
            assert_eq!(error.place().unwrap().row, row);
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn a_schema_without_bottom_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let write = || {
            let leaf = Type::primitive_type_builder("x", PhysicalType::INT32).build().unwrap();
            let group = |inner| Type::group_type_builder("x").with_fields(vec![Arc::new(inner)]);
            let nested =
                (0..20_000).fold(leaf, |inner, _| group(inner).with_repetition(Repetition::REQUIRED).build().unwrap());
            let schema = Arc::new(group(nested).build().unwrap());
            SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::default()).unwrap().close().unwrap();
        };
        // Writing it takes a stack, too.
        std::thread::scope(|scope| {
            std::thread::Builder::new().stack_size(1 << 30).spawn_scoped(scope, write).unwrap().join().unwrap();
        });
        assert!(message(DataSet::open(&DataConfig::of([&path]))).contains("a column is nested 20001 deep"));
    }

    #[test]
    fn an_index_that_claims_more_than_it_holds_is_refused() {
        let columns = ["problem", "answer", "images"].map(|name| (name, texts(100, |row| row.to_string())));
        let fixture = write(columns.into(), snappy().set_data_page_row_count_limit(4).set_write_batch_size(4));
        assert_eq!(open(&fixture).unwrap().row(99).unwrap().problem, "99");
        let at = {
            let footer = ParquetMetaDataReader::new().parse_and_finish(&File::open(&fixture.path).unwrap()).unwrap();
            footer.row_group(0).column(0).offset_index_offset().unwrap() as usize
        };
        let mut bytes = std::fs::read(&fixture.path).unwrap();
        // A list of structures whose number stands behind its head.
        assert_eq!(bytes[at..at + 2], [0x19, 0xfc]);
        bytes[at + 2..at + 7].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 7]);
        std::fs::write(&fixture.path, bytes).unwrap();
        assert!(message(open(&fixture)).contains("claims 2147483647 pages"));
    }

    #[test]
    fn wrong_columns_are_named_with_those_present() {
        let single = |name, column| {
            write(
                vec![("question", texts(1, |_| "q".into())), ("answer", texts(1, |_| "1".into())), (name, column)],
                snappy(),
            )
        };
        let fixture = single("image", texts(1, |_| "x.png".into()));
        let said = message(open(&fixture));
        for part in [
            "rows.parquet",
            "no column `problem` (key `problem`)",
            "`question`, `answer`, `image`",
            "did you mean `question`?",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let config =
            DataConfig { problem: "question".into(), images: "pictures".into(), ..DataConfig::of([&fixture.path]) };
        assert!(message(DataSet::open(&config)).contains("did you mean `image`?"));
        let config = DataConfig { images: String::new(), ..config };
        assert!(DataSet::open(&config).unwrap().row(0).unwrap().images.is_empty());
        let config = DataConfig { problem: "question".into(), ..DataConfig::default() };
        let fixture = single("images", Arc::new(Int64Array::from(vec![1])));
        let said = message(DataSet::open(&DataConfig { files: vec![fixture.path.clone()], ..config }));
        assert!(said.contains("column `images`") && said.contains("struct{bytes") && said.contains("Int64"), "{said}");
    }

    #[test]
    fn files_that_are_not_whole_parquet_are_refused_when_opened() {
        let columns = vec![
            ("problem", texts(9, |row| row.to_string())),
            ("answer", texts(9, |row| row.to_string())),
            ("images", Arc::new(NullArray::new(9)) as ArrayRef),
        ];
        let fixture = write(columns, snappy());
        let bytes = std::fs::read(&fixture.path).unwrap();
        for wrong in [&bytes[..bytes.len() - 9], &bytes[..3], b"", b"problem,answer\n1,2\nand so on"] {
            std::fs::write(&fixture.path, wrong).unwrap();
            let said = message(open(&fixture));
            assert!(said.contains("rows.parquet: not a readable parquet file"), "{said}");
        }
    }
}
