//! What prompts ask for, and what becomes of tags in the tokenizer.

use crate::finding::{list, share};
use crate::{Finding, Observations, Severity, VerifierSeen};

const THINK: &str = "<think>";
/// What the built-in instruction asks for.
const PAPO: [&str; 3] = [THINK, "</think>", "\\boxed"];

/// Tags in a text, `<think>` and `</answer>` and their like, each once.
pub fn tags(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (at, _) in text.match_indices('<') {
        let Some(length) = text[at..].find('>') else { break };
        let tag = &text[at..=at + length];
        let name = tag.trim_start_matches('<').trim_start_matches('/').trim_end_matches('>');
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        // `<image>` is a picture's place
        if is_name && name != "image" && !found.iter().any(|known| known == tag) {
            found.push(tag.to_owned());
        }
    }
    found
}

pub(crate) fn judge(seen: &Observations, _before: &[Finding]) -> Vec<Finding> {
    let mut findings = special_tags(seen);
    let opened = opened_thought(seen);
    if !seen.prompts.is_empty() && opened.is_none() {
        findings.extend(missing_marks(seen));
    }
    findings.extend(opened);
    findings
}

fn special_tags(seen: &Observations) -> Vec<Finding> {
    let tokens = |special: bool| {
        seen.tags.iter().filter(move |tag| tag.special == special).filter_map(|tag| Some((tag, tag.id?)))
    };
    let named = |special: bool| {
        let words: Vec<String> = tokens(special).map(|(tag, id)| format!("{} (token {id})", tag.text)).collect();
        list(&words)
    };
    let mut findings = Vec::new();
    if tokens(true).next().is_some() {
        // a policy that writes the tag in pieces of text is not concerned
        let seen_all_the_same = seen.verifiers.iter().enumerate().all(|(at, verifier)| {
            let (read, all) = seen.readable(at);
            !tokens(true).any(|(tag, _)| verifier.marks.contains(&tag.text)) || (all > 0 && 2 * read >= all)
        });
        let wanted = tokens(true).any(|(tag, _)| tag.wanted) && !seen_all_the_same;
        findings.push(Finding::new(
            "tag_is_special",
            if wanted { Severity::Error } else { Severity::Warning },
            format!("The tokenizer has {} as {}", named(true), if tokens(true).count() == 1 { "a special token" } else { "special tokens" }),
            "Special tokens are left out when responses are decoded, so a verifier never sees them",
            "Set \"special\": false in their entries in the checkpoint's tokenizer.json, or ask for other tags in data.format_prompt \
             and the verifier",
        ));
    }
    if tokens(false).next().is_some() {
        findings.push(Finding::new(
            "tag_is_one_token",
            Severity::Note,
            format!("Tokens of their own in the tokenizer: {}", named(false)),
            "They are decoded as the text they are, so verifiers see them",
            "Nothing needs to be done; a checkpoint that was never trained on these tokens will hardly write them",
        ));
    }
    findings
}

/// A chat template that has begun the thought that a verifier wants responses to begin.
fn opened_thought(seen: &Observations) -> Option<Finding> {
    let opened = !seen.prompts.is_empty() && seen.prompts.iter().all(|prompt| prompt.trim_end().ends_with(THINK));
    let verifier = seen.verifiers.iter().find(|verifier| verifier.marks.iter().any(|mark| mark == THINK))?;
    opened.then(|| {
        Finding::new(
            "think_is_opened",
            Severity::Error,
            format!("Prompts end with {THINK}, and `{}` wants responses to begin with it", verifier.name),
            "The checkpoint's chat template opens the thought itself, so a response does not repeat the tag",
            format!("Give the verifier `{}` style = \"think_opened\" in [[reward.verifiers]]", verifier.name),
        )
    })
}

