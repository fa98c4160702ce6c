//! Q2_K to Q6_K: super-blocks of 256 numbers, whose sub-blocks have scales (and minima) that are
//! quantised themselves (`quantize_row_q2_K_ref` and its neighbours, `…_impl` with weights).

use super::contraction::{Contract, nearest_one, within};
use super::lanes::{Lanes, MAGIC};
use super::search::{
    BLOCK_MAX, Moving, Search, Symmetric, TINY, Tries, float, largest, positive, symmetric,
};
use super::{Row, put_half, rounded_half};

/// Numbers in a super-block.
const SUPER: usize = 256;

/// A super-block while it is made: codes as numbers, scales and minima of its sub-blocks.
struct Work {
    codes: [f32; SUPER],
    scales: [f32; 16],
    minima: [f32; 16],
}

/// Searches all sub-blocks of `len` numbers, as many at once as there are lanes.
#[inline(always)]
fn search<C: Contract, V: Lanes>(
    x: &[f32],
    w: &[f32; SUPER],
    len: usize,
    search: impl Search + Copy,
) -> Work {
    let mut work = Work {
        codes: [0.0; SUPER],
        scales: [0.0; 16],
        minima: [0.0; 16],
    };
    let zero = [V::splat(0.0); BLOCK_MAX];
    for first in (0..SUPER / len).step_by(V::N) {
        let (mut xs, mut ws, mut codes) = (zero, zero, zero);
        for i in 0..len {
            xs[i] = V::gather(&x[first * len + i..], len);
            ws[i] = V::gather(&w[first * len + i..], len);
        }
        let (scale, minimum) = search.search::<C, V>(&xs[..len], &ws[..len], &mut codes[..len]);
        scale.store(&mut work.scales[first..]);
        minimum.store(&mut work.minima[first..]);
        let mut lanes = [0.0; 8];
        for (i, code) in codes[..len].iter().enumerate() {
            code.store(&mut lanes);
            for (k, &code) in lanes[..V::N].iter().enumerate() {
                work.codes[(first + k) * len + i] = code;
            }
        }
    }
    work
}

/// Makes the codes again, for the scales and minima as they are stored: `at(j)` has both for
/// sub-block `j`. Where the scale became 0, the codes that were searched stay.
#[inline(always)]
fn recode<V: Lanes>(
    x: &[f32],
    codes: &mut [f32; SUPER],
    len: usize,
    (low, high): (i32, i32),
    at: impl Fn(usize) -> (f32, f32),
) {
    let offset = V::splat(float(-low));
    let blocks = x.chunks_exact(len).zip(codes.chunks_exact_mut(len));
    for (j, (x, codes)) in blocks.enumerate() {
        let (scale, minimum) = at(j);
        if scale == 0.0 {
            continue;
        }
        let (scale, minimum) = (V::splat(scale), V::splat(minimum));
        for (x, code) in x.chunks_exact(V::N).zip(codes.chunks_exact_mut(V::N)) {
            let ratio = V::load(x).add(minimum).div(scale);
            let l = ratio.add(V::splat(MAGIC)).unmagic(low, high);
            l.add(offset).store(code);
        }
    }
}

/// Codes as bytes.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "codes have six bits"
)]
fn bytes(codes: &[f32; SUPER]) -> [u8; SUPER] {
    codes.map(|code| code as u8)
}

/// Weights of errors: importance times the size of a number, or of what surrounds it. Also their
/// sums for each sub-block.
#[inline(always)]
fn importance<C: Contract>(
    x: &[f32],
    weights: &[f32],
    factor: f32,
    len: usize,
) -> ([f32; SUPER], [f32; 16]) {
    let square = x.iter().fold(0.0, |sum, &x| within::<C, f32>(x, x, sum));
    let sigma = factor * square / 256.0;
    let w: [f32; SUPER] =
        std::array::from_fn(|i| weights[i] * within::<C, f32>(x[i], x[i], sigma).sqrt());
    let mut sums = [0.0; 16];
    for (sum, w) in sums.iter_mut().zip(w.chunks_exact(len)) {
        *sum = w.iter().fold(0.0, |sum, w| sum + w);
    }
    (w, sums)
}

