//! `percept doctor`: samples a few prompts of a run and says what would keep it from learning.

mod observe;
mod print;
mod sample;
mod watch;

pub(crate) use watch::Watcher;

use crate::App;
use crate::device::DeviceFlag;
use crate::parts::Parts;
use crate::report::bar;
use crate::source::{Reading, Source};
use anyhow::ensure;
use percept_config::RunConfig;
use percept_doctor::{Finding, Observations, Severity, judge};
use percept_weights::write_atomically;
use sample::Sampled;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// The run's configuration
    pub(crate) config: PathBuf,
    /// Override a key, for example --set rollout.max_new_tokens=512 (repeatable)
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    #[command(flatten)]
    pub(crate) device: DeviceFlag,
    /// Prompts to sample
    #[arg(long, default_value_t = 8)]
    pub(crate) prompts: usize,
    /// Responses to each prompt; default: as many as the run samples, at most 8
    #[arg(long)]
    pub(crate) responses: Option<usize>,
    /// Rows of the training data to check, spread over all of it
    #[arg(long, default_value_t = 512)]
    pub(crate) rows: usize,
    /// Write what was seen and found here, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Everything that the doctor says.
pub(crate) struct Examination<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) responses: usize,
    /// Rows in all, of which some were checked.
    pub(crate) num_rows: usize,
    pub(crate) seen: &'a Observations,
    pub(crate) sampled: &'a [Sampled],
    pub(crate) findings: &'a [Finding],
}

impl Examination<'_> {
    pub(crate) fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

pub(crate) fn run(app: &App, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    ensure!(arguments.prompts > 0, "--prompts must be at least 1");
    ensure!(arguments.rows > 0, "--rows must be at least 1");
    let run = RunConfig::load(&arguments.config, &arguments.device.over(&arguments.sets)?)?;
    ensure!(!run.data.train.is_empty(), "data.train is missing: name the parquet or JSONL files to train on");
    let responses = arguments.responses.unwrap_or(run.rollout.responses_per_prompt.min(8));
    ensure!(responses >= 2, "--responses must be at least 2: an advantage compares the responses to one prompt");
    let parts = Parts::new(run)?;
    let objective = parts.objective(app)?;
    let grader = parts.grader(app)?;
    let mut seen = observe::facts(&parts, &grader.rubric);

    let set = parts.data_set(&parts.run.data.train, false)?;
    let num_rows = set.len();
    let chosen = spread(num_rows, arguments.rows);
    // bad rows are counted, whether the run would stop at them or not
    let reading = Reading {
        seed: parts.run.trainer.seed,
        shuffle: parts.run.data.shuffle,
        solutions: false,
        skip_bad: true,
        limit: None,
    };
    let mut source = Source::survey(set, parts.preparation.clone(), &reading, &chosen, &bar("checking rows"))?;
    (seen.rows, seen.pictures) = (Some(source.rows.clone()), source.pictures.clone());
    let rows = chosen.iter().filter_map(|&index| source.raw(index).ok());
    let rows: Vec<observe::TrueAnswer> = rows.map(observe::TrueAnswer::from).collect();
    seen.answers = observe::answers(&parts, &grader.rubric, &rows);

    let sampled = sample::sample(&parts, &*objective, &grader.rubric, &mut source, arguments.prompts, responses)?;
    seen.prompts = sampled.iter().map(|group| observe::prompt(&parts, &group.task)).collect();
    seen.groups = sampled.iter().map(Sampled::seen).collect();
    let findings = judge(&seen);
    let examination =
        Examination { parts: &parts, responses, num_rows, seen: &seen, sampled: &sampled, findings: &findings };
    print::print(&examination);
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&print::json(&examination))?;
        write_atomically(path, |file| writeln!(file, "{text}"))?;
    }
    let healthy = examination.count(Severity::Error) == 0;
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// At most so many of `0..all`, at equal distances.
fn spread(all: usize, most: usize) -> Vec<usize> {
    let count = all.min(most);
    (0..count).map(|i| i * all / count).collect()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn rows_are_spread_over_all() {
        assert_eq!(spread(3, 8), [0, 1, 2]);
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(0, 4), [0; 0]);
    }
}
