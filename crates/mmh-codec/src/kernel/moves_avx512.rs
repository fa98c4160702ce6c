//! Moving numbers with AVX-512, and with scattering of bits for the fields.

#![allow(
    unsafe_code,
    reason = "vectors are loaded and stored through pointers, in these few functions"
)]

use std::arch::x86_64::*;

use super::expect::NEGATIVE;
use super::moves::{self, BEYOND, MAGNITUDES};

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
    let window: &[u8; STEP_REACH + 8] = window.first_chunk()?;
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

/// The next fields of at most 14 bits, one in each word from its lowest bit on, with other bits
/// above it; and where they end. Beyond the end there are zeros.
///
/// A quarter of 128 bits has two quadruples of words; the fields of a quadruple, at most 56 bits
/// from a bit of the first byte on, are brought into its 8 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn narrow_fields(fields: &[u8], at: usize, widths: __m512i) -> (__m512i, usize) {
    let zero = _mm512_setzero_si512();
    // Sums of the widths of a quadruple up to each word.
    let ends = _mm512_add_epi16(widths, _mm512_slli_epi64::<16>(widths));
    let ends = _mm512_add_epi16(ends, _mm512_slli_epi64::<32>(ends));
    // Sums of the quadruples before each.
    let own = _mm512_srli_epi64::<48>(ends);
    let sums = _mm512_add_epi64(own, _mm512_alignr_epi64::<7>(own, zero));
    let sums = _mm512_add_epi64(sums, _mm512_alignr_epi64::<6>(sums, zero));
    let sums = _mm512_add_epi64(sums, _mm512_alignr_epi64::<4>(sums, zero));
    let inside = _mm512_set1_epi64((at % 8) as i64);
    let starts = _mm512_add_epi64(_mm512_sub_epi64(sums, own), inside);
    let rest = fields.get(at / 8..).unwrap_or(&[]);
    let known = if rest.len() < 64 {
        (1 << rest.len()) - 1
    } else {
        u64::MAX
    };
    // SAFETY: only bytes that are there are loaded.
    let window = unsafe { _mm512_maskz_loadu_epi8(known, rest.as_ptr().cast()) };
    // The 8 bytes from the one on in which a quadruple starts.
    let bytes = _mm512_shuffle_epi8(_mm512_srli_epi64::<3>(starts), each(&FIRST_BYTES));
    let bytes = _mm512_add_epi8(bytes, _mm512_set1_epi64(0x0706_0504_0302_0100));
    let quadruples = _mm512_permutexvar_epi8(bytes, window);
    // The bits from which on the bytes of each word are taken.
    let bit = _mm512_shuffle_epi8(
        _mm512_and_si512(starts, _mm512_set1_epi64(7)),
        each(&FIRST_WORDS),
    );
    let bit = _mm512_add_epi16(bit, _mm512_sub_epi16(ends, widths));
    let next = _mm512_slli_epi16::<8>(_mm512_add_epi16(bit, _mm512_set1_epi16(8)));
    let taken = _mm512_multishift_epi64_epi8(_mm512_or_si512(bit, next), quadruples);
    let last = _mm512_extracti32x4_epi32::<3>(sums);
    let total = _mm_cvtsi128_si32(_mm_unpackhi_epi64(last, last));
    (taken, at + usize::try_from(total).unwrap_or(0))
}

/// The lowest byte of each 8, in all 8 bytes; and in the low byte of each word.
static FIRST_BYTES: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8];
static FIRST_WORDS: [u8; 16] = [
    0, 255, 0, 255, 0, 255, 0, 255, 8, 255, 8, 255, 8, 255, 8, 255,
];

/// The same 16 bytes in each quarter.
#[inline]
#[target_feature(enable = "avx512f")]
fn each(bytes: &[u8; 16]) -> __m512i {
    // SAFETY: 16 bytes are a quarter of a vector.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// As [`moves::move_words`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
pub(super) fn move_words(
    numbers: &mut [[u8; 2]],
    symbols: &[u8],
    shifts: &[u8],
    fields: &[u8],
    mut at: usize,
) -> usize {
    let (least, widths) = (load_words(&MAGNITUDES.0), load_words(&MAGNITUDES.1));
    let set = |x: u8| _mm512_set1_epi16(i16::from(x));
    let one = set(1);
    let (steps, last) = numbers.as_chunks_mut::<32>();
    let (of_steps, of_last) = symbols.split_at(32 * steps.len());
    let (low_of_steps, low_of_last) = shifts.split_at(32 * steps.len());
    let each = of_steps
        .as_chunks()
        .0
        .iter()
        .zip(low_of_steps.as_chunks().0);
    for (numbers, (symbols, shifts)) in steps.iter_mut().zip(each) {
        let (symbol, shift) = (widened(symbols), widened(shifts));
        let kind = _mm512_and_si512(symbol, set(15));
        let moved = _mm512_test_epi16_mask(kind, kind);
        let low = _mm512_min_epu16(_mm512_and_si512(shift, set(0x1f)), set(8));
        let with_low = _mm512_test_epi16_mask(low, low);
        let index = _mm512_or_si512(kind, _mm512_maskz_mov_epi16(with_low, set(16)));
        let width = _mm512_permutexvar_epi16(index, widths);
        let width = _mm512_mask_add_epi16(width, moved, width, low);
        let mask = _mm512_sub_epi16(_mm512_sllv_epi16(one, width), one);
        if _mm512_cmpeq_epi16_mask(symbol, set(BEYOND)) != 0 {
            at = moves::move_words(numbers, symbols, shifts, fields, at);
            continue;
        }
        let (bits, end) = narrow_fields(fields, at, width);
        let bits = _mm512_and_si512(bits, mask);
        at = end;
        let least = _mm512_sllv_epi16(_mm512_permutexvar_epi16(index, least), low);
        let magnitude = _mm512_maskz_add_epi16(moved, least, bits);
        let sign = _mm512_xor_si512(_mm512_slli_epi16::<3>(symbol), shift);
        let negative = _mm512_test_epi16_mask(sign, set(NEGATIVE));
        let pointer = numbers.as_mut_ptr();
        // SAFETY: 32 numbers of 16 bits are a vector.
        let old = unsafe { _mm512_loadu_si512(pointer.cast()) };
        let turn = |x| _mm512_xor_si512(x, _mm512_srli_epi16::<1>(_mm512_srai_epi16::<15>(x)));
        let place = turn(old);
        let up = _mm512_add_epi16(place, magnitude);
        let new = turn(_mm512_mask_sub_epi16(up, negative, place, magnitude));
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(pointer.cast(), new) };
    }
    moves::move_words(last, of_last, low_of_last, fields, at)
}

