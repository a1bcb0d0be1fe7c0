//! Rows that are left out.

use crate::finding::{excerpt, has_error, share};
use crate::{Finding, Observations, Severity};

/// Share of rows from which on leaving them out is more than a note.
const MANY: f64 = 0.2;

pub(crate) fn judge(seen: &Observations, before: &[Finding]) -> Vec<Finding> {
    let Some(rows) = &seen.rows else { return Vec::new() };
    let grade = |count: usize| match count {
        all if all == rows.read => Severity::Error,
        many if many as f64 >= MANY * rows.read as f64 => Severity::Warning,
        _ => Severity::Note,
    };
    let mut findings = Vec::new();
    if rows.too_long > 0 {
        let limit = seen.settings.max_prompt_tokens;
        findings.push(
            Finding::new(
                "prompts_too_long",
                grade(rows.too_long),
                format!(
                    "{} are left out: their prompts have more than {limit} tokens, up to {}",
                    share(rows.too_long, rows.read, "row"),
                    rows.longest
                ),
                format!("data.max_prompt_tokens = {limit} is too small for these prompts and their pictures"),
                "Allow longer prompts, or give pictures fewer tokens with a smaller data.max_pixels",
            )
            .set("data.max_prompt_tokens", rows.longest.div_ceil(64) * 64),
        );
    }
    if rows.bad > 0 {
        let stops = seen.settings.stops_at_bad_rows;
        // a problem that is an answer has no place for its picture
        let swapped = has_error(before, &["answers_swapped"]);
        let severity = match (swapped, stops) {
            (true, _) => Severity::Note,
            (false, true) => Severity::Error,
            (false, false) => grade(rows.bad),
        };
        let skips = stops && rows.bad < rows.read && !swapped;
        let reasons: Vec<String> = rows.reasons.iter().map(|reason| excerpt(reason, 200)).collect();
        let what = if stops { "cannot be used, and the run would stop at the first" } else { "cannot be used" };
        let finding = Finding::new(
            "bad_rows",
            severity,
            format!("{} {what}: {}", share(rows.bad, rows.read, "row"), reasons.join("; ")),
            match swapped {
                true => "It follows from another finding (answers_swapped)",
                false => {
                    "These rows are damaged, or data.problem_column, data.image_column or data.image_root name the wrong thing"
                }
            },
            match (swapped, skips) {
                (true, _) => "Mend that first",
                (false, true) => "Mend them, or leave them out",
                (false, false) => "Mend them",
            },
        );
        findings.push(if skips { finding.set("data.on_bad_row", "skip") } else { finding });
    }
    findings
}

#[cfg(test)]
mod tests {
    use crate::observations::tests::{healthy, only};
    use crate::{RowsSeen, Severity, judge};

    #[test]
    fn long_prompts_are_counted_and_a_limit_is_named() {
        let mut seen = healthy();
        seen.rows = Some(RowsSeen { read: 10, too_long: 3, longest: 300, ..RowsSeen::default() });
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("prompts_too_long", Severity::Warning));
        assert!(finding.seen.contains("3 of 10 rows (30 %)") && finding.seen.contains("up to 300"), "{finding:?}");
        assert_eq!(finding.set, ["data.max_prompt_tokens=320"]);
        seen.rows = Some(RowsSeen { read: 10, too_long: 10, longest: 300, ..RowsSeen::default() });
        assert_eq!(only(&seen).severity, Severity::Error);
        seen.rows = Some(RowsSeen { read: 10, too_long: 1, longest: 300, ..RowsSeen::default() });
        assert_eq!(judge(&seen)[0].severity, Severity::Note);
    }

    #[test]
    fn swapped_columns_explain_bad_rows() {
        let mut seen = healthy();
        seen.rows = Some(RowsSeen { read: 8, bad: 8, reasons: vec!["no slot".into()], ..RowsSeen::default() });
        seen.answers.iter_mut().for_each(|row| std::mem::swap(&mut row.problem, &mut row.answer));
        let finding = only(&seen);
        assert_eq!(finding.code, "answers_swapped");
    }

    #[test]
    fn a_bad_row_is_an_error_where_the_run_would_stop() {
        let mut seen = healthy();
        seen.rows =
            Some(RowsSeen { read: 10, bad: 1, reasons: vec!["line 3: no picture".into()], ..RowsSeen::default() });
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("bad_rows", Severity::Error));
        assert!(finding.seen.contains("1 of 10 rows (10 %)") && finding.seen.contains("line 3: no picture"));
        assert_eq!(finding.set, ["data.on_bad_row=skip"]);
        seen.settings.stops_at_bad_rows = false;
        assert_eq!(judge(&seen)[0].severity, Severity::Note);
    }
}
