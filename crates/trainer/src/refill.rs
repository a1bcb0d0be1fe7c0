//! Dynamic sampling: groups that a method rejects are replaced by others, a bounded number of times.

/// Keeps admitted groups until there are enough.
#[derive(Clone, Debug)]
pub struct Refill<T> {
    needed: usize,
    max_tries: usize,
    tries: usize,
    kept: Vec<T>,
    keep_rejected_chunk: bool,
}

/// What to do after a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There are enough.
    Full,
    /// Sample another chunk.
    More,
    /// The tries are used up.
    TooManyTries,
}

impl<T> Refill<T> {
    /// Collects `needed` groups in at most `max_tries` chunks (0: no limit).
    pub fn new(needed: usize, max_tries: usize) -> Self {
        Self { needed, max_tries, tries: 0, kept: Vec::new(), keep_rejected_chunk: false }
    }

    /// The reference's quirk: a chunk of which every group is rejected is kept whole (PAPO `ray_trainer.py:667`). Percept never trains
    /// this way; the comparison with the reference uses it.
    pub fn keep_rejected_chunk(self) -> Self {
        Self { keep_rejected_chunk: true, ..self }
    }

    /// Takes a chunk of groups with the decision for each.
    pub fn push(&mut self, chunk: Vec<(T, bool)>) -> Progress {
        self.tries += 1;
        let keep_all = self.keep_rejected_chunk && chunk.iter().all(|(_, admitted)| !admitted);
        self.kept.extend(chunk.into_iter().filter(|(_, admitted)| *admitted || keep_all).map(|(group, _)| group));
        if self.kept.len() >= self.needed {
            Progress::Full
        } else if self.max_tries > 0 && self.tries >= self.max_tries {
            Progress::TooManyTries
        } else {
            Progress::More
        }
    }

    pub fn tries(&self) -> usize {
        self.tries
    }

    /// How many groups are kept so far.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The groups; what was sampled beyond the number needed is dropped.
    pub fn into_groups(mut self) -> Vec<T> {
        self.kept.truncate(self.needed);
        self.kept
    }
}
