//! Standard error while a dashboard is on: lines are taken where they would tear the screen.

use std::io::{self, BufRead, BufReader, IsTerminal, PipeReader};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long lines that are under way are waited for; a verifier's process may hold the pipe for longer.
const PATIENCE: Duration = Duration::from_millis(300);

pub(super) struct Captured {
    terminal: OwnedFd,
    over: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

impl Captured {
    /// Takes what this process, and those that it starts, write to standard error. Nothing is taken where that is no terminal: lines
    /// in a file do no harm.
    pub(super) fn begin(take: impl Fn(String) + Send + 'static) -> io::Result<Option<Self>> {
        if !io::stderr().is_terminal() {
            return Ok(None);
        }
        let (pipe, writer) = io::pipe()?;
        let terminal = rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3)?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let reader = std::thread::Builder::new().name("messages".to_owned());
        let reader = reader.spawn(move || read(pipe, &ended, &take))?;
        rustix::stdio::dup2_stderr(&writer)?;
        Ok(Some(Self { terminal, over, reader }))
    }

    /// Gives standard error back, once the lines that are under way have come.
    pub(super) fn end(self) {
        // fails only where the descriptor is none, and it was one
        let _ = rustix::stdio::dup2_stderr(&self.terminal);
        let start = Instant::now();
        while !self.reader.is_finished() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.over.store(true, Ordering::Relaxed);
    }
}

fn read(pipe: PipeReader, over: &AtomicBool, take: &dyn Fn(String)) {
    for line in BufReader::new(pipe).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if over.load(Ordering::Relaxed) {
            // whoever still writes here is told of as before
            eprintln!("{line}");
        } else if !line.is_empty() {
            take(line);
        }
    }
}
