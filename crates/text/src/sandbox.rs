//! What a template may take. A template is a program that came with a checkpoint: it may loop, or make text and lists that no
//! memory holds.
//!
//! The engine counts a template's steps and the bytes it makes. What it leaves to others is counted here: Python's methods, JSON,
//! and values that are written out. Lists that hold one another many times over are short to make and take for ever to compare,
//! which nobody counts: a thread renders, and is given up on when it is late. Its stack suffices for lists as deep as the steps
//! can make them.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

/// How long a rendering may take; as a rule it takes a thousandth.
const TIME: Duration = Duration::from_secs(20);
/// The system gives a thread as much of it as it uses.
const STACK_BYTES: usize = 64 << 20;
/// Steps of a rendering; 64 bytes that are made count as one. A conversation takes some hundred for each message.
const FUEL: u64 = 250_000;
const BYTES_A_STEP: usize = 64;
/// How deep a value may be nested that is written out; each level takes some of the stack.
const DEEPEST: usize = 200;

/// What is said when the fuel is used up.
pub(crate) const USED_UP: &str =
    "it takes more than 250,000 steps or makes more than 16 MB; the template may loop, or the conversation is too long";

/// Bounds every rendering's steps and bytes.
pub(crate) fn limit(environment: &mut Environment<'static>) {
    environment.set_fuel(Some(FUEL));
}

/// Renders a template of the environment.
///
/// # Errors
/// The template's own, and when it is over one of the limits.
pub(crate) fn render(environment: &Arc<Environment<'static>>, name: &str, context: Value) -> Result<String, Error> {
    render_within(TIME, environment, name, context)
}

fn render_within(
    time: Duration,
    environment: &Arc<Environment<'static>>,
    name: &str,
    context: Value,
) -> Result<String, Error> {
    let failed = |reason: String| Error::new(ErrorKind::InvalidOperation, reason);
    let (environment, name) = (Arc::clone(environment), name.to_owned());
    let (sender, rendered) = sync_channel(1);
    let work = move || {
        // Nobody waits any more when it is late.
        let _ = sender.send(environment.get_template(&name).and_then(|template| template.render(context)));
    };
    let thread = std::thread::Builder::new().name("template".into()).stack_size(STACK_BYTES);
    thread.spawn(work).map_err(|error| failed(format!("no thread can be started for it: {error}")))?;
    match rendered.recv_timeout(time) {
        Ok(rendered) => rendered,
        Err(RecvTimeoutError::Timeout) => Err(failed(format!(
            "it takes longer than {} s; does the template compare or join lists that hold one another?",
            time.as_secs_f64()
        ))),
        Err(RecvTimeoutError::Disconnected) => Err(failed("the template engine panicked on it".into())),
    }
}

/// How many bytes the fuel that is left suffices for.
pub(crate) fn bytes_left(state: &State) -> usize {
    let left = state.fuel_levels().map_or(u64::MAX, |(_, left)| left);
    usize::try_from(left).unwrap_or(usize::MAX).saturating_mul(BYTES_A_STEP)
}

/// Takes fuel for so many bytes, before they are made.
pub(crate) fn charge_bytes(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / BYTES_A_STEP) as u64)
}

/// Takes fuel for everything in a value, each list as often as it stands in others.
///
/// # Errors
/// When the fuel does not suffice, or the value is nested more than [`DEEPEST`] times.
pub(crate) fn charge_value(state: &State, value: &Value) -> Result<(), Error> {
    charge_inside(state, value, 0)
}

fn charge_inside(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEEPEST {
        let reason = format!("lists and tables inside one another more than {DEEPEST} times cannot be written");
        return Err(Error::new(ErrorKind::InvalidOperation, reason));
    }
    let kind = value.kind();
    if let Some(text) = value.as_str() {
        return charge_bytes(state, text.len());
    }
    if !matches!(kind, ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        return Ok(());
    }
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        if kind == ValueKind::Map {
            charge_inside(state, &value.get_item(&item)?, depth + 1)?;
        }
        charge_inside(state, &item, depth + 1)?;
    }
    Ok(())
}

