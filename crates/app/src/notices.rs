//! Warnings of the parts, on standard error: `warning: what happened`. The same place in the code says it at most a few times in a row,
//! so that a verifier that fails at every response floods nothing.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};

/// How often a place speaks before it only speaks at powers of two.
const PATIENCE: u64 = 5;

/// Shows warnings from now on.
pub(crate) fn install() {
    // a researcher's program may have its own
    let _ = tracing::subscriber::set_global_default(Notices::new(|line| eprintln!("{line}")));
}

struct Notices {
    say: Box<dyn Fn(&str) + Send + Sync>,
    /// Times that each place has spoken.
    counts: Mutex<HashMap<tracing::callsite::Identifier, u64>>,
}

impl Notices {
    fn new(say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { say: Box::new(say), counts: Mutex::default() }
    }
}

impl Subscriber for Notices {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // libraries warn of what their callers handle
        let own = metadata.target().starts_with("percept");
        *metadata.level() == Level::ERROR || (own && *metadata.level() == Level::WARN)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(event.metadata().callsite()).or_default();
        *count += 1;
        let count = *count;
        drop(counts);
        if count > PATIENCE && !count.is_power_of_two() {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let level = if *event.metadata().level() == Level::ERROR { "error" } else { "warning" };
        let often = if count > PATIENCE { format!(" (the {count}th such)") } else { String::new() };
        (self.say)(&format!("{level}: {}{}{often}", words.message, words.fields));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event's message, and its fields behind it.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // writing to a string does not fail
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name} {value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_place_that_warns_all_the_time_is_heard_less_and_less() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = heard.clone();
        let notices = Notices::new(move |line| into.lock().expect("lines").push(line.to_owned()));
        tracing::subscriber::with_default(notices, || {
            for number in 0..40 {
                tracing::warn!(verifier = "judge", "scored 0: {number}");
            }
            tracing::info!("not a warning");
        });
        let heard = heard.lock().expect("lines");
        assert_eq!(heard[0], "warning: scored 0: 0, verifier \"judge\"");
        assert_eq!(heard.len(), 5 + 3, "five, and then 8, 16, 32: {heard:?}");
        assert_eq!(heard[7], "warning: scored 0: 31, verifier \"judge\" (the 32th such)");
    }
}
