//! Attention of one new token a row against what is cached.
//!
//! Legend: h heads, k key and value heads, w width of a head, f = h / k queries that share a key, U units of a cube.

use super::{HIDDEN, LANES, reduce};
use crate::cube::decode::Sizes;
use cubecl::prelude::*;

/// Numbers of a row in the table of rows: slot, place of its prompt, tokens of its prompt, own tokens before this one.
pub(in crate::cube) const OF_ROW: usize = 4;

/// Writes each row's new key and value into the step's column. A unit for each number.
///
/// `packed` `[n, (h + 2 k) w]`, `own` keys `[slots, k, w, capacity]` and then values `[slots, k, capacity, w]`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(in crate::cube) fn write<E: Float, I: Int>(
    packed: &Tensor<E>,
    rows: &Tensor<I>,
    own: &mut Tensor<E>,
    count: usize,
    slots: usize,
    capacity: usize,
    column: usize,
    #[comptime] sizes: Sizes,
    #[define(E, I)] _types: [ElemType; 2],
) {
    let heads = comptime!(sizes.heads);
    let pairs = comptime!(sizes.pairs);
    let width = comptime!(sizes.width);
    let of_row = comptime!(pairs * width);
    if ABSOLUTE_POS >= count * of_row {
        terminate!();
    }
    let row = ABSOLUTE_POS / of_row;
    let within = ABSOLUTE_POS % of_row;
    let (pair, d) = (within / width, within % width);
    let slot = usize::cast_from(rows[row * OF_ROW]);
    let from = (row * comptime!(heads + 2 * pairs) + heads) * width + within;
    let place = slot * pairs + pair;
    own[(place * width + d) * capacity + column] = packed[from];
    own[(slots * pairs * width + place * width) * capacity + column * width + d] = packed[from + of_row];
}

/// Scores of a unit's tokens: `sums[f] += queries[d, f] keys[d, tokens]`.
#[cube]
fn score<E: Float, N: Size>(
    keys: &Tensor<Vector<E, N>>,
    first: usize,
    stride: usize,
    queries: &Shared<[f32]>,
    sums: &mut Array<Vector<f32, N>>,
    #[comptime] fold: usize,
    #[comptime] width: usize,
) {
    for d in 0..width {
        let key = Vector::<f32, N>::cast_from(keys[first + d * stride]);
        #[unroll]
        for f in 0..fold {
            sums[f] = fma(key, Vector::new(queries[d * fold + f]), sums[f]);
        }
    }
}

/// Adds up weighted values: `sums[f] += weights[f, token] values[token, numbers]` over every `step`-th token.
#[cube]
fn add_up<E: Float, N: Size>(
    values: &Tensor<Vector<E, N>>,
    first: usize,
    tokens: usize,
    from: usize,
    weights: &Shared<[f32]>,
    sums: &mut Array<Vector<f32, N>>,
    #[comptime] sizes: Sizes,
) {
    let fold = comptime!(sizes.heads / sizes.pairs);
    let groups = comptime!(sizes.width / LANES);
    let step = comptime!(sizes.units / groups);
    let tile = comptime!(sizes.units * LANES);
    let mut token = from;
    while token < tokens {
        let value = Vector::<f32, N>::cast_from(values[first + token * groups]);
        #[unroll]
        for f in 0..fold {
            sums[f] = fma(value, Vector::new(weights[f * tile + token]), sums[f]);
        }
        token += step;
    }
}

