//! Responses in which verifiers do not find what they look for, and verifiers that fail.

use crate::finding::{excerpt, list, share};
use crate::{Finding, Observations, ResponseSeen, Severity};

/// Share of responses with the form below which it is rare.
const RARE: f64 = 0.1;
/// So many responses are no accident.
const FEW: usize = 3;

pub(crate) fn judge(seen: &Observations, before: &[Finding]) -> Vec<Finding> {
    let mut findings = failing(seen);
    findings.extend(absent(seen, before));
    findings.extend(never_right(seen, before));
    findings
}

fn failing(seen: &Observations) -> Vec<Finding> {
    let failing = |verifier: usize| {
        let scores = seen.responses().filter_map(|response| response.opinions.get(verifier));
        let errors: Vec<&String> = scores.filter_map(|opinion| opinion.score.as_ref().err()).collect();
        let first = errors.first()?;
        let stops = seen.verifiers[verifier].stops_on_error;
        let follows = seen.refused(verifier) > 0;
        let all = seen.responses().count();
        Some(Finding::new(
            "verifier_fails",
            match () {
                () if follows => Severity::Note,
                () if stops || 2 * errors.len() >= all => Severity::Error,
                () => Severity::Warning,
            },
            format!(
                "`{}` gives no score to {}: {}",
                seen.verifiers[verifier].name,
                share(errors.len(), all, "response"),
                excerpt(first, 300)
            ),
            match (follows, stops) {
                (true, _) => "It follows from another finding (answers_unreadable)",
                (false, true) => "The verifier fails, and the run would stop there (on_error = \"stop\")",
                (false, false) => "The verifier fails, and these responses score 0 (on_error = \"zero\")",
            },
            if follows { "Mend that first" } else { "Mend the verifier, or its answers" },
        ))
    };
    (0..seen.verifiers.len()).filter_map(failing).collect()
}

fn absent(seen: &Observations, before: &[Finding]) -> Option<Finding> {
    let counts: Vec<(usize, (usize, usize))> =
        (0..seen.verifiers.len()).map(|at| (at, seen.readable(at))).filter(|(_, (_, all))| *all > 0).collect();
    // one that compares with another kind of answers also reads another kind of responses
    let compares = |at: usize| seen.answers.is_empty() || 2 * seen.refused(at) < seen.answers.len();
    let rare: Vec<(usize, (usize, usize))> =
        counts.into_iter().filter(|(at, (read, all))| (*read as f64) < RARE * *all as f64 && compares(*at)).collect();
    let &(_, (_, all)) = rare.first()?;
    let least = rare.iter().map(|(_, (read, _))| *read).min()?;
    let wanted: Vec<String> = rare
        .iter()
        .map(|&(at, _)| {
            let verifier = &seen.verifiers[at];
            format!("what `{}` looks for ({})", verifier.name, verifier.wanted.as_deref().unwrap_or("its form"))
        })
        .collect();
    // responses that came to their end without the form do not lack it because others were cut
    let lacks = |response: &ResponseSeen| {
        let read: Vec<bool> = response.opinions.iter().filter_map(|opinion| opinion.read).collect();
        !read.is_empty() && !read.contains(&true)
    };
    let finished = |response: &&ResponseSeen| response.ended && lacks(response);
    let ramble = seen.responses().filter(finished).count() >= FEW;
    let explains = |finding: &&Finding| {
        let codes = ["prompt_does_not_ask", "tag_is_special", "think_is_opened"];
        codes.contains(&finding.code) || (finding.code == "responses_cut" && !ramble)
    };
    let follows = before.iter().filter(|finding| finding.severity == Severity::Error).find(explains);
    let severity = match least {
        _ if follows.is_some() => Severity::Note,
        0 => Severity::Error,
        _ => Severity::Warning,
    };
    Some(Finding::new(
        "form_is_missing",
        severity,
        format!(
            "{} {}",
            if least == 0 { format!("None of {all} responses has") } else { format!("Only {least} of {all} responses have") },
            list(&wanted)
        ),
        match follows {
            Some(other) => format!("It follows from another finding ({})", other.code),
            None => "Prompts ask for it and responses have the room, but the checkpoint does not follow: it is a base model, or was trained on another form"
                .to_owned(),
        },
        match follows {
            Some(_) => "Mend that first",
            None => "Show an example in data.format_prompt, start from an instruction-tuned checkpoint, or warm up with percept sft",
        },
    ))
}

