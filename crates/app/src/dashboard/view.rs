//! How the dashboard is drawn: at any size, from nothing but what is known of the run.

use super::curve::{Curve, short};
use super::state::{Sample, State};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::{Marker, line};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, LineGauge, Paragraph, Wrap};
use std::time::Duration;

/// The panel of numbers: two columns of a name and a number.
const NUMBERS_WIDTH: u16 = 2 * CELL_WIDTH as u16 + 3;
const CELL_WIDTH: usize = 18;
const NAME_WIDTH: usize = 10;
/// A plot that is still worth looking at.
const PLOT_WIDTH: u16 = 38;
const PLOT_HEIGHT: u16 = 8;

pub(super) fn draw(frame: &mut Frame, state: &State, stopping: bool) {
    let area = frame.area();
    let roomy = area.height >= 20;
    let messages = match state.messages.len() as u16 {
        0 => 0,
        count => count.min((area.height / 10).max(1)) + 2,
    };
    let samples = if state.samples.is_empty() || !roomy { 0 } else { (area.height * 3 / 10).max(6) };
    let rows = [
        Constraint::Length(3),
        Constraint::Min(0),
        Constraint::Length(samples),
        Constraint::Length(messages),
        Constraint::Length(1),
    ];
    let [head, body, samples, messages, foot] = Layout::vertical(rows).areas(area);
    draw_head(frame, head, state);
    let numbers = if area.width >= NUMBERS_WIDTH + PLOT_WIDTH { NUMBERS_WIDTH } else { 0 };
    let [plots, numbers] = Layout::horizontal([Constraint::Min(0), Constraint::Length(numbers)]).areas(body);
    draw_plots(frame, plots, state);
    draw_numbers(frame, numbers, state);
    draw_samples(frame, samples, state);
    draw_messages(frame, messages, state);
    draw_foot(frame, foot, state, stopping);
}

/// How far the run is, what it does now, and what the last step took.
fn draw_head(frame: &mut Frame, area: Rect, state: &State) {
    let [gauge, now, phases] = Layout::vertical([Constraint::Length(1); 3]).areas(area);
    let done = state.done.unwrap_or(0).min(state.steps);
    let share = done as f64 / state.steps.max(1) as f64;
    let label = format!("{}: step {done} of {}, {:.0} %", state.what, state.steps, 100.0 * share);
    // told apart without colors too
    let bar = LineGauge::default().filled_symbol(line::THICK_HORIZONTAL).unfilled_symbol(line::HORIZONTAL);
    frame.render_widget(bar.ratio(share).label(label).filled_style(Color::Cyan), gauge);
    let mut times = format!("{} so far", clock(state.begun.elapsed()));
    if let Some(left) = state.left() {
        times = format!("{times}, about {} left", clock(left));
    }
    let columns = [Constraint::Min(0), Constraint::Length(times.len() as u16 + 1)];
    let [left, right] = Layout::horizontal(columns).areas(now);
    frame.render_widget(Paragraph::new(happening(state)), left);
    frame.render_widget(Paragraph::new(times).alignment(Alignment::Right), right);
    frame.render_widget(Paragraph::new(last_step(state, area.width)), phases);
}

/// "step 38: rollout, for 3 s (step: 5 s)".
fn happening(state: &State) -> String {
    let what = match state.step {
        None => "before the first step".to_owned(),
        Some((step, _)) => format!("step {step}"),
    };
    let Some((phase, since)) = state.phase else { return format!("{what}: begins") };
    let rows = state.rows.map_or_else(String::new, |(done, total)| format!(" {done}/{total} rows"));
    let spent = state.step.map_or_else(String::new, |(_, since)| format!(" (step: {})", seconds(since.elapsed())));
    format!("{what}: {phase}{rows}, for {}{spent}", seconds(since.elapsed()))
}

/// "last step 4.12 s: rollout 61 %, update 20 %", with the longest phases that there is room for.
fn last_step(state: &State, width: u16) -> String {
    let Some(seconds) = state.seconds else { return String::new() };
    let mut line = format!("last step {seconds:.2} s");
    for (index, (phase, part)) in state.phases.iter().enumerate() {
        let share = 100.0 * part / seconds.max(1e-9);
        let more = format!("{} {phase} {share:.0} %", if index == 0 { ":" } else { "," });
        if share < 0.5 || line.len() + more.len() > usize::from(width) {
            break;
        }
        line.push_str(&more);
    }
    line
}

/// As many curves side by side as there is room for, the selected one first.
fn draw_plots(frame: &mut Frame, area: Rect, state: &State) {
    let curves = state.drawn();
    if curves.is_empty() {
        let text = Paragraph::new("curves begin with the first step's end").alignment(Alignment::Center);
        frame.render_widget(text.block(Block::bordered()), area);
        return;
    }
    let columns = (area.width / PLOT_WIDTH).clamp(1, curves.len() as u16);
    let rows = (area.height / PLOT_HEIGHT).clamp(1, (curves.len() as u16).div_ceil(columns));
    let mut number = state.selected % curves.len();
    let mut room = curves.len();
    for row in Layout::vertical(vec![Constraint::Fill(1); usize::from(rows)]).split(area).iter() {
        for &cell in Layout::horizontal(vec![Constraint::Fill(1); usize::from(columns)]).split(*row).iter() {
            if room == 0 {
                return;
            }
            let first = if room == curves.len() { Modifier::BOLD } else { Modifier::empty() };
            draw_plot(frame, cell, curves[number], &format!("{}/{}", number + 1, curves.len()), first);
            number = (number + 1) % curves.len();
            room -= 1;
        }
    }
}

