//! Whose pictures a row is given in place of its own.
//!
//! Pictures change hands among rows with the same number of them. Rows that share a picture, directly or through others, form a
//! class, and nobody is given the pictures of its own class: not its own, not a copy of them, and none of them in another place.
//!
//! The rows of one number of pictures stand in a row, class by class, classes and the rows in them in random order. With m the size of
//! the largest class, each row is given the pictures of the row m places further on (around the end): m places are enough to leave one's
//! class, and where m is at most half of all rows they do not lead back into it. Where a class is larger than that, some of its
//! rows are left out by chance until it is half: for them there is no row whose pictures could be spared.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use percept_random::{Key, Purpose};

/// Whose pictures each row is given, if any.
type Donors = Arc<[Option<u32>]>;

/// For each epoch a derangement of the rows' pictures; a pure function of (seed, epoch, what the pictures are).
#[derive(Debug)]
pub struct Swaps {
    seed: u64,
    num_rows: usize,
    /// For each number of pictures, the classes of rows that share some.
    groups: Vec<Vec<Vec<u32>>>,
    /// The epoch asked for last; only a matter of speed.
    donors: Mutex<Option<(u64, Donors)>>,
}

impl Swaps {
    /// `pictures` holds, for each row, a [`fingerprint`] of each of its pictures.
    pub fn new(seed: u64, pictures: &[Vec<u128>]) -> Self {
        let mut by_count: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (row, own) in pictures.iter().enumerate().filter(|(_, own)| !own.is_empty()) {
            by_count.entry(own.len()).or_default().push(row as u32);
        }
        let groups = by_count.into_values().map(|rows| classes(&rows, pictures)).collect();
        Self { seed, num_rows: pictures.len(), groups, donors: Mutex::new(None) }
    }

    /// The row whose pictures `row` is given in this epoch; none for a row without pictures, or one that is left out.
    pub fn donor(&self, epoch: u64, row: usize) -> Option<usize> {
        assert!(row < self.num_rows, "row {row} of {}", self.num_rows);
        let mut cached = self.donors.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let donors = match &*cached {
            Some((known, donors)) if *known == epoch => donors.clone(),
            _ => {
                let donors: Donors = self.donors_of(epoch).into();
                *cached = Some((epoch, donors.clone()));
                donors
            }
        };
        donors[row].map(|donor| donor as usize)
    }

    /// How many rows with pictures are left out in every epoch.
    pub fn num_left_out(&self) -> usize {
        let left_out = |classes: &Vec<Vec<u32>>| {
            let (all, largest) = sizes(classes);
            largest.saturating_sub(all - largest)
        };
        self.groups.iter().map(left_out).sum()
    }

    fn donors_of(&self, epoch: u64) -> Vec<Option<u32>> {
        let mut donors = vec![None; self.num_rows];
        for (group, classes) in self.groups.iter().enumerate() {
            let mut random = Key::new(self.seed, Purpose::Swap).step(epoch).prompt(group as u64).stream();
            let (all, largest) = sizes(classes);
            let kept = largest.min(all - largest);
            let mut classes = classes.clone();
            random.shuffle(&mut classes);
            for class in &mut classes {
                random.shuffle(class);
                // only the largest can be more than the others together
                class.truncate(kept);
            }
            let line = classes.concat();
            for (at, &row) in line.iter().enumerate() {
                donors[row as usize] = Some(line[(at + kept) % line.len()]);
            }
        }
        donors
    }
}

/// Rows of all classes, and of the largest.
fn sizes(classes: &[Vec<u32>]) -> (usize, usize) {
    let lengths = || classes.iter().map(Vec::len);
    (lengths().sum(), lengths().max().unwrap_or(0))
}

