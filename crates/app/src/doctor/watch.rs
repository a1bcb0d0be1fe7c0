//! The doctor's findings in the first steps of training, of the batches that are sampled anyway.

use super::observe::{TrueAnswer, answers, credit, distinct, facts, prompt};
use crate::parts::Parts;
use crate::source::Source;
use percept_core::{Finish, GroupOutcome, Objective};
use percept_doctor::{GroupSeen, Observations, OpinionSeen, ResponseSeen, Severity, judge};
use percept_reward::{Item, Rubric};
use percept_trainer::{CollectedGroup, Event};
use std::collections::BTreeSet;

/// Steps that are looked at.
const STEPS: u64 = 3;
/// Groups of a step that are looked at: enough to judge by, whatever the size of the batch.
const GROUPS: usize = 256;

/// Warns once of each thing that is wrong.
pub(crate) struct Watcher<'a> {
    parts: &'a Parts,
    objective: &'a dyn Objective,
    rubric: &'a Rubric,
    /// What does not change from step to step, and what the step has sampled so far.
    seen: Observations,
    rows: Vec<TrueAnswer>,
    told: BTreeSet<&'static str>,
    /// From 1.
    step: u64,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(parts: &'a Parts, objective: &'a dyn Objective, rubric: &'a Rubric, source: &Source) -> Self {
        let mut seen = facts(parts, rubric);
        (seen.rows, seen.pictures) = (Some(source.rows.clone()), source.pictures.clone());
        Self { parts, objective, rubric, seen, rows: Vec::new(), told: BTreeSet::new(), step: 0 }
    }

    fn group(&self, group: &CollectedGroup) -> GroupSeen {
        let response = |at: usize| {
            let item = Item {
                problem: &group.task.problem,
                response: &group.texts[at],
                answer: &group.task.answer,
                row: &group.task.place,
            };
            let read = self.rubric.explain(&item).into_iter().map(|explained| Some(explained?.read.is_ok()));
            let opinions = group.parts.iter().zip(read);
            ResponseSeen {
                tokens: group.lengths[at],
                ended: group.group.responses[at].finish == Finish::Stop,
                reward: group.rewards[at],
                opinions: opinions.map(|((_, scores), read)| OpinionSeen { score: Ok(scores[at]), read }).collect(),
            }
        };
        let outcome = GroupOutcome {
            rewards: &group.rewards,
            parts: &group.parts,
            lengths: &group.lengths,
            max_new_tokens: self.seen.settings.max_new_tokens,
        };
        let (advantages, admitted) = credit(self.objective, &outcome);
        let responses = (0..group.texts.len()).map(response).collect();
        GroupSeen { responses, advantages, admitted, distinct: distinct(&group.texts) }
    }

    /// Takes what a run tells of itself; warnings, when a step's samples have shown something.
    pub(crate) fn hear(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::Step(step) => self.step = *step,
            Event::Sampled(group) if self.step <= STEPS && self.seen.groups.len() < GROUPS => {
                self.seen.groups.push(self.group(group));
                self.seen.prompts.push(prompt(self.parts, &group.task));
                self.rows.push(TrueAnswer::from(&*group.task));
            }
            Event::Collected(step) if *step <= STEPS => return self.findings(),
            _ => {}
        }
        Vec::new()
    }

    fn findings(&mut self) -> Vec<String> {
        self.seen.answers = answers(self.parts, self.rubric, &self.rows);
        let mut lines = Vec::new();
        for finding in judge(&self.seen) {
            if finding.severity > Severity::Note && self.told.insert(finding.code) {
                lines.push(format!("warning: {} [percept doctor: {}]", finding.line(), finding.code));
            }
        }
        (self.seen.groups, self.seen.prompts, self.rows) = (Vec::new(), Vec::new(), Vec::new());
        lines
    }
}
