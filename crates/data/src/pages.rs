//! What a parquet file claims, looked at before crate `parquet` believes it.
//!
//! The decoder takes the memory that a page's header claims, reserves room for as many values as a page or an index says it has, and
//! goes on for ever when it skips rows of a list in a page that has fewer repetition levels than values. So the pages of a row
//! group are walked once before its first row is decoded, one page in memory at a time.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

/// What any page may take when it is decompressed.
const ROOM: u64 = 16 << 20;
/// The most values of a page; writers close a page long before.
const MOST_VALUES: u32 = 1 << 22;
/// Thrift's compact protocol: the first field of a structure is an `i32`; so is the next one; the first is a list.
const FIELD_I32: u8 = 0x15;
const FIELD_LIST: u8 = 0x19;

fn refused<T>(reason: String) -> Result<T> {
    Err(ParquetError::General(reason))
}

/// A file whose pieces are asked for before their memory is taken: a length beyond its end is an error.
pub(crate) struct Bounded(pub File);

impl Length for Bounded {
    fn len(&self) -> u64 {
        Length::len(&self.0)
    }
}

impl ChunkReader for Bounded {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes> {
        let (end, len) = (start.checked_add(length as u64), Length::len(&self.0));
        if end.is_none_or(|end| end > len) {
            return refused(format!("{length} bytes from byte {start} on, and the file has {len}"));
        }
        self.0.get_bytes(start, length)
    }
}

/// Whether the offset indexes are as large as they claim: parquet.thrift, `OffsetIndex`, begins with a list of pages.
pub(crate) fn check_indexes(file: &Bounded, metadata: &ParquetMetaData) -> Result<()> {
    let mut room = Length::len(file);
    for chunk in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let (Some(start), Some(length)) = (chunk.offset_index_offset(), chunk.offset_index_length()) else { continue };
        let (Ok(start), Ok(length)) = (u64::try_from(start), usize::try_from(length)) else {
            return refused(format!("an offset index of {length} bytes from byte {start} on"));
        };
        // All of them together are a part of the file.
        let Some(left) = room.checked_sub(length as u64) else {
            return refused("the offset indexes are longer than the file".into());
        };
        room = left;
        let count = match *file.get_bytes(start, length.min(16))? {
            [FIELD_LIST, head, ref rest @ ..] if head >> 4 == 15 => varint(rest).map_or(0, |(count, _)| count),
            _ => 0,
        };
        if count > length as u64 {
            return refused(format!("an offset index of {length} bytes claims {count} pages"));
        }
    }
    Ok(())
}

/// A column's pages in one row group, whose headers are looked at before they are believed.
struct Headers {
    file: Bounded,
    compression: Compression,
    /// With an index pages are read whole; without one the header comes first, by itself.
    is_indexed: bool,
}

impl Length for Headers {
    fn len(&self) -> u64 {
        Length::len(&self.file)
    }
}

impl ChunkReader for Headers {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut read = self.file.get_read(start)?;
        check_header(read.fill_buf()?, self.compression)?;
        Ok(read)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes> {
        let bytes = self.file.get_bytes(start, length)?;
        if self.is_indexed {
            check_header(&bytes, self.compression)?;
        }
        Ok(bytes)
    }
}

/// Whether a page can become as large as its header claims: parquet.thrift, `PageHeader`, begins with the page's type and
/// its sizes, uncompressed and compressed.
fn check_header(bytes: &[u8], compression: Compression) -> Result<()> {
    let mut rest = bytes;
    let mut number = || {
        let (number, behind) = varint(rest.strip_prefix(&[FIELD_I32])?)?;
        rest = behind;
        Some(number)
    };
    let (Some(_), Some(uncompressed), Some(compressed)) = (number(), number(), number()) else {
        return refused("a page has no header".into());
    };
    // Integers alternate in sign; negative ones are crate parquet's to refuse.
    let (uncompressed, compressed) = (uncompressed >> 1, compressed >> 1);
    // Snappy copies at most 64 bytes for three, and zstd repeats a block of 128 KiB for four.
    let ratio = match compression {
        Compression::UNCOMPRESSED => 1,
        Compression::SNAPPY => 32,
        _ => 1024,
    };
    if uncompressed > ROOM.max(compressed.saturating_mul(ratio)) {
        return refused(format!("a page claims to hold {uncompressed} bytes in {compressed} with {compression}"));
    }
    Ok(())
}

/// Walks a column's pages in a row group of `rows` rows.
///
/// # Errors
/// A page that lies outside of the file, or claims more than it holds.
pub(crate) fn check(
    file: File,
    chunk: &ColumnChunkMetaData,
    rows: usize,
    index: Option<Vec<PageLocation>>,
) -> Result<()> {
    let file = Headers { file: Bounded(file), compression: chunk.compression(), is_indexed: index.is_some() };
    let mut pages = SerializedPageReader::new(Arc::new(file), chunk, rows, index)?;
    let most_levels = chunk.column_descr().max_rep_level().unsigned_abs();
    while let Some(page) = pages.get_next_page()? {
        let num_values = page.num_values();
        if num_values > MOST_VALUES {
            return refused(format!("a page claims {num_values} values, expected at most {MOST_VALUES}"));
        }
        if page.is_dictionary_page() && num_values as usize > page.buffer().len() {
            return refused(format!("a dictionary claims {num_values} values in {} bytes", page.buffer().len()));
        }
        check_levels(&page, most_levels)?;
    }
    Ok(())
}

