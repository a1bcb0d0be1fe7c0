//! The first prompts of a run, with responses drawn as the run draws them.

use super::observe::{credit, distinct};
use crate::parts::Parts;
use crate::report::bar;
use crate::source::Source;
use percept_core::{Finish, Group, GroupOutcome, Objective, Prompt, Sampler, Task};
use percept_doctor::{GroupSeen, OpinionSeen, ResponseSeen};
use percept_reward::{Item, Opinion, Rubric};
use percept_rollout::InProcess;
use percept_trainer::{RolloutSettings, TaskSource};
use std::sync::Arc;

/// A prompt and its responses, judged.
pub(crate) struct Sampled {
    pub(crate) task: Arc<Task>,
    pub(crate) responses: Vec<Judged>,
    pub(crate) advantages: Vec<f32>,
    pub(crate) admitted: bool,
}

/// A response with every verifier's judgement.
pub(crate) struct Judged {
    pub(crate) text: String,
    pub(crate) tokens: usize,
    pub(crate) finish: Finish,
    pub(crate) reward: f32,
    pub(crate) opinions: Vec<Opinion>,
}

impl Sampled {
    /// What findings are made of.
    pub(crate) fn seen(&self) -> GroupSeen {
        let opinion = |opinion: &Opinion| OpinionSeen {
            score: opinion.score.as_ref().copied().map_err(ToString::to_string),
            read: opinion.explanation.as_ref().map(|explanation| explanation.read.is_ok()),
        };
        let response = |response: &Judged| ResponseSeen {
            tokens: response.tokens,
            ended: response.finish == Finish::Stop,
            reward: response.reward,
            opinions: response.opinions.iter().map(opinion).collect(),
        };
        let texts: Vec<String> = self.responses.iter().map(|response| response.text.clone()).collect();
        GroupSeen {
            responses: self.responses.iter().map(response).collect(),
            advantages: self.advantages.clone(),
            admitted: self.admitted,
            distinct: distinct(&texts),
        }
    }
}

/// Samples and judges; nothing when no row can be used.
pub(crate) fn sample(
    parts: &Parts,
    objective: &dyn Objective,
    rubric: &Rubric,
    source: &mut Source,
    prompts: usize,
    responses: usize,
) -> anyhow::Result<Vec<Sampled>> {
    let count = prompts.min(source.num_rows());
    let mut tasks = Vec::with_capacity(count);
    for visit in 0..count as u64 {
        tasks.extend(source.task(visit)?.map(Arc::new));
    }
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let policy = parts.policy(&parts.run.model.checkpoint, false)?;
    let settings = parts.settings(1, policy.vocabulary());
    let policy = policy.freeze();
    let rollout = RolloutSettings { responses_per_prompt: responses, ..settings.rollout.clone() };
    let spec = rollout.spec(&settings, 0, false);
    let rows = parts.run.rollout.max_rows;
    let mut sampler = InProcess::new(rows);
    let progress = bar("sampling");
    progress.set_length(tasks.len() as u64);
    let mut sampled = Vec::with_capacity(tasks.len());
    for tasks in tasks.chunks(rows.div_ceil(responses).max(1)) {
        let prompts: Vec<Arc<Prompt>> = tasks.iter().map(|task| task.prompt.clone()).collect();
        for (task, group) in tasks.iter().zip(sampler.sample(&policy, &prompts, &spec)?) {
            sampled.push(judged(parts, objective, rubric, task, group)?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(sampled)
}

/// A group with every verifier's judgement; a verifier that fails counts as 0.
fn judged(
    parts: &Parts,
    objective: &dyn Objective,
    rubric: &Rubric,
    task: &Arc<Task>,
    group: Group,
) -> anyhow::Result<Sampled> {
    let texts = group.responses.iter().map(|response| parts.tokenizer.decode(&response.tokens, true));
    let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
    let items: Vec<Item> = texts
        .iter()
        .map(|text| Item { problem: &task.problem, response: text, answer: &task.answer, row: &task.place })
        .collect();
    let opinions = rubric.examine(&items);
    let responses = group.responses.iter().zip(texts).zip(opinions);
    let responses: Vec<Judged> = responses
        .map(|((response, text), opinions)| {
            let scores: Vec<f32> = opinions.iter().map(|opinion| *opinion.score.as_ref().unwrap_or(&0.0)).collect();
            let reward = rubric.weigh(&scores);
            Judged { text, tokens: response.tokens.len(), finish: response.finish, reward, opinions }
        })
        .collect();
    let rewards: Vec<f32> = responses.iter().map(|response| response.reward).collect();
    let lengths: Vec<usize> = responses.iter().map(|response| response.tokens).collect();
    let score = |response: &Judged, part: usize| *response.opinions[part].score.as_ref().unwrap_or(&0.0);
    let part = |(at, name): (usize, &str)| {
        (name.to_owned(), responses.iter().map(|response| score(response, at)).collect::<Vec<f32>>())
    };
    let scores: Vec<(String, Vec<f32>)> = rubric.names().enumerate().map(part).collect();
    let outcome = GroupOutcome {
        rewards: &rewards,
        parts: &scores,
        lengths: &lengths,
        max_new_tokens: parts.run.rollout.max_new_tokens,
    };
    let (advantages, admitted) = credit(objective, &outcome);
    Ok(Sampled { task: task.clone(), responses, advantages, admitted })
}
