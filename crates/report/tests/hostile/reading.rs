//! What is done with the files of a run, whatever they hold; the fuzz targets do the same.

use std::path::Path;

use percept_report::{Metrics, ReportError, compare, csv, html, samples, tensorboard};

const METRICS: &str = "{\"step\":1,\"reward/overall\":0.5}\n{\"step\":2,\"reward/overall\":0.7,\"time/step\":3}\n";

fn told<T>(result: Result<T, ReportError>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

/// Everything that is made of a run. Says whether a page could be.
fn everything(run: &Path) -> bool {
    if let Some(metrics) = told(Metrics::read(run)) {
        assert!(csv::table(&metrics).lines().count() > metrics.steps.len());
    }
    told(samples::read(run));
    told(tensorboard::export(run, &run.join("events")));
    told(html::page(&[run], &html::Options::default())).is_some_and(|page| page.html.ends_with("</html>\n"))
}

fn run_with(name: &str, bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("metrics.jsonl"), METRICS).expect("writes");
    std::fs::write(folder.path().join(name), bytes).expect("writes");
    everything(folder.path())
}

/// A run with this `metrics.jsonl`.
pub fn metrics(bytes: &[u8]) -> bool {
    run_with("metrics.jsonl", bytes)
}

/// A run with this `samples.jsonl`.
pub fn samples(bytes: &[u8]) -> bool {
    run_with("samples.jsonl", bytes)
}

/// A run with this `config.toml`.
pub fn configuration(bytes: &[u8]) -> bool {
    run_with("config.toml", bytes)
}

/// Compares scores of rows with others. Says whether they could be.
pub fn scores(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let [first, second] = ["first.jsonl", "second.jsonl"].map(|name| folder.path().join(name));
    std::fs::write(&first, "{\"row\":\"a\",\"score\":0.5}\n{\"row\":7,\"score\":true}\n").expect("writes");
    std::fs::write(&second, bytes).expect("writes");
    let read = |part| told(compare::RunScores::read_all(&[&first, &second], part));
    read(Some("accuracy"));
    read(None).is_some_and(|scores| told(compare::rows(&scores)).is_some())
}

fn files<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.map(|text| text.as_bytes().to_vec()).into()
}

pub fn metrics_files() -> Vec<Vec<u8>> {
    files([METRICS, "{\"step\":7,\"validation/overall\":null,\"a\":-1e300}\n\n{\"step\":0,\"collect/seconds\":1.5}"])
}

pub fn samples_files() -> Vec<Vec<u8>> {
    files([
        "{\"step\":2,\"row\":\"r\",\"problem\":\"<image>p\",\"answer\":\"a\",\"response\":\"</script>\",\"reward\":1.0,\
            \"parts\":{\"accuracy\":0.5},\"advantage\":-0.5,\"tokens\":2,\"group\":1,\"correct\":true,\"pieces\":[\"a\",\"\\u00e9\"],\
            \"divergence\":[0.25,null],\"picture\":\"p/a.png\",\"masked_picture\":[\"./metrics.jsonl\"]}\n\
            {\"step\":9,\"row\":\"s\",\"problem\":\"\",\"answer\":\"\",\"response\":\"b\",\"reward\":null,\"advantage\":null,\"tokens\":0}\n",
    ])
}

pub fn configuration_files() -> Vec<Vec<u8>> {
    files([
        "seed = 1\n[objective]\nkind = \"papo_g\"\n[data.corruption]\nratio = 0.6\n[[reward.verifiers]]\nkind = 'math'\n",
    ])
}

pub fn scores_files() -> Vec<Vec<u8>> {
    files(["{\"row\":\"a\",\"score\":0.5}\n{\"row\":7,\"overall\":[0.1,[true]],\"parts\":{\"accuracy\":[0,1]}}\n"])
}
