//! What the synthetic task asks and draws.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// How many red circles are there? A number from `min_count` to `max_count`.
    Count,
    /// Are there more red circles than blue squares? yes or no.
    Compare,
    /// Which colour is the left-most shape? A colour.
    Leftmost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    Red,
    Green,
    Blue,
    Yellow,
    Purple,
}

impl Colour {
    pub const ALL: [Self; 5] = [Self::Red, Self::Green, Self::Blue, Self::Yellow, Self::Purple];

    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Yellow => "yellow",
            Self::Purple => "purple",
        }
    }

    /// The colour before jitter, as RGB.
    pub(super) fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [212, 44, 44],
            Self::Green => [44, 160, 64],
            Self::Blue => [44, 92, 212],
            Self::Yellow => [232, 192, 36],
            Self::Purple => [132, 56, 172],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    Circle,
    Square,
    Triangle,
}

impl Shape {
    pub const ALL: [Self; 3] = [Self::Circle, Self::Square, Self::Triangle];

    pub fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
        }
    }
}

/// A shape of a colour; written `red circle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Thing {
    pub colour: Colour,
    pub shape: Shape,
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.colour.name(), self.shape.name())
    }
}

impl FromStr for Thing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(' ').and_then(|(colour, shape)| {
            let colour = Colour::ALL.into_iter().find(|known| known.name() == colour)?;
            Some((colour, Shape::ALL.into_iter().find(|known| known.name() == shape.trim())?))
        });
        match parts {
            Some((colour, shape)) => Ok(Self { colour, shape }),
            None => Err(format!("expected a colour and a shape such as `red circle`, found `{text}`")),
        }
    }
}

impl TryFrom<String> for Thing {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Thing> for String {
    fn from(thing: Thing) -> Self {
        thing.to_string()
    }
}

/// One of the task's data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// How the task is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskFormat {
    /// One file a split, pictures inside.
    Parquet,
    /// One file of lines a split, and a folder of PNG files.
    Jsonl,
}

/// The synthetic task. The default is the quickstart's: how many red circles, from 1 to 4, among red and blue circles and
/// squares on a grid of 3 x 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskConfig {
    pub seed: u64,
    /// Rows take these kinds in turn.
    pub kinds: Vec<Kind>,
    pub colours: Vec<Colour>,
    pub shapes: Vec<Shape>,
    /// What `count` asks for; empty: any shape of any colour.
    pub targets: Vec<Thing>,
    /// Cells along each side; a cell holds at most one shape.
    pub grid: usize,
    /// Width and height of the pictures, in pixels.
    pub size: usize,
    /// Smallest answer of `count`.
    pub min_count: usize,
    /// Largest answer of `count`, and of each number in `compare`.
    pub max_count: usize,
    /// At most so many shapes besides those asked for.
    pub max_distractors: usize,
    /// Number of rows.
    pub train: usize,
    /// Number of rows.
    pub validation: usize,
    /// Number of rows.
    pub test: usize,
    pub format: TaskFormat,
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            kinds: vec![Kind::Count],
            colours: vec![Colour::Red, Colour::Blue],
            shapes: vec![Shape::Circle, Shape::Square],
            targets: vec![Thing { colour: Colour::Red, shape: Shape::Circle }],
            grid: 3,
            size: 84,
            min_count: 1,
            max_count: 4,
            max_distractors: 4,
            train: 2048,
            validation: 128,
            test: 512,
            format: TaskFormat::Parquet,
        }
    }
}

