//! What a run is doing, and for how long: a part that outlasts its deadline is told, with what it waits for.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The part of a step that is going on; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Now {
    step: u64,
    /// Parts that are going on, the innermost last.
    phases: Vec<(&'static str, Instant)>,
    over: bool,
}

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beat {
    /// The step, from 1.
    pub step: u64,
    pub phase: &'static str,
    pub seconds: f64,
}

impl Pulse {
    pub(crate) fn step(&self, step: u64) {
        self.lock().step = step;
    }

    pub(crate) fn enter(&self, phase: &'static str) {
        self.lock().phases.push((phase, Instant::now()));
        self.0.changed.notify_all();
    }

    pub(crate) fn leave(&self) {
        self.lock().phases.pop();
        self.0.changed.notify_all();
    }

    /// What is going on, between parts nothing.
    pub fn beat(&self) -> Option<Beat> {
        let now = self.lock();
        let &(phase, since) = now.phases.last()?;
        Some(Beat { step: now.step, phase, seconds: since.elapsed().as_secs_f64() })
    }

    /// Watches from a thread of its own until the guard is dropped: `tell` hears of a part when it has lasted `deadline`, and again each time
    /// that this has doubled.
    pub fn watch(&self, deadline: Duration, tell: impl Fn(&Beat) + Send + 'static) -> Watched {
        let pulse = self.clone();
        let thread = (!deadline.is_zero()).then(|| std::thread::spawn(move || pulse.keep_watch(deadline, &tell)));
        Watched { pulse: self.clone(), thread }
    }

    fn keep_watch(&self, deadline: Duration, tell: &dyn Fn(&Beat)) {
        let mut now = self.lock();
        // of the part that was told last: when it began, and when it is told again
        let mut told: Option<(Instant, Duration)> = None;
        while !now.over {
            let Some(&(phase, since)) = now.phases.last() else {
                now = self.0.changed.wait(now).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let due = told.filter(|(known, _)| *known == since).map_or(deadline, |(_, next)| next);
            let lasted = since.elapsed();
            if lasted < due {
                let waited = self.0.changed.wait_timeout(now, due - lasted);
                now = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            told = Some((since, due * 2));
            let beat = Beat { step: now.step, phase, seconds: lasted.as_secs_f64() };
            drop(now);
            tell(&beat);
            now = self.lock();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the watch.
pub struct Watched {
    pulse: Pulse,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.pulse.lock().over = true;
        self.pulse.0.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // the pulse can be watched again
        self.pulse.lock().over = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_part_that_outlasts_its_deadline_is_told_with_its_step() {
        let pulse = Pulse::default();
        let (told, heard) = channel();
        let watched = pulse.watch(Duration::from_millis(50), move |beat| told.send(*beat).expect("a listener"));
        pulse.step(3);
        for _ in 0..20 {
            // together they last, each alone does not
            pulse.enter("data");
            std::thread::sleep(Duration::from_millis(5));
            pulse.leave();
        }
        assert!(heard.try_recv().is_err(), "nothing lasted");
        pulse.enter("reward");
        let first = heard.recv_timeout(Duration::from_secs(20)).expect("told");
        assert_eq!((first.step, first.phase), (3, "reward"));
        assert!(first.seconds >= 0.05, "{first:?}");
        let second = heard.recv_timeout(Duration::from_secs(20)).expect("told again");
        assert!(second.phase == "reward" && second.seconds >= 0.1, "{second:?}");
        assert!(pulse.beat().is_some_and(|beat| beat.phase == "reward"));
        pulse.leave();
        assert_eq!(pulse.beat(), None);
        drop(watched);
    }
}
