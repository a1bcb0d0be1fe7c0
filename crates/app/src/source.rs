//! Rows of a data set as tasks: pictures decoded, corrupted and cut into patches, prompts tokenized and expanded.

use crate::shown::Shown;
use anyhow::Context;
use indicatif::ProgressBar;
use percept_core::{PicturePatches, Prompt, Task};
use percept_data::{DataSet, Row, Visits, fingerprint};
use percept_doctor::{PictureSeen, RowsSeen};
use percept_random::{Key, Purpose};
use percept_text::PromptBuilder;
use percept_trainer::{TaskSource, TrainError};
use percept_vision::{Alpha, Corruption, Limits, Picture, Pixels, Preprocessor, bound_pixels, decode};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// How rows become tasks.
pub(crate) struct Preparation {
    pub(crate) prompts: PromptBuilder,
    pub(crate) preprocessor: Preprocessor,
    pub(crate) limits: Limits,
    pub(crate) min_pixels: Option<u64>,
    pub(crate) max_pixels: Option<u64>,
    pub(crate) alpha: Alpha,
    pub(crate) max_prompt_tokens: usize,
    /// Whether the data set has pictures at all: without, `<image>` is an ordinary word.
    pub(crate) has_images: bool,
    /// Ends a solution.
    pub(crate) end_token: u32,
    pub(crate) seed: u64,
}

/// What became of a row.
enum Prepared {
    /// With its pictures' sizes before and after preprocessing.
    Task(Box<Task>, Vec<PictureSeen>),
    /// The prompt is longer than allowed, with its tokens.
    TooLong(usize),
}

impl Preparation {
    fn picture(&self, bytes: &[u8]) -> Result<Picture, percept_vision::VisionError> {
        let picture = decode(bytes, &self.limits)?;
        let has_alpha = matches!(picture.pixels(), Pixels::Rgba(_) | Pixels::GrayAlpha(_));
        if has_alpha && self.alpha == Alpha::OverWhite {
            // laid over white first, so that a masked cell is black and not transparent
            let rgb = picture.to_rgb(Alpha::OverWhite);
            return Ok(Picture::new(rgb.width, rgb.height, Pixels::Rgb(rgb.data)));
        }
        Ok(picture)
    }

    fn patches(&self, picture: &Picture) -> Result<PicturePatches, percept_vision::VisionError> {
        let bounded = bound_pixels(picture, self.min_pixels, self.max_pixels)?;
        let patches = self.preprocessor.preprocess(&bounded.to_rgb(self.alpha))?;
        Ok(PicturePatches { rows: patches.rows.into(), grid: patches.grid })
    }

