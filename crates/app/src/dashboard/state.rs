//! What the dashboard knows of a run: written by the thread that trains, read by the one that draws.

use super::curve::Curve;
use percept_trainer::{Event, Metrics};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Curves in the order in which they are shown: title and metric. What an objective adds of its own comes behind them.
const CURVES: &[(&str, &str)] = &[
    ("reward", "reward/overall"),
    ("accuracy", "reward/accuracy"),
    ("validation", "validation/accuracy"),
    ("loss", "sft/loss"),
    ("KL_prcp", "objective/kl_prcp"),
    ("KL ref", "objective/reference_kl"),
    ("entropy", "objective/entropy"),
    ("nll", "objective/nll"),
    ("tokens", "response/length_mean"),
    ("longest", "response/length_max"),
    ("cut", "response/cut_fraction"),
    ("clip high", "objective/clip_fraction_high"),
    ("clip low", "objective/clip_fraction_low"),
    ("grad", "optimizer/grad_norm"),
    ("rate", "optimizer/learning_rate"),
    ("tok/s", "speed/tokens_per_second"),
    ("seconds", "time/step_seconds"),
    ("MiB", "memory/peak_rss_mib"),
];

/// Messages that are kept to be shown and repeated.
const MOST_MESSAGES: usize = 1000;

/// A response that was sampled in the last step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) problem: String,
    pub(super) response: String,
    pub(super) reward: f64,
    pub(super) correct: bool,
}

pub(super) struct State {
    pub(super) what: String,
    pub(super) steps: u64,
    /// Steps done; nothing before the first is.
    pub(super) done: Option<u64>,
    pub(super) begun: Instant,
    /// The step that goes on, and since when.
    pub(super) step: Option<(u64, Instant)>,
    pub(super) phase: Option<(&'static str, Instant)>,
    /// Rows that the validation has done, of how many.
    pub(super) rows: Option<(usize, usize)>,
    pub(super) curves: Vec<Curve>,
    /// Seconds of the last step, and of its phases, the longest first.
    pub(super) seconds: Option<f64>,
    pub(super) phases: Vec<(String, f64)>,
    /// Number of steps that were timed here, for what is left.
    timed: (u64, f64),
    pub(super) sampled_in: u64,
    pub(super) samples: Vec<Sample>,
    pub(super) messages: VecDeque<String>,
    /// Messages that were too many to be kept.
    pub(super) forgotten: usize,
    pub(super) selected: usize,
}

impl State {
    pub(super) fn new(what: &str, steps: u64) -> Self {
        Self {
            what: what.to_owned(),
            steps,
            done: None,
            begun: Instant::now(),
            step: None,
            phase: None,
            rows: None,
            curves: CURVES.iter().map(|(title, metric)| Curve::new(title, metric)).collect(),
            seconds: None,
            phases: Vec::new(),
            timed: (0, 0.0),
            sampled_in: 0,
            samples: Vec::new(),
            messages: VecDeque::new(),
            forgotten: 0,
            selected: 0,
        }
    }

    /// Takes in what the run tells.
    pub(super) fn watch(&mut self, event: Event<'_>) {
        let now = Instant::now();
        match event {
            Event::Step(step) => {
                // a run that was resumed has done those before
                self.done = self.done.or(Some(step - 1));
                self.step = Some((step, now));
                self.phase = None;
            }
            Event::Phase(phase) => {
                self.rows = None;
                self.phase = Some((phase, now));
            }
            Event::Rows(done, total) => self.rows = Some((done, total)),
            Event::Samples(lines) => {
                self.sampled_in = self.step.map_or(0, |(step, _)| step);
                self.samples = lines.iter().filter_map(sample).collect();
            }
            Event::Sampled(_) | Event::Collected(_) => {}
        }
    }

