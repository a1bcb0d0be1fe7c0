//! The order in which a run visits rows.

use std::sync::{Arc, Mutex};

use percept_random::{Key, Purpose};

/// Which row is visited when: every row once an epoch, in an order that is a pure function of (seed, epoch). A run that
/// resumes needs only the index of its next visit.
#[derive(Debug)]
pub struct Visits {
    seed: u64,
    num_rows: usize,
    shuffle: bool,
    /// The order of the epoch asked for last; only a matter of speed.
    order: Mutex<Option<(u64, Arc<[u32]>)>>,
}

impl Visits {
    /// Visits to `num_rows` rows (at least 1): in their own order, or shuffled anew each epoch.
    pub fn new(seed: u64, num_rows: usize, shuffle: bool) -> Self {
        assert!((1..=u32::MAX as usize).contains(&num_rows), "an order of {num_rows} rows was asked for");
        Self { seed, num_rows, shuffle, order: Mutex::new(None) }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    pub fn shuffle(&self) -> bool {
        self.shuffle
    }

    /// The row at `position` (of `0..num_rows`) of an epoch.
    pub fn row_at(&self, epoch: u64, position: usize) -> usize {
        assert!(position < self.num_rows, "position {position} in an epoch of {} rows", self.num_rows);
        match self.shuffle {
            true => self.order_of(epoch)[position] as usize,
            false => position,
        }
    }

    /// The row of visit `index`, counted from the beginning of the run across epochs.
    pub fn at(&self, index: u64) -> usize {
        let rows = self.num_rows as u64;
        self.row_at(index / rows, (index % rows) as usize)
    }

    fn order_of(&self, epoch: u64) -> Arc<[u32]> {
        let mut cached = self.order.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*cached {
            Some((known, order)) if *known == epoch => order.clone(),
            _ => {
                let mut rows: Vec<u32> = (0..self.num_rows as u32).collect();
                Key::new(self.seed, Purpose::Order).step(epoch).stream().shuffle(&mut rows);
                let order: Arc<[u32]> = rows.into();
                *cached = Some((epoch, order.clone()));
                order
            }
        }
    }
}

impl Clone for Visits {
    fn clone(&self) -> Self {
        Self::new(self.seed, self.num_rows, self.shuffle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(visits: &Visits, epoch: u64) -> Vec<usize> {
        (0..visits.num_rows()).map(|position| visits.row_at(epoch, position)).collect()
    }

    #[test]
    fn each_epoch_is_a_permutation_of_its_own() {
        let visits = Visits::new(3, 257, true);
        let orders: Vec<_> = (0..4).map(|e| epoch(&visits, e)).collect();
        for (i, order) in orders.iter().enumerate() {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..257).collect::<Vec<_>>());
            assert!(orders[..i].iter().all(|other| other != order));
        }
        assert_ne!(epoch(&Visits::new(4, 257, true), 0), orders[0]);
    }

    #[test]
    fn the_order_does_not_depend_on_what_was_asked_before() {
        let visits = Visits::new(11, 100, true);
        let forward: Vec<_> = (0..300).map(|index| visits.at(index)).collect();
        let backward: Vec<_> = (0..300).rev().map(|index| visits.clone().at(index)).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
        assert_eq!(forward[217], Visits::new(11, 100, true).row_at(2, 17));
    }

    /// A changed order would silently change every run that resumes. The numbers are those of another program: ChaCha8
    /// under the key's bytes, and Fisher-Yates from the end.
    #[test]
    fn the_order_is_fixed_for_good() {
        assert_eq!(epoch(&Visits::new(0, 10, true), 0), [1, 6, 5, 4, 3, 8, 9, 7, 2, 0]);
    }

    #[test]
    fn without_shuffling_rows_come_in_order() {
        let visits = Visits::new(5, 7, false);
        assert_eq!((0..9).map(|index| visits.at(index)).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 0, 1]);
    }
}
