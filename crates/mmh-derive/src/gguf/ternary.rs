//! TQ1_0 and TQ2_0: numbers that are -1, 0 or 1 times a scale (`quantize_row_tq1_0_ref`,
//! `quantize_row_tq2_0_ref`). Weights are not used.

use super::{low_byte, put_half, round_away};

/// The scale of a super-block, written to `half`, and its trits from 0 to 2.
#[inline(always)]
fn trits(x: &[f32; 256], half: &mut [u8]) -> [u8; 256] {
    let scale = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    put_half(half, scale);
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    std::array::from_fn(|i| (low_byte(round_away(x[i] * inverse)) + 1).cast_unsigned())
}

/// Five trits in a byte: the first is found by multiplying the byte by 3 and taking the carry.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "five trits are less than 243"
)]
fn pack(trits: impl Iterator<Item = u8>) -> u8 {
    let number = trits.fold(0u16, |number, trit| number * 3 + u16::from(trit));
    (number * 256).div_ceil(243) as u8
}

/// Quantises super-blocks of `TQ1_0`.
#[inline(always)]
pub(super) fn tq1_0(x: &[f32], out: &mut [u8]) {
    let blocks = x.as_chunks::<256>().0.iter();
    for (x, out) in blocks.zip(out.as_chunks_mut::<54>().0) {
        let (packed, half) = out.split_at_mut(52);
        let trits = trits(x, half);
        let every = |start: usize, step: usize| trits[start..].iter().copied().step_by(step);
        for (m, out) in packed[..32].iter_mut().enumerate() {
            *out = pack(every(m, 32).take(5));
        }
        for (m, out) in packed[32..48].iter_mut().enumerate() {
            *out = pack(every(160 + m, 16).take(5));
        }
        for (m, out) in packed[48..].iter_mut().enumerate() {
            *out = pack(every(240 + m, 4).take(4).chain([0]));
        }
    }
}

/// Quantises super-blocks of `TQ2_0`.
#[inline(always)]
pub(super) fn tq2_0(x: &[f32], out: &mut [u8]) {
    let blocks = x.as_chunks::<256>().0.iter();
    for (x, out) in blocks.zip(out.as_chunks_mut::<66>().0) {
        let (packed, half) = out.split_at_mut(64);
        let trits = trits(x, half);
        for (half, out) in trits.chunks_exact(128).zip(packed.chunks_exact_mut(32)) {
            for (m, out) in out.iter_mut().enumerate() {
                *out = half[m] | half[m + 32] << 2 | half[m + 64] << 4 | half[m + 96] << 6;
            }
        }
    }
}
