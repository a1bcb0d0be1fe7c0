//! What a run tells of itself while it goes on, beside the metrics of its steps.

use crate::CollectedGroup;
use serde_json::Value;

/// Something that a run begins or has made.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A step begins, the first being 1.
    Step(u64),
    /// A phase begins: `data`, `rollout`, `reward`, `reference`, `corrupted`, `behavior`, `update`, `validation`, `checkpoint`.
    Phase(&'static str),
    /// Rows that the validation has done, of how many.
    Rows(usize, usize),
    /// A verified group, whether it is learned from or not.
    Sampled(&'a CollectedGroup),
    /// A step samples no more; also when what it has is not enough.
    Collected(u64),
    /// Lines of `samples.jsonl`, as they are written.
    Samples(&'a [Value]),
}

/// Told of events on the thread that trains: it must not keep it waiting.
pub type Watch<'a> = &'a dyn Fn(Event<'_>);
