//! Responses as text, through the rubric.

use percept_core::Task;
use percept_reward::{Item, Rubric};
use percept_text::Tokenizer;
use percept_trainer::{Grade, Grader, TrainError};
use std::sync::Arc;

/// Decodes and grades.
pub(crate) struct RubricGrader {
    pub(crate) rubric: Rubric,
    pub(crate) tokenizer: Arc<Tokenizer>,
}

impl Grader for RubricGrader {
    fn names(&self) -> Vec<String> {
        self.rubric.names().map(str::to_owned).collect()
    }

    fn grade(&self, responses: &[(&Task, &[u32])]) -> Result<Vec<Grade>, TrainError> {
        let text = |(_, tokens): &(&Task, &[u32])| self.tokenizer.decode(tokens, true).map_err(TrainError::seam);
        let texts: Vec<String> = responses.iter().map(text).collect::<Result<_, _>>()?;
        let items: Vec<Item> = responses
            .iter()
            .zip(&texts)
            .map(|((task, _), text)| Item {
                problem: &task.problem,
                response: text,
                answer: &task.answer,
                row: &task.place,
            })
            .collect();
        let verdicts = self.rubric.grade(&items).map_err(TrainError::seam)?;
        let grades = verdicts.into_iter().zip(texts);
        Ok(grades.map(|(verdict, text)| Grade { overall: verdict.overall, parts: verdict.parts, text }).collect())
    }

    fn pieces(&self, response: &[u32]) -> Vec<String> {
        let piece = |token: &u32| self.tokenizer.decode(std::slice::from_ref(token), false);
        // samples are for looking: a decoder that fails on one token leaves them out
        response.iter().map(piece).collect::<Result<_, _>>().unwrap_or_default()
    }
}
