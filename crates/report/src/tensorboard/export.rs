//! A run directory as an event file.

use super::{EventWriter, Moment, Picture};
use crate::kept::{KeptPictures, KeptSamples};
use crate::samples::Sample;
use crate::{Metrics, ReportError, png, run};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// What [`export`] calls its file: always the same, so that a later export takes the place of the earlier one.
pub const FILE_NAME: &str = "events.out.tfevents.0000000000.percept";

/// Texts and pictures are kept of as many steps as fit, evenly: TensorBoard holds the whole file in memory.
const MAX_TEXT_BYTES: u64 = 32 << 20;
const MAX_PICTURE_BYTES: u64 = 64 << 20;

/// What [`export`] wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exported {
    /// The event file.
    pub path: PathBuf,
    /// Numbers written.
    pub num_scalars: usize,
    /// Prompts with their responses written.
    pub num_texts: usize,
    /// Pictures written, masked ones too.
    pub num_pictures: usize,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// Writes the metrics and samples of a run into the folder `out`, which `tensorboard --logdir` can be given.
///
/// Metrics carry no time of day: that of the last step is when `metrics.jsonl` was last written, and earlier steps lie
/// before it by their `time/step_seconds`.
///
/// # Errors
/// When a file of the run cannot be read, or the event file not be written.
pub fn export(run: &Path, out: &Path) -> Result<Exported, ReportError> {
    let metrics = Metrics::read(run)?;
    let samples = KeptSamples::read(run, MAX_TEXT_BYTES)?;
    let pictures = KeptPictures::choose(run, &samples, MAX_PICTURE_BYTES);
    let mut exported = Exported { path: out.join(FILE_NAME), ..Exported::default() };
    exported.notes = [&metrics.notes, &samples.notes, &pictures.notes].into_iter().flatten().cloned().collect();
    let clock = Clock::new(run, &metrics);
    let path = exported.path.clone();
    run::write_whole(&path, |file| {
        let mut writer = EventWriter::new(file, clock.start)?;
        let steps: BTreeSet<u64> = metrics.steps.iter().chain(samples.steps.keys()).copied().collect();
        for step in steps {
            let at = Moment { step, wall_time: clock.at(step) };
            if let Ok(row) = metrics.steps.binary_search(&step) {
                let values = metrics.columns.iter().filter_map(|(name, column)| Some((name.as_str(), column[row]?)));
                exported.num_scalars += values.clone().count();
                writer.scalars(at, values)?;
            }
            for (at_prompt, responses) in samples.prompts(step).iter().enumerate() {
                writer.text(at, &format!("samples/prompt_{at_prompt}"), &markdown(responses))?;
                exported.num_texts += 1;
                exported.num_pictures += write_pictures(&mut writer, at, at_prompt, responses[0], &pictures)?;
            }
        }
        writer.flush()
    })?;
    Ok(exported)
}

/// When each step was done.
struct Clock {
    start: f64,
    steps: Vec<u64>,
    times: Vec<f64>,
}

impl Clock {
    fn new(run: &Path, metrics: &Metrics) -> Self {
        let written = run.join("metrics.jsonl").metadata().and_then(|metadata| metadata.modified());
        let end =
            written.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0.0, |age| age.as_secs_f64());
        let column = metrics.columns.get("time/step_seconds");
        let seconds = |row: usize| column.and_then(|column| column[row]).filter(|seconds| seconds.is_finite());
        let mut time = 0.0;
        let mut times: Vec<f64> = Vec::with_capacity(metrics.steps.len());
        for row in 0..metrics.steps.len() {
            time += seconds(row).unwrap_or(0.0);
            times.push(time);
        }
        let start = end - time;
        Self { start, steps: metrics.steps.clone(), times: times.iter().map(|time| start + time).collect() }
    }

    /// Of a step without metrics, that of the step before it.
    fn at(&self, step: u64) -> f64 {
        let before = self.steps.partition_point(|known| *known <= step);
        before.checked_sub(1).map_or(self.start, |row| self.times[row])
    }
}

/// A prompt with its responses. What the run wrote stands in code blocks, where Markdown leaves it alone.
fn markdown(responses: &[&Sample]) -> String {
    let first = responses[0];
    let mut text = format!(
        "**{}**\n\n{}\nanswer\n\n{}",
        first.row.replace('*', "\\*"),
        block(&first.problem),
        block(&first.answer)
    );
    for sample in responses {
        let number = |value: Option<f64>| value.map_or("not finite".to_owned(), |value| format!("{value:.4}"));
        let verdict = if sample.is_correct() { "right" } else { "wrong" };
        let (reward, advantage) = (number(sample.reward), number(sample.advantage));
        write!(text, "\n{verdict}, reward {reward}, advantage {advantage}, {} tokens\n\n", sample.tokens)
            .expect("a string takes everything");
        text.push_str(&block(&sample.response));
    }
    text
}

fn block(text: &str) -> String {
    text.split('\n').map(|line| format!("    {line}\n")).collect()
}

fn write_pictures<W: Write>(
    writer: &mut EventWriter<W>,
    at: Moment,
    prompt: usize,
    sample: &Sample,
    pictures: &KeptPictures,
) -> io::Result<usize> {
    let mut written = 0;
    for (kind, all) in [("picture", &sample.picture), ("masked_picture", &sample.masked_picture)] {
        for (slot, path) in all.paths().iter().enumerate() {
            let Some(png) = pictures.read(path) else { continue };
            let Some((width, height)) = png::size(&png) else { continue };
            // TensorBoard shows the first caption of a tag with all its pictures
            let caption = format!("{kind} of the prompt whose text is samples/prompt_{prompt}");
            let picture = Picture { png: &png, width, height, caption: &caption };
            // slots of one prompt are told apart, and a prompt of one picture has the shorter tag
            let slot = if slot == 0 { String::new() } else { format!("_{slot}") };
            writer.image(at, &format!("samples/prompt_{prompt}/{kind}{slot}"), &picture)?;
            written += 1;
        }
    }
    Ok(written)
}
