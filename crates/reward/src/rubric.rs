//! A rubric: several verifiers, weighed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::OnError;
use crate::deadline::{self, Answer};
use crate::error::RewardError;
use crate::verifier::{Item, Verifier};

/// One verifier of a rubric.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) verifier: Box<dyn Verifier>,
    weight: f64,
    on_error: OnError,
    num_errors: AtomicU64,
}

impl Part {
    pub(crate) fn new(name: &str, verifier: Box<dyn Verifier>, weight: f64, on_error: OnError) -> Self {
        Self { name: name.to_owned(), verifier, weight, on_error, num_errors: AtomicU64::new(0) }
    }

    fn verify(&self, item: &Item) -> Result<f32, RewardError> {
        let score = catch_unwind(AssertUnwindSafe(|| self.verifier.verify(item))).unwrap_or_else(|payload| {
            let words = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let message = words.or_else(|| payload.downcast_ref::<String>().cloned());
            Err(RewardError::Panicked {
                verifier: self.name.clone(),
                row: item.row.to_owned(),
                message: message.unwrap_or_else(|| "(no message)".to_owned()),
            })
        })?;
        if score.is_finite() {
            Ok(score)
        } else {
            Err(RewardError::Score { verifier: self.name.clone(), row: item.row.to_owned(), score })
        }
    }

    /// The score, or 0 for an error that may be one.
    fn settle(&self, result: Result<f32, RewardError>) -> Result<f32, RewardError> {
        result.or_else(|error| {
            if self.on_error == OnError::Stop || !error.concerns_one_item() {
                return Err(error);
            }
            self.num_errors.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(verifier = self.name, "scored 0: {error}");
            Ok(0.0)
        })
    }
}

/// What a rubric says about one response.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The reward: the sum of the scores, each times its weight.
    pub overall: f32,
    /// The verifiers' scores, in the order of [`Rubric::names`].
    pub parts: Vec<f32>,
}

/// Several verifiers, weighed. Made by [`crate::Registry::rubric`].
pub struct Rubric {
    pub(crate) parts: Arc<[Part]>,
    timeout: Duration,
    workers: Option<usize>,
}

impl Rubric {
    pub(crate) fn new(parts: Vec<Part>, timeout: Duration, workers: Option<usize>) -> Self {
        Self { parts: parts.into(), timeout, workers }
    }

    /// The verifiers' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.name.as_str())
    }

    /// How many items each verifier could not judge and scored 0 instead (`on_error = "zero"`), since the start.
    pub fn num_errors(&self) -> Vec<u64> {
        self.parts.iter().map(|part| part.num_errors.load(Ordering::Relaxed)).collect()
    }

    /// Judges every item, several at once; verdicts are in the order of the items.
    ///
    /// It always returns: a verifier that exceeds its time is given up on. (A thread cannot be ended from outside; one
    /// that never returns is left behind.)
    ///
    /// # Errors
    /// The first error of a verifier whose `on_error` is `stop`; what else is running is then interrupted.
    pub fn grade(&self, items: &[Item]) -> Result<Vec<Verdict>, RewardError> {
        let num_parts = self.parts.len();
        let owned = items.iter().map(OwnedItem::from).collect();
        let jobs: Vec<(usize, usize)> =
            (0..items.len()).flat_map(|item| (0..num_parts).map(move |part| (part, item))).collect();
        let mut scores = vec![0.0; jobs.len()];
        let settle = |job: usize, result| {
            scores[job] = self.parts[job % num_parts].settle(result)?;
            Ok(())
        };
        if let Err(error) = self.run(jobs.into(), owned, settle) {
            self.interrupt();
            return Err(error);
        }
        Ok(scores.chunks(num_parts).map(|scores| self.verdict(scores)).collect())
    }

    /// Asks verifiers for their scores of items, `(verifier, item)` for each job, several at once under their deadlines.
    pub(crate) fn run(
        &self,
        jobs: Arc<[(usize, usize)]>,
        items: Arc<[OwnedItem]>,
        mut settle: impl FnMut(usize, Result<f32, RewardError>) -> Result<(), RewardError>,
    ) -> Result<(), RewardError> {
        let ask = {
            let (parts, jobs, items) = (Arc::clone(&self.parts), Arc::clone(&jobs), Arc::clone(&items));
            move |job: usize| parts[jobs[job].0].verify(&items[jobs[job].1].borrow())
        };
        let limit = |job: usize| self.parts[jobs[job].0].verifier.time_limit().unwrap_or(self.timeout);
        let settled = |answer: Answer<Result<f32, RewardError>>| {
            let (part, item) = jobs[answer.job];
            let late = || {
                Err(RewardError::Hung {
                    verifier: self.parts[part].name.clone(),
                    row: items[item].row.clone(),
                    seconds: limit(answer.job).as_secs_f64(),
                })
            };
            settle(answer.job, answer.result.unwrap_or_else(late))
        };
        deadline::run(jobs.len(), self.num_threads(), ask, limit, settled)
    }

    pub(crate) fn verdict(&self, scores: &[f32]) -> Verdict {
        // In f64, as in the reference, so that 0.9 * 1 + 0.1 * 1 is 1.
        let weighed = self.parts.iter().zip(scores).map(|(part, score)| part.weight * f64::from(*score));
        Verdict { overall: weighed.fold(0.0, |sum, term| sum + term) as f32, parts: scores.to_vec() }
    }

    fn num_threads(&self) -> usize {
        let machine = std::thread::available_parallelism().map_or(1, usize::from);
        let asked = self.parts.iter().filter_map(|part| part.verifier.workers()).max();
        self.workers.unwrap_or(machine.max(asked.unwrap_or(0)))
    }

    fn interrupt(&self) {
        for part in self.parts.iter() {
            part.verifier.interrupt();
        }
    }
}

