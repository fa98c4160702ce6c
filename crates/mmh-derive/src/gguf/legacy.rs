//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: blocks of 32 numbers with a scale, and a minimum for `_1`
//! (`quantize_row_q4_0_ref` and its neighbours; `quantize_row_q4_0_impl` with weights).

use super::contraction::{Contract, within};
use super::lanes::Lanes;
use super::search::{BLOCK_MAX, Tries, largest, symmetric, with_minimum};
use super::{Row, low_byte, put_half, round_away};

/// Numbers in a block.
const BLOCK: usize = 32;

/// The shape of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Bits of a code, 4 or 5.
    pub(super) bits: u32,
    /// A minimum stands beside the scale, and codes count from it.
    pub(super) minimum: bool,
}

impl Shape {
    const fn len(self) -> usize {
        2 + if self.minimum { 2 } else { 0 } + if self.bits == 5 { 4 } else { 0 } + BLOCK / 2
    }

    /// Half of the codes.
    const fn half(self) -> f32 {
        if self.bits == 5 { 16.0 } else { 8.0 }
    }

    const fn code_max(self) -> i32 {
        (1 << self.bits) - 1
    }

    /// Puts codes into their place: low nibbles in pairs, fifth bits in a word before them.
    #[inline(always)]
    fn put_codes(self, codes: &[u8; BLOCK], out: &mut [u8]) {
        let (high, low) = out.split_at_mut(if self.bits == 5 { 4 } else { 0 });
        for (j, out) in low.iter_mut().enumerate() {
            *out = (codes[j] & 15) | (codes[j + BLOCK / 2] & 15) << 4;
        }
        if self.bits == 5 {
            let bit = |(j, &code): (usize, &u8)| u32::from(code >> 4 & 1) << j;
            let word = codes.iter().enumerate().map(bit).fold(0, |a, b| a | b);
            high.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// Quantises blocks without weights: the scale follows from the extreme numbers alone.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "codes have five bits"
)]
pub(super) fn plain(shape: Shape, x: &[f32], out: &mut [u8]) {
    let blocks = x.as_chunks::<BLOCK>().0.iter();
    for (x, out) in blocks.zip(out.chunks_exact_mut(shape.len())) {
        let limit = shape.code_max() as i8;
        let mut codes = [0; BLOCK];
        if shape.minimum {
            let (min, max) = x.iter().fold((f32::MAX, f32::MIN), |(min, max), &x| {
                (if x < min { x } else { min }, if x > max { x } else { max })
            });
            let scale = (max - min) / (shape.half() * 2.0 - 1.0);
            put_half(out, scale);
            put_half(&mut out[2..], min);
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            for (code, &x) in codes.iter_mut().zip(x) {
                *code = low_byte((x - min) * inverse + 0.5).min(limit) as u8;
            }
            shape.put_codes(&codes, &mut out[4..]);
        } else {
            let scale = largest(x).0 / -shape.half();
            put_half(out, scale);
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            for (code, &x) in codes.iter_mut().zip(x) {
                let x = x * inverse + (shape.half() + 0.5);
                *code = low_byte(x).min(limit) as u8;
            }
            shape.put_codes(&codes, &mut out[2..]);
        }
    }
}

/// Quantises a row with weights: the scale is searched.
#[inline(always)]
pub(super) fn weighted<C: Contract, V: Lanes>(shape: Shape, row: Row<'_>, out: &mut [u8]) {
    let square = row
        .x
        .iter()
        .fold(0.0, |sum, &x| within::<C, f32>(x, x, sum));
    #[allow(
        clippy::cast_precision_loss,
        reason = "as in C: the length becomes a float"
    )]
    let sigma = square / row.x.len() as f32;
    for (row, out, whole) in super::groups(row, BLOCK, shape.len(), V::N, out) {
        if whole {
            weighted_group::<C, V>(shape, sigma, row, out);
        } else {
            weighted_group::<C, f32>(shape, sigma, row, out);
        }
    }
}

#[inline(always)]
fn weighted_group<C: Contract, V: Lanes>(shape: Shape, sigma: f32, row: Row<'_>, out: &mut [u8]) {
    let weights = row.weights.unwrap_or(row.x);
    let mut x = [V::splat(0.0); BLOCK];
    let mut w = x;
    for i in 0..BLOCK {
        x[i] = V::gather(&row.x[i..], BLOCK);
        let near = within::<C, V>(x[i], x[i], V::splat(sigma)).sqrt();
        w[i] = V::gather(&weights[i..], BLOCK).mul(near);
    }
    let mut found = [V::splat(0.0); BLOCK_MAX];
    let (scale, minimum) = if shape.minimum {
        let tries = Tries {
            code_max: shape.code_max(),
            first: -0.9,
            step: 0.05,
            steps: 36,
            linear: false,
        };
        with_minimum::<C, V>(tries, &x, &w, &mut found)
    } else {
        let n = if shape.bits == 5 { 16 } else { 8 };
        (symmetric::<C, V>(n, &x, &w, &mut found), V::splat(0.0))
    };
    let (mut scales, mut minima) = ([0.0; 8], [0.0; 8]);
    scale.store(&mut scales);
    minimum.store(&mut minima);
    let codes = super::codes_of(&found);
    for (k, out) in out.chunks_exact_mut(shape.len()).enumerate() {
        put_half(out, scales[k]);
        let mut start = 2;
        if shape.minimum {
            put_half(&mut out[2..], -minima[k]);
            start = 4;
        }
        shape.put_codes(&codes[k], &mut out[start..]);
    }
}

/// Quantises blocks of `Q8_0`; weights are not used.
#[inline(always)]
pub(super) fn q8_0(x: &[f32], out: &mut [u8]) {
    let blocks = x.as_chunks::<BLOCK>().0.iter();
    for (x, out) in blocks.zip(out.as_chunks_mut::<34>().0) {
        let magnitude = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let scale = magnitude / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        put_half(out, scale);
        for (out, &x) in out[2..].iter_mut().zip(x) {
            *out = low_byte(round_away(x * inverse)).cast_unsigned();
        }
    }
}
