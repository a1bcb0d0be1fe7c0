//! The page in a browser: does its script run, draw, filter, and fit into wide and narrow windows?

mod made_up;

use made_up::MadeUp;
use percept_report::html::{self, Options};
use percept_report::samples;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const WINDOWS: [(u32, u32); 2] = [(1400, 1000), (420, 900)];

/// Put into the page before its own script: keeps what goes wrong, and looks when all is loaded.
const PROBE: &str = include_str!("probe.html");

fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    folders.iter().flat_map(|folder| names.map(|name| folder.join(name))).find(|path| path.is_file())
}

/// What the probe sees at an address of the page.
fn look(browser: &Path, page: &Path, address: &str, (width, height): (u32, u32)) -> Value {
    let profile = tempfile::tempdir().expect("a folder");
    let flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --virtual-time-budget=5000 --dump-dom";
    let mut child = Command::new(browser)
        .args(flags.split_whitespace())
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("file://{}#{address}", page.display()))
        .stdout(Stdio::from(std::fs::File::create(profile.path().join("dom.html")).expect("a file")))
        .stderr(Stdio::null())
        .spawn()
        .expect("the browser starts");
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > Duration::from_secs(120) {
            child.kill().expect("killed");
            panic!("the browser did not end within 120 s at #{address}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let dom = std::fs::read_to_string(profile.path().join("dom.html")).expect("a document");
    let (_, rest) =
        dom.split_once("<pre id=\"probe\">").unwrap_or_else(|| panic!("#{address}: no probe in {dom:.2000}"));
    let json = rest.split_once("</pre>").expect("its end").0;
    let json = json.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}").replace("&amp;", "&");
    let found: Value = serde_json::from_str(&json).expect("what the probe wrote");
    assert_eq!(found["errors"], Value::Array(Vec::new()), "#{address}");
    assert!(
        found["overflow"].as_i64().expect("a number") <= 0,
        "#{address} at {width}: wider than the window: {found}"
    );
    assert_eq!(found["rows"], 2, "#{address}");
    assert_eq!(found["foreign"], 0, "#{address}: something of a run became a part of the page");
    found
}

/// Two runs and their page, with the probe in it.
fn write_page(folder: &Path, options: &Options) -> (PathBuf, Vec<PathBuf>) {
    let runs: Vec<PathBuf> = ["papo_g", "grpo"].iter().map(|name| folder.join(name)).collect();
    for (run, (seed, objective)) in runs.iter().zip([(1, "papo_g"), (2, "grpo")]) {
        made_up::write_run(run, MadeUp { seed, steps: 20, objective, prompts: 2 });
    }
    let paths: Vec<&Path> = runs.iter().map(PathBuf::as_path).collect();
    let page = html::page(&paths, options).expect("a page").html;
    let path = folder.join("page.html");
    std::fs::write(&path, page.replacen("<style>", &format!("{PROBE}<style>"), 1)).expect("written");
    (path, runs)
}

#[test]
fn the_page_draws_and_filters_in_wide_and_narrow_windows() {
    let Some(browser) = chromium() else {
        println!("skipped: no chromium");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (page, runs) = write_page(folder.path(), &Options::default());
    let all: Vec<_> = runs.iter().flat_map(|run| samples::read(run).expect("samples").0).collect();
    let mean = |numbers: &[Option<f64>]| {
        let finite: Vec<f64> = numbers.iter().flatten().copied().collect();
        finite.iter().sum::<f64>() / finite.len() as f64
    };
    let is_wanted = |sample: &&samples::Sample| {
        !sample.is_correct()
            && (5..=18).contains(&sample.step)
            && mean(sample.divergence.as_deref().unwrap_or(&[])) >= 0.1
    };
    let wanted = all.iter().filter(is_wanted).count();
    assert!(wanted > 3 && wanted < all.len() / 2, "{wanted} of {}: nothing to filter", all.len());
    for window in WINDOWS {
        let found = look(&browser, &page, "", window);
        assert!(found["charts"].as_u64().expect("a number") > 35, "{found}");
        let least = if window.0 > 1000 { 12 } else { 3 };
        assert!(found["drawn"].as_u64().expect("a number") >= least, "{found}");
        let found = look(&browser, &page, "metric=VALIDATION/acc&smooth=3", window);
        let [by_key, by_pointer, is_gone] = [0, 1, 2].map(|at| found["told"][at].as_str().expect("a text").to_owned());
        assert!(found["charts"] == 1 && by_key.starts_with("step 0") && is_gone == "true", "{found}");
        let step: u64 = by_pointer["step ".len()..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .expect("a step");
        assert!(
            (9..=12).contains(&step) && by_pointer.contains("papo_g") && by_pointer.contains("grpo"),
            "{by_pointer}"
        );

        let found = look(&browser, &page, "view=samples&correct=wrong&from=5&to=18&min=0.1&sort=divergence", window);
        let status = found["status"].as_str().expect("a status");
        assert!(status.starts_with(&format!("{wanted} of {} responses, ", all.len())), "{status}: {wanted} are wanted");
        let verdicts = found["verdicts"].as_array().expect("a list");
        assert!(!verdicts.is_empty() && verdicts.iter().all(|verdict| verdict == "✗ wrong"), "{found}");
        assert!(found["pictures"].as_u64() >= Some(2) && found["warm"].as_u64() >= Some(2), "{found}");

        let found = look(&browser, &page, "view=samples&find=document.body.REMOVE", window);
        let responses = found["responses"].as_array().expect("a list");
        let is_shown =
            |text: &Value| text.as_str().is_some_and(|text| text.contains("</script><script>document.body.remove()"));
        assert!(!responses.is_empty() && responses.iter().all(is_shown), "{found}");

        let found = look(&browser, &page, "view=time&hide=1", window);
        assert_eq!(found["drawn"], 1, "{found}");
        assert!(found["told"][0].as_str().is_some_and(|told| told.starts_with("step 1other")), "{found}");
        // objective.kind, gamma and entropy_coefficient; trainer.run_dir and seed
        let found = look(&browser, &page, "view=configuration&differences=1", window);
        assert_eq!((&found["differing"], &found["keys"]), (&5.into(), &5.into()), "{found}");
    }
}

#[test]
fn what_is_left_out_is_told() {
    let Some(browser) = chromium() else {
        println!("skipped: no chromium");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { max_picture_bytes: 400_000, max_sample_bytes: 60_000, ..Options::default() };
    let (page, _) = write_page(folder.path(), &options);
    let found = look(&browser, &page, "view=samples&sort=oldest", WINDOWS[0]);
    let notes = found["notes"].as_str().expect("notes");
    assert!(
        notes.contains("of 20 steps are kept, evenly spread") && notes.contains("pictures were left out"),
        "{notes}"
    );
    let shown = found["pictures"].as_u64().expect("a number");
    assert!((1..=10).contains(&shown), "{found}");
}

#[test]
fn a_long_run_stays_small_and_quick() {
    let folder = tempfile::tempdir().expect("a folder");
    made_up::write_run(folder.path(), MadeUp { seed: 1, steps: 10_000, objective: "papo_g", prompts: 0 });
    let start = Instant::now();
    let page = html::page(&[folder.path()], &Options::default()).expect("a page");
    let mebibytes = page.html.len() as f64 / f64::from(1 << 20);
    println!("{mebibytes:.1} MiB in {:.2} s", start.elapsed().as_secs_f64());
    assert!(mebibytes < 4.0, "{mebibytes} MiB");
}