/// The largest of some numbers and 0.
#[inline(always)]
fn top(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |max, &x| if x > max { x } else { max })
}

/// Two bits of four numbers in a byte, 32 apart.
#[inline(always)]
fn put_pairs(codes: &[u8; SUPER], out: &mut [u8]) {
    for (half, out) in codes.chunks_exact(128).zip(out.chunks_exact_mut(32)) {
        for (l, out) in out.iter_mut().enumerate() {
            *out = half[l] | half[l + 32] << 2 | half[l + 64] << 4 | half[l + 96] << 6;
        }
    }
}

/// Quantises super-blocks of `Q2_K`.
#[inline(always)]
pub(super) fn q2_k<C: Contract, V: Lanes>(row: Row<'_>, out: &mut [u8]) {
    for (row, out, _) in super::groups(row, SUPER, 84, 1, out) {
        let x = row.x;
        let mut codes;
        let (scales, rest) = out.split_at_mut(16);
        let (pairs, halves) = rest.split_at_mut(64);
        if let Some(weights) = row.weights {
            let tries = Tries {
                code_max: 3,
                first: -0.9,
                step: 0.05,
                steps: 36,
                linear: false,
            };
            let (w, sums) = importance::<C>(x, weights, 1.0, 16);
            let work = search::<C, V>(x, &w, 16, tries);
            codes = work.codes;
            let (mut ls, mut lm) = ([0; 16], [0; 16]);
            put_half(halves, positive::<C>(15, &work.scales, &sums, &mut ls));
            put_half(
                &mut halves[2..],
                positive::<C>(15, &work.minima, &sums, &mut lm),
            );
            for ((out, s), m) in scales.iter_mut().zip(ls).zip(lm) {
                *out = s | m << 4;
            }
        } else {
            let tries = Tries {
                code_max: 3,
                first: -0.5,
                step: 0.1,
                steps: 15,
                linear: true,
            };
            let w = std::array::from_fn(|i| x[i].abs());
            let work = search::<C, V>(x, &w, 16, tries);
            codes = work.codes;
            scales.fill(0);
            let (head, tail) = halves.split_at_mut(2);
            for (from, half, shift) in [(work.scales, head, 0), (work.minima, tail, 4)] {
                let top = top(&from);
                put_half(half, if top > 0.0 { top / 15.0 } else { 0.0 });
                if top > 0.0 {
                    for (out, from) in scales.iter_mut().zip(from) {
                        *out |= eight(nearest_one(15.0 / top, from)) << shift;
                    }
                }
            }
        }
        let (d, dmin) = (rounded_half(halves), rounded_half(&halves[2..]));
        recode::<V>(x, &mut codes, 16, (0, 3), |j| {
            (
                d * f32::from(scales[j] & 15),
                dmin * f32::from(scales[j] >> 4),
            )
        });
        put_pairs(&bytes(&codes), pairs);
    }
}

/// The low eight bits.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as in C"
)]
fn eight(l: i32) -> u8 {
    l as u8
}

/// Quantises super-blocks of `Q3_K`.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "as in C: first cut to eight bits"
)]
pub(super) fn q3_k<C: Contract, V: Lanes>(row: Row<'_>, out: &mut [u8]) {
    for (row, out, _) in super::groups(row, SUPER, 110, 1, out) {
        let x = row.x;
        let mut codes;
        let mut l = [0u8; 16];
        let (high, rest) = out.split_at_mut(32);
        let (pairs, rest) = rest.split_at_mut(64);
        let (packed, half) = rest.split_at_mut(12);
        if let Some(weights) = row.weights {
            let (w, sums) = importance::<C>(x, weights, 2.0, 16);
            let work = search::<C, V>(x, &w, 16, Symmetric(4));
            codes = work.codes;
            let mut of_scales = [0.0; 16];
            let d = symmetric::<C, f32>(32, &work.scales, &sums, &mut of_scales);
            put_half(half, d);
            l = of_scales.map(|l| eight(l as i32));
        } else {
            let work = search::<C, V>(x, &[0.0; SUPER], 16, Moving);
            codes = work.codes;
            let (most, _) = largest(&work.scales);
            put_half(half, 0.0);
            if most != 0.0 {
                let inverse = -32.0 / most;
                put_half(half, 1.0 / inverse);
                l = work.scales.map(|scale| {
                    let l = nearest_one(inverse, scale) as i8;
                    eight(i32::from(l.clamp(-32, 31)) + 32)
                });
            }
        }
        // Where the largest scale is 0, the packed scales are bytes of zeros: -32 each.
        packed.fill(0);
        for (j, l) in l.into_iter().enumerate() {
            packed[j % 8] |= (l & 15) << (4 * (j / 8));
            packed[8 + j % 4] |= (l >> 4) << (2 * (j / 4));
        }
        let d = rounded_half(half);
        recode::<V>(x, &mut codes, 16, (-4, 3), |j| {
            (d * float(i32::from(l[j]) - 32), 0.0)
        });
        let mut codes = bytes(&codes);
        high.fill(0);
        for (j, code) in codes.iter_mut().enumerate() {
            high[j % 32] |= (*code >> 2) << (j / 32);
            *code &= 3;
        }
        put_pairs(&codes, pairs);
    }
}