impl Drop for Rubric {
    fn drop(&mut self) {
        // A thread that was given up on still holds the verifiers; their processes must end all the same.
        self.interrupt();
    }
}

/// An item that outlives the call: threads that are given up on may still look at it.
pub(crate) struct OwnedItem {
    problem: String,
    response: String,
    answer: String,
    row: String,
}

impl From<&Item<'_>> for OwnedItem {
    fn from(item: &Item) -> Self {
        Self {
            problem: item.problem.to_owned(),
            response: item.response.to_owned(),
            answer: item.answer.to_owned(),
            row: item.row.to_owned(),
        }
    }
}

impl OwnedItem {
    fn borrow(&self) -> Item<'_> {
        Item { problem: &self.problem, response: &self.response, answer: &self.answer, row: &self.row }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Part, Rubric};
    use crate::config::{OnError, RubricConfig};
    use crate::error::RewardError;
    use crate::registry::Registry;
    use crate::verifier::{Item, Verifier};

    /// Does what the response says.
    struct Obedient;

    impl Verifier for Obedient {
        fn verify(&self, item: &Item) -> Result<f32, RewardError> {
            match item.response {
                "hang" => loop {
                    std::thread::sleep(Duration::from_millis(50));
                },
                "panic" => panic!("as told"),
                "nan" => Ok(f32::NAN),
                "fail" => Err(RewardError::failed(item.row, "as told")),
                number => number.parse().map_err(|error| RewardError::failed(item.row, format!("{error}"))),
            }
        }
    }

    fn rubric(on_error: OnError) -> Rubric {
        let parts = vec![Part::new("obedient", Box::new(Obedient), 1.0, on_error)];
        Rubric::new(parts, Duration::from_millis(200), Some(2))
    }

    fn item(response: &str) -> Item<'_> {
        Item { problem: "", response, answer: "", row: "row 9" }
    }

    #[test]
    fn verdicts_are_in_order() {
        let numbers: Vec<String> = (0..200).map(|i| i.to_string()).collect();
        let items: Vec<Item> = numbers.iter().map(|number| item(number)).collect();
        let verdicts = rubric(OnError::Stop).grade(&items).expect("verdicts");
        assert!(verdicts.iter().enumerate().all(|(i, verdict)| verdict.overall == i as f32));
        assert!(rubric(OnError::Stop).grade(&[]).expect("no verdicts").is_empty());
    }

    #[test]
    fn errors_stop_and_name_the_row() {
        for (response, expected) in [
            ("hang", "row 9: verifier `obedient` did not answer within 0.2 s (reward.timeout_seconds)"),
            ("panic", "row 9: verifier `obedient` panicked: as told"),
            ("nan", "row 9: verifier `obedient` gave the score NaN; expected a finite number"),
            ("fail", "row 9: as told"),
        ] {
            let start = Instant::now();
            let error = rubric(OnError::Stop).grade(&[item("1"), item(response)]).expect_err(response);
            assert_eq!(error.to_string(), expected);
            assert!(start.elapsed() < Duration::from_secs(5));
        }
    }

    #[test]
    fn errors_may_be_zero_and_are_counted() {
        let rubric = rubric(OnError::Zero);
        // More hanging items than threads: each is given up on and replaced.
        let responses = ["1", "hang", "2", "hang", "hang", "panic", "nan", "3"];
        let verdicts = rubric.grade(&responses.map(item)).expect("verdicts");
        let scores: Vec<f32> = verdicts.iter().map(|verdict| verdict.overall).collect();
        assert_eq!(scores, [1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0]);
        assert_eq!(rubric.num_errors(), [5]);
    }

    #[test]
    fn weights_are_applied_as_by_the_reference() {
        let rubric = Registry::default().rubric(&RubricConfig::default()).expect("a rubric");
        let responses = ["<think></think>\\boxed{5}", "\\boxed{5}", "<think></think>\\boxed{6}", "5"];
        let items = responses.map(|response| Item { answer: "5", ..item(response) });
        let verdicts = rubric.grade(&items).expect("verdicts");
        assert_eq!(verdicts.iter().map(|verdict| verdict.overall).collect::<Vec<_>>(), [1.0, 0.9, 0.1, 0.0]);
        assert_eq!(verdicts[1].parts, [1.0, 0.0]);
    }
}
