//! "Did you mean": the nearest of the words that would have been right.

/// Words that differ by more letters than this are not compared.
const LONGEST: usize = 64;

/// The nearest candidate to what was written, when one is near enough to be what was meant.
///
/// Case and `-` for `_` are no distance. Near enough is one slip in three letters, or the one a longer word shortens
/// to (`max_tokens` for `max_new_tokens`).
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase().replace('-', "_");
    let allowed = (written.chars().count() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        // A text that is much longer is no slip, and comparing it would take its length times as much.
        let mut distance = match written.len().abs_diff(candidate.len()) {
            apart if apart > LONGEST => usize::MAX,
            _ => strsim::damerau_levenshtein(&written, &candidate.to_lowercase()),
        };
        if distance > allowed && shares_words(&written, candidate) {
            distance = allowed;
        }
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Whether every word of `written` (two or more) stands in `candidate`.
fn shares_words(written: &str, candidate: &str) -> bool {
    let words: Vec<&str> = candidate.split('_').collect();
    written.contains('_') && written.split('_').all(|word| words.contains(&word))
}

/// "did you mean ..." where a candidate is near, otherwise the list of what is possible. `quote` stands on both sides.
pub(crate) fn advice(nearest: Option<&str>, prefix: &str, known: &[&str], quote: char) -> String {
    match nearest {
        Some(name) => format!("did you mean {quote}{prefix}{name}{quote}?"),
        None if known.is_empty() => "no keys are possible here".to_owned(),
        None => format!("possible here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_of_the_pen() {
        let keys = ["temperature", "top_p", "top_k", "max_new_tokens", "prompts_per_step"];
        assert_eq!(nearest("temprature", keys), Some("temperature"));
        assert_eq!(nearest("Max-New-Tokens", keys), Some("max_new_tokens"));
        assert_eq!(nearest("max_tokens", keys), Some("max_new_tokens"));
        assert_eq!(nearest("promts_per_step", keys), Some("prompts_per_step"));
        assert_eq!(nearest("topp", keys), Some("top_p"));
    }

    #[test]
    fn is_silent_when_nothing_is_near() {
        assert_eq!(nearest("colour", ["temperature", "top_p"]), None);
        assert_eq!(nearest("x", ["lr"]), None);
        assert_eq!(nearest("tokens", ["max_new_tokens"]), None);
    }
}
