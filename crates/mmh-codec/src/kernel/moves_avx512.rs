//! Moving numbers with AVX-512, and with scattering of bits for the fields.

#![allow(
    unsafe_code,
    reason = "vectors are loaded and stored through pointers, in these few functions"
)]

use std::arch::x86_64::*;

use super::moves::{self, FIELD_REACH, Moves};

/// Bytes that the fields of a vector of numbers take at most.
const STEP_REACH: usize = 8 * 8;
/// The most bits that a load from a whole byte on is sure to have.
const SURE: u64 = 57;

/// Scatters the next fields to the lanes of `masks`, a bit of which takes one. `None` where the
/// fields are too many, or too near the end, for that.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq,bmi2")]
fn scatter(fields: &[u8], at: usize, masks: __m512i) -> Option<(__m512i, usize)> {
    let counts = _mm512_popcnt_epi64(masks);
    let many = _mm512_cmpgt_epu64_mask(counts, _mm512_set1_epi64(SURE.cast_signed()));
    let window = fields.get(at / 8..)?;
    let window: &[u8; STEP_REACH + FIELD_REACH] = window.first_chunk()?;
    if many != 0 {
        return None;
    }
    let masks = lanes(masks);
    let mut out = [0u64; 8];
    let mut bit = at % 8;
    for (out, mask) in out.iter_mut().zip(masks) {
        // At most 7 + 7 · 57 bits are behind, so that 8 bytes are left in the window.
        let place = window[bit / 8..]
            .first_chunk()
            .map_or(0, |b| u64::from_le_bytes(*b));
        *out = _pdep_u64(place >> (bit % 8), mask);
        bit += mask.count_ones() as usize;
    }
    // SAFETY: 8 numbers of 64 bits are a vector.
    let spread = unsafe { _mm512_loadu_si512(out.as_ptr().cast()) };
    Some((spread, at / 8 * 8 + bit))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn lanes(vector: __m512i) -> [u64; 8] {
    let mut out = [0; 8];
    // SAFETY: 8 numbers of 64 bits are a vector.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), vector) };
    out
}

/// As [`moves::move_words`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq,bmi2,popcnt")]
pub(super) fn move_words(
    numbers: &mut [[u8; 2]],
    symbols: &[u8],
    moves: &Moves,
    fields: &[u8],
    mut at: usize,
) -> usize {
    // A field of 17 bits, which a lane does not hold, is marked by all bits that a lane cannot hold.
    let wide = moves.widths.map(|width| if width > 16 { -1 } else { 0 });
    let wide = load_words(&wide);
    let masks = load_words(&moves.widths.map(|width| low16((1u64 << width.min(16)) - 1)));
    let least = load_words(&moves.least.map(|least| low16(u64::from(least))));
    let signs = _mm512_set1_epi16(low16(u64::from(moves.signs)));
    let shift = _mm_cvtsi32_si128(moves.signs.cast_signed());
    let zero = _mm512_setzero_si512();
    let (steps, last) = numbers.as_chunks_mut::<32>();
    let (of_steps, of_last) = symbols.split_at(32 * steps.len());
    for (numbers, symbols) in steps.iter_mut().zip(of_steps.as_chunks::<32>().0) {
        // SAFETY: 32 symbols are half a vector.
        let half = unsafe { _mm256_loadu_si256(symbols.as_ptr().cast()) };
        let index = _mm512_cvtepu8_epi16(half);
        let too_wide = _mm512_permutexvar_epi16(index, wide);
        let too_wide = _mm512_test_epi16_mask(too_wide, too_wide);
        let mask = _mm512_permutexvar_epi16(index, masks);
        let spread = if too_wide == 0 {
            scatter(fields, at, mask)
        } else {
            None
        };
        let Some((bits, end)) = spread else {
            at = moves::move_words(numbers, symbols, moves, fields, at);
            continue;
        };
        at = end;
        let low = _mm512_srl_epi16(bits, shift);
        let magnitude = _mm512_add_epi16(_mm512_permutexvar_epi16(index, least), low);
        let sign = _mm512_sub_epi16(zero, _mm512_and_si512(bits, signs));
        let difference = _mm512_sub_epi16(_mm512_xor_si512(magnitude, sign), sign);
        let turn = |x| _mm512_xor_si512(x, _mm512_srli_epi16::<1>(_mm512_srai_epi16::<15>(x)));
        let pointer = numbers.as_mut_ptr();
        // SAFETY: 32 numbers of 16 bits are a vector.
        let old = unsafe { _mm512_loadu_si512(pointer.cast()) };
        let new = turn(_mm512_add_epi16(turn(old), difference));
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(pointer.cast(), new) };
    }
    moves::move_words(last, of_last, moves, fields, at)
}

