//! What a run prints: in a terminal (a pseudo terminal that `script` of util-linux makes), into a pipe, and with `--quiet`.

use crate::program::Place;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

const ENTERS: &str = "\u{1b}[?1049h";
const LEAVES: &str = "\u{1b}[?1049l";
const HEADING: &str = "  step     reward";

/// No command here takes a tenth of this.
const PATIENCE: Duration = Duration::from_secs(120);

fn tail(text: &str) -> String {
    let count = text.chars().count();
    text.chars().skip(count.saturating_sub(4000)).collect()
}

/// A program in a terminal of 80 columns and 24 rows.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: std::path::PathBuf,
}

impl Terminal {
    /// `percept WORDS` in a test's folder; nothing where this machine has no terminals to give.
    fn start(place: &Place, words: &str, variables: &[(&str, &str)]) -> Option<Self> {
        let version = Command::new("script").arg("--version").output();
        if !version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("util-linux")) {
            println!("skipped: no `script` of util-linux");
            return None;
        }
        let program = env!("CARGO_BIN_EXE_percept");
        let line = format!("stty rows 24 cols 80; exec '{program}' {words}");
        let screen = place.path().join("screen");
        let mut command = Command::new("script");
        command.args(["-qfec", &line]).arg(&screen).current_dir(place.path());
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR").envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("script starts");
        let keys = child.stdin.take().expect("a pipe");
        Some(Self { child, keys, screen })
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.screen).unwrap_or_default()).into_owned()
    }

    fn wait_until(&mut self, what: &str, happened: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !happened(&self.shown()) {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "ended before {what}: {}", self.shown());
            assert!(
                start.elapsed() < PATIENCE,
                "{what} did not happen; the last that was shown: {}",
                tail(&self.shown())
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn press(&mut self, keys: &str) {
        use std::io::Write;
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("keys");
    }

    /// The exit code, and all that was written to the terminal.
    fn end(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the program hangs: {}", tail(&self.shown()));
            std::thread::sleep(Duration::from_millis(5));
        };
        (status.code(), self.shown())
    }
}

impl Drop for Terminal {
    /// A test that fails leaves nothing running.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came before the dashboard, what it drew, and what came behind it.
fn parts(shown: &str) -> (&str, &str, &str) {
    assert_eq!(shown.matches(ENTERS).count(), 1, "{shown}");
    assert_eq!(shown.matches(LEAVES).count(), 1, "{shown}");
    let (before, rest) = shown.split_once(ENTERS).expect("entered");
    let (drawn, behind) = rest.split_once(LEAVES).expect("left after it was entered");
    (before, drawn, behind)
}

#[test]
fn a_terminal_shows_a_dashboard_and_the_last_lines_behind_it() {
    let place = Place::new();
    let Some(terminal) = Terminal::start(&place, "train run.toml", &[("PERCEPT_DASHBOARD_COST", "1")]) else { return };
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    let (_, drawn, behind) = parts(&shown);
    for text in ["training:", "reward", "responses", "Ctrl-C"] {
        assert!(drawn.contains(text), "{text:?} was not drawn: {drawn}");
    }
    assert!(drawn.contains("38;5;"), "it has colors");
    // the cursor is there again
    assert!(behind.contains("\u{1b}[?25h"), "{behind}");
    for text in ["best validation score", "checkpoint: run/checkpoints/step-000008", "dashboard: "] {
        assert!(behind.contains(text), "{text:?} does not stand behind it: {behind}");
    }
    assert!(!shown.contains(HEADING), "the table is for where there is no dashboard: {shown}");
    let cost = behind.lines().find(|line| line.contains("dashboard: ")).expect("a line");
    println!("{cost}");
}

#[test]
fn the_key_q_and_ctrl_c_save_and_say_how_to_go_on() {
    for (key, run) in [("q", "asked"), ("\u{3}", "interrupted")] {
        let place = Place::new();
        let words =
            format!("train run.toml --set validation.every=0 --set trainer.steps=4000 --set trainer.run_dir={run}");
        let Some(mut terminal) = Terminal::start(&place, &words, &[]) else { return };
        terminal.wait_until("the first curve", |shown| shown.contains("responses"));
        terminal.press(key);
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(130), "{shown}");
        let (_, drawn, behind) = parts(&shown);
        let _ = drawn;
        assert!(behind.contains("go on with: percept train run.toml"), "{behind}");
        assert!(place.pointer(&format!("{run}/latest")).is_some(), "the step is saved: {shown}");
    }
}

