//! What a delta expects of its numbers, with AVX-512.

#![allow(
    unsafe_code,
    reason = "vectors are loaded through pointers, in these few functions"
)]

use std::arch::x86_64::*;

use super::avx512::store;
use super::expect::{self, Expected, NEGATIVE};

/// Numbers in a step.
const STEP: usize = 64;
/// How many bytes ahead the base is called for: nothing reads it before.
const AHEAD: usize = 2048;

/// As [`expect::expect_words`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn expect_words(
    base: &[[u8; 2]],
    expected: &Expected<'_>,
    classes: &mut [u8],
    shifts: &mut [u8],
) {
    let (steps, last) = base.as_chunks::<STEP>();
    let ahead = Ahead::new(expected);
    let targets = classes.as_chunks_mut().0.iter_mut();
    let targets = targets.zip(shifts.as_chunks_mut().0);
    for (i, (numbers, targets)) in steps.iter().zip(targets).enumerate() {
        let halves = numbers.as_flattened().as_chunks::<64>().0;
        let later = numbers.as_ptr().cast::<i8>().wrapping_add(AHEAD);
        _mm_prefetch::<_MM_HINT_T0>(later);
        _mm_prefetch::<_MM_HINT_T0>(later.wrapping_add(64));
        ahead.step(
            [0, 1].map(|half| ahead.of_words(load(&halves[half]))),
            i * STEP,
            targets,
        );
    }
    let done = base.len() - last.len();
    let targets = (&mut classes[done..], &mut shifts[done..]);
    expect::expect_words(last, &expected.after(done), targets.0, targets.1);
}

/// As [`expect::expect_doubles`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn expect_doubles(
    base: &[[u8; 4]],
    expected: &Expected<'_>,
    classes: &mut [u8],
    shifts: &mut [u8],
) {
    let (steps, last) = base.as_chunks::<STEP>();
    let ahead = Ahead::new(expected);
    let targets = classes.as_chunks_mut().0.iter_mut();
    let targets = targets.zip(shifts.as_chunks_mut().0);
    for (i, (numbers, targets)) in steps.iter().zip(targets).enumerate() {
        let quarters = numbers.as_flattened().as_chunks::<64>().0;
        let halves = [0, 1].map(|half| {
            let low = ahead.of_doubles(load(&quarters[2 * half]));
            let high = ahead.of_doubles(load(&quarters[2 * half + 1]));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        });
        ahead.step(halves, i * STEP, targets);
    }
    let done = base.len() - last.len();
    let targets = (&mut classes[done..], &mut shifts[done..]);
    expect::expect_doubles(last, &expected.after(done), targets.0, targets.1);
}

/// What is known of a row, in vectors.
struct Ahead<'a> {
    row: &'a Expected<'a>,
    exponent_at: __m128i,
    exponent_mask: __m512i,
    halvings: __m128i,
}

impl<'a> Ahead<'a> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(row: &'a Expected<'a>) -> Self {
        let (at, bits) = row.exponent;
        Self {
            row,
            exponent_at: _mm_cvtsi32_si128(at.cast_signed()),
            exponent_mask: _mm512_set1_epi16((1 << bits) - 1),
            halvings: _mm_cvtsi32_si128(row.halvings.cast_signed()),
        }
    }

    /// The exponents of 32 numbers of 16 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn of_words(&self, numbers: __m512i) -> __m512i {
        let shifted = _mm512_srl_epi16(numbers, self.exponent_at);
        _mm512_and_si512(shifted, self.exponent_mask)
    }

    /// The exponents of 16 numbers of 32 bits, as words.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn of_doubles(&self, numbers: __m512i) -> __m256i {
        let shifted = _mm512_srl_epi32(numbers, self.exponent_at);
        let words = _mm512_cvtepi32_epi16(shifted);
        _mm256_and_si256(words, _mm512_castsi512_si256(self.exponent_mask))
    }

    /// How far the 64 numbers from `start` of the row on are inclined to rise.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn inclinations(&self, start: usize) -> [__m512i; 2] {
        let mut sums = [_mm512_setzero_si512(); 2];
        for (direction, &factor) in self.row.factors.iter().enumerate() {
            let at = direction * self.row.stride + start;
            let columns = self.row.columns.get(at..).and_then(<[i16]>::first_chunk);
            let Some(columns) = columns else {
                break;
            };
            let columns: &[i16; STEP] = columns;
            let factor = _mm512_set1_epi16(factor);
            for (sum, half) in sums.iter_mut().zip(columns.as_chunks::<32>().0) {
                // SAFETY: 32 words are a vector.
                let parts = unsafe { _mm512_loadu_si512(half.as_ptr().cast()) };
                *sum = _mm512_add_epi16(*sum, _mm512_mullo_epi16(parts, factor));
            }
        }
        sums
    }

    /// Classes and shifts of 64 numbers with these exponents, from `start` of the row on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn step(
        &self,
        exponents: [__m512i; 2],
        start: usize,
        (classes, shifts): (&mut [u8; STEP], &mut [u8; STEP]),
    ) {
        let row = self.row;
        let set = |x: i16| _mm512_set1_epi16(x);
        let zero = _mm512_setzero_si512();
        let sums = self.inclinations(start);
        let (mut of_class, mut low, mut negative) = ([zero; 2], [zero; 2], 0);
        for half in 0..2 {
            let twice = _mm512_slli_epi16::<1>(exponents[half]);
            let expected = _mm512_sub_epi16(set(row.size), twice);
            let expected = _mm512_min_epi16(_mm512_max_epi16(expected, zero), set(63));
            let above = _mm512_subs_epu16(expected, set(row.least));
            let class = _mm512_srl_epi16(above, self.halvings);
            let class = _mm512_min_epu16(class, set(row.n_classes - 1));
            let sum = sums[half];
            let second = _mm512_cmpgt_epu16_mask(_mm512_abs_epi16(sum), set(row.threshold));
            of_class[half] = _mm512_mask_add_epi16(class, second, class, set(row.n_classes));
            let above = _mm512_subs_epu16(expected, set(row.reach));
            let shift = _mm512_srli_epi16::<1>(above);
            let (least, most) = row.low;
            low[half] = _mm512_min_epi16(_mm512_max_epi16(shift, set(least)), set(most));
            negative |= u64::from(_mm512_movepi16_mask(sum)) << (32 * half);
        }
        store(classes, narrowed(of_class));
        let low = narrowed(low);
        let sign = _mm512_set1_epi8(NEGATIVE.cast_signed());
        store(
            shifts,
            _mm512_or_si512(low, _mm512_maskz_mov_epi8(negative, sign)),
        );
    }
}

/// The low bytes of 64 words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn narrowed(halves: [__m512i; 2]) -> __m512i {
    let low = _mm512_castsi256_si512(_mm512_cvtepi16_epi8(halves[0]));
    _mm512_inserti64x4::<1>(low, _mm512_cvtepi16_epi8(halves[1]))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes are a vector.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
