//! A data set over several files, read row by row.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::config::DataConfig;
use crate::error::DataError;
use crate::files::{self, Format};
use crate::json_lines::JsonLinesFile;
use crate::parquet_file::ParquetFile;
use crate::windows::Windows;

/// One problem with its pictures and its true answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The question; `<image>` marks where the pictures go.
    pub problem: String,
    pub answer: String,
    /// A worked solution, for warm starts.
    pub solution: Option<String>,
    /// What kind of question it is, where a column for that was named and has a value.
    pub category: Option<String>,
    /// In the order of the marks; empty for a row of text only.
    pub images: Vec<ImageSource>,
    pub place: Place,
}

impl Row {
    /// The encoded bytes of picture `index`.
    ///
    /// # Errors
    /// A picture that cannot be read is this row's fault ([`DataError::Row`]).
    pub fn read_image(&self, index: usize) -> Result<Vec<u8>, DataError> {
        self.images[index].read().map_err(|error| DataError::Row {
            place: self.place.clone(),
            field: format!("images[{index}]"),
            reason: error.to_string(),
        })
    }
}

/// The largest file of a picture, in bytes.
const LARGEST_PICTURE: u64 = 1 << 30;

/// Where a picture's encoded bytes (PNG, JPEG, ...) are.
#[derive(Clone, PartialEq, Eq)]
pub enum ImageSource {
    Bytes(Vec<u8>),
    /// Relative paths of a data file are already joined to the picture root.
    Path(PathBuf),
}

impl ImageSource {
    /// The encoded bytes.
    ///
    /// # Errors
    /// [`DataError::Picture`] when the file cannot be read, is empty, larger than 1 GiB, or no file (a pipe, a device).
    pub fn read(&self) -> Result<Vec<u8>, DataError> {
        let path = match self {
            Self::Bytes(bytes) => return Ok(bytes.clone()),
            Self::Path(path) => path,
        };
        let fail = |source| DataError::Picture { path: path.clone(), source };
        let wrong = |kind, reason: String| fail(std::io::Error::new(kind, reason));
        // A pipe would be waited for, and a device may never end.
        let metadata = std::fs::metadata(path).map_err(fail)?;
        if !metadata.is_file() {
            return Err(wrong(std::io::ErrorKind::InvalidInput, "it is no regular file".into()));
        }
        if metadata.len() > LARGEST_PICTURE {
            let reason = format!("it has {} bytes, expected at most {LARGEST_PICTURE}", metadata.len());
            return Err(wrong(std::io::ErrorKind::FileTooLarge, reason));
        }
        let bytes = std::fs::read(path).map_err(fail)?;
        if bytes.is_empty() {
            return Err(wrong(std::io::ErrorKind::UnexpectedEof, "the file is empty".into()));
        }
        Ok(bytes)
    }
}

impl fmt::Debug for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Path(path) => write!(f, "Path({})", path.display()),
        }
    }
}

/// Where a row comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub file: PathBuf,
    /// In parquet the row's index, from 0 as dataframes count; in JSON lines the line's number, from 1 as editors count.
    pub row: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if Format::of(&self.file) == Some(Format::JsonLines) { "line" } else { "row" };
        write!(f, "{}, {unit} {}", self.file.display(), self.row)
    }
}

/// Rows of several files, one after the other. Opening reads footers, schemas and line offsets; rows are read when asked
/// for. It can be shared between threads.
pub struct DataSet {
    sources: Vec<Source>,
    /// Index of each source's first row, and at the end the number of rows.
    starts: Vec<usize>,
    windows: Mutex<Windows>,
}

enum Source {
    Parquet(ParquetFile),
    JsonLines(JsonLinesFile),
}

impl DataSet {
    /// Finds the files, and checks that each can be read and has the columns.
    ///
    /// # Errors
    /// A file or column that is missing, of the wrong kind or unreadable, a folder of several splits, no rows at all.
    pub fn open(config: &DataConfig) -> Result<Self, DataError> {
        let paths = files::find(config)?;
        let mut sources = Vec::with_capacity(paths.len());
        let mut starts = vec![0];
        for (path, format) in &paths {
            let source = match format {
                Format::Parquet => Source::Parquet(ParquetFile::open(path, config)?),
                Format::JsonLines => Source::JsonLines(JsonLinesFile::open(path, config)?),
            };
            starts.push(starts[starts.len() - 1] + source.num_rows());
            sources.push(source);
        }
        if starts[starts.len() - 1] == 0 {
            let files: Vec<_> = paths.iter().map(|(path, _)| path.display().to_string()).collect();
            return Err(DataError::Empty { files: files.join(", ") });
        }
        Ok(Self { sources, starts, windows: Mutex::new(Windows::new(config.cache_mib << 20)) })
    }

    /// The number of rows; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.starts[self.sources.len()]
    }

    /// The files, in the order of their rows, with their numbers of rows.
    pub fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.sources.iter().map(|source| (source.path(), source.num_rows()))
    }

    /// Reads row `index` of `0..len()`.
    ///
    /// # Errors
    /// [`DataError::Row`] when the row is bad (its place is in the error); other errors when its file no longer reads.
    pub fn row(&self, index: usize) -> Result<Row, DataError> {
        assert!(index < self.len(), "row {index} of a data set of {} rows", self.len());
        let file = self.starts.partition_point(|&start| start <= index) - 1;
        let row = index - self.starts[file];
        match &self.sources[file] {
            Source::JsonLines(source) => source.row(row),
            Source::Parquet(source) => {
                let wanted = source.window(row);
                let key = (file, wanted.start);
                let cached = self.windows.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).find(key);
                let window = match cached {
                    Some(window) => window,
                    // Read without the lock, so that other threads go on; a stretch read twice is only lost time.
                    None => match source.read(wanted) {
                        Ok(window) => {
                            let mut windows = self.windows.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                            windows.keep(key, window)
                        }
                        // What cannot be decoded may be a neighbour, whose fault is not this row's.
                        Err(_) => source.read(row..row + 1)?.into(),
                    },
                };
                source.row(&window, row)
            }
        }
    }
}

impl Source {
    fn num_rows(&self) -> usize {
        match self {
            Self::Parquet(source) => source.num_rows(),
            Self::JsonLines(source) => source.num_rows(),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Parquet(source) => source.path(),
            Self::JsonLines(source) => source.path(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_file_of_bounded_size() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: PathBuf| ImageSource::Path(path).read().map_err(|error| error.to_string());
        assert!(read(folder.path().into()).unwrap_err().contains("it is no regular file"));
        #[cfg(unix)]
        assert!(read("/dev/zero".into()).unwrap_err().contains("it is no regular file"));
        let path = folder.path().join("large.png");
        let file = std::fs::File::create(&path).unwrap();
        assert!(read(path.clone()).unwrap_err().contains("the file is empty"));
        // The file system keeps no bytes for it.
        file.set_len(LARGEST_PICTURE + 1).unwrap();
        assert!(read(path.clone()).unwrap_err().contains("it has 1073741825 bytes, expected at most 1073741824"));
        file.set_len(3).unwrap();
        assert_eq!(read(path).unwrap(), [0; 3]);
    }
}
