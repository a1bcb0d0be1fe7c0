//! What a person sees in a terminal while a run goes on: curves, numbers, responses, messages, and what the run waits for.
//!
//! The run tells a [`State`]; a thread of its own draws it a few times a second ([`view`]) and reads keys, so that a long phase does
//! not freeze the screen and drawing does not hold a step up. The screen is one for the process, behind a lock: whoever ends the
//! program, wherever it stands, closes it first.

#[cfg(unix)]
mod capture;
mod curve;
mod state;
mod view;

use crate::train::{INTERRUPT, interrupt};
use percept_trainer::{Event, Metrics};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use state::State;
use std::io::{self, Stdout};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between frames.
const TICK: Duration = Duration::from_millis(250);

/// The terminal while it shows a dashboard.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    state: Arc<Mutex<State>>,
    #[cfg(unix)]
    captured: Option<capture::Captured>,
}

static SCREEN: Mutex<Option<Screen>> = Mutex::new(None);

/// A lock that a panic elsewhere does not take from us: what it guards is only shown.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Whether messages are shown by a dashboard.
pub(crate) fn is_open() -> bool {
    lock(&SCREEN).is_some()
}

/// Gives the terminal back as it was, and repeats the messages that were shown; does nothing where no dashboard is open.
pub(crate) fn close() {
    let Some(screen) = lock(&SCREEN).take() else { return };
    leave();
    #[cfg(unix)]
    if let Some(captured) = screen.captured {
        captured.end();
    }
    let state = lock(&screen.state);
    if state.forgotten > 0 {
        eprintln!("({} earlier messages are left out)", state.forgotten);
    }
    state.messages.iter().for_each(|line| eprintln!("{line}"));
}

fn enter() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)?;
    let mut terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
    terminal.hide_cursor()?;
    Ok(terminal)
}

fn leave() {
    // a terminal that went away has nothing to restore
    let _ = execute!(io::stdout(), LeaveAlternateScreen, ratatui::crossterm::cursor::Show);
    let _ = disable_raw_mode();
}

/// A dashboard, until it is dropped.
pub(crate) struct Dashboard {
    state: Arc<Mutex<State>>,
    /// Gives its own processor time, where the system tells.
    drawing: Option<JoinHandle<Option<Duration>>>,
}

impl Dashboard {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When the terminal refuses; it is as it was then.
    pub(crate) fn open(what: &str, steps: u64) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State::new(what, steps)));
        let terminal = enter().inspect_err(|_| leave())?;
        #[cfg(unix)]
        let captured = {
            let told = state.clone();
            capture::Captured::begin(move |line| lock(&told).message(line)).inspect_err(|_| leave())?
        };
        *lock(&SCREEN) = Some(Screen {
            terminal,
            state: state.clone(),
            #[cfg(unix)]
            captured,
        });
        let drawn = state.clone();
        let drawing = std::thread::Builder::new().name("dashboard".to_owned()).spawn(move || draw(&drawn));
        let drawing = drawing.inspect_err(|_| close())?;
        Ok(Self { state, drawing: Some(drawing) })
    }

    pub(crate) fn report(&self, step: u64, metrics: &Metrics) {
        lock(&self.state).report(step, metrics);
    }

    pub(crate) fn watch(&self, event: Event<'_>) {
        lock(&self.state).watch(event);
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        close();
        // a second dashboard must not meet the first one's thread
        let spent = self.drawing.take().and_then(|drawing| drawing.join().ok()).flatten();
        if let Some(spent) = spent.filter(|_| std::env::var_os("PERCEPT_DASHBOARD_COST").is_some()) {
            let (spent, open) = (spent.as_secs_f64(), lock(&self.state).begun.elapsed().as_secs_f64());
            eprintln!("dashboard: {spent:.3} s of a processor in {open:.1} s ({:.2} %)", 100.0 * spent / open);
        }
    }
}

/// Draws until the screen is closed.
fn draw(state: &Mutex<State>) -> Option<Duration> {
    loop {
        {
            let mut screen = lock(&SCREEN);
            let Some(screen) = &mut *screen else { return processor_time() };
            let stopping = INTERRUPT.load(Ordering::Relaxed);
            let state = lock(state);
            // a frame that the terminal did not take is followed by the next
            let _ = screen.terminal.draw(|frame| view::draw(frame, &state, stopping));
        }
        wait(state);
    }
}

/// Until the next frame, or until a key changes something.
fn wait(state: &Mutex<State>) {
    let next = Instant::now() + TICK;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        match event::poll(left) {
            Ok(true) => {}
            Ok(false) => return,
            // no keys can be read here
            Err(_) => return std::thread::sleep(left),
        }
        match event::read() {
            Ok(input) if answer(&input, state) => return,
            Ok(_) => {}
            Err(_) => return std::thread::sleep(left),
        }
    }
}

/// Does what a key says; whether it shows.
fn answer(input: &Input, state: &Mutex<State>) -> bool {
    let key = match input {
        Input::Resize(..) => return true,
        Input::Key(key) if key.kind != KeyEventKind::Release => key,
        _ => return false,
    };
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => interrupt(),
        KeyCode::Char('q') => INTERRUPT.store(true, Ordering::Relaxed),
        KeyCode::Right | KeyCode::Tab => lock(state).select(1),
        KeyCode::Left | KeyCode::BackTab => lock(state).select(-1),
        _ => return false,
    }
    true
}

/// What this thread has used of a processor.
#[cfg(unix)]
fn processor_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?))
}

#[cfg(not(unix))]
fn processor_time() -> Option<Duration> {
    None
}