/// Twelve bytes with eight scales and eight minima of six bits: the first four of each are whole,
/// the high bits of the others lie above them.
#[inline(always)]
fn put_sixes(scales: &[u8; 8], minima: &[u8; 8], out: &mut [u8]) {
    for j in 0..4 {
        let (s, m) = (scales[j + 4], minima[j + 4]);
        out[j] = scales[j] | s >> 4 << 6;
        out[j + 4] = minima[j] | m >> 4 << 6;
        out[j + 8] = (s & 15) | (m & 15) << 4;
    }
}

/// The scales and minima of `Q4_K` and `Q5_K`, put into `head` (16 bytes); returns the codes made
/// for them.
#[inline(always)]
fn with_six_bits<C: Contract, V: Lanes>(bits: u32, row: Row<'_>, head: &mut [u8]) -> [u8; SUPER] {
    let x = row.x;
    let code_max = (1 << bits) - 1;
    let (mut ls, mut lm) = ([0; 8], [0; 8]);
    let (halves, packed) = head.split_at_mut(4);
    let mut codes;
    if let Some(weights) = row.weights {
        let tries = Tries {
            code_max,
            first: -0.9,
            step: 0.05,
            steps: 36,
            linear: false,
        };
        let (w, sums) = importance::<C>(x, weights, 2.0, 32);
        let work = search::<C, V>(x, &w, 32, tries);
        codes = work.codes;
        let sums = &sums[..8];
        put_half(halves, positive::<C>(63, &work.scales[..8], sums, &mut ls));
        put_half(
            &mut halves[2..],
            positive::<C>(63, &work.minima[..8], sums, &mut lm),
        );
        if bits == 5 {
            ls = ls.map(|l| l.min(63));
            lm = lm.map(|l| l.min(63));
        }
    } else {
        let (first, steps) = if bits == 4 { (-1.0, 20) } else { (-0.5, 15) };
        let tries = Tries {
            code_max,
            first,
            step: 0.1,
            steps,
            linear: false,
        };
        let mut w = [0.0; SUPER];
        for (x, w) in x.chunks_exact(32).zip(w.chunks_exact_mut(32)) {
            let square = x.iter().fold(0.0, |sum, &x| within::<C, f32>(x, x, sum));
            let mean = (square / 32.0f32).sqrt();
            for (w, x) in w.iter_mut().zip(x) {
                *w = mean + x.abs();
            }
        }
        let work = search::<C, V>(x, &w, 32, tries);
        codes = work.codes;
        let (head, tail) = halves.split_at_mut(2);
        for (from, half, l) in [(&work.scales, head, &mut ls), (&work.minima, tail, &mut lm)] {
            let top = top(&from[..8]);
            put_half(half, top / 63.0);
            let inverse = if top > 0.0 { 63.0 / top } else { 0.0 };
            for (l, &from) in l.iter_mut().zip(from) {
                *l = eight(nearest_one(inverse, from)).min(63);
            }
        }
    }
    // A code beyond six bits, which only wrapping makes, is packed as it is and read as it lies.
    put_sixes(&ls, &lm, packed);
    let (ls, lm) = sixes(packed);
    let (d, dmin) = (rounded_half(halves), rounded_half(&halves[2..]));
    recode::<V>(x, &mut codes, 32, (0, code_max), |j| {
        (d * f32::from(ls[j]), dmin * f32::from(lm[j]))
    });
    bytes(&codes)
}