/// Verifiers that read responses and call none right.
fn never_right(seen: &Observations, before: &[Finding]) -> Vec<Finding> {
    let explained = before.iter().any(|finding| finding.severity == Severity::Error);
    let never = |at: usize| {
        let (read, all) = seen.readable(at);
        let best = seen.responses().filter_map(|response| response.opinions.get(at)?.score.as_ref().ok().copied());
        let best = best.fold(f32::NEG_INFINITY, f32::max);
        let wrong = all > 0 && 2 * read >= all && best <= 0.0;
        wrong.then(|| {
            let finding = Finding::new(
                "never_right",
                if explained { Severity::Note } else { Severity::Warning },
                format!(
                    "`{}` found an answer in {}, and none is right",
                    seen.verifiers[at].name,
                    share(read, all, "response")
                ),
                match explained {
                    true => "It may follow from another finding",
                    false => "The questions are too hard for the policy, or the answers are wrong",
                },
                "Compare some responses with their answers; add easier rows, or more responses to a prompt",
            );
            finding.set("rollout.responses_per_prompt", 2 * seen.settings.responses_per_prompt)
        })
    };
    (0..seen.verifiers.len()).filter_map(never).collect()
}

#[cfg(test)]
mod tests {
    use crate::observations::tests::{group, healthy, only, response};
    use crate::{Severity, judge};

    #[test]
    fn no_response_has_the_form() {
        let mut seen = healthy();
        seen.groups = vec![group(&[0.0; 4], false); 4];
        let findings = judge(&seen);
        let finding = &findings[0];
        assert_eq!((finding.code, finding.severity), ("form_is_missing", Severity::Error));
        for word in ["None of 16", "`accuracy` looks for (the last \\boxed{})", "`format` looks for (<think>"] {
            assert!(finding.seen.contains(word), "{word}: {finding:?}");
        }
        assert!(findings[1..].iter().all(|finding| finding.severity != Severity::Error), "{findings:#?}");
    }

    #[test]
    fn what_ends_without_the_form_does_not_lack_it_for_being_cut() {
        let mut seen = healthy();
        seen.groups = vec![group(&[0.0; 4], false); 4];
        let cut = |seen: &mut crate::Observations, kept: usize| {
            let responses = seen.groups.iter_mut().flat_map(|group| &mut group.responses);
            responses.enumerate().for_each(|(at, response)| response.ended = at < kept);
        };
        let errors = |seen: &crate::Observations| -> Vec<&str> {
            let findings = judge(seen).into_iter().filter(|finding| finding.severity == Severity::Error);
            findings.map(|finding| finding.code).collect()
        };
        cut(&mut seen, 3);
        assert_eq!(errors(&seen), ["responses_cut", "form_is_missing"]);
        cut(&mut seen, 2);
        assert_eq!(errors(&seen), ["responses_cut"]);
    }

    #[test]
    fn few_responses_have_the_form() {
        let mut seen = healthy();
        seen.groups = vec![group(&[0.0; 4], false); 4];
        seen.groups[0] = group(&[1.0, 0.0, 0.0, 0.0], true);
        for response in &mut seen.groups[0].responses[1..] {
            response.opinions.iter_mut().for_each(|opinion| opinion.read = Some(false));
        }
        let findings = judge(&seen);
        assert!(
            findings.iter().any(|f| f.code == "form_is_missing" && f.severity == Severity::Warning),
            "{findings:#?}"
        );
    }

    #[test]
    fn right_form_and_never_a_right_answer() {
        let mut seen = healthy();
        for group in &mut seen.groups {
            for (at, response) in group.responses.iter_mut().enumerate() {
                response.opinions[0].score = Ok(0.0);
                response.reward = 0.1 * at as f32;
            }
        }
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("never_right", Severity::Warning));
        assert!(finding.seen.contains("`accuracy` found an answer in 16 of 16"), "{finding:?}");
    }

    #[test]
    fn a_verifier_that_fails() {
        let mut seen = healthy();
        seen.groups[0].responses[0] = response(1.0, true);
        seen.groups[0].responses[0].opinions[1].score = Err("it died".to_owned());
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("verifier_fails", Severity::Error));
        assert!(finding.seen.contains("`format` gives no score to 1 of 16 responses (6 %): it died"), "{finding:?}");
        seen.verifiers[1].stops_on_error = false;
        assert_eq!(only(&seen).severity, Severity::Warning);
        // answers of another kind are one finding, not three
        seen.verifiers[1].stops_on_error = true;
        seen.answers.iter_mut().for_each(|row| row.ideals[1] = Some(Err("no option".to_owned())));
        for opinion in seen.groups.iter_mut().flat_map(|group| &mut group.responses).map(|one| &mut one.opinions[1]) {
            (opinion.score, opinion.read) = (Err("no option".to_owned()), Some(false));
        }
        assert_eq!(only(&seen).code, "answers_unreadable");
    }
}
