//! The program `percept`, run as a user would: in a folder of its own, on a task and a checkpoint that it writes itself.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// On an adapter in software, compiling kernels takes minutes; a program that hangs is ended and fails its test.
const PATIENCE: Duration = Duration::from_secs(1800);

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Said {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// What it said on standard output; the test ends when it failed.
    pub fn well(self) -> String {
        assert_eq!(self.code, Some(0), "the command failed: {self:#?}");
        self.out
    }
}

/// A command that is running.
pub struct Running {
    child: Child,
    out: File,
    err: File,
}

impl Running {
    /// Waits for a sign of progress.
    pub fn wait_until(&mut self, what: &str, happened: impl Fn() -> bool) {
        let start = Instant::now();
        while !happened() {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the command ended ({ended:?}) before {what}: {}", text(&mut self.err));
            assert!(start.elapsed() < PATIENCE, "{what} did not happen");
            // a run is to be stopped where it is most delicate: between two files of one step
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        let status = self.child.wait().expect("a child");
        assert_eq!(status.code(), None, "the command was to be killed, and had ended: give it more to do");
    }

    /// Whether it has not ended yet.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Ends it as a power cut would, unless it has ended well.
    pub fn kill_if_it_runs(mut self) -> bool {
        self.child.kill().expect("a child");
        let status = self.child.wait().expect("a child");
        assert!(status.code().is_none_or(|code| code == 0), "the command failed: {}", text(&mut self.err));
        status.code().is_none()
    }

    /// Waits for its end, which must be a good one.
    pub fn end_well(self) {
        self.end().well();
    }

    /// Sends it Ctrl-C.
    #[cfg(unix)]
    pub fn interrupt(&self) {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success(), "the command cannot be interrupted: {status}");
    }

    pub fn end(mut self) -> Said {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if start.elapsed() > PATIENCE {
                self.child.kill().expect("it runs");
                panic!("the command hangs; so far it said: {}{}", text(&mut self.out), text(&mut self.err));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Said { code: status.code(), out: text(&mut self.out), err: text(&mut self.err) }
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("what a command said");
    String::from_utf8(bytes).expect("text")
}

/// A task and two checkpoints, shared by the tests that run at the same time; nobody writes into it.
pub struct Workshop {
    folder: TempDir,
}

static OPEN: Mutex<Weak<Workshop>> = Mutex::new(Weak::new());

impl Workshop {
    /// The shared one. It is removed behind the last test that uses it, which a static alone would not do.
    fn enter() -> Arc<Self> {
        let mut open = OPEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(workshop) = open.upgrade() {
            return workshop;
        }
        let workshop = Arc::new(Self::furnish());
        *open = Arc::downgrade(&workshop);
        workshop
    }

    fn furnish() -> Self {
        let workshop = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let task = |words: &str| {
            let words = format!("task --seed 3 --size 56 --grid 2 --validation 8 --test 16 {words}");
            start(workshop.folder.path(), &words.split(' ').collect::<Vec<_>>(), &[]).end().well();
        };
        task("--out data --train 256 --checkpoint base");
        task("--out few --train 12");
        task("--out lines --train 12 --format jsonl");
        // so weak that it is sometimes right: groups without variance teach nothing, and dynamic sampling has to work
        let train = workshop.data("train");
        let folder = workshop.folder();
        let sets = format!("validation.every=0 sft.steps=40 data.train={}", train.display());
        start(folder.path(), &run_arguments("sft", &sets), &[]).end().well();
        std::fs::rename(folder.path().join("run/sft/checkpoints/step-000040"), workshop.warm()).expect("a checkpoint");
        workshop
    }

    /// 256 training rows, 8 for validation, 16 for testing.
    pub fn data(&self, split: &str) -> PathBuf {
        self.folder.path().join(format!("data/{split}.parquet"))
    }

    /// The first 12 training rows as JSON lines, with the pictures beside them.
    pub fn lines(&self) -> PathBuf {
        self.folder.path().join("lines")
    }

    /// Random weights.
    pub fn base(&self) -> PathBuf {
        self.folder.path().join("base")
    }

    /// After a weak warm start.
    pub fn warm(&self) -> PathBuf {
        self.folder.path().join("warm")
    }

    /// A folder with a `run.toml` that starts from the warm checkpoint.
    fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("run.toml"), self.configuration()).expect("writes");
        folder
    }

