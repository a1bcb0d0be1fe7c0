//! Writes two runs that never were, with all that can be made of them, to work on the page:
//! `cargo run -p percept-report --example made_up -- DIR [STEPS]`.

#[path = "../tests/made_up/mod.rs"]
mod made_up;

use made_up::MadeUp;
use percept_report::compare::{self, RowScore, RunScores};
use percept_report::{csv, html, tensorboard};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("name a folder")?);
    let steps = arguments.next().map_or(Ok(200), |text| text.parse())?;
    let runs = ["papo_g", "grpo"].map(|objective| (folder.join(objective), objective));
    for (seed, (run, objective)) in (1..).zip(&runs) {
        made_up::write_run(run, MadeUp { seed, steps, objective, prompts: 3 });
        csv::export(run, &run.join("metrics.csv"))?;
        tensorboard::export(run, &run.join("tensorboard"))?;
    }
    let [first, second] = runs.map(|(run, _)| run);
    html::export(&[&first], &folder.join("one.html"), &html::Options::default())?;
    let notes = html::export(&[&first, &second], &folder.join("two.html"), &html::Options::default())?;
    notes.iter().for_each(|note| println!("{note}"));
    print!(
        "{}\n{}",
        compare::validation(&[&first, &second])?,
        compare::rows(&[scores("grpo", 11), scores("papo_g", 9)])?
    );
    Ok(())
}

/// Rows of which every so many are wrong.
fn scores(name: &str, share: u64) -> RunScores {
    let is_right = |row: u64| (row * row * 7 + row) % 16 < 20 - share && !row.is_multiple_of(share);
    let row = |row: u64| RowScore { row: row.to_string(), score: f64::from(u8::from(is_right(row))) };
    RunScores { name: name.to_owned(), rows: (0..256).map(row).collect() }
}
