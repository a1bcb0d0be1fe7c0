//! What is kept of a run's samples and pictures when all are too much.

use crate::samples::{self, Sample};
use crate::spread::spread;
use crate::{ReportError, png};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Samples of as many steps as fit, evenly spread.
pub(crate) struct KeptSamples {
    pub(crate) steps: BTreeMap<u64, Vec<Sample>>,
    /// Samples in the file.
    pub(crate) num_all: usize,
    pub(crate) notes: Vec<String>,
}

impl KeptSamples {
    /// Reads the file twice: once to measure, once to keep, so that no more is in memory than is kept.
    pub(crate) fn read(run: &Path, max_bytes: u64) -> Result<Self, ReportError> {
        let (mut sizes, mut num_all) = (BTreeMap::new(), 0);
        let mut notes = samples::for_each(run, |sample| {
            *sizes.entry(sample.step).or_insert(0) += text_bytes(&sample);
            num_all += 1;
            Ok(())
        })?;
        let kept = spread(&sizes, max_bytes);
        let mut steps: BTreeMap<u64, Vec<Sample>> = BTreeMap::new();
        samples::for_each(run, |sample| {
            if kept.contains(&sample.step) {
                steps.entry(sample.step).or_default().push(sample);
            }
            Ok(())
        })?;
        if kept.len() < sizes.len() {
            notes.push(format!(
                "{}: samples of {} of {} steps are kept, evenly spread: all would take more than {}",
                run.join("samples.jsonl").display(),
                kept.len(),
                sizes.len(),
                mebibytes(max_bytes)
            ));
        }
        Ok(Self { steps, num_all, notes })
    }

    /// The samples of a step by prompt, in the order of the file.
    pub(crate) fn prompts(&self, step: u64) -> Vec<Vec<&Sample>> {
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut prompts: Vec<Vec<&Sample>> = Vec::new();
        for sample in self.steps.get(&step).into_iter().flatten() {
            let place = *places.entry(sample.prompt_key()).or_insert(prompts.len());
            if place == prompts.len() {
                prompts.push(Vec::new());
            }
            prompts[place].push(sample);
        }
        prompts
    }
}

/// About what a sample takes on a page.
fn text_bytes(sample: &Sample) -> u64 {
    let pieces = sample.pieces.iter().flatten().map(|piece| piece.len() + 3).sum::<usize>();
    let numbers = sample.divergence.as_ref().map_or(0, |numbers| 6 * numbers.len());
    let text = if pieces > 0 { pieces } else { sample.response.len() };
    (sample.problem.len() + sample.answer.len() + text + numbers + 200) as u64
}

/// Which pictures are shown.
pub(crate) struct KeptPictures {
    run: PathBuf,
    chosen: BTreeSet<String>,
    pub(crate) notes: Vec<String>,
}

impl KeptPictures {
    /// Chooses steps, evenly spread, whose pictures take at most `max_bytes` together.
    pub(crate) fn choose(run: &Path, samples: &KeptSamples, max_bytes: u64) -> Self {
        let (mut missing, mut broken) = (BTreeSet::new(), BTreeSet::new());
        let mut known: BTreeMap<&str, u64> = BTreeMap::new();
        let mut by_step: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
        for sample in samples.steps.values().flatten() {
            for path in sample.picture.paths().iter().chain(sample.masked_picture.paths()) {
                if !known.contains_key(path.as_str()) {
                    match look(&run.join(path)) {
                        Look::Png(bytes) => drop(known.insert(path, bytes)),
                        Look::Missing => drop(missing.insert(path.as_str())),
                        Look::Broken => drop(broken.insert(path.as_str())),
                    }
                }
                if known.contains_key(path.as_str()) {
                    by_step.entry(sample.step).or_default().insert(path);
                }
            }
        }
        let size = |paths: &BTreeSet<&str>| paths.iter().map(|path| known[path]).sum();
        let sizes: BTreeMap<u64, u64> = by_step.iter().map(|(step, paths)| (*step, size(paths))).collect();
        let steps = spread(&sizes, max_bytes);
        let chosen: BTreeSet<String> =
            steps.iter().flat_map(|step| &by_step[step]).map(|path| (*path).to_owned()).collect();
        let mut notes = Vec::new();
        let mut tell = |paths: &BTreeSet<&str>, what: &str| {
            if let Some(first) = paths.first() {
                notes.push(format!("{}: {} pictures {what}, the first: {first}", run.display(), paths.len()));
            }
        };
        tell(&missing, "that samples.jsonl names are not there");
        tell(&broken, "are not PNG files and were left out");
        if chosen.len() < known.len() {
            notes.push(format!(
                "{}: {} of {} pictures were left out: those of {} of {} steps are kept, evenly spread, to stay below {}",
                run.display(),
                known.len() - chosen.len(),
                known.len(),
                steps.len(),
                sizes.len(),
                mebibytes(max_bytes)
            ));
        }
        Self { run: run.to_owned(), chosen, notes }
    }

    /// The file of a picture that is shown; `None` of one that is not, or that went away meanwhile.
    pub(crate) fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.chosen.contains(path).then(|| fs::read(self.run.join(path)).ok()).flatten()
    }
}

enum Look {
    Png(u64),
    Missing,
    Broken,
}

fn look(path: &Path) -> Look {
    use std::io::Read;
    let mut header = Vec::new();
    let read = fs::File::open(path).and_then(|file| {
        let bytes = file.metadata()?.len();
        file.take(64).read_to_end(&mut header)?;
        Ok(bytes)
    });
    match read {
        Ok(bytes) if png::size(&header).is_some() => Look::Png(bytes),
        Ok(_) => Look::Broken,
        Err(_) => Look::Missing,
    }
}

/// A limit in words.
fn mebibytes(bytes: u64) -> String {
    format!("{:.4} MiB", bytes as f64 / f64::from(1 << 20)).replace(".0000", "")
}
