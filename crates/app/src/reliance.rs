//! `percept eval --reliance`: how much of a score is owed to looking.

use crate::App;
use crate::categories::by_category;
use crate::evaluate::{Arguments, Exam, parts, write_json, write_rows};
use crate::parts::corruption;
use crate::report::bar;
use crate::shown::Shown;
use anyhow::{Context, ensure};
use percept_config::RunConfig;
use percept_data::Swaps;
use percept_report::compare::{Condition, Interval, Measured, Reliance, SWAPPED, WHOLE, reliance, table};
use percept_trainer::{Evaluation, RowResult};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const BLANK: &str = "blank";

/// What a condition shows, under its name; a share where it masks one.
struct Plan {
    name: String,
    ratio: Option<f64>,
    shown: Shown,
}

pub(crate) fn run(app: &App, arguments: &Arguments) -> anyhow::Result<()> {
    let parts = parts(arguments)?;
    // what is wrong with the masks is told before anything is read
    let masks = masks(&parts.run, &arguments.breakdown.ratios)?;
    let (seed, longest) = (parts.run.trainer.seed, parts.run.data.max_prompt_tokens);
    let mut exam = Exam::open(app, parts, arguments)?;
    let pictures = exam.source.fingerprints(&bar("comparing pictures"))?;
    // first, because it tells which rows can be measured under all conditions
    exam.source.shown = Shown::Swapped(Swaps::new(seed, &pictures));
    let mut without = LeftOut::of(&exam, &pictures)?;
    let with_partner: BTreeSet<u64> =
        (0..pictures.len() as u64).filter(|visit| !without.visits.contains(visit)).collect();
    ensure!(
        !with_partner.is_empty(),
        "--reliance: none of {} rows can be given another's pictures: {}",
        pictures.len(),
        without.told(longest)
    );
    let swapped = exam.sit(SWAPPED, Some(&with_partner))?;
    let visits: BTreeSet<u64> = swapped.rows.iter().map(|row| row.visit).collect();
    without.add_unanswered(&exam, &with_partner, &visits)?;
    ensure!(!visits.is_empty(), "--reliance: no row is left to measure: {}", without.told(longest));
    let same_answer = same_answers(&exam, &visits)? as f64 / visits.len() as f64;
    let mut results = Results::default();
    let whole = Plan { name: WHOLE.to_owned(), ratio: None, shown: Shown::Whole };
    let blank = Plan { name: BLANK.to_owned(), ratio: None, shown: Shown::blank() };
    for plan in [whole].into_iter().chain(masks).chain([blank]) {
        exam.source.shown = plan.shown;
        let evaluation = exam.sit(&plan.name, Some(&visits))?;
        results.add(&plan.name, plan.ratio, &evaluation, arguments.rows.as_deref())?;
    }
    results.add(SWAPPED, None, &swapped, arguments.rows.as_deref())?;
    if !without.is_empty() {
        eprintln!("rows left out: {}", without.told(longest));
    }
    let (part, k) = (swapped.judged_by(), arguments.responses);
    let found = reliance(&format!("avg@{k} {part}"), &results.measured);
    print!("{found}");
    println!(
        "Swapped pictures were those of a row with the same answer for {:.1} % of rows: there looking is right, too.",
        100.0 * same_answer
    );
    let categories = arguments.breakdown.category.as_ref().map(|_| results.by_category(&swapped.rows, &found.score));
    if let Some(categories) = &categories {
        print!("\n{}", category_table(categories));
    }
    if let Some(path) = &arguments.json {
        let mut summary = results.json(&found, &without);
        summary["same_answer"] = json!(same_answer);
        summary["responses"] = json!(k);
        summary["temperature"] = json!(arguments.temperature);
        if let Some(categories) = &categories {
            let object = |(name, found): (&String, &Reliance)| (name.clone(), results.json(found, &LeftOut::default()));
            summary["categories"] = categories.iter().map(object).collect();
        }
        write_json(path, &summary)?;
    }
    for path in &results.files {
        println!("rows: {}", path.display());
    }
    Ok(())
}

