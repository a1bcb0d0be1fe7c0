//! One row of the task: a question, its answer, and the picture that shows it.

use percept_random::{Key, Purpose, Stream};

use super::config::{Kind, Split, TaskConfig, Thing};
use super::raster::Canvas;

/// One row of the synthetic task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    pub kind: Kind,
    /// The question, after the `<image>` mark.
    pub problem: String,
    pub answer: String,
    /// A short solution in the form that the format check asks for.
    pub solution: String,
    /// The picture, as a PNG file.
    pub png: Vec<u8>,
}

/// Row `index` of a split: a pure function of the configuration's seed, the split and the index.
///
/// The configuration must have passed [`TaskConfig::check`].
pub fn example(config: &TaskConfig, split: Split, index: u64) -> Example {
    let scene = Scene::new(config, split, index);
    Example {
        kind: scene.kind,
        problem: format!("<image>{}", scene.question),
        solution: format!("<think>{}</think> \\boxed{{{}}}", scene.thought, scene.answer),
        answer: scene.answer,
        png: draw(config, &scene.cells, &mut stream(config, split, index, PICTURE)),
    }
}

/// Streams of one row: what is in the picture, and how it is drawn. Those from `ANSWERS` on decide the order of answers.
const CONTENT: u64 = 0;
const PICTURE: u64 = 1;
const ANSWERS: u64 = 2;

fn stream(config: &TaskConfig, split: Split, index: u64, part: u64) -> Stream {
    Key::new(config.seed, Purpose::Task).step(part).prompt(index).sample(split as u32).stream()
}

struct Scene {
    kind: Kind,
    question: String,
    thought: String,
    answer: String,
    /// What stands in which cell, cells being counted row by row.
    cells: Vec<(usize, Thing)>,
}

impl Scene {
    fn new(config: &TaskConfig, split: Split, index: u64) -> Self {
        let num_kinds = config.kinds.len() as u64;
        let turn = (index % num_kinds) as usize;
        let kind = config.kinds[turn];
        let slots = match kind {
            Kind::Count => config.max_count - config.min_count + 1,
            Kind::Compare => 2,
            Kind::Leftmost => config.colours.len(),
        };
        // Each run of `slots` rows of this kind has every answer once, in an order of its own.
        let nth = index / num_kinds;
        let mut order: Vec<usize> = (0..slots).collect();
        stream(config, split, nth / slots as u64, ANSWERS + turn as u64).shuffle(&mut order);
        let slot = order[(nth % slots as u64) as usize];
        let random = &mut stream(config, split, index, CONTENT);
        match kind {
            Kind::Count => Self::count(config, config.min_count + slot, random),
            Kind::Compare => Self::compare(config, slot == 0, random),
            Kind::Leftmost => Self::leftmost(config, slot, random),
        }
    }

    fn count(config: &TaskConfig, count: usize, random: &mut Stream) -> Self {
        let things = config.things();
        let asked = *pick(if config.targets.is_empty() { &things } else { &config.targets }, random);
        let others: Vec<Thing> = things.into_iter().filter(|&thing| thing != asked).collect();
        Self {
            kind: Kind::Count,
            question: format!("How many {asked}s are in the image?"),
            thought: format!("I count {}.", counted(count, asked)),
            answer: count.to_string(),
            cells: place(config, vec![asked; count], &others, random),
        }
    }

    fn compare(config: &TaskConfig, more: bool, random: &mut Stream) -> Self {
        let mut things = config.things();
        random.shuffle(&mut things);
        let (this, that) = (things[0], things[1]);
        let fits = |&(a, b): &(usize, usize)| (a > b) == more && a + b <= config.grid * config.grid;
        let numbers = 0..=config.max_count;
        let pairs: Vec<_> = numbers.clone().flat_map(|a| numbers.clone().map(move |b| (a, b))).filter(fits).collect();
        let &(a, b) = pick(&pairs, random);
        Self {
            kind: Kind::Compare,
            question: format!("Are there more {this}s than {that}s in the image?"),
            thought: format!("I count {} and {}.", counted(a, this), counted(b, that)),
            answer: if more { "yes" } else { "no" }.into(),
            cells: place(config, [vec![this; a], vec![that; b]].concat(), &things[2..], random),
        }
    }