/// As [`moves::move_doubles`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq,bmi2,popcnt")]
pub(super) fn move_doubles(
    numbers: &mut [[u8; 4]],
    symbols: &[u8],
    moves: &Moves,
    fields: &[u8],
    mut at: usize,
) -> usize {
    let wide = moves.widths.map(|width| if width > 32 { -1 } else { 0 });
    let wide = load_doubles(&wide);
    let masks = load_doubles(&moves.widths.map(|width| low32((1u64 << width.min(32)) - 1)));
    let least = load_doubles(&moves.least.map(u32::cast_signed));
    let signs = _mm512_set1_epi32(moves.signs.cast_signed());
    let shift = _mm_cvtsi32_si128(moves.signs.cast_signed());
    let zero = _mm512_setzero_si512();
    let (steps, last) = numbers.as_chunks_mut::<16>();
    let (of_steps, of_last) = symbols.split_at(16 * steps.len());
    for (numbers, symbols) in steps.iter_mut().zip(of_steps.as_chunks::<16>().0) {
        // SAFETY: 16 symbols are a quarter of a vector.
        let quarter = unsafe { _mm_loadu_si128(symbols.as_ptr().cast()) };
        let index = _mm512_cvtepu8_epi32(quarter);
        let of = |table: [__m512i; 2]| _mm512_permutex2var_epi32(table[0], index, table[1]);
        let too_wide = of(wide);
        let too_wide = _mm512_test_epi32_mask(too_wide, too_wide);
        let spread = if too_wide == 0 {
            scatter(fields, at, of(masks))
        } else {
            None
        };
        let Some((bits, end)) = spread else {
            at = moves::move_doubles(numbers, symbols, moves, fields, at);
            continue;
        };
        at = end;
        let low = _mm512_srl_epi32(bits, shift);
        let magnitude = _mm512_add_epi32(of(least), low);
        let sign = _mm512_sub_epi32(zero, _mm512_and_si512(bits, signs));
        let difference = _mm512_sub_epi32(_mm512_xor_si512(magnitude, sign), sign);
        let turn = |x| _mm512_xor_si512(x, _mm512_srli_epi32::<1>(_mm512_srai_epi32::<31>(x)));
        let pointer = numbers.as_mut_ptr();
        // SAFETY: 16 numbers of 32 bits are a vector.
        let old = unsafe { _mm512_loadu_si512(pointer.cast()) };
        let new = turn(_mm512_add_epi32(turn(old), difference));
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(pointer.cast(), new) };
    }
    moves::move_doubles(last, of_last, moves, fields, at)
}

/// As [`moves::decay`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn decay(numbers: &mut [[u8; 4]], factor: f32, steps: u16) {
    moves::decay(numbers, factor, steps);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(words: &[i16; 32]) -> __m512i {
    // SAFETY: 32 words are a vector.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_doubles(doubles: &[i32; 32]) -> [__m512i; 2] {
    let halves = doubles.as_chunks::<16>().0;
    // SAFETY: 16 double words are a vector, and there are twice as many.
    [0, 1].map(|half| unsafe { _mm512_loadu_si512(halves[half].as_ptr().cast()) })
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the low bits are what is wanted"
)]
const fn low16(x: u64) -> i16 {
    x as i16
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the low bits are what is wanted"
)]
const fn low32(x: u64) -> i32 {
    x as i32
}