/// Rows that share pictures, directly or through others, together; in the order of their first rows.
fn classes(rows: &[u32], pictures: &[Vec<u128>]) -> Vec<Vec<u32>> {
    let mut parent: Vec<usize> = (0..rows.len()).collect();
    let mut first: BTreeMap<u128, usize> = BTreeMap::new();
    for (at, &row) in rows.iter().enumerate() {
        for &picture in &pictures[row as usize] {
            let other = *first.entry(picture).or_insert(at);
            let (a, b) = (root(&mut parent, at), root(&mut parent, other));
            // the earlier one stays, so that the order below is that of first rows
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut classes: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (at, &row) in rows.iter().enumerate() {
        classes.entry(root(&mut parent, at)).or_default().push(row);
    }
    classes.into_values().collect()
}

fn root(parent: &mut [usize], mut at: usize) -> usize {
    while parent[at] != at {
        parent[at] = parent[parent[at]];
        at = parent[at];
    }
    at
}

/// A number that pictures share when they are the same, and else by an unlikely accident: FNV-1a, in 128 bits, of size and samples.
pub fn fingerprint(width: usize, height: usize, samples: &[u8]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let sizes = [width as u64, height as u64].map(u64::to_le_bytes);
    let bytes = sizes.iter().flatten().chain(samples);
    bytes.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, &byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of random pictures: `kinds` different ones, up to `most` for a row.
    fn draw(seed: u64, num_rows: usize, kinds: u64, most: u64) -> Vec<Vec<u128>> {
        let mut random = Key::new(seed, Purpose::Task).stream();
        let mut row = || (0..random.below(most + 1)).map(|_| u128::from(random.below(kinds))).collect();
        (0..num_rows).map(|_| row()).collect()
    }

    #[test]
    fn nobody_is_given_a_picture_of_its_own() {
        let (mut swapped, mut left_out) = (0, 0);
        for seed in 0..400 {
            let kinds = 1 + seed % 40;
            let pictures = draw(seed, 1 + (seed as usize * 7) % 60, kinds, 1 + seed % 3);
            let swaps = Swaps::new(seed, &pictures);
            for epoch in 0..3 {
                let donors: Vec<Option<usize>> = (0..pictures.len()).map(|row| swaps.donor(epoch, row)).collect();
                let mut given = vec![0; pictures.len()];
                let mut without = 0;
                for (own, donor) in pictures.iter().zip(&donors) {
                    let Some(donor) = *donor else {
                        without += usize::from(!own.is_empty());
                        continue;
                    };
                    given[donor] += 1;
                    assert_eq!(pictures[donor].len(), own.len(), "as many pictures");
                    assert!(!pictures[donor].iter().any(|picture| own.contains(picture)), "{own:?} is given its own");
                }
                swapped += given.iter().sum::<usize>();
                left_out += without;
                assert_eq!(without, swaps.num_left_out());
                for (row, donor) in donors.iter().enumerate() {
                    assert_eq!(
                        given[row],
                        usize::from(donor.is_some()),
                        "pictures change hands: none twice, none lost"
                    );
                }
            }
        }
        assert!(swapped > 5000 && left_out > 500, "both happen: {swapped} swapped, {left_out} left out");
    }

    #[test]
    fn only_what_cannot_be_swapped_is_left_out() {
        // five rows of one picture, three of others: two of the five find no partner
        let pictures: Vec<Vec<u128>> = [1, 1, 2, 1, 3, 1, 4, 1].map(|picture| vec![picture]).to_vec();
        assert_eq!(Swaps::new(1, &pictures).num_left_out(), 2);
        // half of them are the same: all can be swapped
        assert_eq!(Swaps::new(1, &pictures[..6]).num_left_out(), 2);
        assert_eq!(Swaps::new(1, &[&pictures[..5], &[vec![5]]].concat()).num_left_out(), 0);
        // a row that is the only one with two pictures, and one without any
        let swaps = Swaps::new(1, &[vec![1], vec![2], vec![3, 4], vec![]]);
        assert_eq!(swaps.num_left_out(), 1);
        let donors: Vec<_> = (0..4).map(|row| swaps.donor(0, row)).collect();
        assert_eq!(donors, [Some(1), Some(0), None, None]);
        // the first and the last share a picture with the second
        assert_eq!(Swaps::new(1, &[vec![1, 2], vec![2, 3], vec![3, 4]]).num_left_out(), 3);
    }

    #[test]
    fn the_swap_is_a_function_of_seed_and_epoch() {
        let pictures: Vec<Vec<u128>> = (0..50).map(|picture| vec![picture]).collect();
        let of = |seed: u64, epoch: u64| -> Vec<_> {
            let swaps = Swaps::new(seed, &pictures);
            // what was asked before does not matter
            swaps.donor(epoch + 1, 0);
            (0..50).map(|row| swaps.donor(epoch, row)).collect()
        };
        assert_eq!(of(1, 0), of(1, 0));
        assert_ne!(of(1, 0), of(1, 1));
        assert_ne!(of(1, 0), of(2, 0));
    }

    #[test]
    fn fingerprints_see_size_and_samples() {
        assert_ne!(fingerprint(2, 1, &[7; 6]), fingerprint(2, 1, &[7, 7, 7, 7, 7, 8]));
        assert_ne!(fingerprint(2, 1, &[0; 6]), fingerprint(1, 2, &[0; 6]));
        assert_eq!(fingerprint(2, 1, &[7; 6]), fingerprint(2, 1, &[7; 6]));
    }
}