    /// Small enough for a fraction of a second a step; an update takes several micro-batches, and the run several passes over the
    /// first 12 rows, each in an order of its own.
    fn configuration(&self) -> String {
        // the fixture itself starts from random weights, before there are others
        let start = if self.warm().exists() { self.warm() } else { self.base() };
        let path = |path: PathBuf| toml::Value::from(path.to_str().expect("Unicode").to_owned());
        format!(
            r#"
[model]
checkpoint = {checkpoint}

[data]
train = {train}
validation = {validation}
min_pixels = "off"
max_pixels = "off"
max_prompt_tokens = 256

[rollout]
prompts_per_step = 4
responses_per_prompt = 4
max_new_tokens = 20
max_rows = 8

[validation]
every = 3
responses_per_prompt = 2

[optimizer]
learning_rate = 3e-4
schedule = "cosine"
warmup_steps = 1

[trainer]
run_dir = "run"
steps = 8
prompts_per_update = 2
prompts_per_try = 4
micro_tokens = 512
checkpoint_every = 2

[sft]
steps = 8
rows_per_step = 16

[sft.optimizer]
learning_rate = 1e-3
warmup_steps = 1
"#,
            checkpoint = path(start),
            train = path(self.folder.path().join("few/train.parquet")),
            validation = path(self.data("validation")),
        )
    }
}

/// A test's own folder, and the workshop that its run file names.
pub struct Place {
    pub workshop: Arc<Workshop>,
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let workshop = Workshop::enter();
        Self { folder: workshop.folder(), workshop }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        start(self.path(), arguments, &[])
    }

    pub fn percept(&self, arguments: &[&str]) -> Said {
        self.start(arguments).end()
    }

    /// The same with variables in the environment.
    pub fn percept_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        start(self.path(), arguments, variables).end()
    }

    /// `percept COMMAND run.toml --set ...`; the sets stand in one text, separated by spaces.
    pub fn run(&self, command: &str, sets: &str) -> Said {
        self.percept(&run_arguments(command, sets))
    }

    /// The same with variables in the environment.
    pub fn run_with(&self, command: &str, sets: &str, variables: &[(&str, &str)]) -> Said {
        self.percept_with(&run_arguments(command, sets), variables)
    }

    pub fn start_run(&self, command: &str, sets: &str) -> Running {
        self.start(&run_arguments(command, sets))
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, contents).expect("writes");
        path
    }

    /// The steps that a file of JSON lines tells of, the last line's if it is whole.
    pub fn last_step(&self, file: &str) -> Option<u64> {
        let text = std::fs::read_to_string(self.path().join(file)).ok()?;
        let value: Value = serde_json::from_str(text.lines().last()?).ok()?;
        value.get("step")?.as_u64()
    }

    /// What a pointer (`latest`, `best`) names.
    pub fn pointer(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path().join(path)).ok().map(|text| text.trim().to_owned())
    }
}

/// `percept` in a folder, for tests that need no workshop.
pub fn percept(folder: &Path, arguments: &[&str]) -> Said {
    start(folder, arguments, &[]).end()
}

/// `--resume` among the sets is a flag.
fn run_arguments<'a>(command: &'a str, sets: &'a str) -> Vec<&'a str> {
    let words = sets.split_whitespace();
    let rest = words.flat_map(|word| if word.starts_with("--") { vec![word] } else { vec!["--set", word] });
    [command, "run.toml"].into_iter().chain(rest).collect()
}

fn start(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
    // files and not pipes: a child that is not read does not stop
    let (out, err) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.stdout(out.try_clone().expect("a file")).stderr(err.try_clone().expect("a file"));
    // the configuration is the test's alone
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PERCEPT__")) {
        command.env_remove(name);
    }
    let child = command.envs(variables.iter().copied()).spawn().expect("the program starts");
    Running { child, out, err }
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Every file below a folder with its bytes.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_str().expect("Unicode").to_owned();
        if path.is_dir() {
            all.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            all.insert(name, std::fs::read(&path).expect("reads"));
        }
    }
    all
}

/// Fails with the first file that is not the same, byte for byte.
pub fn assert_same_files(left: &Path, right: &Path) {
    let (a, b) = (files(left), files(right));
    assert!(!a.is_empty(), "{}: nothing to compare", left.display());
    assert_eq!(
        a.keys().collect::<Vec<_>>(),
        b.keys().collect::<Vec<_>>(),
        "{} and {}",
        left.display(),
        right.display()
    );
    for (name, bytes) in &a {
        let other = &b[name];
        let differs = bytes.iter().zip(other).position(|(x, y)| x != y);
        let lengths = (bytes.len(), other.len());
        assert!(bytes == other, "{name}: {lengths:?} bytes, the first that differs is {differs:?}");
    }
}

/// Lines of JSON.
pub fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The metrics of every step, but for what a clock or the memory says.
pub fn metrics(path: &Path) -> Vec<BTreeMap<String, Value>> {
    let measured = |key: &str| ["time/", "speed/", "memory/"].iter().any(|area| key.starts_with(area));
    let numbers = |line: Value| {
        let Value::Object(object) = line else { panic!("{line}: not an object") };
        object.into_iter().filter(|(key, _)| !measured(key)).collect()
    };
    lines(path).into_iter().map(numbers).collect()
}

/// A metric by step, where it stands.
pub fn series(path: &Path, name: &str) -> Vec<f64> {
    lines(path).iter().filter_map(|line| line.get(name)?.as_f64()).collect()
}
