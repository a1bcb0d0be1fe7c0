//! Which column of a device's cache a step writes, and which columns a row sees.
//!
//! All rows in progress take a token in the same step, so a step writes one column for all slots. Columns are used in turn, and a row sees
//! the newest `length + 1` of them. A row is never longer than there are columns, so what it needs is never overwritten.

use crate::CachedRow;

#[derive(Debug)]
pub(crate) struct Columns {
    capacity: usize,
    /// Steps done.
    steps: usize,
    /// The step and length at which each slot was last used.
    used: Vec<Option<(usize, usize)>>,
}

impl Columns {
    /// None are used yet, of `capacity` for each of `slots`.
    pub(crate) fn new(slots: usize, capacity: usize) -> Self {
        Self { capacity, steps: 0, used: vec![None; slots] }
    }

    pub(crate) fn slots(&self) -> usize {
        self.used.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Counts a step of these rows; gives the column that it writes, and how many columns hold anything.
    pub(crate) fn advance(&mut self, rows: &[CachedRow]) -> (usize, usize) {
        let column = self.steps % self.capacity;
        self.steps += 1;
        for row in rows {
            assert!(row.length < self.capacity, "a row of {} tokens has no room for another", row.length);
            let before = (row.length > 0).then(|| (self.steps - 1, row.length - 1));
            assert!(
                before.is_none() || self.used[row.slot] == before,
                "every row in progress takes part in every step"
            );
            self.used[row.slot] = Some((self.steps, row.length));
        }
        (column, self.steps.min(self.capacity))
    }

    /// Steps since `other` was written, when `column` was just now.
    pub(crate) fn age(&self, column: usize, other: usize) -> usize {
        (column + self.capacity - other) % self.capacity
    }
}
