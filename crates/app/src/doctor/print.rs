//! An examination, printed and as JSON.

use super::Examination;
use super::sample::{Judged, Sampled};
use percept_core::Finish;
use percept_doctor::{Finding, Severity, one_line};
use percept_reward::Opinion;
use serde_json::{Value, json};

/// Columns that are printed.
const WIDTH: usize = 100;
/// Characters of a response that are shown: its beginning, and its end, where answers are.
const HEAD: usize = 130;
const TAIL: usize = 90;

pub(crate) fn print(examination: &Examination) {
    head(examination);
    for (at, group) in examination.sampled.iter().enumerate() {
        println!();
        self::group(examination, at, group);
    }
    println!();
    for finding in examination.findings {
        self::finding(finding);
    }
    println!("{}", verdict(examination));
}

fn head(examination: &Examination) {
    let Examination { parts, seen, sampled, .. } = examination;
    let rollout = &parts.run.rollout;
    field("checkpoint", &format!("{} ({})", parts.run.model.checkpoint.display(), parts.found.key()));
    if let Some(rows) = &seen.rows {
        let usable = rows.read - rows.too_long - rows.bad;
        field(
            "rows",
            &format!(
                "{} of {} checked: {usable} can be used, {} are too long, {} are bad",
                rows.read, examination.num_rows, rows.too_long, rows.bad
            ),
        );
    }
    if let Some(first) = seen.pictures.first() {
        let tokens: usize = seen.pictures.iter().map(|picture| picture.tokens).sum();
        let ((width, height), (shown_width, shown_height)) = (first.original, first.shown);
        field(
            "pictures",
            &format!(
                "{:.1} tokens on average; the first has {width} x {height} pixels, and is shown at {shown_width} x {shown_height}",
                tokens as f64 / seen.pictures.len() as f64
            ),
        );
    }
    if sampled.is_empty() {
        field("sampling", "nothing: no row can be used");
        return;
    }
    field(
        "sampling",
        &format!(
            "{} prompts x {} responses, temperature {}, top_p {}, at most {} tokens",
            sampled.len(),
            examination.responses,
            rollout.temperature,
            rollout.top_p,
            rollout.max_new_tokens
        ),
    );
}

fn field(name: &str, text: &str) {
    println!("{}", wrapped(text, &format!("{name:<12}"), 12));
}

fn group(examination: &Examination, at: usize, group: &Sampled) {
    let task = &group.task;
    let admitted = if group.admitted { "" } else { "; the objective leaves this group out" };
    println!("{}", wrapped(&format!("{}{admitted}", task.place), &format!("{:<4}", at + 1), 4));
    println!("{}", wrapped(&shortened(&task.problem), "    problem   ", 14));
    println!("{}", wrapped(&shortened(&task.answer), "    answer    ", 14));
    for (at, response) in group.responses.iter().enumerate() {
        let text = if response.text.trim().is_empty() { "(nothing)".to_owned() } else { shortened(&response.text) };
        println!("{}", wrapped(&text, "    response  ", 14));
        println!("{}", wrapped(&scores(examination, response, group.advantages[at]), &" ".repeat(14), 16));
    }
}

/// What came of a response, how long it is, and how every verifier scored and read it.
fn scores(examination: &Examination, response: &Judged, advantage: f32) -> String {
    let cut = if response.finish == Finish::Length { ", cut at the limit" } else { "" };
    let reward = number(response.reward);
    let mut parts = vec![format!("= reward {reward}, advantage {advantage:+.1}, {} tokens{cut}", response.tokens)];
    parts.extend(examination.seen.verifiers.iter().zip(&response.opinions).map(|(verifier, opinion)| {
        let score = match &opinion.score {
            Ok(score) => format!("{} {}", verifier.name, number(*score)),
            Err(error) => format!("{} fails: {}", verifier.name, one_line(&error.to_string())),
        };
        let read = opinion.explanation.as_ref().map(|explanation| match &explanation.read {
            // nothing is taken out of a response that only has to have a form
            Ok(read) if *read == explanation.wanted => "has the form".to_owned(),
            Ok(read) => format!("`{}`", short(read, 40)),
            Err(lacks) => short(lacks, 60),
        });
        read.map_or(score.clone(), |read| format!("{score}: {read}"))
    }));
    parts.join(" | ")
}

fn finding(finding: &Finding) {
    println!("{} {}", finding.severity.name().to_uppercase(), finding.code);
    println!("{}", wrapped(&finding.seen, "    seen   ", 11));
    println!("{}", wrapped(&finding.cause, "    cause  ", 11));
    println!("{}", wrapped(&finding.remedy, "    try    ", 11));
    if !finding.set.is_empty() {
        // never broken, so that it can be pasted
        println!("{}{}", " ".repeat(11), finding.flags());
    }
    println!();
}