/// Strings that a verifier looks for and most prompts do not mention.
fn missing_marks(seen: &Observations) -> Vec<Finding> {
    let asked = |mark: &String| {
        let mentions = seen.prompts.iter().filter(|prompt| prompt.contains(mark)).count();
        2 * mentions >= seen.prompts.len()
    };
    let lacks = |verifier: &VerifierSeen| -> Vec<String> {
        verifier.marks.iter().filter(|mark| !asked(mark)).cloned().collect()
    };
    let lacking: Vec<(usize, &VerifierSeen)> =
        seen.verifiers.iter().enumerate().filter(|(_, verifier)| !lacks(verifier).is_empty()).collect();
    if lacking.is_empty() {
        return Vec::new();
    }
    let mut marks: Vec<String> = Vec::new();
    for mark in lacking.iter().flat_map(|(_, verifier)| lacks(verifier)) {
        if !marks.contains(&mark) {
            marks.push(mark);
        }
    }
    let names: Vec<String> = lacking.iter().map(|(_, verifier)| format!("`{}`", verifier.name)).collect();
    let counts: Vec<(usize, usize)> = lacking.iter().map(|&(at, _)| seen.readable(at)).collect();
    let (have, all) = counts.iter().copied().min().unwrap_or_default();
    // a checkpoint that was trained to do so does it unasked
    let unasked = all > 0 && 2 * have >= all;
    let instead = others(seen);
    let format = &seen.settings.format_prompt;
    let finding = Finding::new(
        "prompt_does_not_ask",
        if unasked { Severity::Warning } else { Severity::Error },
        format!(
            "{} {} for {}, which prompts never mention{instead}; {} that form",
            list(&names),
            if names.len() == 1 { "looks" } else { "look" },
            list(&marks),
            match all {
                0 => "whether responses have".to_owned() + " is not known:",
                _ => format!("{} have", share(have, all, "response")),
            },
        ),
        format!("data.format_prompt = {format:?} does not ask for what the verifiers want"),
        match unasked {
            true => "The checkpoint writes the form unasked; ask for it all the same, or other questions may lose it",
            false => "Ask for it in the format prompt, or take verifiers that read what is asked for",
        },
    );
    let helps = format != "papo" && marks.iter().all(|mark| PAPO.contains(&mark.as_str()));
    vec![if helps { finding.set("data.format_prompt", "papo") } else { finding }]
}

/// Tags that prompts ask for and no verifier looks for.
fn others(seen: &Observations) -> String {
    let other: Vec<String> = seen.tags.iter().filter(|tag| !tag.wanted).map(|tag| tag.text.clone()).collect();
    if other.is_empty() { String::new() } else { format!(" (they ask for {})", list(&other)) }
}

#[cfg(test)]
mod tests {
    use super::tags;
    use crate::observations::tests::{group, healthy, only};
    use crate::{Severity, TagSeen, judge};

    #[test]
    fn tags_are_names_in_brackets() {
        assert_eq!(
            tags("<image>a < b <think> x </think> <think> 1<2> <|im_end|> <an answer>"),
            ["<think>", "</think>", "<2>"]
        );
        assert_eq!(tags("a < b"), [""; 0]);
    }

    #[test]
    fn a_prompt_that_asks_for_something_else() {
        let mut seen = healthy();
        seen.settings.format_prompt = "answer.jinja".to_owned();
        seen.prompts = vec!["How many? Answer in <answer> </answer>.".to_owned(); 4];
        seen.tags.push(TagSeen { text: "<answer>".into(), ..TagSeen::default() });
        seen.groups = vec![group(&[0.0; 4], false); 4];
        let findings = judge(&seen);
        let finding = &findings[0];
        assert_eq!((finding.code, finding.severity), ("prompt_does_not_ask", Severity::Error));
        for word in
            ["`accuracy` and `format`", "\\boxed, <think> and </think>", "ask for <answer>", "0 of 16 responses"]
        {
            assert!(finding.seen.contains(word), "{word}: {finding:?}");
        }
        assert_eq!(finding.set, ["data.format_prompt=papo"]);
        // the flat groups follow from it
        assert_eq!(findings.iter().filter(|finding| finding.severity == Severity::Error).count(), 1, "{findings:#?}");
        // nothing is known of responses
        seen.groups.clear();
        assert_eq!(only(&seen).severity, Severity::Error);
        // papo's own prompt cannot be the remedy
        seen.settings.format_prompt = "papo".to_owned();
        assert!(only(&seen).set.is_empty());
    }

    #[test]
    fn a_checkpoint_that_does_it_unasked_is_warned_of() {
        let mut seen = healthy();
        seen.prompts = vec!["How many?".to_owned(); 4];
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("prompt_does_not_ask", Severity::Warning));
        assert!(finding.seen.contains("16 of 16 responses"), "{finding:?}");
    }

    #[test]
    fn a_thought_that_the_template_opens() {
        let mut seen = healthy();
        seen.prompts = vec!["in \\boxed{} <|im_start|>assistant\n<think>\n".to_owned(); 4];
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("think_is_opened", Severity::Error));
        assert!(finding.remedy.contains("style = \"think_opened\""), "{finding:?}");
    }

    #[test]
    fn tags_that_are_tokens() {
        let mut seen = healthy();
        seen.tags[0].id = Some(70);
        let findings = judge(&seen);
        assert_eq!((findings[0].code, findings[0].severity), ("tag_is_one_token", Severity::Note));
        seen.tags[0].special = true;
        assert_eq!(only(&seen).severity, Severity::Warning, "all responses have the form all the same");
        seen.groups.clear();
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("tag_is_special", Severity::Error));
        assert!(finding.seen.contains("<think> (token 70) as a special token"), "{finding:?}");
        seen.tags[0].wanted = false;
        assert_eq!(only(&seen).severity, Severity::Warning);
    }
}