    /// Takes in the metrics of a step that is done.
    pub(super) fn report(&mut self, step: u64, metrics: &Metrics) {
        self.done = Some(step);
        for (metric, &value) in &metrics.0 {
            match self.curves.iter_mut().find(|curve| curve.metric == *metric) {
                Some(curve) => curve.push(step, value),
                None => {
                    // an objective's or a rubric's own
                    let own = metric.strip_prefix("objective/").or_else(|| metric.strip_prefix("reward/"));
                    if let Some(title) = own {
                        let mut curve = Curve::new(title, metric);
                        curve.push(step, value);
                        self.curves.push(curve);
                    }
                }
            }
        }
        if let Some(seconds) = metrics.get("time/step_seconds") {
            self.seconds = Some(seconds);
            self.timed = (self.timed.0 + 1, self.timed.1 + seconds);
            let phase = |(metric, &seconds): (&String, &f64)| {
                let name = metric.strip_prefix("time/")?.strip_suffix("_seconds")?;
                (name != "step").then(|| (name.to_owned(), seconds))
            };
            self.phases = metrics.0.iter().filter_map(phase).collect();
            self.phases.sort_by(|a, b| b.1.total_cmp(&a.1));
        }
    }

    /// Takes in a line that somebody printed.
    pub(super) fn message(&mut self, line: String) {
        if self.messages.len() == MOST_MESSAGES {
            self.messages.pop_front();
            self.forgotten += 1;
        }
        self.messages.push_back(line);
    }

    /// Curves that have something to show.
    pub(super) fn drawn(&self) -> Vec<&Curve> {
        self.curves.iter().filter(|curve| !curve.points().is_empty()).collect()
    }

    /// Moves the first curve that is shown.
    pub(super) fn select(&mut self, by: isize) {
        let count = self.drawn().len().max(1) as isize;
        self.selected = (self.selected as isize + by).rem_euclid(count) as usize;
    }

    /// How long the rest takes if steps go on as they did.
    pub(super) fn left(&self) -> Option<Duration> {
        let (count, seconds) = self.timed;
        let left = self.steps.saturating_sub(self.done?);
        (count > 0).then(|| Duration::from_secs_f64(seconds / count as f64 * left as f64))
    }
}

fn sample(line: &Value) -> Option<Sample> {
    let text = |key: &str| Some(in_one_line(line.get(key)?.as_str()?));
    Some(Sample {
        // where its pictures stand is no news
        problem: text("problem")?.replace("<image>", ""),
        response: text("response")?,
        reward: line.get("reward").and_then(Value::as_f64).unwrap_or(f64::NAN),
        correct: line.get("correct").and_then(Value::as_bool).unwrap_or(false),
    })
}

/// Text as it fits into a line: what a model writes may have lines, and what moves a terminal's cursor.
fn in_one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().map(|c| if c.is_control() { '\u{b7}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_step_is_taken_in() {
        let mut state = State::new("training", 10);
        state.watch(Event::Step(4));
        assert_eq!(state.done, Some(3), "a resumed run has done three");
        state.watch(Event::Phase("rollout"));
        let line = json!({"problem": "<image>How\nmany?", "response": "a\u{1b}[2Jb", "reward": 0.9, "correct": true});
        state.watch(Event::Samples(&[line]));
        assert_eq!(state.sampled_in, 4);
        assert_eq!((&*state.samples[0].problem, &*state.samples[0].response), ("How many?", "a\u{b7}[2Jb"));
        let mut metrics = Metrics::default();
        let numbers = [
            ("reward/overall", 0.5),
            ("objective/mine", 2.0),
            ("time/step_seconds", 4.0),
            ("time/rollout_seconds", 1.0),
            ("time/update_seconds", 3.0),
        ];
        numbers.iter().for_each(|(name, value)| metrics.set(*name, *value));
        state.report(4, &metrics);
        let names: Vec<&str> = state.drawn().iter().map(|curve| &*curve.title).collect();
        assert_eq!(names, ["reward", "seconds", "mine"]);
        assert_eq!(state.phases, [("update".to_owned(), 3.0), ("rollout".to_owned(), 1.0)]);
        assert_eq!(state.left(), Some(Duration::from_secs(24)));
        state.select(-1);
        assert_eq!(state.selected, 2);
    }

    #[test]
    fn the_newest_messages_are_kept() {
        let mut state = State::new("training", 1);
        (0..MOST_MESSAGES + 5).for_each(|number| state.message(number.to_string()));
        assert_eq!((state.messages.len(), state.forgotten), (MOST_MESSAGES, 5));
        assert_eq!(state.messages.back().map(String::as_str), Some("1004"));
    }
}
