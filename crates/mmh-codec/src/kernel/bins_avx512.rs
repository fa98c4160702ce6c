//! Bins and their details with AVX-512 and BMI2: 64 numbers a step, whose details are spread to and
//! gathered from where they belong.

#![allow(
    unsafe_code,
    reason = "instructions are used where they were found, and a table is loaded by a pointer"
)]

use std::arch::x86_64::*;

use super::avx512::{load, store};
use super::bins::{self, Bins, BitSink, Bits, CODES, Codes, FIRST, LOWER, SECOND};
use crate::entropy::SYMBOLS_MAX;

const STEP: usize = 64;

/// The 32 bytes in both halves of a vector.
#[inline]
#[target_feature(enable = "avx512f")]
fn twice(table: &[u8; SYMBOLS_MAX]) -> __m512i {
    // SAFETY: 32 bytes are half a vector.
    _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(table.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn all(byte: u8) -> __m512i {
    _mm512_set1_epi8(byte.cast_signed())
}

/// As [`bins::refine`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi2,popcnt")]
pub(super) fn refine(
    bins: &Bins,
    details: &mut [Bits<'_>; 2],
    symbols: &mut [u8],
    bytes: &mut [u8],
) {
    let (above, flags) = (twice(&bins.above), twice(&bins.flags));
    let lower = all(LOWER);
    let [mut first, mut second] = *details;
    let (symbol_steps, last_symbols) = symbols.as_chunks_mut::<STEP>();
    let (byte_steps, last_bytes) = bytes.as_chunks_mut::<STEP>();
    for (symbols, bytes) in symbol_steps.iter_mut().zip(byte_steps) {
        let (symbol, byte) = (load(symbols), load(bytes));
        let flags = _mm512_permutexvar_epi8(symbol, flags);
        let has_first = _mm512_test_epi8_mask(flags, all(FIRST));
        let has_second = _mm512_test_epi8_mask(flags, all(SECOND));
        let low = _pdep_u64(first.ahead(), has_first);
        let high = _pdep_u64(second.ahead(), has_second);
        first.skip(has_first.count_ones());
        second.skip(has_second.count_ones());
        let code = _mm512_permutexvar_epi8(symbol, above);
        store(symbols, _mm512_mask_add_epi8(code, high, code, all(1)));
        // The sign moves up by one bit: it is added to itself.
        let byte = _mm512_and_si512(byte, all(2 * LOWER - 1));
        let byte = _mm512_add_epi8(byte, _mm512_and_si512(byte, lower));
        let byte = _mm512_or_si512(byte, _mm512_and_si512(flags, lower));
        let with_low = _mm512_or_si512(byte, lower);
        store(bytes, _mm512_mask_mov_epi8(byte, low, with_low));
    }
    *details = [first, second];
    bins::refine(bins, details, last_symbols, last_bytes);
}

/// As [`bins::coarsen`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi2,popcnt")]
pub(super) fn coarsen(
    codes: &Codes,
    symbols: &mut [u8],
    bytes: &mut [u8],
    details: &mut [BitSink; 2],
) {
    const { assert!(CODES == STEP, "the tables are vectors") };
    let (table, flags) = (load(&codes.symbols), load(&codes.flags));
    let (symbol_steps, last_symbols) = symbols.as_chunks_mut::<STEP>();
    let (byte_steps, last_bytes) = bytes.as_chunks_mut::<STEP>();
    for (symbols, bytes) in symbol_steps.iter_mut().zip(byte_steps) {
        let (code, byte) = (load(symbols), load(bytes));
        let flags = _mm512_permutexvar_epi8(code, flags);
        let has_first = _mm512_test_epi8_mask(flags, all(FIRST));
        let has_second = _mm512_test_epi8_mask(flags, all(SECOND));
        let low = _mm512_test_epi8_mask(byte, all(LOWER));
        let high = _mm512_test_epi8_mask(code, all(1));
        details[0].put(_pext_u64(low, has_first), has_first.count_ones());
        details[1].put(_pext_u64(high, has_second), has_second.count_ones());
        let symbol = _mm512_permutexvar_epi8(code, table);
        let own = low & !has_first;
        store(symbols, _mm512_mask_add_epi8(symbol, own, symbol, all(1)));
        let sign = _mm512_and_si512(_mm512_srli_epi16::<1>(byte), all(LOWER));
        let rest = _mm512_and_si512(byte, all(LOWER - 1));
        store(bytes, _mm512_or_si512(sign, rest));
    }
    bins::coarsen(codes, last_symbols, last_bytes, details);
}
