//! Looking at a rubric's judgements: what each verifier took from a response, and whether it knows a true answer when it sees one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::RewardError;
use crate::rubric::{OwnedItem, Rubric};
use crate::verifier::{Explanation, Item};

/// One verifier's judgement of one response.
#[derive(Debug)]
pub struct Opinion {
    /// The score, or why there is none; `on_error` is not asked.
    pub score: Result<f32, RewardError>,
    /// How the response was read; `None` when the verifier does not say.
    pub explanation: Option<Explanation>,
}

/// A true answer in the form that a verifier asks for, and what the verifier gives for it.
#[derive(Debug)]
pub struct Ideal {
    pub response: String,
    pub score: Result<f32, RewardError>,
}

impl Rubric {
    /// Every verifier's judgement of every item, in the order of [`Rubric::names`]. An error of one does not keep others from judging.
    pub fn examine(&self, items: &[Item]) -> Vec<Vec<Opinion>> {
        let all = (0..items.len()).flat_map(|item| (0..self.parts.len()).map(move |part| (part, item)));
        let scores = self.scores(all.collect(), items.iter().map(OwnedItem::from).collect());
        let mut scores = scores.into_iter();
        let opinions = |item: &Item| {
            let own = scores.by_ref().take(self.parts.len()).zip(self.explain(item));
            own.map(|(score, explanation)| Opinion { score, explanation }).collect()
        };
        items.iter().map(opinions).collect()
    }

    /// How every verifier reads a response, without judging it.
    pub fn explain(&self, item: &Item) -> Vec<Option<Explanation>> {
        let explain = |part: &crate::rubric::Part| {
            // one that panics has nothing to say
            catch_unwind(AssertUnwindSafe(|| part.verifier.explain(item))).ok().flatten()
        };
        self.parts.iter().map(explain).collect()
    }

    /// For every item, whose response is not looked at, what each verifier gives to the true answer in its own form.
    pub fn examine_answers(&self, items: &[Item]) -> Vec<Vec<Option<Ideal>>> {
        let responses: Vec<Vec<Option<String>>> =
            items.iter().map(|item| self.parts.iter().map(|part| part.verifier.ideal(item.answer)).collect()).collect();
        let (mut jobs, mut owned) = (Vec::new(), Vec::new());
        for (item, responses) in items.iter().zip(&responses) {
            for (part, response) in responses.iter().enumerate() {
                let Some(response) = response else { continue };
                jobs.push((part, owned.len()));
                owned.push(OwnedItem::from(&Item { response, ..*item }));
            }
        }
        let mut scores = self.scores(jobs, owned).into_iter();
        let mut ideal = |response: Option<String>| Some(Ideal { response: response?, score: scores.next()? });
        responses.into_iter().map(|row| row.into_iter().map(&mut ideal).collect()).collect()
    }

