//! What keeps a run from learning: observations in, findings out.
//!
//! [`judge`] knows no file, model or device. `percept doctor` shows it what it sampled for the purpose, and training what its first
//! steps sampled anyway, so both say the same in the same words. A finding names a cause: what only follows from another finding is
//! not an error of its own.

mod answers;
mod finding;
mod form;
mod length;
mod observations;
mod pictures;
mod prompt;
mod rows;
mod variance;

pub use finding::{Finding, Severity, one_line};
pub use observations::{
    AnswerSeen, GroupSeen, Observations, OpinionSeen, PictureSeen, ResponseSeen, RowsSeen, SettingsSeen, TagSeen,
    VerifierSeen,
};
pub use prompt::tags;

/// Everything that is wrong, causes before what follows from them, errors first.
pub fn judge(seen: &Observations) -> Vec<Finding> {
    let mut findings = Vec::new();
    for part in
        [answers::judge, rows::judge, pictures::judge, prompt::judge, length::judge, form::judge, variance::judge]
    {
        let more = part(seen, &findings);
        findings.extend(more);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

#[cfg(test)]
mod tests {
    use crate::observations::tests::healthy;
    use crate::{Severity, judge};

    #[test]
    fn nothing_is_wrong_with_a_healthy_run() {
        assert_eq!(judge(&healthy()), []);
    }

    #[test]
    fn errors_come_first() {
        let mut seen = healthy();
        seen.tags[0].id = Some(7);
        seen.settings.max_new_tokens = 3;
        let severities: Vec<Severity> = judge(&seen).iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, [Severity::Error, Severity::Note]);
    }
}
