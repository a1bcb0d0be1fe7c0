//! Against real programs, written for `sh` so that a bare machine has what they need.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::pool::Pool;
use super::process::Process;
use super::{Command, CommandConfig};
use crate::config::RubricConfig;
use crate::error::RewardError;
use crate::registry::Registry;
use crate::verifier::{Item, Verifier};

/// Reads requests and puts each one's id into `$id`.
const LOOP: &str = r#"while read -r line; do id=${line#*:}; id=${id%%,*}; "#;

fn config(script: &str) -> CommandConfig {
    CommandConfig {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        directory: None,
        environment: BTreeMap::new(),
        workers: 1,
        timeout_seconds: 1.0,
        start_seconds: 5.0,
        lowest: 0.0,
        highest: 1.0,
    }
}

fn judge(body: &str) -> Command {
    Command::start(config(&format!("{LOOP} {body} done"))).expect("sh runs")
}

fn item<'a>(response: &'a str, row: &'a str) -> Item<'a> {
    Item { problem: "Is it \"red\"?\n", response, answer: "é", row }
}

const ANSWER: &str = r#"case $line in *right*) s=1;; *half*) s=0.5;; *) s=0;; esac; echo "{\"id\":$id,\"score\":$s}";"#;

#[test]
fn scores_are_the_programs() {
    let command = judge(ANSWER);
    for (response, score) in [("right", 1.0), ("half \\boxed{\n\"}", 0.5), ("wrong", 0.0)] {
        assert_eq!(command.verify(&item(response, "row 1")).expect("a score"), score);
    }
}

