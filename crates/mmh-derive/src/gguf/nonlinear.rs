//! IQ4_NL and IQ4_XS: sixteen levels that are not evenly spaced (`quantize_row_iq4_nl_impl`).

use super::contraction::{Contract, nearest_one, within};
use super::lanes::Lanes;
use super::search::{TINY, float, largest};
use super::{Row, put_half};

/// The levels, in the order of their codes (`kvalues_iq4nl`).
const LEVELS: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Tries on either side of the obvious scale.
const TRIES: i32 = 7;

/// Numbers in a block.
const BLOCK: usize = 32;

/// Where a level gives way to the next: half way, exactly, in binary32.
fn border(code: usize) -> f32 {
    (f32::from(LEVELS[code - 1]) + f32::from(LEVELS[code])) / 2.0
}

/// The level next to each number; the upper one half way between two.
#[inline(always)]
fn level<V: Lanes>(x: V) -> V {
    let mut level = V::splat(f32::from(LEVELS[0]));
    for (code, &value) in LEVELS.iter().enumerate().skip(1) {
        let above = x.ge(V::splat(border(code)));
        level = V::select(above, V::splat(f32::from(value)), level);
    }
    level
}

/// The code of that level.
#[inline(always)]
fn code(x: f32) -> u8 {
    (1..LEVELS.len())
        .map(|code| u8::from(x >= border(code)))
        .sum()
}

/// What the levels for one scale add up to: weights times numbers times levels, and weights times
/// squares of levels.
#[inline(always)]
fn sums<C: Contract, V: Lanes>(inverse: V, x: &[V; BLOCK], w: &[V; BLOCK]) -> (V, V) {
    let (mut sum_qx, mut sum_q2) = (V::splat(0.0), V::splat(0.0));
    for (&x, &w) in x.iter().zip(w) {
        let q = level(inverse.mul(x));
        let wq = w.mul(q);
        sum_qx = within::<C, V>(wq, x, sum_qx);
        sum_q2 = within::<C, V>(wq, q, sum_q2);
    }
    (sum_qx, sum_q2)
}

/// The scale of each block.
#[inline(always)]
fn scale<C: Contract, V: Lanes>(x: &[V; BLOCK], w: &[V; BLOCK]) -> V {
    let zero = V::splat(0.0);
    let (most, magnitude) = largest(x);
    let first = most.neg().div(V::splat(f32::from(LEVELS[0])));
    let (sum_qx, sum_q2) = sums::<C, V>(V::splat(1.0).div(first), x, w);
    let mut scale = V::select(sum_q2.gt(zero), sum_qx.div(sum_q2), zero);
    let mut best = scale.mul(sum_qx);
    for step in -TRIES..=TRIES {
        let inverse = V::splat(float(step + i32::from(LEVELS[0]))).div(most);
        let (sum_qx, sum_q2) = sums::<C, V>(inverse, x, w);
        let larger = sum_qx.mul(sum_qx).gt(best.mul(sum_q2));
        let better = V::and(sum_q2.gt(zero), larger);
        scale = V::select(better, sum_qx.div(sum_q2), scale);
        best = V::select(better, scale.mul(sum_qx), best);
    }
    V::select(magnitude.ge(V::splat(TINY)), scale, zero)
}

/// Loads a block into each lane.
#[inline(always)]
fn load<V: Lanes>(from: &[f32]) -> [V; BLOCK] {
    let mut numbers = [V::splat(0.0); BLOCK];
    for (i, number) in numbers.iter_mut().enumerate() {
        *number = V::gather(&from[i..], BLOCK);
    }
    numbers
}

/// The weights of errors; `sigma` is twice the mean square of what surrounds a block.
#[inline(always)]
fn errors<C: Contract, V: Lanes>(x: &[V; BLOCK], weights: Option<&[f32]>, sigma: V) -> [V; BLOCK] {
    let mut errors = *x;
    match weights {
        Some(weights) => {
            for (i, error) in errors.iter_mut().enumerate() {
                let near = within::<C, V>(*error, *error, sigma).sqrt();
                *error = V::gather(&weights[i..], BLOCK).mul(near);
            }
        }
        None => {
            for error in &mut errors {
                *error = error.mul(*error);
            }
        }
    }
    errors
}

/// Puts the codes of 32 numbers into 16 bytes: the first half below, the second above.
#[inline(always)]
fn put_codes(x: &[f32], inverse: f32, out: &mut [u8]) {
    let (low, high) = x.split_at(BLOCK / 2);
    for ((out, &low), &high) in out.iter_mut().zip(low).zip(high) {
        *out = code(inverse * low) | code(inverse * high) << 4;
    }
}

