use super::*;
use percept_trainer::{Event, Metrics};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;
use std::time::Instant;

/// A run of 300 steps in its 38th.
fn run() -> State {
    let mut state = State::new("training", 300);
    for step in 1..=37 {
        state.watch(Event::Step(step));
        let mut metrics = Metrics::default();
        let step_f = step as f64;
        for (name, value) in [
            ("reward/overall", step_f / 50.0),
            ("reward/accuracy", step_f / 60.0),
            ("objective/kl_prcp", 0.02),
            ("objective/reference_kl", 0.0004),
            ("objective/entropy", 1.5 - step_f / 100.0),
            ("objective/clip_fraction_high", 0.012),
            ("objective/clip_fraction_low", 0.0),
            ("response/length_mean", 21.3),
            ("speed/tokens_per_second", 1234.0),
            ("memory/peak_rss_mib", 512.0),
            ("time/step_seconds", 4.0),
            ("time/rollout_seconds", 3.0),
            ("time/update_seconds", 1.0),
        ] {
            metrics.set(name, value);
        }
        if step == 25 {
            metrics.set("validation/accuracy", 0.4375);
        }
        state.report(step, &metrics);
    }
    state.watch(Event::Step(38));
    state.watch(Event::Phase("rollout"));
    let sample = |reward: f64, correct: bool| {
        json!({
            "problem": "<image>How many red circles are in the image?",
            "response": "I look at every cell of the picture. ".repeat(20),
            "reward": reward,
            "correct": correct,
        })
    };
    let samples: Vec<_> = (0..8).map(|number| sample(0.9 - f64::from(number) / 10.0, number % 2 == 0)).collect();
    state.watch(Event::Samples(&samples));
    state
}

fn screen(state: &State, width: u16, height: u16, stopping: bool) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, state, stopping)).expect("draws");
    let buffer = terminal.backend().buffer();
    let row = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(row).collect()
}

fn holds(screen: &[String], text: &str) -> bool {
    screen.iter().any(|line| line.contains(text))
}

#[track_caller]
fn assert_holds(screen: &[String], texts: &[&str]) {
    for text in texts {
        assert!(holds(screen, text), "{text:?} is not on the screen:\n{}", screen.join("\n"));
    }
}

const ALWAYS: &[&str] = &[
    "training: step 37 of 300, 12 %",
    "step 38: rollout, for ",
    "about 17:32 left",
    "last step 4.00 s: rollout 75 %, update 25 %",
    " reward 0.740 ",
    "KL_prcp     0.020",
    "KL ref       4e-4",
    "clip high   0.012",
    "entropy     1.130",
    "tokens       21.3",
    "tok/s        1234",
    "MiB           512",
    "validation  0.438",
    "responses of step 38",
    "0.900 right How many red circles",
    "0.800 wrong",
    "I look at every cell",
    "q or Ctrl-C: finish the step, save and stop",
];

#[test]
fn a_small_terminal_shows_one_curve_and_all_numbers() {
    let screen = screen(&run(), 80, 24, false);
    assert_holds(&screen, ALWAYS);
    assert!(screen.iter().any(|line| line.contains('\u{2026}')), "long responses are shortened");
    assert!(!holds(&screen, " accuracy 0.617 "), "there is room for one curve:\n{}", screen.join("\n"));
}

#[test]
fn a_large_terminal_shows_many_curves() {
    let screen = screen(&run(), 160, 50, false);
    assert_holds(&screen, ALWAYS);
    assert_holds(
        &screen,
        &[" accuracy 0.617 ", " validation 0.438 ", " KL_prcp 0.020 ", " entropy 1.130 ", "0.600 wrong"],
    );
    let dots = screen.iter().flat_map(|line| line.chars()).filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count();
    assert!(dots > 60, "curves are drawn: {dots} cells");
}

#[test]
fn the_selected_curve_comes_first() {
    let mut state = run();
    state.select(1);
    assert_holds(&screen(&state, 80, 24, false), &[" accuracy 0.617 ", " 2/12 "]);
}

#[test]
fn a_stop_is_told_with_how_to_stop_at_once() {
    let screen = screen(&run(), 80, 24, true);
    assert_holds(&screen, &["stopping: step 38 is finished and saved first; Ctrl-C stops at once"]);
}

#[test]
fn messages_are_shown_below() {
    let mut state = run();
    ["first", "out of memory: half as many rows"].iter().for_each(|line| state.message((*line).to_owned()));
    for (width, height) in [(80, 24), (160, 50)] {
        let screen = screen(&state, width, height, false);
        assert_holds(&screen, &["messages (2)", "first", "out of memory: half", "step 38: rollout", " reward 0.740 "]);
    }
}

#[test]
fn every_size_is_drawn() {
    let mut state = run();
    state.message("a warning".to_owned());
    for state in [state, State::new("warm start", 0)] {
        for (width, height) in [(1, 1), (3, 2), (20, 5), (39, 12), (79, 19), (81, 25), (300, 100)] {
            assert_eq!(screen(&state, width, height, false).len(), usize::from(height));
        }
    }
}

/// A frame may take a thousandth of the quarter of a second until the next, ten times over.
#[test]
fn a_frame_costs_a_step_nothing() {
    let state = run();
    let mut terminal = Terminal::new(TestBackend::new(160, 50)).expect("a terminal");
    let mut frame = || terminal.draw(|frame| draw(frame, &state, false)).map(drop).expect("draws");
    frame();
    // the fastest of many: others use the machine too
    let time = || {
        let start = Instant::now();
        frame();
        start.elapsed()
    };
    let fastest = std::iter::repeat_with(time).take(50).min().expect("some");
    let share = fastest.as_secs_f64() / super::super::TICK.as_secs_f64();
    println!(
        "a frame of 160x50: {:.3} ms, {:.2} % of the time of one core",
        1e3 * fastest.as_secs_f64(),
        100.0 * share
    );
    assert!(share < 0.01, "{fastest:?}");
}
