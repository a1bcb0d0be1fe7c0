//! The copies of a program, and whose turn it is.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::process::{Group, Process};

/// As many seats as copies may run; a seat is empty until a copy is first needed.
pub(super) struct Pool {
    free: Mutex<Vec<Option<Process>>>,
    freed: Condvar,
    /// The copies that are answering; whoever works with one holds it, so only its group can be reached.
    busy: Mutex<Vec<Group>>,
}

impl Pool {
    pub(super) fn new(num_seats: usize, first: Process) -> Self {
        let mut free: Vec<Option<Process>> = (1..num_seats).map(|_| None).collect();
        free.push(Some(first));
        Self { free: Mutex::new(free), freed: Condvar::new(), busy: Mutex::default() }
    }

    /// Waits for a free seat, which is soon: whoever sits on one has a deadline.
    pub(super) fn seat(&self) -> Seat<'_> {
        let mut free = locked(&self.free);
        loop {
            // The last is the one that was used last, which is likely to have started.
            if let Some(process) = free.pop() {
                return Seat { pool: self, process };
            }
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn watch(&self, process: &Process) {
        locked(&self.busy).push(process.group());
    }

    /// Whether the copy may answer again: one that was killed behind its answer looks alive for a moment.
    pub(super) fn forget(&self, process: &Process) -> bool {
        let mut busy = locked(&self.busy);
        let place = busy.iter().position(|group| *group == process.group());
        place.map(|place| busy.swap_remove(place)).is_some()
    }

    /// Kills every copy. Those that are answering end for whoever asked them as if they had died.
    pub(super) fn kill_all(&self) {
        for seat in locked(&self.free).iter_mut() {
            *seat = None;
        }
        for group in locked(&self.busy).drain(..) {
            group.kill();
        }
    }
}

/// A right to run one copy, given back on drop.
pub(super) struct Seat<'a> {
    pool: &'a Pool,
    process: Option<Process>,
}

impl Seat<'_> {
    pub(super) fn take(&mut self) -> Option<Process> {
        self.process.take()
    }

    pub(super) fn put(&mut self, process: Process) {
        self.process = Some(process);
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let process = self.process.take();
        let mut free = locked(&self.pool.free);
        match process {
            Some(process) => free.push(Some(process)),
            // Empty seats go to the bottom, so that copies that run are taken first.
            None => free.insert(0, None),
        }
        drop(free);
        self.pool.freed.notify_one();
    }
}

/// A list of processes is as good after a panic as before.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
