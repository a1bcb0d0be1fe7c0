//! Where tokens and patches stand.

use super::config::{Config, VisionConfig};
use percept_core::PicturePatches;
use percept_ops::RotaryTable;

/// Time, height and width position of each token, and the position that follows them.
///
/// Text advances all three axes together. A picture's merged patches share one time and lie on a grid; the text behind it goes on at
/// the larger of the grid's sides (reference: `get_rope_index`).
pub fn positions(tokens: &[u32], grids: &[[usize; 3]], image_token: u32, merge: usize) -> (Vec<[u32; 3]>, u32) {
    let mut result = Vec::with_capacity(tokens.len());
    let (mut at, mut next) = (0, 0u32);
    let mut grids = grids.iter();
    while at < tokens.len() {
        if tokens[at] != image_token {
            result.push([next; 3]);
            at += 1;
            next += 1;
            continue;
        }
        let [time, height, width] = *grids.next().expect("a picture for each run of placeholders");
        let (height, width) = (height / merge, width / merge);
        for index in 0..time * height * width {
            let (row, column) = (index / width % height, index % width);
            result.push([next, next + row as u32, next + column as u32]);
        }
        at += time * height * width;
        next += height.max(width) as u32;
    }
    assert_eq!(result.len(), tokens.len(), "the placeholders of the last picture are cut off");
    (result, next)
}

/// Angles of the decoder's rotary embedding: frequency i turns with the axis whose section it lies in.
pub(super) fn rotary(config: &Config, positions: &[[u32; 3]]) -> RotaryTable {
    let width = config.heads.width;
    let half = width / 2;
    let axis = |i: usize| {
        let [time, height, _] = config.mrope_section;
        usize::from(i >= time) + usize::from(i >= time + height)
    };
    let frequencies: Vec<(usize, f32)> =
        (0..half).map(|i| (axis(i), 1.0 / config.rope_theta.powf(2.0 * i as f32 / width as f32))).collect();
    let angles: Vec<f32> =
        positions.iter().flat_map(|p| frequencies.iter().map(|&(axis, f)| p[axis] as f32 * f)).collect();
    RotaryTable::new(&angles, half)
}

/// The order in which a picture's merged patches pass through the vision tower, window by window, and the windows' sizes.
///
/// The picture is tiled from its top left corner; windows at the right and bottom edge are smaller (reference: `get_window_index`).
pub fn window_order([time, height, width]: [usize; 3], config: &VisionConfig) -> (Vec<usize>, Vec<usize>) {
    let (merge, side) = (config.spatial_merge_size, config.window());
    let (height, width) = (height / merge, width / merge);
    let (mut order, mut sizes) = (Vec::with_capacity(time * height * width), Vec::new());
    for t in 0..time {
        for top in (0..height).step_by(side) {
            for left in (0..width).step_by(side) {
                let before = order.len();
                for row in top..height.min(top + side) {
                    for column in left..width.min(left + side) {
                        order.push((t * height + row) * width + column);
                    }
                }
                sizes.push(order.len() - before);
            }
        }
    }
    (order, sizes)
}

/// Angles of the vision tower's rotary embedding for a picture's patches, in the processor's order.
pub(super) fn patch_angles(picture: &PicturePatches, config: &VisionConfig) -> Vec<Vec<f32>> {
    let [time, height, width] = picture.grid;
    let merge = config.spatial_merge_size;
    let dimension = config.heads().width / 2;
    let frequencies: Vec<f32> =
        (0..dimension / 2).map(|i| 1.0 / 10_000f32.powf(2.0 * i as f32 / dimension as f32)).collect();
    let mut result = Vec::with_capacity(time * height * width);
    for _ in 0..time {
        for block_row in 0..height / merge {
            for block_column in 0..width / merge {
                for inner in 0..merge * merge {
                    let row = (block_row * merge + inner / merge) as f32;
                    let column = (block_column * merge + inner % merge) as f32;
                    let angles = frequencies.iter().map(|f| row * f).chain(frequencies.iter().map(|f| column * f));
                    result.push(angles.collect());
                }
            }
        }
    }
    result
}
