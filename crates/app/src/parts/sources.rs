//! Data of a run, with what becomes of its pictures.

use super::{Parts, corruption};
use crate::report::bar;
use crate::source::{Reading, Source};
use percept_config::OnBadRow;
use percept_core::{Image, Objective};
use percept_data::{DataConfig, DataSet};
use std::path::PathBuf;

impl Parts {
    /// A data set, checked row by row.
    pub(crate) fn source(
        &self,
        files: &[PathBuf],
        solutions: bool,
        shuffle: bool,
        limit: Option<usize>,
    ) -> anyhow::Result<Source> {
        let solution = solutions.then(|| self.run.data.solution_column.clone());
        self.read(&DataConfig { solution, ..self.columns(files) }, shuffle, limit)
    }

    /// A data set to measure on, in its own order, with a column of categories if one is named; checked row by row.
    pub(crate) fn benchmark(
        &self,
        files: &[PathBuf],
        category: Option<&str>,
        limit: Option<usize>,
    ) -> anyhow::Result<Source> {
        let category = category.map(str::to_owned);
        self.read(&DataConfig { category, ..self.columns(files) }, false, limit)
    }

    /// The rows of some files, unchecked.
    pub(crate) fn data_set(&self, files: &[PathBuf], solutions: bool) -> anyhow::Result<DataSet> {
        let solution = solutions.then(|| self.run.data.solution_column.clone());
        Ok(DataSet::open(&DataConfig { solution, ..self.columns(files) })?)
    }

    fn columns(&self, files: &[PathBuf]) -> DataConfig {
        let data = &self.run.data;
        DataConfig {
            files: files.to_vec(),
            problem: data.problem_column.clone(),
            answer: data.answer_column.clone(),
            images: data.image_column.clone(),
            image_root: data.image_root.clone(),
            ..DataConfig::default()
        }
    }

    fn read(&self, config: &DataConfig, shuffle: bool, limit: Option<usize>) -> anyhow::Result<Source> {
        let set = DataSet::open(config)?;
        let reading = Reading {
            seed: self.run.trainer.seed,
            shuffle,
            solutions: config.solution.is_some(),
            skip_bad: self.run.data.on_bad_row == OnBadRow::Skip,
            limit,
        };
        let progress = bar("checking rows");
        let source = Source::open(set, self.preparation.clone(), &reading, &progress)?;
        if let Some(text) = source.left_out() {
            eprintln!("{text}");
        }
        Ok(source)
    }

    pub(crate) fn corruption(&self) -> anyhow::Result<Box<dyn percept_vision::Corruption>> {
        corruption(&self.run, &self.run.data.corruption)
    }

    /// Gives a source the corruptions that an objective's views need.
    pub(crate) fn mask_for(&self, source: &mut Source, objective: &dyn Objective) -> anyhow::Result<()> {
        let needs = objective.needs();
        let slots = needs.views.iter().filter_map(|view| match view.image {
            Image::Corrupted(slot) => Some(slot + 1),
            Image::Whole => None,
        });
        source.masked_every = needs.corrupted_every.get();
        for _ in 0..slots.max().unwrap_or(0) {
            source.masked.push(self.corruption()?);
        }
        Ok(())
    }
}
