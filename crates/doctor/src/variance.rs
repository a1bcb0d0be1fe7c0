//! Groups whose responses are all worth the same: an advantage compares the responses of a group.

use crate::finding::share;
use crate::{Finding, GroupSeen, Observations, Severity};

/// With fewer groups, chance can make all of them flat.
const ENOUGH: usize = 4;
/// Share of flat groups from which on most of the sampling is wasted.
const MOST: f64 = 0.75;
/// What makes every response wrong.
const CAUSES: [&str; 10] = [
    "responses_cut",
    "never_stops",
    "prompt_does_not_ask",
    "tag_is_special",
    "think_is_opened",
    "form_is_missing",
    "answers_score_zero",
    "answers_unreadable",
    "answer_is_problem",
    "verifier_fails",
];

impl GroupSeen {
    fn is_flat(&self) -> bool {
        self.advantages.iter().all(|advantage| *advantage == 0.0)
    }

    fn is_equal(&self) -> bool {
        self.responses.windows(2).all(|pair| pair[0].reward == pair[1].reward)
    }

    fn mean(&self) -> f32 {
        self.responses.iter().map(|response| response.reward).sum::<f32>() / self.responses.len().max(1) as f32
    }
}

pub(crate) fn judge(seen: &Observations, before: &[Finding]) -> Vec<Finding> {
    let groups = &seen.groups;
    if groups.is_empty() {
        return Vec::new();
    }
    let flat = groups.iter().filter(|group| group.is_flat()).count();
    let follows = before.iter().find(|finding| finding.severity == Severity::Error && CAUSES.contains(&finding.code));
    let at_most = |severity: Severity| match follows {
        Some(_) => Severity::Note,
        None if groups.len() < ENOUGH => severity.min(Severity::Warning),
        None => severity,
    };
    if flat == groups.len() {
        let (cause, remedy, set) = why_flat(seen);
        let cause = follows.map_or(cause, |other| format!("It follows from another finding ({})", other.code));
        let remedy = follows.map_or(remedy, |_| "Mend that first".to_owned());
        let finding = Finding::new("no_variance", at_most(Severity::Error), told(groups), cause, remedy);
        let set = set.filter(|_| follows.is_none());
        return vec![set.into_iter().fold(finding, |finding, (key, value)| finding.set(key, value))];
    }
    if groups.iter().all(|group| !group.admitted) {
        return vec![Finding::new(
            "none_admitted",
            at_most(Severity::Error),
            format!("The objective admits none of {} groups, though rewards differ in {}", groups.len(), groups.len() - flat),
            "The score that it filters on (objective.filter_key) is the same in every group, or outside of filter_low and filter_high",
            "Look at that verifier's scores, or filter on the whole reward",
        )
        .set("objective.filter_key", "overall")];
    }
    if groups.len() >= ENOUGH && flat as f64 > MOST * groups.len() as f64 {
        let (cause, remedy, set) = why_flat(seen);
        let finding = Finding::new("little_variance", at_most(Severity::Warning), told(groups), cause, remedy);
        return vec![set.into_iter().fold(finding, |finding, (key, value)| finding.set(key, value))];
    }
    Vec::new()
}

/// How many groups are flat, and at which rewards.
fn told(groups: &[GroupSeen]) -> String {
    let flat: Vec<&GroupSeen> = groups.iter().filter(|group| group.is_flat()).collect();
    let equal: Vec<&&GroupSeen> = flat.iter().filter(|group| group.is_equal()).collect();
    if equal.is_empty() {
        return format!("In {} every advantage is 0, though rewards differ", share(flat.len(), groups.len(), "group"));
    }
    let lowest = equal.iter().map(|group| group.mean()).fold(f32::INFINITY, f32::min);
    let highest = equal.iter().map(|group| group.mean()).fold(f32::NEG_INFINITY, f32::max);
    let range = if lowest == highest { format!("{lowest:.2}") } else { format!("from {lowest:.2} to {highest:.2}") };
    format!(
        "In {} all responses have the same reward ({range}), so every advantage is 0",
        share(flat.len(), groups.len(), "group")
    )
}