    /// One shape stands in a column of its own, left of all others.
    fn leftmost(config: &TaskConfig, colour: usize, random: &mut Stream) -> Self {
        let things = config.things();
        let first = Thing { colour: config.colours[colour], shape: *pick(&config.shapes, random) };
        let column = random.below(config.grid as u64 - 1) as usize;
        let row = random.below(config.grid as u64) as usize;
        let mut free: Vec<usize> = (0..config.grid * config.grid).filter(|cell| cell % config.grid > column).collect();
        random.shuffle(&mut free);
        let others = 1 + random.below(config.max_distractors.clamp(1, free.len()) as u64) as usize;
        let mut cells = vec![(row * config.grid + column, first)];
        cells.extend(free.into_iter().take(others).map(|cell| (cell, *pick(&things, random))));
        let answer = first.colour.name();
        Self {
            kind: Kind::Leftmost,
            question: "Which colour is the left-most shape?".into(),
            thought: format!("The left-most shape is {answer}."),
            answer: answer.into(),
            cells,
        }
    }
}

/// `1 red circle`, `3 red circles`.
fn counted(count: usize, thing: Thing) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

fn pick<'a, T>(items: &'a [T], random: &mut Stream) -> &'a T {
    &items[random.below(items.len() as u64) as usize]
}

/// Puts the things asked for, and some of the others, into cells of their own.
fn place(config: &TaskConfig, mut things: Vec<Thing>, others: &[Thing], random: &mut Stream) -> Vec<(usize, Thing)> {
    let mut cells: Vec<usize> = (0..config.grid * config.grid).collect();
    random.shuffle(&mut cells);
    if !others.is_empty() {
        let room = config.max_distractors.min(cells.len() - things.len());
        let distractors = random.below(room as u64 + 1);
        things.extend((0..distractors).map(|_| *pick(others, random)));
    }
    cells.into_iter().zip(things).collect()
}

