//! True answers that are none: every reward is measured against them.

use crate::finding::{excerpt, share};
use crate::{AnswerSeen, Finding, Observations, Severity};

/// Share of rows from which on wrong answers are an error.
const MANY: f64 = 0.2;
/// Final answers are shorter than this many characters.
const LONG: usize = 200;
/// So many rows have more than one answer between them.
const ENOUGH_TO_DIFFER: usize = 16;
const IMAGE_SLOT: &str = "<image>";
const DEFAULT_COLUMN: &str = "answer";

impl AnswerSeen {
    fn answer_is_a_question(&self) -> bool {
        let (problem, answer) = (self.problem.trim(), self.answer.trim());
        let has_slot = answer.contains(IMAGE_SLOT) && !problem.contains(IMAGE_SLOT);
        let asks = answer.contains('?') && !problem.contains('?') && answer.len() > problem.len();
        has_slot || asks
    }

    fn answer_is_problem(&self) -> bool {
        let text = |text: &str| text.replace(IMAGE_SLOT, "").trim().to_owned();
        !self.answer.trim().is_empty() && text(&self.problem) == text(&self.answer)
    }

    fn holds_solution(&self) -> bool {
        self.answer.contains("\\boxed") || self.answer.contains("####")
    }
}

pub(crate) fn judge(seen: &Observations, _before: &[Finding]) -> Vec<Finding> {
    if seen.answers.is_empty() {
        return Vec::new();
    }
    // the first that holds for most rows explains what the others would say
    let columns = wrong_column(seen);
    if columns.iter().any(|finding| finding.severity == Severity::Error) {
        return columns;
    }
    let mut findings = columns;
    findings.extend((0..seen.verifiers.len()).flat_map(|verifier| ideals(seen, verifier)));
    if findings.iter().all(|finding| finding.severity != Severity::Error) {
        findings.extend(long(seen));
        findings.extend(empty(seen));
        findings.extend(constant(seen));
    }
    findings
}

fn severity(count: usize, all: usize) -> Severity {
    if count as f64 >= MANY * all as f64 { Severity::Error } else { Severity::Warning }
}

/// Some of the rows, with their answers.
fn examples(rows: &[&AnswerSeen]) -> String {
    let shown = rows.iter().take(2).map(|row| format!("{}: `{}`", row.place, excerpt(&row.answer, 60)));
    shown.collect::<Vec<_>>().join("; ")
}

fn rows(seen: &Observations, of: impl Fn(&AnswerSeen) -> bool) -> Vec<&AnswerSeen> {
    seen.answers.iter().filter(|row| of(row)).collect()
}

/// The column with final answers has its usual name, unless it was just that one that was wrong.
fn usual_column(seen: &Observations, finding: Finding) -> Finding {
    let settings = &seen.settings;
    let usual = settings.answer_column != DEFAULT_COLUMN && settings.problem_column != DEFAULT_COLUMN;
    if usual { finding.set("data.answer_column", DEFAULT_COLUMN) } else { finding }
}

fn wrong_column(seen: &Observations) -> Vec<Finding> {
    let (all, settings) = (seen.answers.len(), &seen.settings);
    let (problem, answer) = (&settings.problem_column, &settings.answer_column);
    let swapped = rows(seen, AnswerSeen::answer_is_a_question);
    if 2 * swapped.len() >= all {
        let first = swapped[0];
        let finding = Finding::new(
            "answers_swapped",
            Severity::Error,
            format!(
                "In {} the answer is a question and the problem is not: {}, answer `{}`, problem `{}`",
                share(swapped.len(), all, "row"),
                first.place,
                excerpt(&first.answer, 60),
                excerpt(&first.problem, 60)
            ),
            format!("Columns are swapped: data.answer_column = {answer:?}, data.problem_column = {problem:?}"),
            "Swap them",
        );
        return vec![finding.set("data.problem_column", answer).set("data.answer_column", problem)];
    }
    let same = rows(seen, AnswerSeen::answer_is_problem);
    if same.is_empty() {
        return Vec::new();
    }
    let severity = if 2 * same.len() >= all { Severity::Error } else { Severity::Warning };
    let finding = Finding::new(
        "answer_is_problem",
        severity,
        format!("In {} the answer is the problem itself: {}", share(same.len(), all, "row"), examples(&same)),
        match severity {
            Severity::Error => format!("data.answer_column = {answer:?} is not the column with the answers"),
            _ => "These rows were made wrongly".to_owned(),
        },
        if severity == Severity::Error { "Name the column with final answers" } else { "Mend them or take them out" },
    );
    vec![if severity == Severity::Error { usual_column(seen, finding) } else { finding }]
}

