//! How a plan's tokens are cut: queries into tiles of rows, keys into panels.
//!
//! A panel begins where its span does, and a row's scores are computed panel by panel, so a result does not depend on what else is in the plan.

use super::super::few::{LANES, MOST};
use crate::plan::PlanGroup;
use std::ops::Range;

/// Query rows worked on at once, at most: their scores against a panel, and each of the matrices in a product with these, lie in the nearest
/// cache together.
const ROWS: usize = 48;
/// Keys of a panel.
pub(super) const KEYS: usize = 64;

pub(super) struct Cut {
    /// The tokens of each panel: 64, or fewer at the end of a span.
    pub(super) panels: Vec<Range<usize>>,
    pub(super) tiles: Vec<Tile>,
}

/// Consecutive query rows of one span.
pub(super) struct Tile {
    pub(super) rows: Range<usize>,
    /// What they can see: of the prefix, then of the span.
    pub(super) blocks: Vec<Block>,
}

/// Keys of one panel that a tile's rows can see.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) panel: usize,
    /// Keys that the last row sees, the first ones of the panel.
    pub(super) keys: usize,
    /// Keys that the first row sees; each row sees one more than the row before, up to all.
    seen: isize,
}

impl Block {
    /// Keys in whole vectors.
    pub(super) fn wide(self) -> usize {
        self.keys.next_multiple_of(LANES)
    }

    /// Keys that row `row` of the tile sees.
    pub(super) fn seen_by(self, row: usize) -> usize {
        (self.seen + row as isize).clamp(0, self.keys as isize) as usize
    }
}

/// Cuts groups of spans.
pub(super) fn cut(groups: &[PlanGroup], causal: bool) -> Cut {
    let (mut panels, mut tiles) = (Vec::new(), Vec::new());
    for group in groups {
        let first = |rows: &Range<usize>, panels: &mut Vec<Range<usize>>| {
            let number = panels.len();
            panels.extend(rows.clone().step_by(KEYS).map(|from| from..rows.end.min(from + KEYS)));
            (rows.start, number)
        };
        let firsts: Vec<(usize, usize)> = group.spans.iter().map(|span| first(&span.rows, &mut panels)).collect();
        for (span, &(start, own)) in group.spans.iter().zip(&firsts) {
            let prefix = (!span.prefix.is_empty()).then(|| {
                let found = firsts.iter().find(|(start, _)| *start == span.prefix.start);
                found.unwrap_or_else(|| panic!("tokens {:?} are the beginning of no span", span.prefix)).1
            });
            let of_prefix = pieces(prefix.unwrap_or(0), span.prefix.len());
            let of_prefix: Vec<Block> =
                of_prefix.map(|(panel, _, keys)| Block { panel, keys, seen: keys as isize }).collect();
            for rows in parts(span.rows.clone()) {
                let seen = if causal { rows.end } else { span.rows.end } - start;
                let row = (rows.start - start) as isize;
                let of_span = pieces(own, seen).map(|(panel, from, keys)| {
                    let seen = if causal { row + 1 - from as isize } else { keys as isize };
                    Block { panel, keys, seen }
                });
                tiles.push(Tile { rows, blocks: of_prefix.iter().copied().chain(of_span).collect() });
            }
        }
    }
    Cut { panels, tiles }
}

/// The panels of `tokens` tokens, from panel `first` on: its number, the tokens before it and those in it.
fn pieces(first: usize, tokens: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..tokens).step_by(KEYS).enumerate().map(move |(i, from)| (first + i, from, KEYS.min(tokens - from)))
}

/// Rows in parts of about the same size, which the product's blocks of rows divide.
fn parts(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let size = rows.len().div_ceil(rows.len().div_ceil(ROWS).max(1)).next_multiple_of(MOST).max(1);
    rows.clone().step_by(size).map(move |from| from..rows.end.min(from + size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttentionPlan;

    /// What each row sees, told by the blocks and by the plan.
    #[test]
    fn rows_see_what_the_plan_says() {
        let plans = [
            AttentionPlan::shared_prefix([(5, [3, 1, 64].as_slice()), (130, [7, 200, 2].as_slice()), (1, &[1])]),
            AttentionPlan::separate(&[1, 17, 300, 64], true),
            AttentionPlan::separate(&[4, 16, 149], false),
        ];
        for plan in plans {
            let cut = cut(&plan.groups, plan.causal);
            let mut seen = vec![Vec::new(); plan.tokens];
            for tile in &cut.tiles {
                assert!((1..=ROWS).contains(&tile.rows.len()));
                for (i, row) in tile.rows.clone().enumerate() {
                    for block in &tile.blocks {
                        assert!(block.keys <= cut.panels[block.panel].len() && block.wide() <= KEYS);
                        let first = cut.panels[block.panel].start;
                        seen[row].extend(first..first + block.seen_by(i));
                    }
                }
            }
            for span in plan.groups.iter().flat_map(|group| &group.spans) {
                for row in span.rows.clone() {
                    let own = span.rows.start..if plan.causal { row + 1 } else { span.rows.end };
                    assert_eq!(seen[row], span.prefix.clone().chain(own).collect::<Vec<_>>(), "row {row}");
                }
            }
        }
    }
}
