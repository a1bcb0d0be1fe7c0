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
        let (mut pieces, mut first) = (Vec::with_capacity(response.len()), 0);
        for end in 1..=response.len() {
            // samples are for looking: a decoder that fails leaves them out
            let Ok(text) = self.tokenizer.decode(&response[first..end], false) else { return Vec::new() };
            if text.ends_with(char::REPLACEMENT_CHARACTER) && end < response.len() {
                // a part of a character, which the token that ends it shows
                pieces.push(String::new());
            } else {
                pieces.push(text);
                first = end;
            }
        }
        pieces
    }
}