#[test]
fn a_second_ctrl_c_ends_at_once_and_gives_the_terminal_back() {
    let place = Place::new();
    // random weights seldom end a response, so that the step takes long
    let base = place.workshop.base();
    let words = format!(
        "train run.toml --set validation.before_training=false --set trainer.micro_tokens=1024 --set model.checkpoint={} \
         --set rollout.max_new_tokens=400 --set rollout.prompts_per_step=12 --set rollout.responses_per_prompt=32",
        base.display()
    );
    let Some(mut terminal) = Terminal::start(&place, &words, &[]) else { return };
    terminal.wait_until("the first step", |shown| shown.contains("rollout,"));
    terminal.press("\u{3}\u{3}");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(130), "{shown}");
    let (_, _, behind) = parts(&shown);
    assert!(!behind.contains("go on with"), "it was to end before the step did: {behind}");
}

/// A judge that writes over the screen, through the trainer's own standard error, and gives up in the third step.
#[cfg(target_os = "linux")]
const JUDGE: &str = r#"
[[reward.verifiers]]
name = "accuracy"
kind = "command"
command = ["sh", "-c", '''
count=0
while read -r line; do
  count=$((count + 1))
  if [ $count = 20 ]; then echo "a warning of somebody" > /proc/$PPID/fd/2; fi
  if [ $count = 40 ]; then echo "out of paper" >&2; exit 3; fi
  id=${line#*\"id\":}
  echo "{\"id\": ${id%%,*}, \"score\": 0.5}"
done''']
"#;

#[test]
#[cfg(target_os = "linux")]
fn messages_and_the_error_are_readable_behind_a_dashboard() {
    let place = Place::new();
    let text = std::fs::read_to_string(place.path().join("run.toml")).expect("reads");
    place.write("judged.toml", text + JUDGE);
    let words = "train judged.toml --set validation.every=0 --set trainer.steps=40";
    let Some(terminal) = Terminal::start(&place, words, &[]) else { return };
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(1), "{shown}");
    let (_, drawn, behind) = parts(&shown);
    assert!(
        !drawn.contains("a warning of somebody\r\n") && !drawn.contains("a warning of somebody\n"),
        "torn: {drawn}"
    );
    assert!(behind.contains("a warning of somebody"), "messages are repeated: {behind}");
    assert!(behind.contains("error: ") && behind.contains("out of paper"), "{behind}");
}

#[test]
fn a_terminal_that_cannot_or_must_not_draw_gets_lines() {
    for (words, variables) in [("--plain", &[][..]), ("--no-dashboard", &[]), ("", &[("TERM", "dumb")])] {
        let place = Place::new();
        let words = format!("train run.toml --set trainer.steps=2 {words}");
        let Some(terminal) = Terminal::start(&place, &words, variables) else { return };
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(0), "{shown}");
        assert!(!shown.contains(ENTERS) && shown.contains(HEADING), "{words}: {shown}");
    }
}

#[test]
fn colors_are_left_out_on_request() {
    let place = Place::new();
    let words = "train run.toml --set trainer.steps=2";
    let Some(terminal) = Terminal::start(&place, words, &[("NO_COLOR", "1")]) else { return };
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    let (_, drawn, _) = parts(&shown);
    assert!(!drawn.contains("38;5;"), "{drawn}");
}

#[test]
fn a_pipe_gets_a_line_a_step() {
    let place = Place::new();
    let out = place.run("train", "trainer.steps=3").well();
    assert!(out.contains(HEADING) && !out.contains('\u{1b}'), "{out}");
    for step in 1..=3 {
        assert!(out.lines().any(|line| line.starts_with(&format!("{step:>6} "))), "step {step}: {out}");
    }
}

#[test]
fn quiet_prints_the_final_lines_only() {
    let place = Place::new();
    let said = place.percept(&["train", "run.toml", "--quiet", "--set", "trainer.micro_tokens=\"auto\""]);
    // a policy this weak is warned of, and warnings are not quiet
    let others: Vec<&str> = said.err.lines().filter(|line| !line.contains("[percept doctor: ")).collect();
    assert!(others.is_empty(), "{others:?}");
    let out = said.well();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(lines[0].starts_with("best validation score "), "{out}");
    assert!(lines[1].starts_with("checkpoint: "), "{out}");
    assert!(Path::new(&place.path().join("run/metrics.jsonl")).exists());
    let said = place.percept(&["train", "run.toml", "--quiet"]);
    assert_eq!((said.code, &*said.out), (Some(1), ""));
    assert!(said.err.starts_with("error: ") && said.err.contains("holds a run already"), "{}", said.err);
}
