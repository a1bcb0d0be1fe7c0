//! Scores by category: a column of the data set tells rows apart.

use crate::evaluate::tries;
use percept_report::compare::table;
use percept_trainer::RowResult;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What rows without a value are called.
const NONE: &str = "(none)";

/// The rows of each category, by name.
pub(crate) fn by_category(rows: &[RowResult]) -> BTreeMap<&str, Vec<&RowResult>> {
    let mut all: BTreeMap<&str, Vec<&RowResult>> = BTreeMap::new();
    for row in rows {
        all.entry(name(row)).or_default().push(row);
    }
    all
}

/// A row's category.
pub(crate) fn name(row: &RowResult) -> &str {
    row.category.as_deref().unwrap_or(NONE)
}

/// Averages of a category, of all rows, or over categories: by the names that they have in JSON.
type Averages = BTreeMap<String, f64>;

/// Scores by category.
pub(crate) struct Categories {
    /// Rows, and averages over them.
    each: BTreeMap<String, (usize, Averages)>,
    all: (usize, Averages),
}

impl Categories {
    /// `parts` are the rubric's; every row was answered `k` times.
    pub(crate) fn of(rows: &[RowResult], parts: &[String], k: usize) -> Self {
        let average = |rows: &[&RowResult]| -> Averages {
            let over =
                |value: &dyn Fn(&RowResult) -> f64| rows.iter().map(|row| value(row)).sum::<f64>() / rows.len() as f64;
            let parts = parts.iter().map(String::as_str).chain(["overall"]);
            let scores =
                parts.map(|part| (format!("avg_{part}"), over(&|row| row.mean(part).expect("a part of the rubric"))));
            let passes = tries(k).map(|tries| (format!("pass_at_{tries}"), over(&|row| row.pass_at(tries))));
            scores.chain(passes).collect()
        };
        let each = by_category(rows);
        let each = each.into_iter().map(|(name, rows)| (name.to_owned(), (rows.len(), average(&rows)))).collect();
        Self { each, all: (rows.len(), average(&rows.iter().collect::<Vec<_>>())) }
    }

    /// The mean over categories, each counting alike however many rows it has.
    fn mean(&self) -> Averages {
        let over = |name: &String| {
            self.each.values().map(|(_, averages)| averages[name]).sum::<f64>() / self.each.len() as f64
        };
        self.all.1.keys().map(|name| (name.clone(), over(name))).collect()
    }

    /// A line for each category, then the mean over them, then that over all rows.
    pub(crate) fn table(&self, judged_by: &str, k: usize) -> String {
        let mut columns = vec![(format!("avg@{k} {judged_by}"), format!("avg_{judged_by}"))];
        // one try passes as often as it is right
        columns.extend(tries(k).skip(1).map(|tries| (format!("pass@{tries}"), format!("pass_at_{tries}"))));
        let cells = |averages: &Averages| -> Vec<String> {
            columns.iter().map(|(_, name)| format!("{:.4}", averages[name])).collect()
        };
        let line = |name: &str, rows: &str, averages: &Averages| {
            [vec![name.to_owned(), rows.to_owned()], cells(averages)].concat()
        };
        let heads = columns.iter().map(|(head, _)| head.clone());
        let mut lines = vec![["category", "rows"].map(str::to_owned).into_iter().chain(heads).collect::<Vec<_>>()];
        lines.extend(self.each.iter().map(|(name, (rows, averages))| line(name, &rows.to_string(), averages)));
        lines.push(line(&format!("mean of {} categories", self.each.len()), "", &self.mean()));
        lines.push(line("all rows", &self.all.0.to_string(), &self.all.1));
        table(&lines)
    }

    /// `categories`, an object of averages with `rows` for each, and `category_mean`.
    pub(crate) fn json(&self) -> Map<String, Value> {
        let each = |(name, (rows, averages)): (&String, &(usize, Averages))| {
            let mut object: Map<String, Value> =
                averages.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            object.insert("rows".to_owned(), json!(rows));
            (name.clone(), Value::Object(object))
        };
        let categories: Map<String, Value> = self.each.iter().map(each).collect();
        Map::from_iter([
            ("categories".to_owned(), Value::Object(categories)),
            ("category_mean".to_owned(), json!(self.mean())),
        ])
    }
}
