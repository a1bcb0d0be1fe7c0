//! What was seen of a run.

/// All of it. Parts that were not looked at are empty, and nothing is concluded from them.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    pub settings: SettingsSeen,
    pub verifiers: Vec<VerifierSeen>,
    /// Prompts as the policy reads them, without their pictures.
    pub prompts: Vec<String>,
    /// Tags that verifiers or the format prompt name, as the tokenizer has them.
    pub tags: Vec<TagSeen>,
    pub rows: Option<RowsSeen>,
    pub answers: Vec<AnswerSeen>,
    pub pictures: Vec<PictureSeen>,
    pub groups: Vec<GroupSeen>,
}

/// Keys of the run that findings name.
#[derive(Clone, Debug, Default)]
pub struct SettingsSeen {
    pub max_new_tokens: usize,
    pub max_prompt_tokens: usize,
    pub responses_per_prompt: usize,
    pub temperature: f64,
    /// As the run file has it: `papo`, `none`, or a file.
    pub format_prompt: String,
    pub problem_column: String,
    pub answer_column: String,
    /// `data.max_pixels`.
    pub max_pixels: Option<u64>,
    /// The preprocessor's own bound, from the checkpoint.
    pub checkpoint_max_pixels: u64,
    /// Whether a bad row stops the run.
    pub stops_at_bad_rows: bool,
    /// Tokens that end a response, as text.
    pub stop_tokens: Vec<String>,
}

/// A verifier of the rubric.
#[derive(Clone, Debug, Default)]
pub struct VerifierSeen {
    pub name: String,
    /// What it looks for, in words; none when it does not say.
    pub wanted: Option<String>,
    /// Strings without which a response scores nothing: a prompt must ask for them.
    pub marks: Vec<String>,
    /// Whether the run stops at an answer that it cannot use.
    pub stops_on_error: bool,
}

/// A tag such as `<think>`.
#[derive(Clone, Debug, Default)]
pub struct TagSeen {
    pub text: String,
    /// The token that the tokenizer makes of it, when it is one.
    pub id: Option<u32>,
    /// Whether that token is left out when responses are decoded.
    pub special: bool,
    /// Whether a verifier looks for it.
    pub wanted: bool,
}

/// Rows of the data set.
#[derive(Clone, Debug, Default)]
pub struct RowsSeen {
    /// Rows that were looked at.
    pub read: usize,
    /// Prompts longer than the limit, and the longest of them in tokens.
    pub too_long: usize,
    pub longest: usize,
    /// Rows that cannot be used, and why, the first few.
    pub bad: usize,
    pub reasons: Vec<String>,
}

/// A row's true answer.
#[derive(Clone, Debug, Default)]
pub struct AnswerSeen {
    pub place: String,
    pub problem: String,
    pub answer: String,
    /// For each verifier: what it gives to this answer, put in the form that it asks for; an error in words; none when it names no form.
    pub ideals: Vec<Option<Result<f32, String>>>,
    /// Tokens of the shortest response that every verifier gives full marks, as far as they say.
    pub tokens: Option<usize>,
}

/// A picture's size before and after preprocessing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureSeen {
    /// Width and height.
    pub original: (usize, usize),
    pub shown: (usize, usize),
    pub tokens: usize,
}

/// One prompt's responses.
#[derive(Clone, Debug, Default)]
pub struct GroupSeen {
    pub responses: Vec<ResponseSeen>,
    pub advantages: Vec<f32>,
    /// Whether the objective learns from it.
    pub admitted: bool,
    /// How many different texts there are.
    pub distinct: usize,
}

/// One response.
#[derive(Clone, Debug, Default)]
pub struct ResponseSeen {
    pub tokens: usize,
    /// Whether it ended with a stop token.
    pub ended: bool,
    pub reward: f32,
    /// For each verifier.
    pub opinions: Vec<OpinionSeen>,
}

/// One verifier of one response.
#[derive(Clone, Debug)]
pub struct OpinionSeen {
    /// The score, or why there is none.
    pub score: Result<f32, String>,
    /// Whether it found what it looks for; none when it does not say.
    pub read: Option<bool>,
}