    /// A row as a task, with the pictures of `donor` if there is one. `name` names the prompt in random streams; `shown` corrupts what
    /// the policy is shown, `masked` makes the twin of each masked view, where it makes one.
    fn task(
        &self,
        row: Row,
        donor: Option<&Row>,
        name: u64,
        shown: Option<&dyn Corruption>,
        masked: &[Option<&dyn Corruption>],
    ) -> anyhow::Result<Prepared> {
        let place = row.place.to_string();
        let key = Key::new(self.seed, Purpose::Corruption).prompt(name);
        let pictured = donor.unwrap_or(&row);
        let mut pictures = Vec::with_capacity(pictured.images.len());
        let mut originals = Vec::with_capacity(pictured.images.len());
        let mut corrupted: Vec<Vec<PicturePatches>> = masked.iter().map(|_| Vec::new()).collect();
        for index in 0..pictured.images.len() {
            let bytes = pictured.read_image(index)?;
            let field = || format!("{place}, picture {}", index + 1);
            let mut picture = self.picture(&bytes).with_context(field)?;
            if let Some(shown) = shown {
                picture = shown.corrupt(&picture, &mut key.sample(index as u32).stream());
            }
            originals.push((picture.width(), picture.height()));
            pictures.push(self.patches(&picture).with_context(field)?);
            for (slot, corruption) in masked.iter().enumerate() {
                let Some(corruption) = corruption else { continue };
                let stream = key.step(1 + slot as u64).sample(index as u32);
                let twin = corruption.corrupt(&picture, &mut stream.stream());
                corrupted[slot].push(self.patches(&twin).with_context(field)?);
            }
        }
        let merge = self.preprocessor.merge_size.pow(2);
        let sizes: Vec<usize> = pictures.iter().map(|picture| picture.grid.iter().product::<usize>() / merge).collect();
        let text = if self.has_images || !sizes.is_empty() {
            self.prompts.build(&row.problem, &sizes)
        } else {
            self.prompts.build_without_pictures(&row.problem)
        };
        let text = text.with_context(|| format!("{place}, problem"))?;
        if text.ids.len() > self.max_prompt_tokens {
            return Ok(Prepared::TooLong(text.ids.len()));
        }
        let solution = row.solution.as_deref().map(|solution| self.prompts.response(solution, self.end_token));
        let solution = solution.transpose().with_context(|| format!("{place}, solution"))?;
        let patch = self.preprocessor.patch_size;
        let seen = |((original, picture), &tokens): (((usize, usize), &PicturePatches), &usize)| PictureSeen {
            original,
            shown: (picture.grid[2] * patch, picture.grid[1] * patch),
            tokens,
        };
        let seen = originals.into_iter().zip(&pictures).zip(&sizes).map(seen).collect();
        let prompt = Prompt { id: name, tokens: text.ids, pictures, corrupted };
        let Row { problem, answer, category, .. } = row;
        let task = Task { prompt: Arc::new(prompt), problem, answer, solution, category, place };
        Ok(Prepared::Task(Box::new(task), seen))
    }
}

/// Which rows are visited, and how.
pub(crate) struct Reading {
    pub(crate) seed: u64,
    pub(crate) shuffle: bool,
    /// Whether a row without a solution is a bad one.
    pub(crate) solutions: bool,
    /// Leaves bad rows out instead of stopping.
    pub(crate) skip_bad: bool,
    /// Only the first rows.
    pub(crate) limit: Option<usize>,
}

/// What a check found.
enum Checked {
    Usable(u32, Vec<PictureSeen>),
    TooLong(usize),
    Bad(String),
}

/// So many pictures' sizes, and reasons of bad rows, are remembered.
const PICTURES_KEPT: usize = 1024;
const REASONS_KEPT: usize = 3;

/// A data set whose rows were all checked.
pub(crate) struct Source {
    data: DataSet,
    preparation: Arc<Preparation>,
    visits: Visits,
    /// Rows that can be used.
    usable: Vec<u32>,
    /// What was left out.
    pub(crate) rows: RowsSeen,
    /// Sizes of the first pictures.
    pub(crate) pictures: Vec<PictureSeen>,
    /// For the masked views of an objective, in order of slots.
    pub(crate) masked: Vec<Box<dyn Corruption>>,
    /// One of so many visits gets them.
    pub(crate) masked_every: usize,
    /// What the policy is shown.
    pub(crate) shown: Shown,
}

impl Source {
    /// The files that the rows are in.
    pub(crate) fn files(&self) -> impl Iterator<Item = &std::path::Path> {
        self.data.files().map(|(path, _)| path)
    }

    /// Checks every row: pictures decode, placeholders match them, the prompt is not too long.
    ///
    /// # Errors
    /// At the first bad row, unless they are skipped; when no row is left.
    pub(crate) fn open(
        data: DataSet,
        preparation: Arc<Preparation>,
        reading: &Reading,
        progress: &ProgressBar,
    ) -> anyhow::Result<Self> {
        let total = data.len().min(reading.limit.unwrap_or(usize::MAX));
        let source = Self::survey(data, preparation, reading, &(0..total).collect::<Vec<_>>(), progress)?;
        anyhow::ensure!(
            !source.usable.is_empty(),
            "none of {total} rows can be used: {} prompts are longer than data.max_prompt_tokens = {}, {} rows are bad",
            source.rows.too_long,
            source.preparation.max_prompt_tokens,
            source.rows.bad
        );
        Ok(source)
    }

