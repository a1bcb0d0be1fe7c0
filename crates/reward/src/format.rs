//! `format`: whether a response first thinks and then answers in a box.

use serde::{Deserialize, Serialize};

use crate::error::RewardError;
use crate::response::tighten;
use crate::verifier::{Item, Verifier};

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
        let response = tighten(response);
        let thinking = match self.style {
            Style::Think => response.strip_prefix("<think>"),
            Style::ThinkOpened => Some(response.as_str()),
        };
        // The dots match line breaks too, so the pattern says no more than that its parts follow one another.
        ["</think>", "\\boxed{", "}"]
            .iter()
            .try_fold(thinking.unwrap_or_default(), |rest, part| rest.split_once(part).map(|(_, after)| after))
            .is_some()
    }
}

impl Verifier for Format {
    fn verify(&self, item: &Item) -> Result<f32, RewardError> {
        Ok(if self.matches(item.response) { 1.0 } else { 0.0 })
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