/// Quantises whole blocks of `IQ4_NL`, as many at once as there are lanes.
#[inline(always)]
pub(super) fn iq4_nl<C: Contract, V: Lanes>(row: Row<'_>, out: &mut [u8]) {
    for (row, out, whole) in super::groups(row, BLOCK, 18, V::N, out) {
        if whole {
            iq4_nl_group::<C, V>(row, out);
        } else {
            iq4_nl_group::<C, f32>(row, out);
        }
    }
}

#[inline(always)]
fn iq4_nl_group<C: Contract, V: Lanes>(row: Row<'_>, out: &mut [u8]) {
    let x = load::<V>(row.x);
    let mut square = V::splat(0.0);
    for &x in &x {
        square = within::<C, V>(x, x, square);
    }
    let w = errors::<C, V>(&x, row.weights, square.mul(V::splat(2.0 / 32.0)));
    let mut scales = [0.0; BLOCK];
    scale::<C, V>(&x, &w).store(&mut scales);
    let blocks = row.x.chunks_exact(BLOCK).zip(out.chunks_exact_mut(18));
    for ((x, out), scale) in blocks.zip(scales) {
        let (head, codes) = out.split_at_mut(2);
        put_half(head, scale);
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        put_codes(x, inverse, codes);
    }
}

/// Quantises super-blocks of `IQ4_XS`.
#[inline(always)]
pub(super) fn iq4_xs<C: Contract, V: Lanes>(row: Row<'_>, out: &mut [u8]) {
    for (row, out, _) in super::groups(row, 256, 136, 1, out) {
        iq4_xs_block::<C, V>(row, out);
    }
}

#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "six bits, split over two fields"
)]
fn iq4_xs_block<C: Contract, V: Lanes>(row: Row<'_>, out: &mut [u8]) {
    let square = row
        .x
        .iter()
        .fold(0.0, |sum, &x| within::<C, f32>(x, x, sum));
    let sigma = square * (2.0 / 256.0);
    let mut scales = [0.0; 8];
    for (first, scales) in scales.chunks_exact_mut(V::N).enumerate() {
        let row = row.slice(first * V::N * BLOCK, V::N * BLOCK);
        let x = load::<V>(row.x);
        let w = errors::<C, V>(&x, row.weights, V::splat(sigma));
        scale::<C, V>(&x, &w).store(scales);
    }
    let (most, _) = largest(&scales);
    let whole = -most / 32.0;
    let inverse = if whole == 0.0 { 0.0 } else { 1.0 / whole };
    let (head, rest) = out.split_at_mut(4);
    let (low, codes) = rest.split_at_mut(4);
    put_half(head, whole);
    low.fill(0);
    let mut high = 0u16;
    let blocks = row
        .x
        .chunks_exact(BLOCK)
        .zip(codes.chunks_exact_mut(BLOCK / 2));
    for (idx, ((x, codes), scale)) in blocks.zip(scales).enumerate() {
        let l = nearest_one(inverse, scale).clamp(-32, 31);
        let scale = whole * float(l);
        put_codes(x, if scale == 0.0 { 0.0 } else { 1.0 / scale }, codes);
        let l = (l + 32) as u16;
        low[idx / 2] |= ((l & 15) as u8) << (4 * (idx % 2));
        high |= (l >> 4) << (2 * idx);
    }
    head[2..].copy_from_slice(&high.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The level that llama.cpp picks: by comparing rounded distances.
    fn by_distance(x: f32) -> u8 {
        let at = LEVELS.iter().position(|&v| x < f32::from(v));
        match at {
            Some(0) => 0,
            None => 15,
            Some(above) => {
                let (a, b) = (f32::from(LEVELS[above - 1]), f32::from(LEVELS[above]));
                let above = u8::try_from(above).unwrap();
                if x - a < b - x { above - 1 } else { above }
            }
        }
    }

    /// Rounding of the distances never moves a border: checked on a grid, and float by float
    /// around each border.
    #[test]
    fn borders_lie_half_way_also_for_rounded_distances() {
        for step in -40_000..=40_000i32 {
            let x = float(step) / 256.0;
            assert_eq!(code(x), by_distance(x), "{x}");
        }
        for border in (1..16).map(border) {
            for offset in -200..=200 {
                let bits = border.to_bits().checked_add_signed(offset).unwrap();
                let x = f32::from_bits(bits);
                assert_eq!(code(x), by_distance(x), "{x}");
                assert_eq!(level(x), f32::from(LEVELS[usize::from(code(x))]), "{x}");
            }
        }
    }
}