/// What a verifier gives to the true answers themselves.
fn ideals(seen: &Observations, verifier: usize) -> Vec<Finding> {
    let name = &seen.verifiers[verifier].name;
    let tested: Vec<(&AnswerSeen, &Result<f32, String>)> =
        seen.answers.iter().filter_map(|row| Some((row, row.ideals.get(verifier)?.as_ref()?))).collect();
    let failing: Vec<(&AnswerSeen, &String)> =
        tested.iter().filter_map(|(row, ideal)| Some((*row, ideal.as_ref().err()?))).collect();
    let mut findings = Vec::new();
    if let Some((_, reason)) = failing.first() {
        let stops = seen.verifiers[verifier].stops_on_error;
        let what = if stops { ", and the run would stop there" } else { "" };
        let finding = Finding::new(
            "answers_unreadable",
            if stops { Severity::Error } else { severity(failing.len(), tested.len()) },
            format!("`{name}` cannot use the answer of {}{what}: {reason}", share(failing.len(), tested.len(), "row")),
            "The answers are not of the kind that this verifier compares, or data.answer_column names the wrong column",
            "Take a verifier of another `kind` (math, numeric, choice, exact), or mend the answers",
        );
        findings.push(usual_column(seen, finding));
    }
    let low = |ideal: &Result<f32, String>| ideal.as_ref().is_ok_and(|score| *score < 0.999);
    let wrong: Vec<&AnswerSeen> = tested.iter().filter(|(_, ideal)| low(ideal)).map(|(row, _)| *row).collect();
    if !wrong.is_empty() {
        let solutions = 2 * wrong.iter().filter(|row| row.holds_solution()).count() >= wrong.len();
        let finding = Finding::new(
            "answers_score_zero",
            severity(wrong.len(), tested.len()),
            format!(
                "`{name}` calls the true answer itself wrong in {}: {}",
                share(wrong.len(), tested.len(), "row"),
                examples(&wrong)
            ),
            match solutions {
                true => "The column holds worked solutions, and a verifier compares with all of the text".to_owned(),
                false => {
                    "No response can be right in these rows: the verifier cannot parse the answer as it is written"
                        .to_owned()
                }
            },
            match solutions {
                true => "Name a column with final answers alone",
                false => "Take a verifier of another `kind` (math, numeric, choice, exact), or rewrite the answers",
            },
        );
        findings.push(if solutions { usual_column(seen, finding) } else { finding });
    }
    findings
}

fn long(seen: &Observations) -> Option<Finding> {
    let long = rows(seen, |row| row.answer.chars().count() > LONG);
    let all = seen.answers.len();
    let most = 2 * long.len() >= all;
    (20 * long.len() >= all).then(|| {
        let finding = Finding::new(
            "answers_long",
            if most { Severity::Error } else { Severity::Warning },
            format!(
                "In {} the answer has more than {LONG} characters: {}",
                share(long.len(), all, "row"),
                examples(&long)
            ),
            "These are no final answers: a response would have to repeat all of the text",
            "Name a column with final answers alone",
        );
        usual_column(seen, finding)
    })
}

fn empty(seen: &Observations) -> Option<Finding> {
    let empty = rows(seen, |row| row.answer.trim().is_empty());
    let first = empty.first()?;
    let finding = Finding::new(
        "answers_empty",
        severity(empty.len(), seen.answers.len()),
        format!("{} have no answer, {} for one", share(empty.len(), seen.answers.len(), "row"), first.place),
        "An empty answer rewards an empty answer",
        "Fill them in, or take the rows out",
    );
    Some(usual_column(seen, finding))
}

