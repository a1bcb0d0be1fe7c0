//! How much a run prints, and where: a dashboard in a terminal, lines elsewhere, or nearly nothing.

use crate::dashboard::Dashboard;
use crate::report::Table;
use percept_trainer::{Event, Metrics};
use std::cell::RefCell;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flags that choose it.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct OutputFlags {
    /// Print a line a step instead of the dashboard, in a terminal too
    #[arg(long, visible_alias = "no-dashboard", conflicts_with = "quiet")]
    pub(crate) plain: bool,
    /// Print errors, warnings and the final lines only
    #[arg(long)]
    pub(crate) quiet: bool,
}

static QUIET: AtomicBool = AtomicBool::new(false);

impl OutputFlags {
    /// Makes `--quiet` hold for everything that is printed from here on.
    pub(crate) fn apply(&self) {
        QUIET.store(self.quiet, Ordering::Relaxed);
    }

    /// Whether the dashboard is shown, given what `TERM` says.
    fn wants_dashboard(&self, term: Option<&str>) -> bool {
        let draws = cfg!(windows) || term.is_some_and(|term| !term.is_empty() && term != "dumb");
        draws && !self.plain && !self.quiet
    }
}

/// Whether only errors, warnings and final lines are printed.
pub(crate) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints a line, unless `--quiet` was given.
macro_rules! say {
    ($($words:tt)*) => {
        if !$crate::output::is_quiet() {
            println!($($words)*);
        }
    };
}
pub(crate) use say;

/// What shows how far a run is.
pub(crate) enum Progress {
    Nothing,
    Lines(RefCell<Table>),
    Dashboard(Dashboard),
}

impl Progress {
    /// `every`: steps between lines, where lines are printed.
    pub(crate) fn start(flags: &OutputFlags, what: &str, steps: u64, validates: bool, every: u64) -> Self {
        if flags.quiet {
            return Self::Nothing;
        }
        let term = std::env::var("TERM").ok();
        if flags.wants_dashboard(term.as_deref()) && std::io::stdout().is_terminal() && is_in_foreground() {
            // a terminal that refuses raw mode still shows lines
            if let Ok(dashboard) = Dashboard::open(what, steps) {
                return Self::Dashboard(dashboard);
            }
        }
        Self::Lines(RefCell::new(Table::new(what, steps, validates, every)))
    }

    pub(crate) fn report(&self, step: u64, metrics: &Metrics) {
        match self {
            Self::Nothing => {}
            Self::Lines(table) => table.borrow_mut().report(step, metrics),
            Self::Dashboard(dashboard) => dashboard.report(step, metrics),
        }
    }

    /// Shows a line where warnings go.
    pub(crate) fn warn(&self, line: &str) {
        match self {
            Self::Lines(table) => table.borrow().bar().suspend(|| eprintln!("{line}")),
            _ => eprintln!("{line}"),
        }
    }

    pub(crate) fn watch(&self, event: Event<'_>) {
        if let Self::Dashboard(dashboard) = self {
            dashboard.watch(event);
        }
    }

    /// Clears what stands there, so that the final lines come behind it.
    pub(crate) fn finish(self) {
        match self {
            Self::Nothing => {}
            Self::Lines(table) => table.into_inner().finish(),
            Self::Dashboard(dashboard) => drop(dashboard),
        }
    }
}

/// A program in the background must not touch the terminal's settings: the system would stop it.
#[cfg(unix)]
fn is_in_foreground() -> bool {
    let owner = rustix::termios::tcgetpgrp(std::io::stdout());
    owner.is_ok_and(|owner| owner == rustix::process::getpgrp())
}

#[cfg(not(unix))]
fn is_in_foreground() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::OutputFlags;

    #[test]
    fn a_terminal_that_cannot_draw_gets_lines() {
        let flags = OutputFlags::default();
        assert!(flags.wants_dashboard(Some("xterm-256color")));
        if cfg!(unix) {
            assert!(!flags.wants_dashboard(Some("dumb")));
            assert!(!flags.wants_dashboard(None));
        }
        assert!(!OutputFlags { plain: true, ..OutputFlags::default() }.wants_dashboard(Some("xterm")));
        assert!(!OutputFlags { quiet: true, ..OutputFlags::default() }.wants_dashboard(Some("xterm")));
    }
}
