//! `command`: any external program that judges responses, one line of JSON in, one line out.
//!
//! Request: `{"id": 7, "problem": "...", "response": "...", "answer": "..."}`. Reply: `{"id": 7, "score": 1.0}`;
//! further keys are ignored. The program keeps running and answers one request after the other; it ends when its
//! stdin does. Several copies of it work at once.
//!
//! A program cannot hang training: requests are written and replies awaited by threads of their own, and when an item's
//! time is up, the program and all that it has started are killed and a fresh copy takes its place.

mod pool;
mod process;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::RewardError;
use crate::verifier::{Item, Verifier};
use pool::Pool;
use process::{Ended, Process};

/// The longest piece of a wrong reply that a message shows, in characters.
const LONGEST_QUOTE: usize = 300;

/// The most copies of a program.
const MOST_WORKERS: usize = 1024;
/// The longest limit: three years, which the clock can still count.
const MOST_SECONDS: f64 = 1e8;

/// `kind = "command"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// The program and its arguments: `["python3", "judge.py"]`. No shell stands between.
    pub command: Vec<String>,
    /// Where it runs. Default: where this program runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Variables added to its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// How many copies run, at most 1024. Default: 1.
    #[serde(default = "one")]
    pub workers: usize,
    /// The longest it may take for one item, in seconds. Default: 10.
    #[serde(default = "ten")]
    pub timeout_seconds: f64,
    /// What a copy's first item may take on top of that, for the program to start. Default: 20.
    #[serde(default = "twenty")]
    pub start_seconds: f64,
    /// The lowest score. Default: 0.
    #[serde(default)]
    pub lowest: f32,
    /// The highest score. Default: 1.
    #[serde(default = "highest")]
    pub highest: f32,
}

fn one() -> usize {
    1
}

fn ten() -> f64 {
    10.0
}

fn twenty() -> f64 {
    20.0
}

fn highest() -> f32 {
    1.0
}

impl CommandConfig {
    /// What is wrong with the settings, if anything is.
    pub(crate) fn complaint(&self) -> Option<String> {
        let seconds = |seconds: f64| (0.0..=MOST_SECONDS).contains(&seconds);
        if self.command.first().is_none_or(String::is_empty) {
            Some("`command` must name a program, such as [\"python3\", \"judge.py\"]".to_owned())
        } else if !(1..=MOST_WORKERS).contains(&self.workers) {
            Some(format!("`workers` must be from 1 to {MOST_WORKERS}, found {}", self.workers))
        } else if !seconds(self.timeout_seconds) || self.timeout_seconds == 0.0 {
            let found = self.timeout_seconds;
            Some(format!(
                "`timeout_seconds` must be a number of seconds above 0 and at most {MOST_SECONDS}, found {found}"
            ))
        } else if !seconds(self.start_seconds) {
            let found = self.start_seconds;
            Some(format!("`start_seconds` must be a number of seconds from 0 to {MOST_SECONDS}, found {found}"))
        } else if !(self.lowest.is_finite() && self.highest.is_finite() && self.lowest < self.highest) {
            Some(format!("`lowest` must be below `highest`, found {} and {}", self.lowest, self.highest))
        } else {
            None
        }
    }

    /// The command as one would type it, for messages.
    fn shown(&self) -> String {
        self.command.join(" ")
    }
}

/// An external program that judges. Its copies are killed when this is dropped.
pub struct Command {
    config: CommandConfig,
    pool: Pool,
    num_requests: AtomicU64,
}

#[derive(Serialize)]
struct Request<'a> {
    id: u64,
    problem: &'a str,
    response: &'a str,
    answer: &'a str,
}

#[derive(Deserialize)]
struct Reply {
    id: u64,
    score: f32,
}

impl Command {
    /// Starts the first copy of the program; the others start when they are needed.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(config: CommandConfig) -> Result<Self, RewardError> {
        let pool = Pool::new(config.workers, Process::start(&config)?);
        Ok(Self { config, pool, num_requests: AtomicU64::new(0) })
    }

    fn ask(&self, process: &mut Process, item: &Item) -> Result<f32, RewardError> {
        let id = self.num_requests.fetch_add(1, Ordering::Relaxed);
        let request = Request { id, problem: item.problem, response: item.response, answer: item.answer };
        let line = serde_json::to_string(&request).map_err(|error| RewardError::failed(item.row, error))?;
        let seconds =
            self.config.timeout_seconds + if process.has_answered() { 0.0 } else { self.config.start_seconds };
        let (program, row) = (self.config.shown(), item.row.to_owned());
        match process.ask(line, Instant::now() + Duration::from_secs_f64(seconds)) {
            Ok(line) => self.score(id, &line).map_err(|reason| {
                let shown: String = line.chars().take(LONGEST_QUOTE).collect();
                let more = if shown.len() < line.len() { " ..." } else { "" };
                RewardError::Nonsense { program, row, id, reason, line: shown + more }
            }),
            Err(Ended::Late) => Err(RewardError::Timeout { program, row, seconds }),
            Err(Ended::Died { status, stderr }) => Err(RewardError::Died { program, row, status, stderr }),
        }
    }

    /// The score in a reply, or what is wrong with it.
    fn score(&self, id: u64, line: &str) -> Result<f32, String> {
        let reply: Reply = serde_json::from_str(line).map_err(|error| format!("what is no reply ({error})"))?;
        if reply.id != id {
            return Err(format!("request {} instead of {id}", reply.id));
        }
        let (lowest, highest) = (self.config.lowest, self.config.highest);
        if !(lowest..=highest).contains(&reply.score) {
            return Err(format!("a score outside of {lowest} to {highest}"));
        }
        Ok(reply.score)
    }
}

impl Verifier for Command {
    fn verify(&self, item: &Item) -> Result<f32, RewardError> {
        let mut seat = self.pool.seat();
        // A program may end between two requests, for instance after a fixed number of them.
        let mut process = match seat.take().and_then(Process::if_running) {
            Some(process) => process,
            None => Process::start(&self.config)?,
        };
        self.pool.watch(&process);
        let score = self.ask(&mut process, item);
        let is_alive = self.pool.forget(&process);
        // After an error nobody knows what the program will say next; it is dropped, and that kills it.
        if score.is_ok() && is_alive {
            seat.put(process);
        }
        score
    }

    /// Items wait for a free copy, so only the program's own limit counts; it is kept here.
    fn time_limit(&self) -> Option<Duration> {
        Some(Duration::MAX)
    }

    fn workers(&self) -> Option<usize> {
        Some(self.config.workers)
    }

    fn interrupt(&self) {
        self.pool.kill_all();
    }
}

#[cfg(all(test, unix))]
mod tests;