fn constant(seen: &Observations) -> Option<Finding> {
    let first = seen.answers.first().filter(|_| seen.answers.len() >= ENOUGH_TO_DIFFER)?;
    seen.answers.iter().all(|row| row.answer == first.answer).then(|| {
        let finding = Finding::new(
            "answers_constant",
            Severity::Warning,
            format!("All {} answers are the same: `{}`", seen.answers.len(), excerpt(&first.answer, 60)),
            "A policy that always says this is always right, without looking",
            "Name another column, or mix in rows with other answers",
        );
        usual_column(seen, finding)
    })
}

#[cfg(test)]
mod tests {
    use crate::observations::tests::{healthy, only};
    use crate::{AnswerSeen, Observations, Severity};

    fn with(change: impl Fn(usize, &mut AnswerSeen)) -> Observations {
        let mut seen = healthy();
        seen.answers.iter_mut().enumerate().for_each(|(at, row)| change(at, row));
        seen
    }

    #[test]
    fn swapped_columns_are_swapped_back() {
        let mut seen = with(|_, row| std::mem::swap(&mut row.problem, &mut row.answer));
        (seen.settings.problem_column, seen.settings.answer_column) = ("answer".to_owned(), "problem".to_owned());
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("answers_swapped", Severity::Error));
        assert!(finding.seen.contains("8 of 8 rows") && finding.seen.contains("problem `1`"), "{finding:?}");
        assert_eq!(finding.set, ["data.problem_column=problem", "data.answer_column=answer"]);
        // without pictures, a question mark tells
        seen.answers.iter_mut().for_each(|row| row.answer = row.answer.replace("<image>", ""));
        assert_eq!(only(&seen).code, "answers_swapped");
    }

    #[test]
    fn an_answer_that_repeats_the_problem() {
        let mut seen = with(|_, row| row.answer = row.problem.replace("<image>", " "));
        seen.settings.answer_column = "problem".to_owned();
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("answer_is_problem", Severity::Error));
        assert_eq!(finding.set, ["data.answer_column=answer"]);
        let one = with(|at, row| row.answer = if at == 0 { row.problem.clone() } else { row.answer.clone() });
        assert_eq!(only(&one).severity, Severity::Warning);
    }

    #[test]
    fn answers_that_a_verifier_cannot_use() {
        let seen = with(|at, row| row.ideals[0] = Some(if at < 2 { Err("expected a number".into()) } else { Ok(1.0) }));
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("answers_unreadable", Severity::Error));
        assert!(finding.seen.contains("`accuracy`") && finding.seen.contains("2 of 8 rows (25 %)"), "{finding:?}");
        let mut one = with(|at, row| row.ideals[0] = Some(if at == 3 { Err("no".into()) } else { Ok(1.0) }));
        one.verifiers[0].stops_on_error = false;
        assert_eq!(only(&one).severity, Severity::Warning);
    }

    #[test]
    fn a_true_answer_must_be_right() {
        let seen = with(|at, row| {
            row.answer = format!("so it is \\boxed{{{at}}}");
            row.ideals[0] = Some(Ok(0.0));
        });
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("answers_score_zero", Severity::Error));
        assert!(finding.cause.contains("worked solutions"), "{finding:?}");
        let few = with(|at, row| row.ideals[1] = Some(Ok(if at == 0 { 0.5 } else { 1.0 })));
        let finding = only(&few);
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.seen.contains("`format`") && finding.cause.contains("cannot parse"), "{finding:?}");
        // who names no form is not tested
        assert_eq!(crate::judge(&with(|_, row| row.ideals[0] = None)), []);
    }

    #[test]
    fn long_empty_and_constant_answers() {
        let finding = only(&with(|_, row| row.answer = "because ".repeat(40)));
        assert_eq!((finding.code, finding.severity), ("answers_long", Severity::Error));
        let finding = only(&with(|at, row| row.answer = if at == 0 { " ".into() } else { row.answer.clone() }));
        assert_eq!((finding.code, finding.severity), ("answers_empty", Severity::Warning));
        let mut seen = with(|_, row| row.answer = "4".to_owned());
        assert_eq!(crate::judge(&seen), [], "eight rows can agree by chance");
        seen.answers.extend_from_within(..);
        assert_eq!(only(&seen).code, "answers_constant");
    }
}
