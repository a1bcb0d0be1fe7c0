//! Reading a data set holds a bounded part of it, whatever its size and the size of its row groups.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{ArrayRef, BinaryArray, ListArray, RecordBatch, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Fields};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use percept_data::{DataConfig, DataSet, ImageSource, Visits};
use percept_random::{Key, Purpose};

/// The system's allocator, counting.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROWS: usize = 192;
const PICTURE: usize = 1 << 19;
const MIB: usize = 1 << 20;

fn picture(row: usize) -> Vec<u8> {
    let mut stream = Key::new(0, Purpose::Task).prompt(row as u64).stream();
    (0..PICTURE / 8).flat_map(|_| stream.below(u64::MAX).to_le_bytes()).collect()
}

/// 96 MiB of pictures, in row groups of `group` rows.
fn write(path: &Path, group: usize) {
    let fields = Fields::from(vec![Field::new("bytes", DataType::Binary, true)]);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut writer = None;
    for row in 0..ROWS {
        let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values([picture(row)]));
        let items = StructArray::new(fields.clone(), vec![bytes], None);
        let field = Arc::new(Field::new("item", DataType::Struct(fields.clone()), true));
        let images = ListArray::new(field, OffsetBuffer::from_lengths([1]), Arc::new(items), None);
        let text: ArrayRef = Arc::new(StringArray::from_iter_values([row.to_string()]));
        let columns = [("problem", text.clone()), ("answer", text), ("images", Arc::new(images) as ArrayRef)];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let writer = writer.get_or_insert_with(|| {
            ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties.clone())).unwrap()
        });
        writer.write(&batch).unwrap();
    }
    writer.unwrap().close().unwrap();
}

#[test]
fn a_file_of_large_pictures_does_not_become_resident() {
    let folder = tempfile::tempdir().unwrap();
    for group in [16, ROWS] {
        let path = folder.path().join(format!("{group}.parquet"));
        write(&path, group);
        let before = HELD.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let data = DataSet::open(&DataConfig { cache_mib: 16, ..DataConfig::of([&path]) }).unwrap();
        let visits = Visits::new(1, ROWS, true);
        for index in 0..ROWS as u64 {
            let row = data.row(visits.at(index)).unwrap();
            assert_eq!(row.problem, visits.at(index).to_string());
            let [ImageSource::Bytes(bytes)] = row.images.as_slice() else { panic!("{:?}", row.images) };
            assert_eq!(bytes.len(), PICTURE);
            if index % 16 == 0 {
                assert!(*bytes == picture(visits.at(index)), "row {}", visits.at(index));
            }
        }
        let peak = (PEAK.load(Ordering::Relaxed) - before) / MIB;
        // The cache's 16, a window, its pages and the row handed out; the file has 96.
        assert!(peak <= 40, "row groups of {group} rows: {peak} MiB at once");
        let held = (HELD.load(Ordering::Relaxed) - before) / MIB;
        assert!((8..=24).contains(&held), "row groups of {group} rows: {held} MiB held");
        println!("row groups of {group} rows: {held} MiB held, {peak} MiB at most");
    }
}