/// Masks of the configured kind that leave out these shares of the pictures.
fn masks(run: &RunConfig, ratios: &[f64]) -> anyhow::Result<Vec<Plan>> {
    let mask = |&ratio: &f64| -> anyhow::Result<Plan> {
        ensure!(
            ratio > 0.0 && ratio <= 1.0,
            "--ratios: a share of the picture is more than 0 and at most 1, found {ratio}"
        );
        let mut table = run.data.corruption.clone();
        table.insert("probability".to_owned(), ratio.into());
        let mask = corruption(run, &table).with_context(|| {
            let kind = run.data.corruption.get("kind").map_or_else(String::new, ToString::to_string);
            format!(
                "--reliance masks patches as data.corruption says, and its kind = {kind} takes no probability; set \
                 data.corruption.kind = \"blacken\""
            )
        })?;
        Ok(Plan { name: format!("masked {ratio}"), ratio: Some(ratio), shown: Shown::Corrupted(mask) })
    };
    ratios.iter().map(mask).collect()
}

/// Rows that are shown the pictures of a row with their own answer.
fn same_answers(exam: &Exam, visits: &BTreeSet<u64>) -> anyhow::Result<usize> {
    let Shown::Swapped(swaps) = &exam.source.shown else { return Ok(0) };
    let mut same = 0;
    for row in visits.iter().map(|visit| *visit as usize) {
        let Some(donor) = swaps.donor(0, row) else { continue };
        same += usize::from(exam.source.row(donor)?.answer == exam.source.row(row)?.answer);
    }
    Ok(same)
}

/// Rows that are not measured, because one of the conditions does not exist for them.
#[derive(Default)]
struct LeftOut {
    visits: BTreeSet<u64>,
    without_pictures: Vec<String>,
    without_partner: Vec<String>,
    too_long: Vec<String>,
}

impl LeftOut {
    fn of(exam: &Exam, pictures: &[Vec<u128>]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        let Shown::Swapped(swaps) = &exam.source.shown else { return Ok(all) };
        for (row, own) in pictures.iter().enumerate().filter(|(row, _)| swaps.donor(0, *row).is_none()) {
            let list = if own.is_empty() { &mut all.without_pictures } else { &mut all.without_partner };
            list.push(exam.source.row(row)?.place.to_string());
            all.visits.insert(row as u64);
        }
        Ok(all)
    }

    /// Adds rows that were asked and not answered.
    fn add_unanswered(&mut self, exam: &Exam, asked: &BTreeSet<u64>, answered: &BTreeSet<u64>) -> anyhow::Result<()> {
        for &visit in asked.difference(answered) {
            self.too_long.push(exam.source.row(visit as usize)?.place.to_string());
            self.visits.insert(visit);
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.visits.is_empty()
    }

    fn told(&self, longest: usize) -> String {
        let long = format!("have prompts longer than {longest} tokens with the other pictures");
        let reasons = [
            (&self.without_pictures, "have no picture"),
            (&self.without_partner, "find no other row with as many and different pictures to spare"),
            (&self.too_long, long.as_str()),
        ];
        let some = reasons.into_iter().filter(|(rows, _)| !rows.is_empty());
        let told = some.map(|(rows, why)| {
            let more = if rows.len() > 1 { format!(" and {} more", rows.len() - 1) } else { String::new() };
            format!("{} {why} ({}{more})", rows.len(), rows[0])
        });
        told.collect::<Vec<_>>().join("; ")
    }

    fn json(&self) -> Value {
        json!({
            "without_pictures": self.without_pictures,
            "without_partner": self.without_partner,
            "too_long": self.too_long,
        })
    }
}

/// What was measured, in the order of the table.
#[derive(Default)]
struct Results {
    measured: Vec<Measured>,
    ratios: BTreeMap<String, f64>,
    /// One for each condition, where rows are written.
    files: Vec<PathBuf>,
}

impl Results {
    fn add(
        &mut self,
        name: &str,
        ratio: Option<f64>,
        evaluation: &Evaluation,
        rows: Option<&Path>,
    ) -> anyhow::Result<()> {
        let part = evaluation.judged_by();
        let scores = evaluation.rows.iter().map(|row| row.mean(part).expect("every row has the part")).collect();
        self.measured.push(Measured { name: name.to_owned(), scores });
        self.ratios.extend(ratio.map(|ratio| (name.to_owned(), ratio)));
        if let Some(path) = rows {
            let path = beside(path, name);
            write_rows(&path, evaluation)?;
            self.files.push(path);
        }
        Ok(())
    }