fn verdict(examination: &Examination) -> String {
    let count = |severity: Severity| {
        let count = examination.count(severity);
        format!("{count} {}{}", severity.name(), if count == 1 { "" } else { "s" })
    };
    let counts = [Severity::Error, Severity::Warning, Severity::Note].map(count).join(", ");
    match examination.count(Severity::Error) {
        0 if examination.findings.is_empty() => {
            "healthy: nothing was found that keeps this run from learning".to_owned()
        }
        0 => format!("healthy: {counts}"),
        _ => format!("not healthy: {counts}"),
    }
}

/// The beginning and the end of a text on one line.
fn shortened(text: &str) -> String {
    let line: Vec<char> = one_line(text).chars().collect();
    if line.len() <= HEAD + TAIL {
        return line.into_iter().collect();
    }
    let part = |part: &[char]| part.iter().collect::<String>().trim().to_owned();
    format!("{} [...] {}", part(&line[..HEAD]), part(&line[line.len() - TAIL..]))
}

fn short(text: &str, longest: usize) -> String {
    let line = one_line(text);
    if line.chars().count() <= longest {
        return line;
    }
    line.chars().take(longest).collect::<String>() + "..."
}

/// A score with as many digits as it needs, at most three.
fn number(value: f32) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A text behind a heading, broken between words; further lines are indented. A word that is longer than a line stays whole.
fn wrapped(text: &str, heading: &str, indent: usize) -> String {
    let mut lines = vec![heading.to_owned()];
    let mut room = WIDTH.saturating_sub(heading.chars().count());
    let mut empty = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !empty && length + 1 > room {
            lines.push(" ".repeat(indent));
            room = WIDTH.saturating_sub(indent);
            empty = true;
        }
        let line = lines.last_mut().expect("there is one");
        if !empty {
            line.push(' ');
            room = room.saturating_sub(1);
        }
        line.push_str(word);
        room = room.saturating_sub(length);
        empty = false;
    }
    lines.join("\n").trim_end().to_owned()
}

pub(crate) fn json(examination: &Examination) -> Value {
    let Examination { parts, seen, sampled, .. } = examination;
    let rows = seen.rows.as_ref().map(|rows| {
        json!({
            "all": examination.num_rows,
            "checked": rows.read,
            "too_long": rows.too_long,
            "bad": rows.bad,
            "reasons": rows.reasons,
        })
    });
    let groups: Vec<Value> = sampled
        .iter()
        .map(|group| {
            let responses = group.responses.iter().zip(&group.advantages);
            json!({
                "row": group.task.place,
                "problem": group.task.problem,
                "answer": group.task.answer,
                "admitted": group.admitted,
                "responses": responses.map(|(response, advantage)| self::response(examination, response, *advantage)).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "healthy": examination.count(Severity::Error) == 0,
        "checkpoint": parts.run.model.checkpoint.display().to_string(),
        "device": parts.found.key(),
        "rows": rows,
        "groups": groups,
        "findings": examination.findings,
    })
}

fn response(examination: &Examination, response: &Judged, advantage: f32) -> Value {
    let verifier = |(verifier, opinion): (&percept_doctor::VerifierSeen, &Opinion)| {
        let explanation = opinion.explanation.as_ref();
        json!({
            "name": verifier.name,
            "score": opinion.score.as_ref().ok(),
            "error": opinion.score.as_ref().err().map(ToString::to_string),
            "wanted": explanation.map(|explanation| &explanation.wanted),
            "read": explanation.and_then(|explanation| explanation.read.as_ref().ok()),
            "lacks": explanation.and_then(|explanation| explanation.read.as_ref().err()),
        })
    };
    let verifiers: Vec<Value> = examination.seen.verifiers.iter().zip(&response.opinions).map(verifier).collect();
    json!({
        "text": response.text,
        "tokens": response.tokens,
        "ended": response.finish == Finish::Stop,
        "reward": response.reward,
        "advantage": advantage,
        "verifiers": verifiers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_long_words_stay_whole() {
        let text = format!("{} {} end", "a".repeat(60), "b".repeat(120));
        let lines = wrapped(&text, "head  ", 3);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(
            lines,
            [format!("head  {}", "a".repeat(60)), format!("   {}", "b".repeat(120)), "   end".to_owned()]
        );
        assert!(wrapped(&"word ".repeat(100), "", 4).lines().all(|line| line.len() <= WIDTH));
        assert_eq!(wrapped("", "head  ", 3), "head");
    }

    #[test]
    fn long_texts_keep_both_ends() {
        assert_eq!(shortened("a\n  b"), "a b");
        let text = shortened(&format!("begin {} end", "x ".repeat(300)));
        assert!(text.starts_with("begin") && text.ends_with("end") && text.contains(" [...] "), "{text}");
        assert_eq!((number(1.0), number(0.5), number(0.1)), ("1".to_owned(), "0.5".to_owned(), "0.1".to_owned()));
    }
}
