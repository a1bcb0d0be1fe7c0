//! Where the lanes of a warp meet again after a branch: the immediate post-dominator of the branch's block.
//!
//! Computed on the reversed graph of blocks as in Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm" (2001).

use crate::compile::{Operation, Step};

/// Where paths do not meet before the end.
pub(crate) const NEVER: u32 = u32::MAX;

/// For each instruction the one where paths that part there meet, or [`NEVER`].
pub(crate) fn meetings(code: &[Step]) -> Vec<u32> {
    let graph = Graph::new(code);
    let dominators = graph.post_dominators();
    let meeting = |block: usize| match dominators[block] {
        UNKNOWN => NEVER,
        exit if exit == graph.exit() => NEVER,
        block => graph.starts[block] as u32,
    };
    (0..code.len()).map(|instruction| meeting(graph.block_of[instruction])).collect()
}

/// A block that nothing is known of: no path leads from it to the end.
const UNKNOWN: usize = usize::MAX;

/// Blocks of instructions that are executed one after the other, and one more for the end.
struct Graph {
    /// First instruction of each block.
    starts: Vec<usize>,
    /// The block of each instruction.
    block_of: Vec<usize>,
    /// Blocks that may follow each block.
    next: Vec<Vec<usize>>,
}

impl Graph {
    fn new(code: &[Step]) -> Self {
        let mut is_start = vec![false; code.len() + 1];
        is_start[0] = true;
        for (at, step) in code.iter().enumerate() {
            match step.operation {
                Operation::Branch(to) => {
                    is_start[to as usize] = true;
                    is_start[at + 1] = true;
                }
                Operation::Return => is_start[at + 1] = true,
                _ => {}
            }
        }
        let starts: Vec<usize> = (0..code.len()).filter(|&at| is_start[at]).collect();
        let mut block_of = vec![0; code.len()];
        let ends = starts.iter().skip(1).copied().chain([code.len()]);
        for (block, (start, end)) in starts.iter().zip(ends.clone()).enumerate() {
            block_of[*start..end].fill(block);
        }
        let exit = starts.len();
        let next = ends.map(|end| {
            let step = &code[end - 1];
            let behind = if end < code.len() { block_of[end] } else { exit };
            match (&step.operation, step.predicate) {
                (Operation::Branch(to), None) => vec![block_of[*to as usize]],
                (Operation::Branch(to), Some(_)) => vec![block_of[*to as usize], behind],
                (Operation::Return, None) => vec![exit],
                (Operation::Return, Some(_)) => vec![exit, behind],
                _ => vec![behind],
            }
        });
        let next = next.chain([Vec::new()]).collect();
        Self { starts, block_of, next }
    }

    fn exit(&self) -> usize {
        self.starts.len()
    }

    /// Blocks in the order in which a search from the end, against the direction of the branches, leaves them.
    fn order(&self) -> Vec<usize> {
        let mut before = vec![Vec::new(); self.next.len()];
        for (block, next) in self.next.iter().enumerate() {
            for &to in next {
                before[to].push(block);
            }
        }
        let (mut order, mut seen) = (Vec::new(), vec![false; self.next.len()]);
        let mut path = vec![(self.exit(), 0)];
        seen[self.exit()] = true;
        while let Some((block, at)) = path.pop() {
            match before[block].get(at) {
                None => order.push(block),
                Some(&other) => {
                    path.push((block, at + 1));
                    if !std::mem::replace(&mut seen[other], true) {
                        path.push((other, 0));
                    }
                }
            }
        }
        order
    }

    /// The immediate post-dominator of each block.
    fn post_dominators(&self) -> Vec<usize> {
        let order = self.order();
        let mut rank = vec![UNKNOWN; self.next.len()];
        for (at, &block) in order.iter().enumerate() {
            rank[block] = at;
        }
        let mut dominators = vec![UNKNOWN; self.next.len()];
        dominators[self.exit()] = self.exit();
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            for &block in order.iter().rev().filter(|&&block| block != self.exit()) {
                let known = self.next[block].iter().copied().filter(|&next| dominators[next] != UNKNOWN);
                let common = known.reduce(|mut a, mut b| {
                    while a != b {
                        while rank[a] < rank[b] {
                            a = dominators[a];
                        }
                        while rank[b] < rank[a] {
                            b = dominators[b];
                        }
                    }
                    a
                });
                let common = common.unwrap_or(UNKNOWN);
                has_changed |= std::mem::replace(&mut dominators[block], common) != common;
            }
        }
        dominators
    }
}
