//! Work on several threads, with a limit for each piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often the limits are looked at.
const TICK: Duration = Duration::from_millis(20);

/// What became of one piece of work.
pub(crate) struct Answer<T> {
    pub(crate) job: usize,
    /// `None` when its limit ran out.
    pub(crate) result: Option<T>,
}

enum Report<T> {
    Begun(usize, Instant),
    Ended(usize, T),
}

/// Does the jobs `0..num_jobs` with `work` on `num_threads` threads, and hands every outcome to `settle` on this one,
/// in the order in which they end. A job that takes longer than its limit is given up on, and another thread takes the
/// place of its own.
///
/// # Errors
/// The first error of `settle`; jobs that have not begun are then left.
pub(crate) fn run<T: Send + 'static, E>(
    num_jobs: usize,
    num_threads: usize,
    work: impl Fn(usize) -> T + Send + Sync + 'static,
    limit: impl Fn(usize) -> Duration,
    mut settle: impl FnMut(Answer<T>) -> Result<(), E>,
) -> Result<(), E> {
    let (sender, reports) = channel();
    let crew = Crew { work: Arc::new(work), queue: Arc::default(), num_jobs, sender };
    (0..num_threads.min(num_jobs)).for_each(|_| crew.hire());
    let outcome = watch(&crew, &reports, num_jobs, limit, &mut settle);
    crew.queue.is_stopped.store(true, Ordering::Relaxed);
    outcome
}

fn watch<T: Send + 'static, W: Fn(usize) -> T + Send + Sync + 'static, E>(
    crew: &Crew<T, W>,
    reports: &Receiver<Report<T>>,
    num_jobs: usize,
    limit: impl Fn(usize) -> Duration,
    settle: &mut impl FnMut(Answer<T>) -> Result<(), E>,
) -> Result<(), E> {
    let mut running: Vec<(usize, Instant)> = Vec::new();
    let mut num_settled = 0;
    while num_settled < num_jobs {
        match reports.recv_timeout(TICK) {
            Ok(Report::Begun(job, since)) => running.push((job, since)),
            Ok(Report::Ended(job, result)) => {
                // A job that is no longer listed has been settled without its result.
                if let Some(at) = running.iter().position(|(other, _)| *other == job) {
                    running.swap_remove(at);
                    num_settled += 1;
                    settle(Answer { job, result: Some(result) })?;
                }
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("the crew holds a sender"),
        }
        while let Some(at) = running.iter().position(|(job, since)| since.elapsed() > limit(*job)) {
            let (job, _) = running.swap_remove(at);
            num_settled += 1;
            crew.hire();
            settle(Answer { job, result: None })?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Queue {
    next: AtomicUsize,
    is_stopped: AtomicBool,
}

/// The threads and what they share.
struct Crew<T, W> {
    work: Arc<W>,
    queue: Arc<Queue>,
    num_jobs: usize,
    sender: Sender<Report<T>>,
}

impl<T: Send + 'static, W: Fn(usize) -> T + Send + Sync + 'static> Crew<T, W> {
    /// One more thread, which takes jobs until there are none.
    fn hire(&self) {
        let (work, queue, sender) = (Arc::clone(&self.work), Arc::clone(&self.queue), self.sender.clone());
        let num_jobs = self.num_jobs;
        thread::spawn(move || {
            while !queue.is_stopped.load(Ordering::Relaxed) {
                let job = queue.next.fetch_add(1, Ordering::Relaxed);
                if job >= num_jobs || sender.send(Report::Begun(job, Instant::now())).is_err() {
                    return;
                }
                if sender.send(Report::Ended(job, work(job))).is_err() {
                    return;
                }
            }
        });
    }
}