    /// The same for the rows of each category.
    fn by_category(&self, rows: &[RowResult], score: &str) -> BTreeMap<String, Reliance> {
        let places: BTreeMap<u64, usize> = rows.iter().enumerate().map(|(at, row)| (row.visit, at)).collect();
        let of = |(name, rows): (&str, Vec<&RowResult>)| {
            let of = |measured: &Measured| Measured {
                name: measured.name.clone(),
                scores: rows.iter().map(|row| measured.scores[places[&row.visit]]).collect(),
            };
            let measured: Vec<Measured> = self.measured.iter().map(of).collect();
            (name.to_owned(), reliance(score, &measured))
        };
        by_category(rows).into_iter().map(of).collect()
    }

    fn json(&self, found: &Reliance, without: &LeftOut) -> Value {
        let interval = |interval: Interval| json!([interval.low, interval.high]);
        let condition = |condition: &Condition| {
            json!({
                "name": condition.name,
                "ratio": self.ratios.get(&condition.name),
                "mean": condition.mean,
                "interval": interval(condition.interval),
                "drop": condition.drop,
                "drop_interval": interval(condition.drop_interval),
            })
        };
        let mut all = json!({
            "score": found.score,
            "rows": found.num_rows,
            "conditions": found.conditions.iter().map(condition).collect::<Vec<_>>(),
            "reliance": found.reliance,
            "reliance_interval": found.interval.map(interval),
        });
        if !without.is_empty() {
            all["left_out"] = without.json();
        }
        all
    }
}

/// `rows.jsonl` for a condition: `rows.masked-0.2.jsonl`.
fn beside(path: &Path, condition: &str) -> PathBuf {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}.{}{extension}", condition.replace(' ', "-")))
}

fn category_table(categories: &BTreeMap<String, Reliance>) -> String {
    let mut lines =
        vec![["category", "rows", WHOLE, BLANK, SWAPPED, "reliance", "95% interval"].map(str::to_owned).to_vec()];
    lines.extend(categories.iter().map(|(name, found)| {
        let mean = |name: &str| {
            let condition = found.conditions.iter().find(|condition| condition.name == name);
            condition.map_or_else(String::new, |condition| format!("{:.4}", condition.mean))
        };
        vec![
            name.clone(),
            found.num_rows.to_string(),
            mean(WHOLE),
            mean(BLANK),
            mean(SWAPPED),
            found.reliance.map_or_else(|| "undefined".to_owned(), |reliance| format!("{reliance:.4}")),
            found.interval.map_or_else(|| "-".to_owned(), |Interval { low, high }| format!("{low:.4} to {high:.4}")),
        ]
    }));
    table(&lines)
}

#[cfg(test)]
mod tests {
    use super::beside;
    use std::path::Path;

    #[test]
    fn files_of_rows_are_named_after_conditions() {
        assert_eq!(beside(Path::new("out/rows.jsonl"), "masked 0.2"), Path::new("out/rows.masked-0.2.jsonl"));
        assert_eq!(beside(Path::new("rows"), "whole"), Path::new("rows.whole"));
    }
}