/// As [`moves::move_doubles`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq,bmi2,popcnt")]
pub(super) fn move_doubles(
    numbers: &mut [[u8; 4]],
    symbols: &[u8],
    shifts: &[u8],
    fields: &[u8],
    mut at: usize,
) -> usize {
    let (least, widths) = (load_halves(&MAGNITUDES.0), load_halves(&MAGNITUDES.1));
    let set = |x: u8| _mm512_set1_epi32(i32::from(x));
    let (zero, one) = (_mm512_setzero_si512(), set(1));
    let (steps, last) = numbers.as_chunks_mut::<16>();
    let (of_steps, of_last) = symbols.split_at(16 * steps.len());
    let (low_of_steps, low_of_last) = shifts.split_at(16 * steps.len());
    let each = of_steps
        .as_chunks()
        .0
        .iter()
        .zip(low_of_steps.as_chunks().0);
    for (numbers, (symbols, shifts)) in steps.iter_mut().zip(each) {
        let (symbol, shift) = (widened_twice(symbols), widened_twice(shifts));
        let kind = _mm512_and_si512(symbol, set(15));
        let moved = _mm512_test_epi32_mask(kind, kind);
        let low = _mm512_min_epu32(_mm512_and_si512(shift, set(0x1f)), set(24));
        let with_low = _mm512_test_epi32_mask(low, low);
        let index = _mm512_mask_or_epi32(kind, with_low, kind, set(16));
        let of = |table: [__m512i; 2]| _mm512_permutex2var_epi32(table[0], index, table[1]);
        let width = of(widths);
        let width = _mm512_mask_add_epi32(width, moved, width, low);
        let mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, width), one);
        let spread = if _mm512_cmpeq_epi32_mask(symbol, set(BEYOND)) != 0 {
            None
        } else if _mm512_test_epi32_mask(mask, mask) == 0 {
            Some((zero, at))
        } else {
            scatter(fields, at, mask)
        };
        let Some((bits, end)) = spread else {
            at = moves::move_doubles(numbers, symbols, shifts, fields, at);
            continue;
        };
        at = end;
        let magnitude = _mm512_maskz_add_epi32(moved, _mm512_sllv_epi32(of(least), low), bits);
        let sign = _mm512_xor_si512(_mm512_slli_epi32::<3>(symbol), shift);
        let negative = _mm512_test_epi32_mask(sign, set(NEGATIVE));
        let pointer = numbers.as_mut_ptr();
        // SAFETY: 16 numbers of 32 bits are a vector.
        let old = unsafe { _mm512_loadu_si512(pointer.cast()) };
        let turn = |x| _mm512_xor_si512(x, _mm512_srli_epi32::<1>(_mm512_srai_epi32::<31>(x)));
        let place = turn(old);
        let up = _mm512_add_epi32(place, magnitude);
        let new = turn(_mm512_mask_sub_epi32(up, negative, place, magnitude));
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(pointer.cast(), new) };
    }
    moves::move_doubles(last, of_last, low_of_last, fields, at)
}

/// As [`moves::decay`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn decay(numbers: &mut [[u8; 4]], factor: f32, steps: u16) {
    moves::decay(numbers, factor, steps);
}

/// 32 bytes as words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn widened(bytes: &[u8; 32]) -> __m512i {
    // SAFETY: 32 bytes are half a vector.
    _mm512_cvtepu8_epi16(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
}

/// 16 bytes as double words.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened_twice(bytes: &[u8; 16]) -> __m512i {
    // SAFETY: 16 bytes are a quarter of a vector.
    _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(words: &[u16; 32]) -> __m512i {
    // SAFETY: 32 words are a vector.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// Words as two vectors of double words.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_halves(words: &[u16; 32]) -> [__m512i; 2] {
    let words = load_words(words);
    [
        _mm512_cvtepu16_epi32(_mm512_castsi512_si256(words)),
        _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(words)),
    ]
}
