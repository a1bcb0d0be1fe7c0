//! One running copy of a program. Whatever it does, nobody waits for it longer than they want to.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::CommandConfig;
use crate::error::RewardError;

/// A longer line is cut; it cannot be a reply.
const LONGEST_LINE: u64 = 1 << 20;
/// Lines that nobody has asked for yet. A program that says more has to wait, so that it cannot fill the memory.
const WAITING_LINES: usize = 4;
/// How much of stderr is kept, in bytes.
const STDERR_TAIL: usize = 2048;
/// How long an ended program's exit status and last words are waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why there is no reply.
pub(super) enum Ended {
    /// The deadline came first.
    Late,
    /// The program ended, or closed its output.
    Died { status: String, stderr: String },
}

pub(super) struct Process {
    child: Child,
    /// Requests are written by a thread: a program that does not read would block the writer.
    requests: Sender<String>,
    replies: Receiver<String>,
    stderr: Arc<Tail>,
    has_answered: bool,
}

impl Process {
    pub(super) fn start(config: &CommandConfig) -> Result<Self, RewardError> {
        let mut child = spawn(config)?;
        let (requests, to_write) = channel();
        let (to_read, replies) = sync_channel(WAITING_LINES);
        let stderr = Arc::new(Tail::default());
        if let Some(stdin) = child.stdin.take() {
            thread::spawn(move || write_lines(stdin, &to_write));
        }
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || read_lines(stdout, &to_read));
        }
        if let Some(output) = child.stderr.take() {
            let tail = Arc::clone(&stderr);
            thread::spawn(move || tail.drain(output));
        }
        Ok(Self { child, requests, replies, stderr, has_answered: false })
    }

    pub(super) fn has_answered(&self) -> bool {
        self.has_answered
    }

    pub(super) fn if_running(mut self) -> Option<Self> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    pub(super) fn group(&self) -> Group {
        Group(self.child.id())
    }

    /// Sends a line and waits for one.
    pub(super) fn ask(&mut self, mut line: String, deadline: Instant) -> Result<String, Ended> {
        line.push('\n');
        if self.requests.send(line).is_err() {
            return Err(self.last_words());
        }
        match self.replies.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(reply) => {
                self.has_answered = true;
                Ok(reply)
            }
            Err(RecvTimeoutError::Timeout) => Err(Ended::Late),
            Err(RecvTimeoutError::Disconnected) => Err(self.last_words()),
        }
    }

    fn last_words(&mut self) -> Ended {
        let deadline = Instant::now() + LAST_WORDS;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break shown(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                Ok(None) => break "it closed its output and kept running".to_owned(),
                Err(error) => break format!("its exit status is unknown: {error}"),
            }
        };
        Ended::Died { status, stderr: self.stderr.text(deadline) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.group().kill();
        // Where there are no groups.
        let _ = self.child.kill();
        let deadline = Instant::now() + LAST_WORDS;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A program together with everything it has started.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Group(u32);

impl Group {
    pub(super) fn kill(self) {
        #[cfg(unix)]
        if let Some(leader) = i32::try_from(self.0).ok().and_then(rustix::process::Pid::from_raw) {
            // It fails when nobody is left, which is what is wanted.
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
    }
}

fn spawn(config: &CommandConfig) -> Result<Child, RewardError> {
    let mut command = Command::new(&config.command[0]);
    command.args(&config.command[1..]).envs(&config.environment);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(directory) = &config.directory {
        command.current_dir(directory);
    }
    // A group of its own: Ctrl-C at the terminal lets training finish its step, with the verifiers it needs for that.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map_err(|source| {
        let here = || std::env::current_dir().map_or_else(|_| ".".to_owned(), |path| path.display().to_string());
        RewardError::Start {
            program: config.command.join(" "),
            directory: config.directory.as_ref().map_or_else(here, |path| path.display().to_string()),
            source,
        }
    })
}

fn write_lines(mut stdin: ChildStdin, lines: &Receiver<String>) {
    for line in lines {
        if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
            return;
        }
    }
}

/// Hands on what the program says, line by line, empty ones left out.
fn read_lines(stdout: ChildStdout, lines: &SyncSender<String>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        match stdout.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if !line.is_empty() && lines.send(line.to_owned()).is_err() {
            return;
        }
    }
}

fn shown(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("killed by signal {signal}");
    }
    status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"))
}

/// The end of what a program writes to stderr. Somebody must read it all, or the program blocks.
#[derive(Default)]
struct Tail {
    bytes: Mutex<(Vec<u8>, bool)>,
    is_done: Condvar,
}

impl Tail {
    fn drain(&self, mut output: ChildStderr) {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut piece) {
            let (bytes, _) = &mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            bytes.extend_from_slice(&piece[..length]);
            bytes.drain(..bytes.len().saturating_sub(STDERR_TAIL));
        }
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.is_done.notify_all();
    }

    /// What there is at the end of stderr, or at the deadline.
    fn text(&self, deadline: Instant) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.is_done.wait_timeout_while(bytes, left, |(_, is_done)| !*is_done);
        let (bytes, _) = waited.unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes.0).trim().to_owned()
    }
}