/// Attention of one row's queries of one key and value head to one tile of keys; a cube for each tile, head and row.
///
/// Tiles are `4 U` tokens: first those of the prompts, then those of the row's own. A tile gives the weighted sum of its values, relative to
/// its largest score, and that score and the weights' sum ([`combine`]).
///
/// `packed` `[n, (h + 2 k) w]`; `own` keys `[slots, k, w, capacity]`, values `[slots, k, capacity, w]`; `prompts` the same with
/// `[prompts, ..]` and `prompt_tokens`; `parts` `[n, h, tiles, w]`, `sums` `[n, h, tiles, 2]`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(in crate::cube) fn attend<E: Float, I: Int, N: Size>(
    packed: &Tensor<Vector<E, N>>,
    own: &Tensor<Vector<E, N>>,
    prompts: &Tensor<Vector<E, N>>,
    rows: &Tensor<I>,
    parts: &mut Tensor<f32>,
    sums: &mut Tensor<f32>,
    slots: usize,
    capacity: usize,
    column: usize,
    columns: usize,
    prompt_count: usize,
    prompt_tokens: usize,
    scale: f32,
    #[comptime] sizes: Sizes,
    #[define(E, I)] _types: [ElemType; 2],
) {
    let heads = comptime!(sizes.heads);
    let pairs = comptime!(sizes.pairs);
    let width = comptime!(sizes.width);
    let units = comptime!(sizes.units);
    let fold = comptime!(heads / pairs);
    let tile = comptime!(units * LANES);
    // vectors of a head
    let groups = comptime!(width / LANES);

    let unit = UNIT_POS as usize;
    let (segment, pair, row) = (CUBE_POS_X as usize, CUBE_POS_Y as usize, CUBE_POS_Z as usize);
    let prompt_tiles = prompt_tokens.div_ceil(tile);
    let of_prompt = segment < prompt_tiles;

    let mut queries = Shared::<[f32]>::new_slice(comptime!(fold * width));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(fold * tile));
    let mut reduced = Shared::<[f32]>::new_slice(comptime!(fold * units));

    let mut at = unit;
    while at < comptime!(fold * groups) {
        let (f, d) = (at / groups, at % groups);
        let query = packed[(row * comptime!(heads + 2 * pairs) + pair * fold + f) * groups + d];
        #[unroll]
        for lane in 0..LANES {
            queries[(d * LANES + lane) * fold + f] = f32::cast_from(query.extract(lane)) * scale;
        }
        at += units;
    }
    sync_cube();

    let slot = usize::cast_from(rows[row * OF_ROW]);
    let prompt = usize::cast_from(rows[row * OF_ROW + 1]);
    let known = usize::cast_from(rows[row * OF_ROW + 2]);
    let length = usize::cast_from(rows[row * OF_ROW + 3]);

    // where the tile's tokens begin, how many tokens there are, and whether the unit's are seen
    let first = if of_prompt { segment * tile } else { (segment - prompt_tiles) * tile };
    let all = if of_prompt { prompt_tokens } else { capacity };
    let place = if of_prompt { prompt * pairs + pair } else { slot * pairs + pair };
    let places = if of_prompt { prompt_count * pairs } else { slots * pairs };
    let token = first + unit * LANES;
    let mut seen = Array::<bool>::new(LANES);
    let mut any = false.runtime();
    #[unroll]
    for lane in 0..LANES {
        let here = token + lane;
        let age = if here <= column { column - here } else { column + capacity - here };
        seen[lane] = if of_prompt { here < known } else { here < columns && age <= length };
        any = any || seen[lane];
    }

    let mut scores = Array::<Vector<f32, N>>::new(fold);
    #[unroll]
    for f in 0..fold {
        scores[f] = Vector::new(0.0f32);
    }
    if any {
        let stride = all / LANES;
        let keys = place * width * stride + token / LANES;
        if of_prompt {
            score::<E, N>(prompts, keys, stride, &queries, &mut scores, fold, width);
        } else {
            score::<E, N>(own, keys, stride, &queries, &mut scores, fold, width);
        }
    }

    #[unroll]
    for f in 0..fold {
        let mut largest = HIDDEN.runtime();
        #[unroll]
        for lane in 0..LANES {
            if seen[lane] {
                largest = max(largest, scores[f].extract(lane));
            }
        }
        reduced[f * units + unit] = largest;
    }
    reduce(&mut reduced, fold, units, true);
    let mut most = Array::<f32>::new(fold);
    #[unroll]
    for f in 0..fold {
        most[f] = reduced[f * units];
    }
    sync_cube();
    #[unroll]
    for f in 0..fold {
        let mut sum = 0.0f32.runtime();
        #[unroll]
        for lane in 0..LANES {
            let mut weight = 0.0f32.runtime();
            if seen[lane] {
                weight = (scores[f].extract(lane) - most[f]).exp();
            }
            weights[f * tile + unit * LANES + lane] = weight;
            sum += weight;
        }
        reduced[f * units + unit] = sum;
    }
    reduce(&mut reduced, fold, units, false);

    // a unit adds up one vector of the values of every so-manieth token
    let mut of_values = Array::<Vector<f32, N>>::new(fold);
    #[unroll]
    for f in 0..fold {
        of_values[f] = Vector::new(0.0f32);
    }
    let (group, from) = (unit % groups, unit / groups);
    let values = (places * width + place * width) * (all / LANES) + first * groups + group;
    if of_prompt {
        let tokens = min(tile.runtime(), if known > first { known - first } else { 0usize.runtime() });
        add_up::<E, N>(prompts, values, tokens, from, &weights, &mut of_values, sizes);
    } else {
        let tokens = min(tile.runtime(), columns - first);
        add_up::<E, N>(own, values, tokens, from, &weights, &mut of_values, sizes);
    }
    // in the weights' place, as `[U / groups, f, w]`
    sync_cube();
    #[unroll]
    for f in 0..fold {
        #[unroll]
        for lane in 0..LANES {
            weights[(from * fold + f) * width + group * LANES + lane] = of_values[f].extract(lane);
        }
    }
    sync_cube();
    let tiles = CUBE_COUNT_X as usize;
    let head = row * heads + pair * fold;
    let mut at = unit;
    while at < comptime!(fold * width) {
        let mut sum = 0.0f32.runtime();
        #[unroll]
        for part in 0..comptime!(units / groups) {
            sum += weights[part * comptime!(fold * width) + at];
        }
        parts[((head + at / width) * tiles + segment) * width + at % width] = sum;
        at += units;
    }
    if unit < fold {
        let at = ((head + unit) * tiles + segment) * 2;
        sums[at] = most_of(&most, unit, fold);
        sums[at + 1] = reduced[unit * units];
    }
}