fn draw_plot(frame: &mut Frame, area: Rect, curve: &Curve, place: &str, emphasis: Modifier) {
    let points = curve.points();
    let [first, last] = [points[0].0, points[points.len() - 1].0];
    let bounds = curve.bounds();
    let value = curve.last().map_or_else(String::new, short);
    let title = Span::styled(format!(" {} {value} ", curve.title), Style::from(emphasis));
    let block = Block::bordered().title(title).title(Line::from(format!(" {place} ")).right_aligned());
    let set = Dataset::default().data(points).marker(Marker::Braille).graph_type(GraphType::Line);
    let quiet = Style::default().fg(Color::DarkGray);
    let steps = [first, last.max(first + 1.0)];
    let x = Axis::default().bounds(steps).style(quiet).labels(steps.map(|step| format!("{step}")));
    let y = Axis::default().bounds(bounds).style(quiet).labels(bounds.map(short));
    let chart = Chart::new(vec![set.style(Color::Cyan)]).block(block).x_axis(x).y_axis(y).legend_position(None);
    frame.render_widget(chart, area);
}

/// The last value of every curve, down the columns.
fn draw_numbers(frame: &mut Frame, area: Rect, state: &State) {
    let block = Block::bordered().title(" last values ");
    let height = usize::from(block.inner(area).height);
    let values: Vec<(&str, f64)> =
        state.curves.iter().filter_map(|curve| Some((&*curve.title, curve.last()?))).collect();
    let cell = |&(name, value): &(&str, f64)| {
        let name: String = name.chars().take(NAME_WIDTH).collect();
        format!("{name:<NAME_WIDTH$}{:>7} ", short(value))
    };
    let lines = (0..height.min(values.len())).map(|row| {
        let cells = [row, row + height].into_iter().filter_map(|place| values.get(place));
        Line::from(cells.map(cell).collect::<String>())
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), area);
}

/// Question, response and reward of some responses of the last step.
fn draw_samples(frame: &mut Frame, area: Rect, state: &State) {
    let block = Block::bordered().title(format!(" responses of step {} ", state.sampled_in));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    // a line of the question, and one or two of the response
    let height = if inner.height >= 9 { 3 } else { 2 };
    for (sample, number) in state.samples.iter().zip(0..inner.height / height) {
        let place = Rect { y: inner.y + number * height, height, ..inner };
        let text = Paragraph::new(sample_lines(sample, place)).wrap(Wrap { trim: false });
        frame.render_widget(text, place);
    }
}

fn sample_lines(sample: &Sample, area: Rect) -> Vec<Line<'static>> {
    let (mark, color) = if sample.correct { ("right", Color::Green) } else { ("wrong", Color::Red) };
    let reward = format!("{:>6} {mark} ", short(sample.reward));
    let width = usize::from(area.width);
    let question = shortened(&sample.problem, width.saturating_sub(reward.len()));
    let response = shortened(&sample.response, width * usize::from(area.height - 1));
    vec![Line::from(vec![Span::styled(reward, color), Span::styled(question, Modifier::DIM)]), Line::from(response)]
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['\u{2026}']).collect()
}

/// The newest messages of other parts.
fn draw_messages(frame: &mut Frame, area: Rect, state: &State) {
    if area.height == 0 {
        return;
    }
    let block = Block::bordered().title(format!(" messages ({}) ", state.messages.len() + state.forgotten));
    let inner = block.inner(area);
    let newest = state.messages.iter().rev().take(usize::from(inner.height));
    let mut lines: Vec<Line> =
        newest.map(|line| Line::styled(shortened(line, usize::from(inner.width)), Color::Yellow)).collect();
    lines.reverse();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn draw_foot(frame: &mut Frame, area: Rect, state: &State, stopping: bool) {
    let line = if stopping {
        let step = state.step.map_or_else(|| "the step".to_owned(), |(step, _)| format!("step {step}"));
        let text = format!(" stopping: {step} is finished and saved first; Ctrl-C stops at once");
        Line::styled(text, Style::from(Modifier::REVERSED | Modifier::BOLD))
    } else {
        Line::styled(" q or Ctrl-C: finish the step, save and stop   \u{2190} \u{2192}: other curves", Modifier::DIM)
    };
    frame.render_widget(Paragraph::new(line), area);
}

/// "2:31", "1:02:31".
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn seconds(time: Duration) -> String {
    if time.as_secs() < 100 { format!("{:.1} s", time.as_secs_f64()) } else { clock(time) }
}

#[cfg(test)]
mod tests;