#[test]
fn a_hanging_program_is_killed_and_replaced() {
    let command = judge(&format!("case $line in *hang*) sleep 60;; esac; {ANSWER}"));
    assert_eq!(command.verify(&item("right", "row 1")).ok(), Some(1.0));
    let start = Instant::now();
    let error = command.verify(&item("hang", "row 2")).expect_err("it hangs");
    assert!(matches!(&error, RewardError::Timeout { row, seconds: 1.0, .. } if row == "row 2"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(command.verify(&item("half", "row 3")).ok(), Some(0.5));
}

#[test]
fn a_program_that_reads_nothing_is_late_too() {
    let config = CommandConfig { start_seconds: 0.0, ..config("sleep 60") };
    let command = Command::start(config).expect("sh runs");
    let large = "x".repeat(1 << 20);
    let error = command.verify(&item(&large, "row 1")).expect_err("it hangs");
    assert!(matches!(error, RewardError::Timeout { .. }), "{error}");
}

#[test]
fn what_a_program_started_is_killed_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("alive");
    let child = format!("(while :; do echo >> {}; sleep 0.05; done) & ", mark.display());
    let command = judge(&format!("{child} sleep 60;"));
    assert!(command.verify(&item("x", "row 1")).is_err());
    let size = |path: &Path| path.metadata().map_or(0, |data| data.len());
    let before = size(&mark);
    assert!(before > 0, "the child never ran");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(size(&mark), before, "the child outlived its parent");
}

#[test]
fn dropping_kills() {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("alive");
    let command = Command::start(config(&format!("while :; do echo >> {}; sleep 0.05; done", mark.display())));
    std::thread::sleep(Duration::from_millis(300));
    drop(command.expect("sh runs"));
    let size = || mark.metadata().map_or(0, |data| data.len());
    let before = size();
    assert!(before > 0, "the program never ran");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(size(), before, "the program outlived its verifier");
}

#[test]
fn a_dying_program_is_quoted() {
    let command = judge(&format!("case $line in *die*) echo 'no such model' >&2; exit 3;; esac; {ANSWER}"));
    let error = command.verify(&item("die", "row 4")).expect_err("it dies").to_string();
    assert!(error.starts_with("row 4: `sh -c "), "{error}");
    assert!(error.ends_with("(exit status 3); the end of its stderr:\nno such model"), "{error}");
    assert_eq!(command.verify(&item("right", "row 5")).ok(), Some(1.0));
    let killed = judge("kill -9 $$;");
    let error = killed.verify(&item("", "row 6")).expect_err("it dies").to_string();
    assert!(error.contains("killed by signal 9") && error.contains("nothing to stderr"), "{error}");
}

#[test]
fn a_program_may_end_between_two_requests() {
    let command = Command::start(config(&format!("{LOOP} {ANSWER} exit 0; done"))).expect("sh runs");
    for _ in 0..3 {
        assert_eq!(command.verify(&item("right", "row 1")).ok(), Some(1.0));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nonsense_is_shown() {
    for (body, expected) in [
        ("echo loading;", "got: loading"),
        (r#"echo "{\"id\":$id}";"#, "missing field `score`"),
        (r#"echo "{\"id\":99,\"score\":1}";"#, "answered request 99 instead of"),
        (r#"echo "{\"id\":$id,\"score\":2}";"#, "answered a score outside of 0 to 1"),
        (r#"echo "{\"id\":$id,\"score\":NaN}";"#, "expected value"),
        (r#"echo "{\"id\":$id,\"score\":1e39}";"#, "answered a score outside of 0 to 1"),
        (r#"echo "{\"id\":$id,\"score\":1e999}";"#, "number out of range"),
        (r#"echo "{\"id\":$id,\"score\":[1,0]}";"#, "invalid type: sequence"),
        (r#"echo "{\"id\":$id,\"score\":1,\"score\":0}";"#, "duplicate field `score`"),
        (r#"echo "{\"id\":$id,\"score\":1}{\"id\":$id,\"score\":1}";"#, "trailing characters"),
        (r#"printf '\377\376\n';"#, "expected value"),
        (r#"head -c 3000000 /dev/zero | tr '\0' '[';"#, "got: [[["),
        (r#"echo "{\"id\":$id,\"score\":\"good\"}";"#, "got: {\"id\":0,\"score\":\"good\"}"),
    ] {
        let error = judge(body).verify(&item("", "row 7")).expect_err(body).to_string();
        assert!(error.starts_with("row 7: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_reply_too_many_is_the_next_requests_fault() {
    let command = judge(&format!("{ANSWER} {ANSWER}"));
    assert_eq!(command.verify(&item("right", "row 1")).ok(), Some(1.0));
    let error = command.verify(&item("wrong", "row 2")).expect_err("one reply is left over").to_string();
    assert!(error.starts_with("row 2: ") && error.contains("answered request 0 instead of 1"), "{error}");
    assert_eq!(command.verify(&item("half", "row 3")).ok(), Some(0.5));
}

#[test]
fn settings_out_of_range_are_refused() {
    let complaint = |change: fn(&mut CommandConfig)| {
        let mut config = config("exit 1");
        change(&mut config);
        config.complaint().expect("a complaint")
    };
    // The clock cannot count so far, and no memory holds so many seats.
    assert!(complaint(|config| config.timeout_seconds = 1e18).contains("at most 100000000, found 1000000000000000000"));
    assert!(complaint(|config| config.timeout_seconds = f64::NAN).contains("found NaN"));
    assert!(complaint(|config| config.start_seconds = 1e19).starts_with("`start_seconds` must be"));
    assert_eq!(
        complaint(|config| config.workers = usize::MAX),
        format!("`workers` must be from 1 to 1024, found {}", usize::MAX)
    );
    assert!(complaint(|config| config.workers = 0).contains("found 0"));
}

#[test]
fn a_full_stderr_does_not_block() {
    let command = judge(&format!("head -c 300000 /dev/zero >&2; {ANSWER}"));
    assert_eq!(command.verify(&item("right", "row 1")).ok(), Some(1.0));
}

#[test]
fn a_slow_start_is_no_timeout() {
    let command = Command::start(config(&format!("sleep 1; {LOOP} {ANSWER} done"))).expect("sh runs");
    assert_eq!(command.verify(&item("right", "row 1")).ok(), Some(1.0));
    let config = CommandConfig { start_seconds: 0.1, ..config("sleep 5") };
    let error = Command::start(config).expect("sh runs").verify(&item("right", "row 1")).expect_err("too slow");
    assert!(matches!(error, RewardError::Timeout { seconds: 1.1, .. }), "{error}");
}

fn rubric_config(body: &str, workers: usize, on_error: &str) -> RubricConfig {
    let script = format!("{LOOP} {body} done");
    let text = format!(
        "[[verifiers]]\nkind = 'math'\n[[verifiers]]\nname = 'judge'\nkind = 'command'\nweight = 2\n\
         on_error = '{on_error}'\nworkers = {workers}\ntimeout_seconds = 1\nstart_seconds = 2\n\
         command = ['sh', '-c', '''{script}''']"
    );
    toml::from_str(&text).expect("a rubric")
}

#[test]
fn copies_work_at_once() {
    let rubric = Registry::default().rubric(&rubric_config(&format!("sleep 0.2; {ANSWER}"), 8, "stop"));
    let rubric = rubric.expect("a rubric");
    let start = Instant::now();
    let verdicts = rubric.grade(&[item("right \\boxed{é}", "row 1"); 32]).expect("verdicts");
    assert!(verdicts.iter().all(|verdict| verdict.overall == 3.0 && verdict.parts == [1.0, 1.0]));
    // One copy would need 6.4 s.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn errors_stop_the_rubric_or_are_zero() {
    let body = format!("case $line in *hang*) sleep 60;; *die*) exit 1;; esac; {ANSWER}");
    let items = [item("right", "row 1"), item("hang", "row 2"), item("die", "row 3"), item("right", "row 4")];
    let registry = Registry::default();
    let zero = registry.rubric(&rubric_config(&body, 2, "zero")).expect("a rubric");
    let verdicts = zero.grade(&items).expect("verdicts");
    assert_eq!(verdicts.iter().map(|verdict| verdict.overall).collect::<Vec<_>>(), [2.0, 0.0, 0.0, 2.0]);
    assert_eq!(zero.num_errors(), [0, 2]);
    let stop = registry.rubric(&rubric_config(&body, 2, "stop")).expect("a rubric");
    let error = stop.grade(&items).expect_err("it stops").to_string();
    assert!(error.starts_with("row 2: ") || error.starts_with("row 3: "), "{error}");
    // After an error the rubric serves again.
    assert_eq!(stop.grade(&items[..1]).expect("verdicts")[0].overall, 2.0);
}

#[test]
fn a_copy_killed_behind_its_answer_does_not_serve_again() {
    let process = Process::start(&config("cat")).expect("sh runs");
    let pool = Pool::new(1, Process::start(&config("cat")).expect("sh runs"));
    pool.watch(&process);
    assert!(pool.forget(&process), "nobody killed it");
    pool.watch(&process);
    pool.kill_all();
    assert!(!pool.forget(&process), "it was killed while it was watched");
}
