//! One HTML file of one or more runs: curves, times, samples, configuration.
//!
//! The file needs no network and loads nothing: styles, script, data and pictures are in it. What comes from a run is
//! data in a JSON block, and the script shows it as text only, so that a response can neither end the block nor become a
//! part of the page. The page's own policy forbids every connection.

mod base64;
mod configuration;
mod curves;
mod data;
mod meanings;
mod phases;
mod samples;

use crate::kept::{KeptPictures, KeptSamples};
use crate::{Metrics, ReportError, run};
use data::{Data, RunData};
use std::io::Write;
use std::path::Path;

/// How much a page holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The page's title.
    pub title: String,
    /// Bytes of picture files, over all runs. Default: 32 MiB.
    pub max_picture_bytes: u64,
    /// Bytes of samples without pictures, over all runs; about. Default: 16 MiB.
    pub max_sample_bytes: u64,
    /// Points of a curve; a longer one is thinned so that peaks stay. Default: 2,000.
    pub max_points: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { title: "Percept".to_owned(), max_picture_bytes: 32 << 20, max_sample_bytes: 16 << 20, max_points: 2_000 }
    }
}

/// A page, and what a reader should know about it; the page shows the notes, too.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The whole file.
    pub html: String,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

const TEMPLATE: &str = include_str!("../../assets/page.html");
const STYLE: &str = include_str!("../../assets/page.css");
const SCRIPTS: [&str; 7] = [
    include_str!("../../assets/elements.js"),
    include_str!("../../assets/chart.js"),
    include_str!("../../assets/curves.js"),
    include_str!("../../assets/time.js"),
    include_str!("../../assets/samples.js"),
    include_str!("../../assets/configuration.js"),
    include_str!("../../assets/main.js"),
];

/// Makes the page of some run directories.
///
/// # Errors
/// Without a run, or when a file of a run cannot be read.
pub fn page(runs: &[&Path], options: &Options) -> Result<Page, ReportError> {
    if runs.is_empty() {
        return Err(ReportError::TooFew { what: "a page", needed: "one run", given: 0 });
    }
    let all = runs.iter().map(|run| Metrics::read(run)).collect::<Result<Vec<_>, _>>()?;
    let configurations = runs.iter().map(|run| configuration::read(run)).collect::<Result<Vec<_>, _>>()?;
    let mut notes: Vec<String> = all.iter().flat_map(|metrics| metrics.notes.clone()).collect();
    notes.extend(configurations.iter().filter_map(|found| found.as_ref().err()).cloned());
    let share = |limit: u64| limit / runs.len() as u64;
    let (mut prompts, mut pictures, mut num_samples) = (Vec::new(), data::Pictures::default(), 0);
    for (at, run) in runs.iter().enumerate() {
        let kept = KeptSamples::read(run, share(options.max_sample_bytes))?;
        let chosen = KeptPictures::choose(run, &kept, share(options.max_picture_bytes));
        notes.extend(kept.notes.iter().chain(&chosen.notes).cloned());
        num_samples += kept.num_all;
        prompts.extend(samples::prompts(at, &kept, &chosen, &mut pictures));
    }
    let data = Data {
        runs: run::names(runs).into_iter().zip(&all).map(|(name, metrics)| RunData::new(name, metrics)).collect(),
        charts: curves::charts(&all, options.max_points),
        phases: all.iter().map(phases::phases).collect(),
        configuration: configuration::rows(&configurations),
        prompts,
        num_samples,
        pictures: pictures.files,
        notes: notes.clone(),
    };
    Ok(Page { html: fill(&options.title, &data), notes })
}

/// Writes the page of some run directories. Returns its notes.
///
/// # Errors
/// As [`page`], and when the file cannot be written.
pub fn export(runs: &[&Path], out: &Path, options: &Options) -> Result<Vec<String>, ReportError> {
    let page = page(runs, options)?;
    run::write_whole(out, |file| file.write_all(page.html.as_bytes()))?;
    Ok(page.notes)
}

fn fill(title: &str, data: &Data) -> String {
    let json = serde_json::to_string(data).expect("names are texts and numbers are finite");
    // in JSON `<` stands in texts only; with it gone nothing can end the block or begin a comment
    let json = json.replace('<', "\\u003c");
    let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let script = SCRIPTS.join("\n");
    // in one pass: what is filled in may hold what looks like a slot
    let mut html = String::with_capacity(TEMPLATE.len() + STYLE.len() + script.len() + json.len());
    let mut rest = TEMPLATE;
    for (slot, text) in [
        ("{{title}}", title.as_str()),
        ("{{style}}", STYLE),
        ("{{title}}", &title),
        ("{{data}}", &json),
        ("{{script}}", &script),
    ] {
        let (before, after) = rest.split_once(slot).expect("the template has the slot");
        html.push_str(before);
        html.push_str(text);
        rest = after;
    }
    html + rest
}

#[cfg(test)]
mod tests {
    use super::{Options, page};
    use serde_json::json;
    use std::path::Path;

    fn write_run(run: &Path, response: &str) {
        let metrics = "{\"step\":1,\"reward/overall\":0.5}\n{\"step\":2,\"reward/overall\":0.7}\n";
        std::fs::write(run.join("metrics.jsonl"), metrics).expect("written");
        let sample = json!({"step": 2, "row": "row", "problem": "p", "answer": "a", "response": response, "reward": 1.0,
            "parts": {}, "advantage": 0.0, "tokens": 1});
        std::fs::write(run.join("samples.jsonl"), format!("{sample}\n")).expect("written");
    }

    #[test]
    fn what_a_run_wrote_cannot_leave_the_data() {
        let folder = tempfile::tempdir().expect("a folder");
        let response = "</script><script>alert(1)</script><!-- {{script}} {{title}}";
        write_run(folder.path(), response);
        let options = Options { title: "</title><b>".to_owned(), ..Options::default() };
        let html = page(&[folder.path()], &options).expect("a page").html;
        assert_eq!(html.matches("</script").count(), 2, "the data's and the script's");
        assert!(!html.contains("<!--") && html.contains("<title>&lt;/title&gt;&lt;b&gt;</title>"));
        let (_, rest) = html.split_once("id=\"data\">").expect("the data");
        let data: serde_json::Value =
            serde_json::from_str(rest.split_once("</script>").expect("its end").0).expect("JSON");
        assert_eq!(data["prompts"][0]["responses"][0]["text"], response);
    }

    #[test]
    fn the_page_loads_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        write_run(folder.path(), "fine");
        let html = page(&[folder.path()], &Options::default()).expect("a page").html;
        for outside in ["http:", "https:", "src=", "@import", "url(", "fetch(", "<link"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.contains("default-src 'none'"));
    }

    #[test]
    fn a_page_needs_a_run() {
        let error = page(&[], &Options::default()).expect_err("no run").to_string();
        assert_eq!(error, "a page needs at least one run, and was given 0; name more of them");
    }
}
