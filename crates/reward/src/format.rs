//! `format`: whether a response first thinks and then answers in a box.

use serde::{Deserialize, Serialize};

use crate::error::RewardError;
use crate::response::tighten;
use crate::verifier::{Explanation, Item, Verifier};

/// The form that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// `<think>.*</think>.*\boxed{.*}.*`, from the first character on (PAPO, Qwen2.5-VL).
    #[default]
    Think,
    /// `.*</think>.*\boxed{.*}.*`: the chat template has already opened `<think>` (PAPO's variant for Qwen3-VL).
    ThinkOpened,
}

/// Scores 1 when the response has the form, otherwise 0 (PAPO `examples/reward_function/math.py`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Format {
    /// The form. Default: `think`.
    pub style: Style,
}

impl Format {
    /// Whether the response has the form, once the white space around `<`, `>` and `/` is gone.
    pub fn matches(&self, response: &str) -> bool {
        self.lacks(response).is_none()
    }

    /// What keeps a response from having the form, in words.
    fn lacks(&self, response: &str) -> Option<&'static str> {
        let response = tighten(response);
        let mut rest = match self.style {
            Style::ThinkOpened => response.as_str(),
            Style::Think => match response.strip_prefix("<think>") {
                Some(rest) => rest,
                None => return Some("it does not begin with <think>"),
            },
        };
        let unended = match self.style {
            Style::Think => "<think> is not followed by </think>",
            Style::ThinkOpened => "there is no </think>",
        };
        let unanswered = "</think> is not followed by \\boxed{...}";
        // The dots match line breaks too, so the pattern says no more than that its parts follow one another.
        for (part, lack) in [("</think>", unended), ("\\boxed{", unanswered), ("}", unanswered)] {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return Some(lack),
            }
        }
        None
    }
}

impl Verifier for Format {
    fn verify(&self, item: &Item) -> Result<f32, RewardError> {
        Ok(if self.matches(item.response) { 1.0 } else { 0.0 })
    }

    fn explain(&self, item: &Item) -> Option<Explanation> {
        let wanted = match self.style {
            Style::Think => "<think>...</think>...\\boxed{...}",
            Style::ThinkOpened => "...</think>...\\boxed{...}",
        };
        let read = self.lacks(item.response).map_or_else(|| Ok(wanted.to_owned()), |lack| Err(lack.to_owned()));
        Some(Explanation { wanted: wanted.to_owned(), read })
    }

    fn marks(&self) -> Vec<&'static str> {
        match self.style {
            Style::Think => vec!["<think>", "</think>", "\\boxed"],
            Style::ThinkOpened => vec!["</think>", "\\boxed"],
        }
    }

    fn ideal(&self, answer: &str) -> Option<String> {
        let thought = match self.style {
            Style::Think => "<think> ... </think>",
            Style::ThinkOpened => "... </think>",
        };
        Some(format!("{thought} \\boxed{{{answer}}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Style};

    #[test]
    fn the_parts_must_follow_one_another() {
        let think = Format::default();
        for (response, verdict) in [
            ("<think>a</think> \\boxed{5}", true),
            ("< think >a\n< / think > it is\n\\boxed{}.", true),
            ("<think><think></think></think>\\boxed{}}", true),
            (" <think>a</think> \\boxed{5}", true),
            ("so <think>a</think> \\boxed{5}", false),
            ("<think>\\boxed{5}</think>", false),
            ("<think>a</think> 5", false),
            ("<think>a</think> \\boxed{5", false),
            ("<think>a \\boxed{5}", false),
            ("a</think>\\boxed{5}", false),
            ("", false),
        ] {
            assert_eq!(think.matches(response), verdict, "{response}");
        }
    }

    #[test]
    fn thinking_may_have_been_opened() {
        let opened = Format { style: Style::ThinkOpened };
        assert!(opened.matches("a</think>\\boxed{5}"));
        assert!(!opened.matches("a\\boxed{5}"));
    }
}