impl Observations {
    pub(crate) fn responses(&self) -> impl Iterator<Item = &ResponseSeen> {
        self.groups.iter().flat_map(|group| &group.responses)
    }

    /// How many true answers a verifier refuses, whatever a response says.
    pub(crate) fn refused(&self, verifier: usize) -> usize {
        self.answers.iter().filter(|row| matches!(row.ideals.get(verifier), Some(Some(Err(_))))).count()
    }

    /// Of responses in which a verifier says whether it found its form: how many have it, and how many there are.
    pub(crate) fn readable(&self, verifier: usize) -> (usize, usize) {
        let said = self.responses().filter_map(|response| response.opinions.get(verifier)?.read);
        said.fold((0, 0), |(read, all), this| (read + usize::from(this), all + 1))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn response(score: f32, read: bool) -> ResponseSeen {
        let opinion = |score| OpinionSeen { score: Ok(score), read: Some(read) };
        ResponseSeen {
            tokens: 12,
            ended: true,
            reward: 0.9 * score + 0.1 * f32::from(read),
            opinions: vec![opinion(score), opinion(f32::from(read))],
        }
    }

    pub(crate) fn group(scores: &[f32], read: bool) -> GroupSeen {
        let responses: Vec<ResponseSeen> = scores.iter().map(|&score| response(score, read)).collect();
        let mean = responses.iter().map(|response| response.reward).sum::<f32>() / responses.len() as f32;
        let flat = responses.iter().all(|response| response.reward == responses[0].reward);
        let advantages =
            responses.iter().map(|response| if flat { 0.0 } else { response.reward - mean }).collect::<Vec<_>>();
        GroupSeen { distinct: responses.len(), responses, advantages, admitted: true }
    }

    /// A run with PAPO's rubric, in which nothing is wrong.
    pub(crate) fn healthy() -> Observations {
        let verifier = |name: &str, wanted: &str, marks: &[&str]| VerifierSeen {
            name: name.to_owned(),
            wanted: Some(wanted.to_owned()),
            marks: marks.iter().map(|&mark| mark.to_owned()).collect(),
            stops_on_error: true,
        };
        let answer = |row: usize| AnswerSeen {
            place: format!("train.jsonl, line {row}"),
            problem: "<image>How many red circles are in the picture?".to_owned(),
            answer: row.to_string(),
            ideals: vec![Some(Ok(1.0)), Some(Ok(1.0))],
            tokens: Some(9),
        };
        let tag = |text: &str| TagSeen { text: text.to_owned(), id: None, special: false, wanted: true };
        Observations {
            settings: SettingsSeen {
                max_new_tokens: 64,
                max_prompt_tokens: 256,
                responses_per_prompt: 4,
                temperature: 1.0,
                format_prompt: "papo".to_owned(),
                problem_column: "problem".to_owned(),
                answer_column: "answer".to_owned(),
                max_pixels: Some(1_003_520),
                checkpoint_max_pixels: 12_845_056,
                stops_at_bad_rows: true,
                stop_tokens: vec!["<|im_end|>".to_owned()],
            },
            verifiers: vec![
                verifier("accuracy", "the last \\boxed{}", &["\\boxed"]),
                verifier("format", "<think>...</think>...\\boxed{...}", &["<think>", "</think>", "\\boxed"]),
            ],
            prompts: vec!["How many? Think in <think> </think>, then answer in \\boxed{}.".to_owned(); 4],
            tags: vec![tag("<think>"), tag("</think>")],
            rows: Some(RowsSeen { read: 8, ..RowsSeen::default() }),
            answers: (1..=8).map(answer).collect(),
            pictures: vec![PictureSeen { original: (400, 300), shown: (392, 308), tokens: 154 }; 8],
            groups: vec![group(&[1.0, 0.0, 0.0, 1.0], true); 4],
        }
    }

    /// The one finding that there should be beside notes.
    pub(crate) fn only(seen: &Observations) -> crate::Finding {
        let mut findings = crate::judge(seen);
        findings.retain(|finding| finding.severity != crate::Severity::Note);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings.remove(0)
    }
}