/// `numbers[index]`, without making memory of the registers.
#[cube]
fn most_of(numbers: &Array<f32>, index: usize, #[comptime] count: usize) -> f32 {
    let mut found = numbers[0];
    #[unroll]
    for at in 1..count {
        if index == at {
            found = numbers[at];
        }
    }
    found
}

/// One attention from those to each tile: `parts` `[n h, tiles, w]`, `sums` `[n h, tiles, 2]`, `output` `[n h, w]`. A unit for each number.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(in crate::cube) fn combine<E: Float>(
    parts: &Tensor<f32>,
    sums: &Tensor<f32>,
    output: &mut Tensor<E>,
    count: usize,
    tiles: usize,
    #[comptime] width: usize,
    #[define(E)] _type: ElemType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let (head, d) = (ABSOLUTE_POS / width, ABSOLUTE_POS % width);
    let mut most = HIDDEN.runtime();
    for tile in 0..tiles {
        most = max(most, sums[(head * tiles + tile) * 2]);
    }
    let mut sum = 0.0f32.runtime();
    let mut total = 0.0f32.runtime();
    for tile in 0..tiles {
        let weight = (sums[(head * tiles + tile) * 2] - most).exp();
        total += weight * sums[(head * tiles + tile) * 2 + 1];
        sum += weight * parts[(head * tiles + tile) * width + d];
    }
    output[ABSOLUTE_POS] = E::cast_from(sum / total);
}
