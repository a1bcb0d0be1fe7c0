//! Responses that are cut off.

use crate::finding::{list, share};
use crate::{Finding, Observations, Severity};

pub(crate) fn judge(seen: &Observations, _before: &[Finding]) -> Vec<Finding> {
    let limit = seen.settings.max_new_tokens;
    let (all, cut) =
        seen.responses().fold((0, 0), |(all, cut), response| (all + 1, cut + usize::from(!response.ended)));
    let needed = seen.answers.iter().filter_map(|row| row.tokens).min();
    let read = (0..seen.verifiers.len()).map(|verifier| seen.readable(verifier).0).max().unwrap_or(0);
    if let Some(needed) = needed.filter(|&needed| needed > limit) {
        let finding = Finding::new(
            "responses_cut",
            Severity::Error,
            format!(
                "rollout.max_new_tokens = {limit}, and the shortest response with full marks that these answers allow takes {needed} tokens{}",
                if all > 0 { format!("; {} end at the limit", share(cut, all, "response")) } else { String::new() }
            ),
            "No response can be right within the limit",
            "Allow longer responses",
        );
        return vec![finding.set("rollout.max_new_tokens", (8 * needed).next_power_of_two())];
    }
    if all == 0 || cut == 0 {
        return Vec::new();
    }
    if cut == all && 2 * read >= all {
        let stops: Vec<String> = seen.settings.stop_tokens.iter().map(|token| format!("{token:?}")).collect();
        return vec![Finding::new(
            "never_stops",
            Severity::Error,
            format!(
                "No response emits a stop token ({}), though {} what a verifier looks for: all {all} go on to the limit of {limit} tokens",
                list(&stops),
                if read == 1 { "1 has".to_owned() } else { format!("{read} have") }
            ),
            "The checkpoint does not know how to end a turn (a base model), or ends it with another token than the checkpoint's \
             generation_config.json names",
            "Set eos_token_id there to the token that ends a turn in the chat template, or teach the checkpoint to stop with percept sft",
        )];
    }
    let severity = match cut as f64 / all as f64 {
        half if half >= 0.5 => Severity::Error,
        fifth if fifth >= 0.2 => Severity::Warning,
        _ => Severity::Note,
    };
    let finding = Finding::new(
        "responses_cut",
        severity,
        format!("{} end at the limit of {limit} tokens, not with a stop token", share(cut, all, "response")),
        match needed {
            // there was room for an answer, and none came
            Some(needed) if read == 0 && limit >= 3 * needed => format!(
                "rollout.max_new_tokens = {limit} is too small for what the policy writes, or it goes on without coming to an answer: one \
                 takes {needed} tokens"
            ),
            _ => format!("rollout.max_new_tokens = {limit} is too small for what the policy writes"),
        },
        match cut == all {
            true => "Allow longer responses; if they end in the same way, the checkpoint never emits its stop token",
            false => "Allow longer responses",
        },
    );
    vec![finding.set("rollout.max_new_tokens", 2 * limit)]
}

#[cfg(test)]
mod tests {
    use crate::observations::tests::{group, healthy, only};
    use crate::{Observations, Severity, judge};

    fn cut(every: usize, read: bool) -> Observations {
        let mut seen = healthy();
        if !read {
            seen.groups = vec![group(&[0.0; 4], false); 4];
        }
        let responses = seen.groups.iter_mut().flat_map(|group| &mut group.responses);
        responses.step_by(every).for_each(|response| response.ended = false);
        seen
    }

    #[test]
    fn the_share_of_cut_responses_is_told() {
        let finding = only(&cut(2, true));
        assert_eq!((finding.code, finding.severity), ("responses_cut", Severity::Error));
        assert!(finding.seen.contains("8 of 16 responses (50 %)"), "{finding:?}");
        assert_eq!(finding.set, ["rollout.max_new_tokens=128"]);
        assert_eq!(only(&cut(4, true)).severity, Severity::Warning);
        assert_eq!(judge(&cut(16, true))[0].severity, Severity::Note);
        // nothing has its form and no group differs, since everything is cut
        let findings = judge(&cut(1, false));
        assert_eq!((findings[0].code, findings[0].severity), ("responses_cut", Severity::Error));
        assert!(findings[1..].iter().all(|finding| finding.severity != Severity::Error), "{findings:#?}");
    }

    #[test]
    fn a_limit_below_every_right_answer_needs_no_response() {
        let mut seen = healthy();
        seen.settings.max_new_tokens = 8;
        seen.groups.clear();
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("responses_cut", Severity::Error));
        assert!(finding.seen.contains("takes 9 tokens"), "{finding:?}");
        assert_eq!(finding.set, ["rollout.max_new_tokens=128"]);
    }

    #[test]
    fn a_stop_token_that_never_comes() {
        let finding = only(&cut(1, true));
        assert_eq!((finding.code, finding.severity), ("never_stops", Severity::Error));
        assert!(finding.seen.contains("\"<|im_end|>\"") && finding.seen.contains("16 have"), "{finding:?}");
        assert!(finding.cause.contains("generation_config.json"));
    }
}