/// Shapes inside their cells, of slightly different sizes, places and shades, on a light background.
fn draw(config: &TaskConfig, cells: &[(usize, Thing)], random: &mut Stream) -> Vec<u8> {
    let background = std::array::from_fn(|_| 226 + random.below(20) as u8);
    let mut canvas = Canvas::new(config.size, background);
    let cell = config.size as f64 / config.grid as f64;
    for &(at, thing) in cells {
        let radius = cell * (0.30 + 0.10 * random.uniform());
        // A pixel stays free at the cell's edge, so that neighbours never touch.
        let play = (cell / 2.0 - radius - 1.0).max(0.0);
        let mut centre = |step: usize| (step as f64 + 0.5) * cell + play * (2.0 * random.uniform() - 1.0);
        let (x, y) = (centre(at % config.grid), centre(at / config.grid));
        let shade =
            thing.colour.rgb().map(|value| (i64::from(value) + random.below(33) as i64 - 16).clamp(0, 255) as u8);
        canvas.draw(thing.shape, x, y, radius, shade);
    }
    canvas.png()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::config::{Colour, Shape};
    use super::*;

    fn all_kinds() -> TaskConfig {
        TaskConfig {
            kinds: vec![Kind::Count, Kind::Compare, Kind::Leftmost],
            colours: vec![Colour::Red, Colour::Green, Colour::Blue],
            shapes: Shape::ALL.to_vec(),
            targets: vec![],
            grid: 4,
            min_count: 0,
            max_count: 5,
            ..TaskConfig::default()
        }
    }

    #[test]
    fn a_row_depends_on_seed_split_and_index_alone() {
        let config = TaskConfig::default();
        let row = example(&config, Split::Train, 17);
        assert_eq!(row, example(&config, Split::Train, 17));
        let more = TaskConfig { train: 9999, ..config.clone() };
        assert_eq!(row, example(&more, Split::Train, 17));
        let others = [
            example(&config, Split::Train, 18),
            example(&config, Split::Test, 17),
            example(&TaskConfig { seed: 1, ..config }, Split::Train, 17),
        ];
        assert!(others.iter().all(|other| other.png != row.png));
    }

    #[test]
    fn splits_share_no_picture() {
        let config = TaskConfig::default();
        let mut seen = BTreeSet::new();
        for split in Split::ALL {
            assert!((0..300).all(|index| seen.insert(example(&config, split, index).png)));
        }
    }

    #[test]
    fn answers_are_balanced() {
        let config = all_kinds();
        let mut tally: BTreeMap<(Kind, String), usize> = BTreeMap::new();
        for index in 0..3 * 60 {
            let scene = Scene::new(&config, Split::Train, index);
            *tally.entry((scene.kind, scene.answer)).or_default() += 1;
        }
        let expected = |kind, count: usize| tally.iter().filter(|((k, _), _)| *k == kind).all(|(_, &n)| n == count);
        assert_eq!(tally.len(), 6 + 2 + 3, "{tally:?}");
        assert!(expected(Kind::Count, 10) && expected(Kind::Compare, 30) && expected(Kind::Leftmost, 20), "{tally:?}");
    }

    /// The answer, from the question's words and what stands in the cells.
    fn solve(scene: &Scene, grid: usize) -> String {
        let count = |words: &str| scene.cells.iter().filter(|(_, thing)| thing.to_string() == words).count();
        if let Some(rest) = scene.question.strip_prefix("How many ") {
            return count(rest.strip_suffix("s are in the image?").unwrap()).to_string();
        }
        if let Some(rest) = scene.question.strip_prefix("Are there more ") {
            let (this, that) = rest.strip_suffix("s in the image?").unwrap().split_once("s than ").unwrap();
            return if count(this) > count(that) { "yes" } else { "no" }.into();
        }
        let column = |cell: usize| cell % grid;
        let least = scene.cells.iter().map(|&(cell, _)| column(cell)).min().unwrap();
        let first: Vec<_> = scene.cells.iter().filter(|&&(cell, _)| column(cell) == least).collect();
        assert_eq!(first.len(), 1, "the left-most shape is not alone in its column");
        first[0].1.colour.name().into()
    }

    #[test]
    fn answers_are_true_of_what_is_drawn() {
        for config in [TaskConfig::default(), all_kinds()] {
            for index in 0..600 {
                let scene = Scene::new(&config, Split::Validation, index);
                let taken: BTreeSet<usize> = scene.cells.iter().map(|&(cell, _)| cell).collect();
                assert_eq!(taken.len(), scene.cells.len(), "two shapes in one cell");
                assert!(taken.iter().all(|&cell| cell < config.grid * config.grid));
                assert_eq!(scene.answer, solve(&scene, config.grid), "{}", scene.question);
            }
        }
    }

    #[test]
    fn the_solution_shows_its_answer() {
        let config = TaskConfig::default();
        for index in 0..8 {
            let row = example(&config, Split::Train, index);
            let circles = if row.answer == "1" { "circle" } else { "circles" };
            assert_eq!(row.problem, "<image>How many red circles are in the image?");
            assert_eq!(row.solution, format!("<think>I count {0} red {circles}.</think> \\boxed{{{0}}}", row.answer));
        }
    }

    /// Red pixels grow with the number of red circles, so the picture carries the answer.
    #[test]
    fn pictures_show_the_count() {
        let config = TaskConfig { max_distractors: 0, ..TaskConfig::default() };
        for index in 0..40 {
            let row = example(&config, Split::Train, index);
            let mut reader = png::Decoder::new(std::io::Cursor::new(&row.png)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut pixels).unwrap();
            let red = pixels.chunks(3).filter(|p| p[0] > 150 && p[1] < 110 && p[2] < 110).count() as f64;
            let circles = red / (std::f64::consts::PI * (0.35f64 * 28.0).powi(2));
            let count: f64 = row.answer.parse().unwrap();
            assert!((0.70 * count..1.32 * count).contains(&circles), "{circles} circles' worth of red for {count}");
        }
    }
}
