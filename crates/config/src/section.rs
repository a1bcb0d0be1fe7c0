//! Sections whose keys belong to somebody else: a `kind` names the owner, and the owner gives the table a type.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::error::{ConfigError, UNPLACED_ORIGIN, one_line};
use crate::strict::{Fault, FaultKind, StrictSection, describe, join, quoted};
use crate::suggest::{advice, nearest};

/// The key that names a section's owner.
const SELECTOR: &str = "kind";

/// Give a section's table its type. `section` is its full path, such as `objective`, and stands in messages.
///
/// The key `kind` may be there although `T` does not name it, as it has been read to find `T`. Where the
/// [`RunConfig`](crate::RunConfig) is at hand, its `section` method also says which file or argument a wrong key came from.
///
/// # Errors
/// An unknown key (with the nearest of `T`'s), a missing key, or a value of the wrong type; `T` should carry
/// `#[serde(deny_unknown_fields)]`.
pub fn parse_section<T: DeserializeOwned>(table: &Table, section: &str) -> Result<T, ConfigError> {
    T::deserialize(StrictSection { table, selector: SELECTOR }).map_err(|fault| explain(fault, section, &[]))
}

/// The `kind` of a section.
///
/// # Errors
/// It is missing, or no string.
pub fn kind_of<'a>(table: &'a Table, section: &str) -> Result<&'a str, ConfigError> {
    let key = join(section, SELECTOR);
    match table.get(SELECTOR) {
        Some(Value::String(kind)) => Ok(kind),
        Some(other) => Err(ConfigError::WrongValue {
            origin: UNPLACED_ORIGIN.to_owned(),
            key,
            expected: "a name in quotes".to_owned(),
            found: describe(other),
        }),
        None => Err(ConfigError::Missing { origin: UNPLACED_ORIGIN.to_owned(), key }),
    }
}

/// The error of a registry that does not have what a section's `kind` names.
pub fn unknown_kind(section: &str, found: &str, known: &[&str]) -> ConfigError {
    unknown_choice(join(section, SELECTOR), found, known)
}

/// The error of a section's owner that reads a value out of its range. `key` is the value's full path.
pub fn wrong_value(key: &str, expected: &str, found: &str) -> ConfigError {
    let [key, expected, found] = [key, expected, found].map(str::to_owned);
    ConfigError::WrongValue { origin: UNPLACED_ORIGIN.to_owned(), key, expected, found }
}

fn unknown_choice(key: String, found: &str, known: &[&str]) -> ConfigError {
    let mut advice = advice(nearest(found, known.iter().copied()), "", &[], '"');
    if advice.starts_with("did") {
        advice = format!("{advice} (possible: {})", quoted(known));
    } else {
        advice = format!("possible: {}", quoted(known));
    }
    ConfigError::UnknownChoice { origin: UNPLACED_ORIGIN.to_owned(), key, found: found.to_owned(), advice }
}

/// A fault found under `section`, in full. `elsewhere` are full keys to look among when no neighbour is near.
pub(crate) fn explain(fault: Fault, section: &str, elsewhere: &[String]) -> ConfigError {
    let at = one_line(&join(section, &fault.key));
    let origin = UNPLACED_ORIGIN.to_owned();
    match fault.kind {
        FaultKind::UnknownField { field, known } => {
            let advice = unknown_field_advice(&field, &at, known, elsewhere);
            ConfigError::UnknownKey { origin, key: join(&at, &one_line(&field)), advice }
        }
        FaultKind::Missing { field } => ConfigError::Missing { origin, key: join(&at, field) },
        FaultKind::Wrong { expected, found } => ConfigError::WrongValue { origin, key: at, expected, found },
        FaultKind::UnknownChoice { found, known } => unknown_choice(at, &one_line(&found), known),
        FaultKind::Other(reason) => {
            ConfigError::WrongValue { origin, key: at, expected: "a valid value".to_owned(), found: reason }
        }
    }
}

