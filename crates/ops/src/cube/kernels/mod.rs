//! The kernels: what one unit does.

pub(super) mod decode;
pub(super) mod rows;
pub(super) mod softmax;

use cubecl::prelude::*;

/// Tokens that a unit takes at once, and numbers of a vector.
pub(in crate::cube) const LANES: usize = 4;
/// What a score is where a key is not seen.
const HIDDEN: f32 = -1e30;

/// Leaves in the first place of each of `fold` parts of `numbers` the largest of the part, or the sum.
#[cube]
fn reduce(numbers: &mut Shared<[f32]>, #[comptime] fold: usize, #[comptime] units: usize, #[comptime] largest: bool) {
    let unit = UNIT_POS as usize;
    sync_cube();
    let mut half = comptime!(units / 2).runtime();
    while half > 0 {
        if unit < half {
            #[unroll]
            for f in 0..fold {
                let (a, b) = (numbers[f * units + unit], numbers[f * units + unit + half]);
                numbers[f * units + unit] = if comptime!(largest) { max(a, b) } else { a + b };
            }
        }
        sync_cube();
        half /= 2;
    }
}
