//! Bins and their details with AVX2 and BMI2: 32 numbers a step, as with AVX-512.

#![allow(
    unsafe_code,
    reason = "vectors are loaded and stored through pointers, in these few functions"
)]

use std::arch::x86_64::*;

use super::bins::{self, Bins, BitSink, Bits, CODES, Codes, FIRST, LOWER, SECOND};
use super::join_avx2::{load, store, twice};

const STEP: usize = 32;

#[inline]
#[target_feature(enable = "avx2")]
fn all(byte: u8) -> __m256i {
    _mm256_set1_epi8(byte.cast_signed())
}

/// The bytes of a table at these places, of which only the lowest bits count.
#[inline]
#[target_feature(enable = "avx2")]
fn of_table<const N: usize>(table: &[u8; N], places: __m256i) -> __m256i {
    const { assert!(N == 32 || N == 64, "two or four vectors of 16 bytes") };
    let places = _mm256_and_si256(places, all(63));
    let low = _mm256_and_si256(places, all(15));
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| {
        let part = table.as_chunks().0.get(i).unwrap_or(&[0; 16]);
        _mm256_shuffle_epi8(twice(part), low)
    });
    // A byte is taken from the second vector where the top bit of its place is 1.
    let odd = _mm256_slli_epi16::<3>(places);
    let first = _mm256_blendv_epi8(a, b, odd);
    if N == 32 {
        return first;
    }
    let upper = _mm256_slli_epi16::<2>(places);
    _mm256_blendv_epi8(first, _mm256_blendv_epi8(c, d, odd), upper)
}

/// The lowest bit of each byte, moved up by `UP` bits to be the highest.
#[inline]
#[target_feature(enable = "avx2")]
fn bits<const UP: i32>(bytes: __m256i) -> u32 {
    _mm256_movemask_epi8(_mm256_slli_epi16::<UP>(bytes)).cast_unsigned()
}

/// All bits of each byte whose bit is 1.
#[inline]
#[target_feature(enable = "avx2")]
fn spread(bits: u64) -> __m256i {
    let [a, b, c, d, ..] = bits.to_le_bytes().map(i64::from);
    let each = |byte: i64| byte.wrapping_mul(0x0101_0101_0101_0101);
    let all = _mm256_set_epi64x(each(d), each(c), each(b), each(a));
    let own = _mm256_set1_epi64x(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    _mm256_cmpeq_epi8(_mm256_and_si256(all, own), own)
}

/// As [`bins::refine`].
#[target_feature(enable = "avx2,bmi2,popcnt")]
pub(super) fn refine(
    bins: &Bins,
    details: &mut [Bits<'_>; 2],
    symbols: &mut [u8],
    bytes: &mut [u8],
) {
    let lower = all(LOWER);
    let [mut first, mut second] = *details;
    let (symbol_steps, last_symbols) = symbols.as_chunks_mut::<STEP>();
    let (byte_steps, last_bytes) = bytes.as_chunks_mut::<STEP>();
    for (symbols, bytes) in symbol_steps.iter_mut().zip(byte_steps) {
        let (symbol, byte) = (_mm256_and_si256(load(symbols), all(31)), load(bytes));
        let flags = of_table(&bins.flags, symbol);
        let (has_first, has_second) = (bits::<7>(flags), bits::<6>(flags));
        let low = spread(_pdep_u64(first.ahead(), has_first.into()));
        let high = spread(_pdep_u64(second.ahead(), has_second.into()));
        first.skip(has_first.count_ones());
        second.skip(has_second.count_ones());
        // All bits are 1 less than none.
        store(
            symbols,
            _mm256_sub_epi8(of_table(&bins.above, symbol), high),
        );
        let byte = _mm256_and_si256(byte, all(2 * LOWER - 1));
        let byte = _mm256_add_epi8(byte, _mm256_and_si256(byte, lower));
        let own = _mm256_and_si256(_mm256_or_si256(flags, low), lower);
        store(bytes, _mm256_or_si256(byte, own));
    }
    *details = [first, second];
    bins::refine(bins, details, last_symbols, last_bytes);
}

/// As [`bins::coarsen`].
#[target_feature(enable = "avx2,bmi2,popcnt")]
pub(super) fn coarsen(
    codes: &Codes,
    symbols: &mut [u8],
    bytes: &mut [u8],
    details: &mut [BitSink; 2],
) {
    const { assert!(CODES == 64, "tables are four vectors of 16 bytes") };
    let (symbol_steps, last_symbols) = symbols.as_chunks_mut::<STEP>();
    let (byte_steps, last_bytes) = bytes.as_chunks_mut::<STEP>();
    for (symbols, bytes) in symbol_steps.iter_mut().zip(byte_steps) {
        let (code, byte) = (load(symbols), load(bytes));
        let flags = of_table(&codes.flags, code);
        let (has_first, has_second) = (bits::<7>(flags), bits::<6>(flags));
        let (low, high) = (bits::<2>(byte), bits::<7>(code));
        details[0].put(
            _pext_u64(low.into(), has_first.into()),
            has_first.count_ones(),
        );
        details[1].put(
            _pext_u64(high.into(), has_second.into()),
            has_second.count_ones(),
        );
        let shifted = _mm256_srli_epi16::<5>(byte);
        let own = _mm256_andnot_si256(flags, _mm256_and_si256(shifted, all(FIRST)));
        store(
            symbols,
            _mm256_add_epi8(of_table(&codes.symbols, code), own),
        );
        let sign = _mm256_and_si256(_mm256_srli_epi16::<1>(byte), all(LOWER));
        let rest = _mm256_and_si256(byte, all(LOWER - 1));
        store(bytes, _mm256_or_si256(sign, rest));
    }
    bins::coarsen(codes, last_symbols, last_bytes, details);
}

const _: () = assert!(
    FIRST == 1 && SECOND == 2 && LOWER == 1 << 5,
    "shifts count on it"
);