    /// For each verifier, strings without which a response scores nothing.
    pub fn marks(&self) -> Vec<Vec<&'static str>> {
        self.parts.iter().map(|part| part.verifier.marks()).collect()
    }

    /// The reward of the verifiers' scores.
    pub fn weigh(&self, scores: &[f32]) -> f32 {
        self.verdict(scores).overall
    }

    fn scores(&self, jobs: Vec<(usize, usize)>, items: Vec<OwnedItem>) -> Vec<Result<f32, RewardError>> {
        let mut scores: Vec<Option<Result<f32, RewardError>>> = jobs.iter().map(|_| None).collect();
        let settle = |job: usize, score| {
            scores[job] = Some(score);
            Ok(())
        };
        let done = self.run(jobs.into(), Arc::from(items), settle);
        debug_assert!(done.is_ok(), "an error of a verifier is a score here");
        scores.into_iter().map(|score| score.expect("every job is settled")).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::RubricConfig;
    use crate::registry::Registry;
    use crate::rubric::Rubric;
    use crate::verifier::Item;

    fn rubric(text: &str) -> Rubric {
        let config: RubricConfig = toml::from_str(text).expect("a rubric");
        Registry::default().rubric(&config).expect("a rubric")
    }

    fn item<'a>(response: &'a str, answer: &'a str) -> Item<'a> {
        Item { problem: "How many?", response, answer, row: "row 1" }
    }

    /// What a verifier read in each response, or what it missed.
    fn read(kind: &str, responses: &[&str]) -> Vec<Result<String, String>> {
        let rubric = rubric(&format!("[[verifiers]]\n{kind}"));
        let explain = |response: &&str| rubric.explain(&item(response, "5"))[0].clone().expect("it explains").read;
        responses.iter().map(explain).collect()
    }

    #[test]
    fn verifiers_say_what_they_read() {
        let ok = |text: &str| Ok(text.to_owned());
        let missing = |text: &str| Err(text.to_owned());
        assert_eq!(
            read("kind = 'math'", &["so \\boxed{ 5 / 2 }", "5", "\\boxed{5"]),
            [ok("5/2"), missing("there is no \\boxed{}"), missing("the braces of the last \\boxed{} do not balance")]
        );
        assert_eq!(
            read("kind = 'choice'", &["The answer is (b)", "\\boxed{A, C}", "who knows"]),
            [ok("B"), ok("A, C"), missing("`who knows` picks no option")]
        );
        assert_eq!(read("kind = 'choice'\nboxed_only = true", &["B"]), [missing("there is no \\boxed{}")]);
        assert_eq!(
            read("kind = 'numeric'", &["\\boxed{12 %}", "\\boxed{1,000 m}", "\\boxed{many}", "12"]),
            [ok("12 %"), ok("1000"), missing("`many` holds no number"), missing("there is no \\boxed{}")]
        );
        assert_eq!(read("kind = 'exact'\npart = 'last_line'", &["a\nb\n", " "]), [ok("b"), missing("it is empty")]);
        assert_eq!(
            read("kind = 'format'", &["<think>a</think> \\boxed{5}", "a</think>", "<think>a", "<think>a</think> 5"]),
            [
                ok("<think>...</think>...\\boxed{...}"),
                missing("it does not begin with <think>"),
                missing("<think> is not followed by </think>"),
                missing("</think> is not followed by \\boxed{...}")
            ]
        );
    }

    #[test]
    fn true_answers_score_full_marks_in_their_own_form() {
        let all = "[[verifiers]]\nkind = 'math'\n[[verifiers]]\nkind = 'format'\n[[verifiers]]\nkind = 'choice'\n\
                   [[verifiers]]\nkind = 'exact'\npart = 'whole'\n[[verifiers]]\nkind = 'numeric'\npart = 'last_line'\n";
        let rows = rubric(all).examine_answers(&[item("", "5"), item("", "B")]);
        let scores = |row: usize| -> Vec<Option<f32>> {
            rows[row].iter().map(|ideal| ideal.as_ref().expect("a form").score.as_ref().ok().copied()).collect()
        };
        // 5 is no option, and B no number
        assert_eq!(scores(0), [Some(1.0), Some(1.0), None, Some(1.0), Some(1.0)]);
        assert_eq!(scores(1), [Some(1.0), Some(1.0), Some(1.0), Some(1.0), None]);
        assert_eq!(rows[0][1].as_ref().map(|ideal| ideal.response.as_str()), Some("<think> ... </think> \\boxed{5}"));
        // a worked solution: its own box is found, and is not all of it
        let solution = rubric("[[verifiers]]\nkind = 'math'").examine_answers(&[item("", "so it is \\boxed{5}")]);
        assert_eq!(solution[0][0].as_ref().and_then(|ideal| ideal.score.as_ref().ok().copied()), Some(0.0));
    }

    #[test]
    fn an_error_is_an_opinion() {
        let rubric = rubric("[[verifiers]]\nkind = 'numeric'\n[[verifiers]]\nkind = 'math'");
        let opinions = rubric.examine(&[item("\\boxed{5}", "five"), item("\\boxed{5}", "5")]);
        let message = opinions[0][0].score.as_ref().expect_err("five is no number").to_string();
        assert!(message.contains("expected a number"), "{message}");
        assert_eq!(opinions[0][1].score.as_ref().ok(), Some(&0.0));
        assert_eq!(opinions[1].iter().filter_map(|opinion| opinion.score.as_ref().ok()).sum::<f32>(), 2.0);
        assert!(opinions.iter().flatten().all(|opinion| opinion.explanation.is_some()));
    }

    #[test]
    fn marks_are_what_a_prompt_must_ask_for() {
        let rubric =
            rubric("[[verifiers]]\nkind = 'format'\n[[verifiers]]\nkind = 'choice'\n[[verifiers]]\nkind = 'math'");
        assert_eq!(rubric.marks(), [vec!["<think>", "</think>", "\\boxed"], vec![], vec!["\\boxed"]]);
    }
}