    /// The same with chosen rows, of which none may be left.
    ///
    /// # Errors
    /// At the first bad row, unless they are skipped.
    pub(crate) fn survey(
        data: DataSet,
        preparation: Arc<Preparation>,
        reading: &Reading,
        chosen: &[usize],
        progress: &ProgressBar,
    ) -> anyhow::Result<Self> {
        progress.set_length(chosen.len() as u64);
        let check = |&index: &usize| -> anyhow::Result<Checked> {
            let prepared = data.row(index).map_err(anyhow::Error::from);
            let prepared = prepared.and_then(|row| preparation.task(row, None, index as u64, None, &[]));
            progress.inc(1);
            let prepared = match prepared {
                Ok(Prepared::Task(task, _)) if task.solution.is_none() && reading.solutions => Err(anyhow::anyhow!(
                    "{}: no solution: a warm start learns from worked solutions; data.solution_column names their column",
                    task.place
                )),
                prepared => prepared,
            };
            match prepared {
                Ok(Prepared::Task(_, pictures)) => Ok(Checked::Usable(index as u32, pictures)),
                Ok(Prepared::TooLong(tokens)) => Ok(Checked::TooLong(tokens)),
                Err(error) if reading.skip_bad => {
                    tracing::warn!("{}", crate::messages::chain(&error));
                    Ok(Checked::Bad(crate::messages::chain(&error)))
                }
                // where it is the only row, nothing would be left
                Err(error) if chosen.len() > 1 => {
                    let what = crate::messages::chain(&error);
                    Err(anyhow::anyhow!("{what} (data.on_bad_row = \"skip\" leaves such rows out)"))
                }
                Err(error) => Err(error),
            }
        };
        // in order, so that the first bad row is the one that is reported
        let mut rows = RowsSeen { read: chosen.len(), ..RowsSeen::default() };
        let (mut usable, mut pictures) = (Vec::with_capacity(chosen.len()), Vec::new());
        for chunk in chosen.chunks(256) {
            let chunk: Vec<anyhow::Result<Checked>> = chunk.par_iter().map(check).collect();
            for row in chunk {
                match row? {
                    Checked::Usable(row, seen) => {
                        usable.push(row);
                        let room = PICTURES_KEPT - pictures.len();
                        pictures.extend(seen.into_iter().take(room));
                    }
                    Checked::TooLong(tokens) => {
                        rows.too_long += 1;
                        rows.longest = rows.longest.max(tokens);
                    }
                    Checked::Bad(reason) => {
                        rows.bad += 1;
                        rows.reasons.extend((rows.reasons.len() < REASONS_KEPT).then_some(reason));
                    }
                }
            }
        }
        progress.finish_and_clear();
        // without a row there is no visit
        let visits = Visits::new(reading.seed, usable.len().max(1), reading.shuffle);
        Ok(Self {
            data,
            preparation,
            visits,
            usable,
            rows,
            pictures,
            masked: Vec::new(),
            masked_every: 1,
            shown: Shown::Whole,
        })
    }

    /// A row of the usable ones.
    pub(crate) fn row(&self, position: usize) -> anyhow::Result<Row> {
        Ok(self.data.row(self.usable[position] as usize)?)
    }