/// A neighbour that is near; or the same name in another section; or all neighbours.
fn unknown_field_advice(field: &str, parent: &str, known: &[&str], elsewhere: &[String]) -> String {
    let prefix = if parent.is_empty() { String::new() } else { format!("{parent}.") };
    let neighbour = nearest(field, known.iter().copied());
    if neighbour.is_none() {
        let name_of = |key: &String| key.rsplit('.').next() == Some(field);
        let same: Vec<String> = elsewhere.iter().filter(|key| name_of(key)).map(|key| format!("`{key}`")).collect();
        if !same.is_empty() {
            return format!("did you mean {}?", same.join(" or "));
        }
    }
    advice(neighbour, &prefix, known, '`')
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Clipping {
        clip_low: f64,
        average: Average,
        betas: [f64; 2],
        steps: usize,
        token_mask_top_p: Option<f64>,
        nested: Vec<Inner>,
    }

    impl Default for Clipping {
        fn default() -> Self {
            Self {
                clip_low: 0.2,
                average: Average::Token,
                betas: [0.9, 0.999],
                steps: 1,
                token_mask_top_p: None,
                nested: vec![],
            }
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code)]
        size: usize,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Average {
        Token,
        Sequence,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
    enum Corruption {
        Blacken { probability: f64 },
    }

    fn message(text: &str) -> String {
        parse_section::<Clipping>(&text.parse().unwrap(), "objective").unwrap_err().to_string()
    }

    #[test]
    fn reads_values_and_skips_the_kind() {
        let table: Table =
            "kind = 'grpo'\nclip_low = 1\naverage = 'sequence'\ntoken_mask_top_p = 0.2\nbetas = [0, 0.5]"
                .parse()
                .unwrap();
        let section: Clipping = parse_section(&table, "objective").unwrap();
        assert_eq!((section.clip_low, section.average, section.betas), (1.0, Average::Sequence, [0.0, 0.5]));
        assert_eq!(section.token_mask_top_p, Some(0.2));
        let nested: Clipping = parse_section(&"nested = [{size = 3}]".parse().unwrap(), "objective").unwrap();
        assert_eq!(nested.nested[0].size, 3);
    }

    #[test]
    fn reads_an_enum_tagged_by_kind() {
        let table: Table = "kind = 'blacken'\nprobability = 0.6".parse().unwrap();
        assert_eq!(
            parse_section::<Corruption>(&table, "data.corruption").unwrap(),
            Corruption::Blacken { probability: 0.6 }
        );
        let message = |text: &str| {
            let table: Table = text.parse().unwrap();
            parse_section::<Corruption>(&table, "data.corruption").unwrap_err().to_string()
        };
        assert_eq!(
            message("kind = 'blackn'"),
            "configuration: `data.corruption.kind` cannot be \"blackn\"; did you mean \"blacken\"? (possible: \"blacken\")"
        );
        assert_eq!(
            message("kind = 'blacken'\nprobability = 0.5\nprobabilty = 0.5"),
            "configuration: unknown key `data.corruption.probabilty`; did you mean `data.corruption.probability`?"
        );
    }

    #[test]
    fn names_the_full_key_of_what_is_wrong() {
        assert_eq!(
            message("clip_lo = 0.2"),
            "configuration: unknown key `objective.clip_lo`; did you mean `objective.clip_low`?"
        );
        assert_eq!(
            message("colour = 1"),
            "configuration: unknown key `objective.colour`; possible here: clip_low, average, betas, steps, \
             token_mask_top_p, nested"
        );
        assert_eq!(
            message("nested = [{size = 1}, {size = 1, sise = 2}]"),
            "configuration: unknown key `objective.nested[1].sise`; did you mean `objective.nested[1].size`?"
        );
        assert_eq!(
            message("nested = [{}]"),
            "configuration: key `objective.nested[0].size` is missing; write it in the file"
        );
    }

    #[test]
    fn shows_what_was_found() {
        assert_eq!(
            message("clip_low = 'x'"),
            "configuration: `objective.clip_low` must be a number, found the string \"x\""
        );
        assert_eq!(
            message("steps = -1"),
            "configuration: `objective.steps` must be a whole number, 0 or more, found the number -1"
        );
        assert_eq!(
            message("steps = 2.5"),
            "configuration: `objective.steps` must be a whole number, 0 or more, found the number 2.5"
        );
        assert_eq!(
            message("betas = [1, 2, 3]"),
            "configuration: `objective.betas` must be a list of 2 values, found the list [1, 2, 3]"
        );
        assert_eq!(message("betas = [1, true]"), "configuration: `objective.betas[1]` must be a number, found true");
        assert_eq!(
            message("average = 3"),
            "configuration: `objective.average` must be one of \"token\", \"sequence\", found the number 3"
        );
        assert_eq!(
            message("average = 'sequense'"),
            "configuration: `objective.average` cannot be \"sequense\"; did you mean \"sequence\"? (possible: \
             \"token\", \"sequence\")"
        );
        assert_eq!(message("nested = [1]"), "configuration: `objective.nested[0]` must be a table, found the number 1");
    }

    #[test]
    fn finds_the_kind() {
        assert_eq!(kind_of(&"kind = 'grpo'".parse().unwrap(), "objective").unwrap(), "grpo");
        assert!(kind_of(&Table::new(), "objective").unwrap_err().to_string().contains("`objective.kind` is missing"));
        assert_eq!(
            kind_of(&"kind = 1".parse().unwrap(), "objective").unwrap_err().to_string(),
            "configuration: `objective.kind` must be a name in quotes, found the number 1"
        );
        assert_eq!(
            unknown_kind("objective", "papo_q", &["grpo", "papo_g"]).to_string(),
            "configuration: `objective.kind` cannot be \"papo_q\"; did you mean \"papo_g\"? (possible: \"grpo\", \"papo_g\")"
        );
    }
}