/// Takes fuel for what one of Python's methods makes, where that is longer than what it is called on.
pub(crate) fn charge_method(state: &State, text: &str, method: &str, args: &[Value]) -> Result<(), Error> {
    match (method, args) {
        ("replace", [old, new, ..]) => {
            let (old, new) = (old.as_str().unwrap_or_default(), new.as_str().unwrap_or_default());
            let longer = new.len().saturating_sub(old.len());
            charge_bytes(state, text.len() + text.matches(old).count().saturating_mul(longer))
        }
        ("join", [values]) => {
            for value in values.try_iter()? {
                charge_bytes(state, BYTES_A_STEP + text.len())?;
                charge_value(state, &value)?;
            }
            Ok(())
        }
        ("format", values) => {
            values.iter().try_for_each(|value| charge_value(state, value))?;
            charge_bytes(state, widths(text))
        }
        _ => charge_bytes(state, text.len()),
    }
}

/// All numbers in a format string together: what it may pad to.
fn widths(format: &str) -> usize {
    let numbers = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.fold(0, |sum, digits| sum.saturating_add(digits.parse().unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::template::make_python_like;

    fn rendered(source: &str) -> Result<String, Error> {
        let mut environment = Environment::new();
        make_python_like(&mut environment);
        environment.add_template_owned("t", source.to_owned()).unwrap();
        render_within(Duration::from_millis(500), &Arc::new(environment), "t", Value::UNDEFINED)
    }

    /// Short to make, and 2^60 items when it is written out.
    const SHARED: &str = "{% set n = namespace(x=[1], y=[1]) %}\
                          {% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}";
    const DEEP: &str = "{% set n = namespace(x=[1]) %}{% for i in range(20000) %}{% set n.x = [n.x] %}{% endfor %}";

    #[test]
    fn steps_and_bytes_are_counted() {
        for source in [
            "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}".to_owned(),
            "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}".to_owned(),
            "{% set a = 'a' * 1000000 %}{{ a.replace('', a) }}".to_owned(),
            "{{ 'x'.join(['a'] * 100000000) }}".to_owned(),
            "{{ '{:>1000000000}'.format(1) }}".to_owned(),
            "{% set a = ' ' * 1000000 %}{% for i in range(99999) %}{% set b = a.strip() %}{% endfor %}".to_owned(),
            "{{ 'a' * 1000000000 }}".to_owned(),
            format!("{SHARED}{{{{ n.x }}}}"),
            format!("{SHARED}{{{{ ''.join([n.x]) }}}}"),
            format!("{SHARED}{{{{ '{{}}'.format(n.x) }}}}"),
        ] {
            let error = rendered(&source).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfFuel, "{source}: {error}");
        }
        assert_eq!(rendered("{{ 'x'.join(['a'] * 3) ~ 'aba'.replace('a', 'cc') }}").unwrap(), "axaxaccbcc");
    }

    #[test]
    fn depth_is_no_harm() {
        assert_eq!(rendered(&format!("{DEEP}{{{{ n.x == 1 }}}}{{{{ n.x|length }}}}")).unwrap(), "False1");
        let error = rendered(&format!("{DEEP}{{{{ n.x }}}}")).unwrap_err().to_string();
        assert!(error.contains("inside one another more than 200 times"), "{error}");
        let deepest = DEEP.replace("20000", "99999");
        assert_eq!(rendered(&deepest).unwrap_err().kind(), ErrorKind::OutOfFuel);
        assert_eq!(
            rendered("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}").unwrap_err().kind(),
            ErrorKind::InvalidOperation
        );
    }

    #[test]
    fn what_nobody_counts_is_given_up_on() {
        let start = Instant::now();
        let error = rendered(&format!("{SHARED}{{{{ n.x == n.y }}}}")).unwrap_err().to_string();
        assert!(error.contains("longer than 0.5 s"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}
