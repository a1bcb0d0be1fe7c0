//! A run's parts as the doctor's observations.

use crate::parts::{Parts, format_prompt};
use percept_core::{GroupOutcome, Objective, Task};
use percept_data::Row;
use percept_doctor::{AnswerSeen, Observations, SettingsSeen, TagSeen, VerifierSeen, tags};
use percept_reward::{Item, Rubric};
use percept_text::SpecialTokens;

/// What is known before anything is sampled.
pub(crate) fn facts(parts: &Parts, rubric: &Rubric) -> Observations {
    let (run, preprocessor) = (&parts.run, &parts.preparation.preprocessor);
    let settings = SettingsSeen {
        max_new_tokens: run.rollout.max_new_tokens,
        max_prompt_tokens: run.data.max_prompt_tokens,
        responses_per_prompt: run.rollout.responses_per_prompt,
        temperature: run.rollout.temperature,
        format_prompt: String::from(run.data.format_prompt.clone()),
        problem_column: run.data.problem_column.clone(),
        answer_column: run.data.answer_column.clone(),
        max_pixels: run.data.max_pixels,
        checkpoint_max_pixels: preprocessor.max_pixels,
        stops_at_bad_rows: run.data.on_bad_row == percept_config::OnBadRow::Stop,
        stop_tokens: parts.generation.eos.iter().filter_map(|&id| parts.tokenizer.token(id)).collect(),
    };
    let verifiers = verifiers(parts, rubric);
    let wanted: Vec<String> =
        verifiers.iter().flat_map(|verifier| &verifier.marks).flat_map(|mark| tags(mark)).collect();
    // a template that wants a problem to work with is not at fault
    let instruction = format_prompt(run).map(|format| format.render("").unwrap_or_default()).unwrap_or_default();
    let mut texts = wanted.clone();
    texts.extend(tags(&instruction));
    let mut found: Vec<TagSeen> = Vec::new();
    for text in texts {
        if found.iter().any(|tag| tag.text == text) {
            continue;
        }
        let token = parts.tokenizer.added_tokens().iter().find(|token| token.text == text);
        let (id, special) = (token.map(|token| token.id), token.is_some_and(|token| token.special));
        found.push(TagSeen { wanted: wanted.contains(&text), text, id, special });
    }
    Observations { settings, verifiers, tags: found, ..Observations::default() }
}

fn verifiers(parts: &Parts, rubric: &Rubric) -> Vec<VerifierSeen> {
    let explained = rubric.explain(&Item { problem: "", response: "", answer: "", row: "" });
    let stops = |table: &toml::Table| table.get("on_error").and_then(toml::Value::as_str) != Some("zero");
    let all = rubric.names().zip(rubric.marks()).zip(explained).zip(&parts.run.reward.verifiers);
    all.map(|(((name, marks), explanation), table)| VerifierSeen {
        name: name.to_owned(),
        wanted: explanation.map(|explanation| explanation.wanted),
        marks: marks.into_iter().map(str::to_owned).collect(),
        stops_on_error: stops(table),
    })
    .collect()
}

/// A prompt's text without its pictures' placeholders. Special tokens stay: a template that opens `<think>` may do it by one.
pub(crate) fn prompt(parts: &Parts, task: &Task) -> String {
    let ids: Vec<u32> = task.prompt.tokens.iter().copied().filter(|&id| id != parts.special.image).collect();
    parts.tokenizer.decode(&ids, false).unwrap_or_default()
}

/// What a row says of its answer.
pub(crate) struct TrueAnswer {
    place: String,
    problem: String,
    answer: String,
}

impl From<Row> for TrueAnswer {
    fn from(row: Row) -> Self {
        Self { place: row.place.to_string(), problem: row.problem, answer: row.answer }
    }
}

impl From<&Task> for TrueAnswer {
    fn from(task: &Task) -> Self {
        Self { place: task.place.clone(), problem: task.problem.clone(), answer: task.answer.clone() }
    }
}

/// What verifiers give to the true answers themselves.
pub(crate) fn answers(parts: &Parts, rubric: &Rubric, rows: &[TrueAnswer]) -> Vec<AnswerSeen> {
    let items: Vec<Item> = rows
        .iter()
        .map(|row| Item { problem: &row.problem, response: "", answer: &row.answer, row: &row.place })
        .collect();
    let tokens = |text: &str| {
        let ids = parts.tokenizer.encode(text, SpecialTokens::AsText).ok()?;
        // and the one that ends it
        Some(ids.len() + 1)
    };
    let seen = rows.iter().zip(rubric.examine_answers(&items)).map(|(row, ideals)| AnswerSeen {
        place: row.place.clone(),
        problem: row.problem.clone(),
        answer: row.answer.clone(),
        tokens: ideals.iter().flatten().filter_map(|ideal| tokens(&ideal.response)).max(),
        ideals: ideals.into_iter().map(|ideal| Some(ideal?.score.map_err(|error| error.to_string()))).collect(),
    });
    seen.collect()
}

/// Advantages of a group, and whether the objective learns from it.
pub(crate) fn credit(objective: &dyn Objective, outcome: &GroupOutcome) -> (Vec<f32>, bool) {
    (objective.credit(outcome), objective.admit(outcome))
}

/// How many different texts there are.
pub(crate) fn distinct(texts: &[String]) -> usize {
    texts.iter().collect::<std::collections::BTreeSet<_>>().len()
}
