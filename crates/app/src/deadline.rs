//! A part of a step that outlasts its deadline is told, by a thread that only waits.

use percept_trainer::Event;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The part of a step that is going on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Beat {
    /// The step, from 1.
    pub(crate) step: u64,
    pub(crate) phase: &'static str,
    pub(crate) seconds: f64,
}

#[derive(Default)]
struct Shared {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    step: u64,
    /// The part that began last.
    phase: Option<(&'static str, Instant)>,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches until it is dropped.
pub(crate) struct Deadline {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Deadline {
    /// `tell` hears of a part when it has lasted this long, and again each time that this has doubled; never with a deadline of 0.
    pub(crate) fn start(deadline: Duration, tell: impl Fn(&Beat) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        let thread = (!deadline.is_zero()).then(|| std::thread::spawn(move || keep_watch(&watched, deadline, &tell)));
        Self { shared, thread }
    }

    /// Takes what a run tells of itself.
    pub(crate) fn hear(&self, event: &Event) {
        let mut now = self.shared.lock();
        match event {
            Event::Step(step) => now.step = *step,
            Event::Phase(phase) => now.phase = Some((phase, Instant::now())),
            _ => return,
        }
        drop(now);
        self.shared.changed.notify_all();
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep_watch(shared: &Shared, deadline: Duration, tell: &dyn Fn(&Beat)) {
    // of the part that was told last: when it began, and when it is told again
    let mut told: Option<(Instant, Duration)> = None;
    let mut now = shared.lock();
    while !now.over {
        let Some((phase, since)) = now.phase else {
            now = shared.changed.wait(now).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let due = told.filter(|(known, _)| *known == since).map_or(deadline, |(_, next)| next);
        let lasted = since.elapsed();
        if lasted < due {
            now = shared.changed.wait_timeout(now, due - lasted).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        told = Some((since, due * 2));
        let beat = Beat { step: now.step, phase, seconds: lasted.as_secs_f64() };
        drop(now);
        tell(&beat);
        now = shared.lock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_part_that_outlasts_its_deadline_is_told_with_its_step() {
        let (told, heard) = channel();
        let deadline = Deadline::start(Duration::from_millis(200), move |beat| told.send(*beat).expect("a listener"));
        deadline.hear(&Event::Step(3));
        for _ in 0..50 {
            // together they last, each alone does not
            deadline.hear(&Event::Phase("data"));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(heard.try_recv().is_err(), "nothing lasted");
        deadline.hear(&Event::Phase("reward"));
        let first = heard.recv_timeout(Duration::from_secs(20)).expect("told");
        assert_eq!((first.step, first.phase), (3, "reward"));
        assert!(first.seconds >= 0.2, "{first:?}");
        let second = heard.recv_timeout(Duration::from_secs(20)).expect("told again");
        assert!(second.phase == "reward" && second.seconds >= 0.4, "{second:?}");
    }
}
