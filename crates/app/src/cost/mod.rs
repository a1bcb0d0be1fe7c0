//! What work costs, by counting: arithmetic and memory from a model's sizes and the lengths of prompts and responses, and the rates that
//! a device reaches.

pub(crate) mod flops;
pub(crate) mod rates;

use percept_core::Prompt;

/// A prompt with its pictures and the lengths of its responses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupSize {
    /// Tokens, those of pictures included.
    pub(crate) prompt: usize,
    /// Time, height and width of each picture, in patches.
    pub(crate) pictures: Vec<[usize; 3]>,
    pub(crate) responses: Vec<usize>,
}

impl GroupSize {
    pub(crate) fn of(prompt: &Prompt, responses: &[usize]) -> Self {
        let pictures = prompt.pictures.iter().map(|picture| picture.grid).collect();
        Self { prompt: prompt.tokens.len(), pictures, responses: responses.to_vec() }
    }

    /// Rows of the packed matrix: from a response's last token nothing is predicted.
    pub(crate) fn rows(&self) -> usize {
        self.prompt + self.responses.iter().map(|length| length - 1).sum::<usize>()
    }

    pub(crate) fn response_tokens(&self) -> usize {
        self.responses.iter().sum()
    }

    /// The same work with the prompt repeated for every response.
    pub(crate) fn repeated(&self) -> Vec<Self> {
        self.responses.iter().map(|&length| Self { responses: vec![length], ..self.clone() }).collect()
    }
}