impl TaskConfig {
    /// The number of rows of a split.
    pub fn num_rows(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Validation => self.validation,
            Split::Test => self.test,
        }
    }

    /// Every shape in every colour.
    pub(super) fn things(&self) -> Vec<Thing> {
        let with =
            |colour: &Colour| self.shapes.iter().map(|&shape| Thing { colour: *colour, shape }).collect::<Vec<_>>();
        self.colours.iter().flat_map(with).collect()
    }

    /// Whether every question can be drawn.
    ///
    /// # Errors
    /// [`DataError::Task`] with the key, what it should be and what it is.
    pub fn check(&self) -> Result<(), DataError> {
        let cells = self.grid.saturating_mul(self.grid);
        let asks = |kind| self.kinds.contains(&kind);
        let things = self.things();
        let fail = |key, expected: String, found: String| Err(DataError::Task { key, expected, found });
        if !(1..=16).contains(&self.grid) {
            return fail("grid", "from 1 to 16".into(), self.grid.to_string());
        }
        if !(8 * self.grid..=4096).contains(&self.size) {
            return fail("size", format!("from {} (8 pixels a cell) to 4096", 8 * self.grid), self.size.to_string());
        }
        if self.kinds.is_empty() {
            return fail("kinds", "one or more of count, compare, leftmost".into(), "none".into());
        }
        if has_twin(&self.colours) || self.colours.is_empty() {
            return fail("colours", "different colours".into(), format!("{:?}", self.colours));
        }
        if has_twin(&self.shapes) || self.shapes.is_empty() {
            return fail("shapes", "different shapes".into(), format!("{:?}", self.shapes));
        }
        if let Some(target) = self.targets.iter().find(|target| !things.contains(target)) {
            return fail("targets", "of the `colours` and `shapes`".into(), target.to_string());
        }
        if self.max_count < self.min_count.max(1) || self.max_count > cells {
            let expected = format!("from {} to {cells}, the number of cells", self.min_count.max(1));
            return fail("max_count", expected, self.max_count.to_string());
        }
        if asks(Kind::Compare) && things.len() < 2 {
            return fail("kinds", "without compare, which needs two colours or shapes".into(), "compare".into());
        }
        if asks(Kind::Leftmost) && (self.colours.len() < 2 || self.grid < 2) {
            return fail(
                "kinds",
                "without leftmost, which needs two colours and a grid of 2".into(),
                "leftmost".into(),
            );
        }
        for split in Split::ALL {
            if self.num_rows(split) == 0 {
                return fail(split.name(), "at least 1 row".into(), "0".into());
            }
        }
        Ok(())
    }
}

fn has_twin<T: PartialEq>(items: &[T]) -> bool {
    items.iter().enumerate().any(|(i, item)| items[..i].contains(item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_written_as_words() {
        let thing: Thing = "blue square".parse().unwrap();
        assert_eq!(
            (thing.colour, thing.shape, thing.to_string().as_str()),
            (Colour::Blue, Shape::Square, "blue square")
        );
        let config: TaskConfig = serde_json::from_str(r#"{"targets": ["red square"], "kinds": ["compare"]}"#).unwrap();
        assert_eq!(config.targets, [Thing { colour: Colour::Red, shape: Shape::Square }]);
        let error = serde_json::from_str::<TaskConfig>(r#"{"targets": ["pink square"]}"#).unwrap_err();
        assert!(error.to_string().contains("`pink square`"), "{error}");
    }

    #[test]
    fn what_cannot_be_drawn_is_refused_by_its_key() {
        let refused = |change: fn(&mut TaskConfig)| {
            let mut config = TaskConfig::default();
            change(&mut config);
            match config.check() {
                Err(DataError::Task { key, .. }) => key,
                other => panic!("{other:?}"),
            }
        };
        assert!(TaskConfig::default().check().is_ok());
        assert_eq!(refused(|c| c.grid = 0), "grid");
        assert_eq!(refused(|c| c.size = 23), "size");
        assert_eq!(refused(|c| c.kinds.clear()), "kinds");
        assert_eq!(refused(|c| c.colours.push(Colour::Red)), "colours");
        assert_eq!(refused(|c| c.shapes.clear()), "shapes");
        assert_eq!(refused(|c| c.targets[0].colour = Colour::Green), "targets");
        assert_eq!(refused(|c| c.max_count = 10), "max_count");
        assert_eq!(refused(|c| c.max_count = 0), "max_count");
        assert_eq!(refused(|c| (c.kinds, c.colours) = (vec![Kind::Leftmost], vec![Colour::Red])), "kinds");
        assert_eq!(refused(|c| c.validation = 0), "validation");
    }
}
