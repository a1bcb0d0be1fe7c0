//! Prompts of a given length, from the data's: their text is repeated, their pictures stay.

use crate::source::Source;
use percept_core::{Prompt, Task};
use percept_models::SpecialIds;
use percept_trainer::{TaskSource, TrainError};
use std::ops::Range;
use std::sync::Arc;

/// A source whose prompts have this many tokens.
pub(super) struct Lengthened {
    pub(super) source: Source,
    /// As they are when absent.
    pub(super) tokens: Option<usize>,
    pub(super) special: SpecialIds,
}

impl TaskSource for Lengthened {
    fn num_rows(&self) -> usize {
        self.source.num_rows()
    }

    fn task(&mut self, visit: u64) -> Result<Option<Task>, TrainError> {
        let task = self.source.task(visit)?;
        self.lengthen(task)
    }

    fn tasks(&mut self, visits: Range<u64>) -> Result<Vec<Option<Task>>, TrainError> {
        let tasks = self.source.tasks(visits)?;
        tasks.into_iter().map(|task| self.lengthen(task)).collect()
    }
}

impl Lengthened {
    fn lengthen(&self, task: Option<Task>) -> Result<Option<Task>, TrainError> {
        let (Some(mut task), Some(tokens)) = (task.clone(), self.tokens) else { return Ok(task) };
        let lengthened = lengthened(&task.prompt.tokens, &self.special, tokens).map_err(|has| {
            TrainError::Settings(format!(
                "--prompt-tokens {tokens}: {}: its pictures and question take {has} tokens; ask for as many or more",
                task.place
            ))
        })?;
        task.prompt = Arc::new(Prompt { tokens: lengthened, ..(*task.prompt).clone() });
        Ok(Some(task))
    }
}

/// The tokens with the text behind the last picture repeated in its place until there are `wanted`; or how many there are, when that is
/// more.
fn lengthened(tokens: &[u32], special: &SpecialIds, wanted: usize) -> Result<Vec<u32>, usize> {
    let missing = wanted.checked_sub(tokens.len()).ok_or(tokens.len())?;
    let is_picture = |token: &u32| *token == special.image || Some(*token) == special.video;
    // the token behind the last placeholder closes the picture
    let behind = tokens.iter().rposition(is_picture).map_or(0, |last| (last + 2).min(tokens.len()));
    let (head, text) = tokens.split_at(behind);
    if text.is_empty() && missing > 0 {
        return Err(tokens.len());
    }
    let filler = text.iter().cycle().take(missing);
    Ok(head.iter().chain(filler).chain(text).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: SpecialIds = SpecialIds { image: 9, video: None };

    #[test]
    fn text_behind_the_pictures_is_repeated() {
        let tokens = [1, 8, 9, 9, 7, 2, 3];
        let found = lengthened(&tokens, &SPECIAL, 12).expect("longer");
        assert_eq!(found, [1, 8, 9, 9, 7, 2, 3, 2, 3, 2, 2, 3]);
        assert_eq!(lengthened(&tokens, &SPECIAL, 7).expect("the same"), tokens);
        assert_eq!(lengthened(&[4, 5], &SPECIAL, 5).expect("no picture"), [4, 5, 4, 4, 5]);
    }

    #[test]
    fn a_prompt_that_is_longer_is_refused() {
        assert_eq!(lengthened(&[1, 9, 9, 7, 2], &SPECIAL, 4), Err(5));
    }
}