    /// The task at a visit; nothing when its prompt is too long, or when it is to be shown another row's pictures and there are none.
    fn prepare(&self, visit: u64) -> anyhow::Result<Option<Task>> {
        let position = self.visits.at(visit);
        let row = self.row(position)?;
        let (donor, corruption) = match &self.shown {
            Shown::Whole => (None, None),
            Shown::Corrupted(corruption) => (None, Some(&**corruption)),
            Shown::Swapped(_) if row.images.is_empty() => (None, None),
            Shown::Swapped(swaps) => match swaps.donor(visit / self.usable.len() as u64, position) {
                Some(donor) => (Some(self.row(donor)?), None),
                None => return Ok(None),
            },
        };
        let takes_turn = has_turn(visit, self.usable.len(), self.masked_every);
        let masked: Vec<_> = self.masked.iter().map(|corruption| takes_turn.then_some(&**corruption)).collect();
        Ok(match self.preparation.task(row, donor.as_ref(), visit, corruption, &masked)? {
            Prepared::Task(task, _) => Some(*task),
            Prepared::TooLong(_) => None,
        })
    }

    /// A fingerprint of each picture of each row.
    ///
    /// # Errors
    /// When a picture cannot be read any more.
    pub(crate) fn fingerprints(&self, progress: &ProgressBar) -> anyhow::Result<Vec<Vec<u128>>> {
        progress.set_length(self.usable.len() as u64);
        let of = |position: usize| -> anyhow::Result<Vec<u128>> {
            let row = self.row(position)?;
            let all = (0..row.images.len()).map(|index| -> anyhow::Result<u128> {
                let rgb = self.preparation.picture(&row.read_image(index)?)?.to_rgb(self.preparation.alpha);
                Ok(fingerprint(rgb.width, rgb.height, &rgb.data))
            });
            let all = all.collect();
            progress.inc(1);
            all
        };
        let all = (0..self.usable.len()).into_par_iter().map(of).collect();
        progress.finish_and_clear();
        all
    }

    /// A row as the data set has it.
    pub(crate) fn raw(&self, index: usize) -> Result<Row, percept_data::DataError> {
        self.data.row(index)
    }

    /// Rows left out, in words; nothing when all are used.
    pub(crate) fn left_out(&self) -> Option<String> {
        let limit = self.preparation.max_prompt_tokens;
        match (self.rows.too_long, self.rows.bad) {
            (0, 0) => None,
            (long, 0) => Some(format!("{long} rows left out: prompts longer than {limit} tokens")),
            (0, bad) => Some(format!("{bad} bad rows skipped")),
            (long, bad) => {
                Some(format!("{long} rows left out: prompts longer than {limit} tokens; {bad} bad rows skipped"))
            }
        }
    }
}

/// Whether a visit is one of so many: with rows in a fixed order, each row once in so many epochs.
fn has_turn(visit: u64, rows: usize, every: usize) -> bool {
    let (epoch, place) = (visit / rows as u64, visit % rows as u64);
    (epoch + place).is_multiple_of(every as u64)
}

fn seam(error: anyhow::Error) -> TrainError {
    TrainError::Seam(crate::messages::chain(&error))
}

impl TaskSource for Source {
    fn num_rows(&self) -> usize {
        self.usable.len()
    }

    fn png(&self, picture: &PicturePatches) -> Option<Vec<u8>> {
        Some(self.preparation.preprocessor.picture(&picture.rows, picture.grid).png())
    }

    fn task(&mut self, visit: u64) -> Result<Option<Task>, TrainError> {
        self.prepare(visit).map_err(seam)
    }

    fn tasks(&mut self, visits: Range<u64>) -> Result<Vec<Option<Task>>, TrainError> {
        let all: Vec<_> = visits.into_par_iter().map(|visit| self.prepare(visit)).collect();
        all.into_iter().map(|task| task.map_err(seam)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_turn() {
        for (rows, every) in [(4, 1), (4, 2), (5, 2), (6, 3), (7, 3)] {
            let turns = (0..(rows * every) as u64).filter(|&visit| has_turn(visit, rows, every));
            let mut seen: Vec<u64> = turns.map(|visit| visit % rows as u64).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..rows as u64).collect::<Vec<_>>(), "one of {every} in {every} epochs");
        }
    }
}
