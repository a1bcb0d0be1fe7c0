//! How errors are shown: one line, causes after colons.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `error: what: why`.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    format!("error: {}", chain(error))
}

/// `what: why`, each part once, all on one line: what others wrote (a verifier's traceback) has several.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut last = String::new();
    for cause in error.chain() {
        let part = joined(&cause.to_string());
        // many errors repeat their cause in their own text
        if !last.contains(&part) {
            parts.push(part.clone());
        }
        last = part;
    }
    parts.join(": ")
}

fn joined(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" | ")
}

static SILENT: AtomicBool = AtomicBool::new(false);

/// The first panic of a silent part: a lost kernel makes others panic, on threads of the backend too.
static FIRST: Mutex<Option<String>> = Mutex::new(None);

fn first() -> MutexGuard<'static, Option<String>> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a part whose panics mean that something is not there; nothing is printed of them.
///
/// # Errors
/// What the first of them said, in one line.
pub(crate) fn silently<R>(part: impl FnOnce() -> R) -> Result<R, String> {
    *first() = None;
    SILENT.store(true, Ordering::Relaxed);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(part));
    SILENT.store(false, Ordering::Relaxed);
    result.map_err(|_| first().take().unwrap_or_else(|| "it panicked".to_owned()))
}

/// A panic is a mistake of ours: say so, with the place, and how to report it.
pub(crate) fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if SILENT.load(Ordering::Relaxed) {
            first().get_or_insert_with(|| joined(&panic.to_string()));
            return;
        }
        // whoever read our output is gone (`percept eval ... | head`): nobody is left to tell
        if panic.to_string().contains("failed printing to stdout") {
            std::process::exit(141);
        }
        let text = panic.to_string();
        if percept_trainer::is_out_of_memory(&text) {
            // a step is done again with less at once, and says so
            let line = text.lines().find(|line| percept_trainer::is_out_of_memory(line)).unwrap_or(&text);
            eprintln!("out of memory: {}", line.trim());
            return;
        }
        eprintln!("error: internal mistake, please report it with this line: {}", joined(&panic.to_string()));
    }));
}

#[cfg(test)]
mod tests {
    use super::{one_line, quiet_panics, silently};
    use anyhow::{Context, anyhow};

    #[test]
    fn a_silent_part_says_what_stopped_it_first() {
        let before = std::panic::take_hook();
        quiet_panics();
        let said = silently(|| {
            let _ = std::panic::catch_unwind(|| panic!("the cause"));
            panic!("what followed");
        });
        std::panic::set_hook(before);
        let why = said.expect_err("it panicked");
        assert!(why.contains("the cause") && !why.contains("what followed"), "{why}");
        assert_eq!(silently(|| 5), Ok(5));
    }

    #[test]
    fn causes_stand_behind_what_they_cause_once() {
        let error = Err::<(), _>(anyhow!("no such file")).context("config.json: no such file").unwrap_err();
        assert_eq!(one_line(&error), "error: config.json: no such file");
        let error = Err::<(), _>(anyhow!("b")).context("a").unwrap_err();
        assert_eq!(one_line(&error), "error: a: b");
        assert_eq!(one_line(&anyhow!("it said:\nfirst\n\n  second\n")), "error: it said: | first | second");
    }
}
