//! A bounded cache of stretches of decoded rows.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::RecordBatch;

/// Consecutive decoded rows of one parquet file.
pub(crate) struct Window {
    /// The file's row that comes first.
    pub start: usize,
    pub batches: Vec<RecordBatch>,
}

impl Window {
    /// The batch that holds the file's row `row`, and the row's place in it.
    pub fn locate(&self, row: usize) -> (&RecordBatch, usize) {
        let mut offset = row - self.start;
        for batch in &self.batches {
            if offset < batch.num_rows() {
                return (batch, offset);
            }
            offset -= batch.num_rows();
        }
        panic!("row {row} is not in the stretch that was read for it, from row {}", self.start)
    }

    fn bytes(&self) -> usize {
        self.batches.iter().map(RecordBatch::get_array_memory_size).sum()
    }
}

/// (index of the file, first row)
type Key = (usize, usize);

/// The windows used last, up to a number of bytes. The newest always stays, so that a window larger than the bound is not
/// read again for each of its rows.
pub(crate) struct Windows {
    bound: usize,
    bytes: usize,
    /// Most recently used first; windows are few, so a search is cheap.
    held: VecDeque<(Key, usize, Arc<Window>)>,
}

impl Windows {
    pub fn new(bound: usize) -> Self {
        Self { bound, bytes: 0, held: VecDeque::new() }
    }

    pub fn find(&mut self, key: Key) -> Option<Arc<Window>> {
        let at = self.held.iter().position(|(held, ..)| *held == key)?;
        let entry = self.held.remove(at)?;
        let window = entry.2.clone();
        self.held.push_front(entry);
        Some(window)
    }

    pub fn keep(&mut self, key: Key, window: Window) -> Arc<Window> {
        if let Some(present) = self.find(key) {
            return present;
        }
        let (bytes, window) = (window.bytes(), Arc::new(window));
        self.bytes += bytes;
        self.held.push_front((key, bytes, window.clone()));
        while self.bytes > self.bound && self.held.len() > 1 {
            if let Some((_, freed, _)) = self.held.pop_back() {
                self.bytes -= freed;
            }
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    fn window(start: usize, rows: usize) -> Window {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        Window { start, batches: vec![RecordBatch::try_from_iter([("x", column)]).unwrap()] }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_newest_stays() {
        let size = window(0, 100).bytes();
        let mut windows = Windows::new(2 * size + size / 2);
        for file in 0..2 {
            windows.keep((file, 0), window(0, 100));
        }
        assert!(windows.find((0, 0)).is_some());
        windows.keep((2, 0), window(0, 100));
        assert!(windows.find((1, 0)).is_none() && windows.find((0, 0)).is_some());
        assert_eq!(windows.bytes, 2 * size);
        windows.keep((3, 0), window(0, 10_000));
        assert_eq!(windows.held.len(), 1);
        assert!(windows.find((3, 0)).is_some());
    }

    #[test]
    fn a_row_is_found_across_batches() {
        let mut both = window(5, 3);
        both.batches.extend(window(8, 4).batches);
        assert_eq!((both.locate(7).1, both.locate(8).1, both.locate(11).1), (2, 0, 3));
    }
}