type Override = (&'static str, String);

fn why_flat(seen: &Observations) -> (String, String, Option<Override>) {
    let settings = &seen.settings;
    let groups: Vec<&GroupSeen> = seen.groups.iter().filter(|group| group.is_flat()).collect();
    let more = Some(("rollout.responses_per_prompt", (2 * settings.responses_per_prompt).to_string()));
    if groups.iter().all(|group| group.distinct == 1 && group.responses.len() > 1) {
        return (
            format!(
                "All responses to a prompt are the same text: rollout.temperature = {} leaves no choice",
                settings.temperature
            ),
            "Sample at temperature 1".to_owned(),
            Some(("rollout.temperature", "1.0".to_owned())),
        );
    }
    if groups.iter().all(|group| !group.is_equal()) {
        return (
            "The objective turns different rewards into no advantage".to_owned(),
            "Check its `credit`".to_owned(),
            None,
        );
    }
    let best = groups.iter().map(|group| group.mean()).fold(f32::NEG_INFINITY, f32::max);
    let worst = groups.iter().map(|group| group.mean()).fold(f32::INFINITY, f32::min);
    match () {
        // full marks differ by rubric; PAPO's are 1
        () if worst >= 0.99 => (
            "Every response is right: the rows are too easy for the policy".to_owned(),
            "Take harder rows, or an objective that looks for groups that differ (dapo)".to_owned(),
            Some(("objective.kind", "dapo".to_owned())),
        ),
        () if best <= 0.5 => (
            "Every response is wrong: the rows are too hard for the policy, or their answers are wrong".to_owned(),
            "Take easier rows, warm up with percept sft, or sample more responses".to_owned(),
            more,
        ),
        () => (
            "Every prompt is either always right or always wrong for the policy".to_owned(),
            "Take rows of medium difficulty, or sample more responses".to_owned(),
            more,
        ),
    }
}

#[cfg(test)]
mod tests {
    use crate::observations::tests::{group, healthy, only};
    use crate::{GroupSeen, Observations, Severity, judge};

    fn with(groups: Vec<GroupSeen>) -> Observations {
        Observations { groups, ..healthy() }
    }

    #[test]
    fn all_right_all_wrong_and_some_of_each() {
        let easy = only(&with(vec![group(&[1.0; 4], true); 4]));
        assert_eq!((easy.code, easy.severity), ("no_variance", Severity::Error));
        assert!(easy.seen.contains("4 of 4 groups (100 %)") && easy.seen.contains("(1.00)"), "{easy:?}");
        assert!(easy.cause.contains("too easy"), "{easy:?}");
        let mut findings = judge(&with(vec![group(&[0.0; 4], true); 4]));
        let hard = findings.remove(0);
        assert_eq!((hard.code, hard.severity), ("no_variance", Severity::Error));
        assert!(hard.cause.contains("too hard"), "{hard:?}");
        assert_eq!(hard.set, ["rollout.responses_per_prompt=8"]);
        assert_eq!(findings[0].code, "never_right");
        let mixed = only(&with([true, false, true, false].map(|right| group(&[f32::from(right); 4], true)).to_vec()));
        assert!(mixed.seen.contains("from 0.10 to 1.00") && mixed.cause.contains("either"), "{mixed:?}");
        let few = only(&with(vec![group(&[1.0; 4], true); 2]));
        assert_eq!(few.severity, Severity::Warning, "two groups can agree by chance");
    }

    #[test]
    fn equal_texts_come_from_the_temperature() {
        let mut seen = with(vec![group(&[1.0; 4], true); 4]);
        seen.groups.iter_mut().for_each(|group| group.distinct = 1);
        seen.settings.temperature = 0.01;
        let finding = only(&seen);
        assert!(finding.cause.contains("rollout.temperature = 0.01"), "{finding:?}");
        assert_eq!(finding.set, ["rollout.temperature=1.0"]);
    }

    #[test]
    fn an_objective_that_gives_no_advantage_or_admits_nothing() {
        let mut seen = healthy();
        seen.groups.iter_mut().for_each(|group| group.advantages = vec![0.0; 4]);
        let finding = only(&seen);
        assert_eq!(finding.code, "no_variance");
        assert!(finding.seen.contains("though rewards differ") && finding.cause.contains("objective"), "{finding:?}");
        let mut seen = healthy();
        seen.groups.iter_mut().for_each(|group| group.admitted = false);
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("none_admitted", Severity::Error));
    }

    #[test]
    fn most_groups_flat_is_a_warning() {
        let mut groups = vec![group(&[1.0; 4], true); 4];
        groups.push(group(&[1.0, 0.0, 0.0, 1.0], true));
        let finding = only(&with(groups));
        assert_eq!((finding.code, finding.severity), ("little_variance", Severity::Warning));
        assert!(finding.seen.contains("4 of 5 groups (80 %)"), "{finding:?}");
    }

    #[test]
    fn what_follows_from_another_error_is_a_note() {
        let mut seen = with(vec![group(&[0.0; 4], false); 4]);
        seen.prompts = vec!["How many?".to_owned(); 4];
        let findings = judge(&seen);
        assert_eq!(findings[0].code, "prompt_does_not_ask");
        let flat = findings.iter().find(|finding| finding.code == "no_variance").expect("it is told");
        assert_eq!(flat.severity, Severity::Note);
        assert!(flat.cause.contains("prompt_does_not_ask"), "{flat:?}");
    }
}