/// What [`put_sixes`] put.
#[inline(always)]
fn sixes(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut minima) = ([0; 8], [0; 8]);
    for j in 0..4 {
        scales[j] = packed[j] & 63;
        minima[j] = packed[j + 4] & 63;
        scales[j + 4] = (packed[j + 8] & 15) | packed[j] >> 6 << 4;
        minima[j + 4] = (packed[j + 8] >> 4) | packed[j + 4] >> 6 << 4;
    }
    (scales, minima)
}

/// Low nibbles of 64 numbers in 32 bytes.
#[inline(always)]
fn put_nibbles(codes: &[u8; SUPER], out: &mut [u8]) {
    for (codes, out) in codes.chunks_exact(64).zip(out.chunks_exact_mut(32)) {
        for (l, out) in out.iter_mut().enumerate() {
            *out = (codes[l] & 15) | (codes[l + 32] & 15) << 4;
        }
    }
}

/// Quantises super-blocks of `Q4_K`.
#[inline(always)]
pub(super) fn q4_k<C: Contract, V: Lanes>(row: Row<'_>, out: &mut [u8]) {
    for (row, out, _) in super::groups(row, SUPER, 144, 1, out) {
        let (head, nibbles) = out.split_at_mut(16);
        put_nibbles(&with_six_bits::<C, V>(4, row, head), nibbles);
    }
}

/// Quantises super-blocks of `Q5_K`.
#[inline(always)]
pub(super) fn q5_k<C: Contract, V: Lanes>(row: Row<'_>, out: &mut [u8]) {
    for (row, out, _) in super::groups(row, SUPER, 176, 1, out) {
        let (head, rest) = out.split_at_mut(16);
        let (high, nibbles) = rest.split_at_mut(32);
        let codes = with_six_bits::<C, V>(5, row, head);
        high.fill(0);
        for (j, code) in codes.iter().enumerate() {
            high[j % 32] |= (code >> 4) << (j / 32);
        }
        put_nibbles(&codes, nibbles);
    }
}

/// Quantises super-blocks of `Q6_K`.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "scales have eight bits")]
pub(super) fn q6_k<C: Contract, V: Lanes>(row: Row<'_>, out: &mut [u8]) {
    for (row, out, _) in super::groups(row, SUPER, 210, 1, out) {
        let x = row.x;
        let w = match row.weights {
            Some(weights) => std::array::from_fn(|i| weights[i]),
            None => std::array::from_fn(|i| x[i] * x[i]),
        };
        let work = search::<C, V>(x, &w, 16, Symmetric(32));
        let (most, magnitude) = largest(&work.scales);
        if magnitude < TINY {
            out.fill(0);
            continue;
        }
        let (low, rest) = out.split_at_mut(128);
        let (high, rest) = rest.split_at_mut(64);
        let (scales, half) = rest.split_at_mut(16);
        let inverse = -128.0 / most;
        put_half(half, 1.0 / inverse);
        let l = work
            .scales
            .map(|scale| nearest_one(inverse, scale).min(127) as i8);
        scales.copy_from_slice(&l.map(i8::cast_unsigned));
        let d = rounded_half(half);
        let mut codes = work.codes;
        recode::<V>(x, &mut codes, 16, (-32, 31), |j| (d * f32::from(l[j]), 0.0));
        let codes = bytes(&codes);
        let halves = low.chunks_exact_mut(64).zip(high.chunks_exact_mut(32));
        for (codes, (low, high)) in codes.chunks_exact(128).zip(halves) {
            for l in 0..32 {
                let four = [codes[l], codes[l + 32], codes[l + 64], codes[l + 96]];
                low[l] = (four[0] & 15) | four[2] << 4;
                low[l + 32] = (four[1] & 15) | four[3] << 4;
                high[l] = four[0] >> 4 | four[1] >> 4 << 2 | four[2] >> 4 << 4 | four[3] >> 4 << 6;
            }
        }
    }
}