/// Whether a page has as many repetition levels, each of at most `most`, as it has values.
fn check_levels(page: &Page, most: u16) -> Result<()> {
    if most == 0 {
        return Ok(());
    }
    let (levels, num_values) = match page {
        Page::DataPage { buf, num_values, rep_level_encoding: Encoding::RLE, .. } => {
            let length = buf.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
            (buf.get(4..4usize.saturating_add(length)), num_values)
        }
        Page::DataPageV2 { buf, num_values, rep_levels_byte_len, .. } => {
            (buf.get(..*rep_levels_byte_len as usize), num_values)
        }
        _ => return Ok(()),
    };
    let found = levels.map_or(0, |levels| count(levels, most));
    if found < u64::from(*num_values) {
        return refused(format!("a page of {num_values} values has {found} repetition levels"));
    }
    Ok(())
}

/// How many levels of at most `most` there are in parquet's mixture of runs and packed bits.
fn count(mut levels: &[u8], most: u16) -> u64 {
    let bits = u64::from(u16::BITS - most.leading_zeros()).max(1);
    let mut found = 0u64;
    while let Some((head, rest)) = varint(levels) {
        let length = head >> 1;
        let (values, bytes) = match head & 1 {
            // Eight values take as many bytes as one takes bits.
            1 => (length.saturating_mul(8).min(rest.len() as u64 * 8 / bits), length.saturating_mul(bits)),
            _ if (rest.len() as u64) < bits.div_ceil(8) => break,
            _ => (length, bits.div_ceil(8)),
        };
        found = found.saturating_add(values);
        levels = usize::try_from(bytes).ok().and_then(|bytes| rest.get(bytes..)).unwrap_or_default();
    }
    found
}

/// Seven bits a byte, the lowest first, and what stands behind them.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().take(10).position(|byte| *byte < 128)?;
    let number = bytes[..=end].iter().rev().fold(0u64, |number, byte| number << 7 | u64::from(byte & 127));
    Some((number, &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_compared_with_the_bytes_that_are_there() {
        // type 0, 10 bytes uncompressed, 5 compressed
        assert!(check_header(&[0x15, 0, 0x15, 20, 0x15, 10, 0x15, 1], Compression::SNAPPY).is_ok());
        let error = check_header(&[0x15, 0, 0x15, 20], Compression::SNAPPY).unwrap_err().to_string();
        assert!(error.contains("a page has no header"), "{error}");
        // 100 MiB in 1 MiB
        let large = [0x15, 0, 0x15, 0x80, 0x80, 0x80, 0x64, 0x15, 0x80, 0x80, 0x80, 1];
        let error = check_header(&large, Compression::SNAPPY).unwrap_err().to_string();
        assert!(error.contains("claims to hold 104857600 bytes in 1048576 with SNAPPY"), "{error}");
        assert!(check_header(&large, Compression::ZSTD(Default::default())).is_ok());
    }

    #[test]
    fn levels_are_counted_in_runs_and_packs() {
        assert_eq!(count(&[], 1), 0);
        // Five times 1; two groups of eight.
        assert_eq!(count(&[5 << 1, 1, 2 << 1 | 1, 0xff, 0xff], 1), 21);
        // A run without its value, and packs that end early.
        assert_eq!(count(&[5 << 1], 1), 0);
        assert_eq!(count(&[9 << 1 | 1, 0xff], 1), 8);
        assert_eq!(count(&[9 << 1 | 1, 0xff, 0xff, 0xff], 3), 12);
        assert_eq!(count(&[0, 0, 0, 0], 1), 0);
        assert_eq!(count(&[0x80, 0x80, 0x80, 0x80, 0x20, 1], 1), 1 << 32);
        assert_eq!(count(&[0xff; 30], 1), 0);
    }

    #[test]
    fn a_page_with_too_few_levels_is_an_error() {
        let page = |levels: &[u8]| Page::DataPageV2 {
            buf: bytes::Bytes::copy_from_slice(levels),
            num_values: 9,
            encoding: Encoding::PLAIN,
            num_nulls: 0,
            num_rows: 3,
            def_levels_byte_len: 0,
            rep_levels_byte_len: levels.len() as u32,
            is_compressed: false,
            statistics: None,
        };
        assert!(check_levels(&page(&[9 << 1, 0]), 1).is_ok());
        let error = check_levels(&page(&[8 << 1, 0]), 1).unwrap_err().to_string();
        assert!(error.contains("a page of 9 values has 8 repetition levels"), "{error}");
        assert!(check_levels(&page(&[]), 0).is_ok());
    }
}
