//! The loops of decoders with AVX2. Called only where its instructions were found.

#![allow(
    unsafe_code,
    reason = "vectors are loaded and stored through pointers, in these few functions"
)]

use std::arch::x86_64::*;

use super::join::{self, Fields, Meaning, Packed, Values};
use super::places::{BYTE_PLACES, WORD_PLACES};
use crate::entropy::SYMBOLS_MAX;
use crate::layout::{Field, block::Symbols};

/// Numbers in a step.
const STEP: usize = 32;

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are a vector.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[u16; 16]) -> __m256i {
    // SAFETY: 16 words are a vector.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: 32 bytes are a vector.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}

/// The 16 bytes in both halves of a vector.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn twice(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: 16 bytes are half a vector.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// The 16 bytes from `first` on, and those from `second` on, if there are so many.
#[inline]
#[target_feature(enable = "avx2")]
fn load_parts(packed: &[u8], first: usize, second: usize) -> Option<__m256i> {
    let first: &[u8; 16] = packed.get(first..)?.first_chunk()?;
    let second: &[u8; 16] = packed.get(second..)?.first_chunk()?;
    // SAFETY: 16 bytes are half a vector.
    let parts = unsafe {
        (
            _mm_loadu_si128(first.as_ptr().cast()),
            _mm_loadu_si128(second.as_ptr().cast()),
        )
    };
    Some(_mm256_set_m128i(parts.1, parts.0))
}

fn count(n: u32) -> __m128i {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { _mm_cvtsi32_si128(n.cast_signed()) }
}

/// As [`crate::layout::block::gather`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn gather(symbols: &Symbols, at: u32) -> u32 {
    // Bit `at` of each byte becomes its top bit; what comes from the byte below stays under it.
    let top = _mm256_sll_epi16(load(symbols), count(7 - at));
    _mm256_movemask_epi8(top).cast_unsigned()
}

/// As [`Field::join`].
#[target_feature(enable = "avx2")]
pub(super) fn join_field(field: &Field, values: &[u8], raw: &mut [u8], block_len: usize) {
    field.join(values, raw, block_len, |symbols, at| gather(symbols, at));
}

/// A value of up to 8 bits lies in 2 bytes: they are brought into a word and shifted.
#[target_feature(enable = "avx2")]
pub(super) fn unpack_bytes(packed: &[u8], how: Packed, bytes: &mut [u8]) {
    let Packed { base, shift, width } = how;
    if width == 0 || width > 8 || shift > 7 {
        return join::unpack_bytes(packed, how, bytes);
    }
    let part = 2 * width as usize;
    let [lower, upper] = BYTE_PLACES[width as usize].map(|half| half.map(|table| twice(&table)));
    let down = count(16 - width);
    let shift_by = count(shift);
    let base = _mm256_set1_epi8(base.to_le_bytes()[0].cast_signed());
    let mut done = 0;
    for step in bytes.as_chunks_mut::<STEP>().0 {
        let start = 2 * part * done;
        let Some(source) = load_parts(packed, start, start + part) else {
            break;
        };
        let take = |[places, factors]: [__m256i; 2]| {
            let words = _mm256_mullo_epi16(_mm256_shuffle_epi8(source, places), factors);
            _mm256_srl_epi16(words, down)
        };
        let values = _mm256_packus_epi16(take(lower), take(upper));
        // No bit leaves its byte: a value has at most 8 bits with the zeros below it.
        let values = _mm256_sll_epi16(values, shift_by);
        store(step, _mm256_or_si256(values, base));
        done += 1;
    }
    join::unpack_bytes(&packed[2 * part * done..], how, &mut bytes[done * STEP..]);
}

/// A value of up to 16 bits lies in 3 bytes: they are brought into 32 bits and shifted.
#[target_feature(enable = "avx2")]
pub(super) fn unpack_words(packed: &[u8], how: Packed, words: &mut [u16]) {
    let Packed { base, shift, width } = how;
    if width == 0 || width > 16 || shift > 15 {
        return join::unpack_words(packed, how, words);
    }
    if width == 16 {
        let pairs = words.iter_mut().zip(packed.as_chunks::<2>().0);
        return pairs.for_each(|(word, pair)| *word = u16::from_le_bytes(*pair));
    }
    let part = width as usize;
    let [lower, upper] = WORD_PLACES[width as usize].map(|half| half.map(|table| twice(&table)));
    let mask = _mm256_set1_epi32((1 << width) - 1);
    let shift_by = count(shift);
    let base = _mm256_set1_epi16(base.cast_signed());
    let mut done = 0;
    for step in words.as_chunks_mut::<16>().0 {
        let start = 2 * part * done;
        let Some(source) = load_parts(packed, start, start + part) else {
            break;
        };
        let take = |[places, shifts]: [__m256i; 2]| {
            let values = _mm256_srlv_epi32(_mm256_shuffle_epi8(source, places), shifts);
            _mm256_and_si256(values, mask)
        };
        let values = _mm256_packus_epi32(take(lower), take(upper));
        let values = _mm256_or_si256(_mm256_sll_epi16(values, shift_by), base);
        // SAFETY: 16 words are a vector.
        unsafe { _mm256_storeu_si256(step.as_mut_ptr().cast(), values) };
        done += 1;
    }
    join::unpack_words(&packed[2 * part * done..], how, &mut words[done * 16..]);
}

/// A byte for each symbol.
struct Table([__m256i; 2]);

impl Table {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(values: &Values, byte: impl Fn(u16) -> u16) -> Self {
        let mut bytes = [0; SYMBOLS_MAX];
        for (place, &value) in bytes.iter_mut().zip(values) {
            [*place, _] = byte(value).to_le_bytes();
        }
        let (halves, _) = bytes.as_chunks();
        Self([twice(&halves[0]), twice(&halves[1])])
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, symbols: __m256i) -> __m256i {
        let symbols = _mm256_and_si256(symbols, _mm256_set1_epi8(31));
        let first = _mm256_shuffle_epi8(self.0[0], symbols);
        let last = _mm256_shuffle_epi8(self.0[1], symbols);
        // Bit 4 of a symbol becomes the top bit of its byte.
        _mm256_blendv_epi8(first, last, _mm256_slli_epi16::<3>(symbols))
    }
}

/// The tables of the two bytes of the upper half of a number.
struct Upper {
    low: Table,
    high: Table,
}

impl Upper {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(values: &Values) -> Self {
        Self {
            low: Table::new(values, |value| value << 6 & 0xff),
            high: Table::new(values, |value| value >> 2),
        }
    }

    /// The upper 16 bits of 32 numbers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, symbols: &[u8; STEP], bytes: &[u8; STEP]) -> [__m256i; 2] {
        // The middle quarters change places, so that unpacking keeps the order.
        let symbols = _mm256_permute4x64_epi64::<0b11_01_10_00>(load(symbols));
        let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(load(bytes));
        let six = _mm256_and_si256(bytes, _mm256_set1_epi8(0x3f));
        let sign = _mm256_and_si256(_mm256_add_epi8(bytes, bytes), _mm256_set1_epi8(i8::MIN));
        let low = _mm256_or_si256(self.low.of(symbols), six);
        let high = _mm256_or_si256(self.high.of(symbols), sign);
        [
            _mm256_unpacklo_epi8(low, high),
            _mm256_unpackhi_epi8(low, high),
        ]
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn join_bf16(fields: Fields<'_>, raw: &mut [[u8; 2]]) {
    let Meaning::Values(values) = fields.meaning else {
        return join::join_bf16(fields, raw);
    };
    let upper = Upper::new(values);
    let (steps, last) = raw.as_chunks_mut::<STEP>();
    let (symbols, last_symbols) = fields.symbols.as_chunks::<STEP>();
    let (bytes, last_bytes) = fields.bytes.as_chunks::<STEP>();
    for ((raw, symbols), bytes) in steps.iter_mut().zip(symbols).zip(bytes) {
        let places = raw.as_flattened_mut().as_chunks_mut().0;
        for (place, half) in places.iter_mut().zip(upper.of(symbols, bytes)) {
            store(place, half);
        }
    }
    let rest = Fields {
        symbols: last_symbols,
        bytes: last_bytes,
        ..fields
    };
    join::join_bf16(rest, last);
}

#[target_feature(enable = "avx2")]
pub(super) fn join_f16(fields: Fields<'_>, raw: &mut [[u8; 2]]) {
    let Meaning::Values(values) = fields.meaning else {
        return join::join_f16(fields, raw);
    };
    let table = Table::new(values, |value| value << 1);
    let (steps, last) = raw.as_chunks_mut::<STEP>();
    let (symbols, last_symbols) = fields.symbols.as_chunks::<STEP>();
    let (words, last_words) = fields.words.as_chunks::<STEP>();
    let zero = _mm256_setzero_si256();
    for ((raw, symbols), words) in steps.iter_mut().zip(symbols).zip(words) {
        // The middle quarters change places, so that unpacking keeps the order.
        let high = table.of(_mm256_permute4x64_epi64::<0b11_01_10_00>(load(symbols)));
        let halves = [
            _mm256_unpacklo_epi8(zero, high),
            _mm256_unpackhi_epi8(zero, high),
        ];
        let places = raw.as_flattened_mut().as_chunks_mut().0;
        let words = words.as_chunks().0;
        for ((place, exponent), words) in places.iter_mut().zip(halves).zip(words) {
            let word = load_words(words);
            let sign = _mm256_and_si256(_mm256_slli_epi16::<6>(word), _mm256_set1_epi16(i16::MIN));
            let low = _mm256_and_si256(word, _mm256_set1_epi16(0x1ff));
            store(place, _mm256_or_si256(_mm256_or_si256(exponent, sign), low));
        }
    }
    let rest = Fields {
        symbols: last_symbols,
        words: last_words,
        ..fields
    };
    join::join_f16(rest, last);
}

#[target_feature(enable = "avx2")]
pub(super) fn join_f32(fields: Fields<'_>, raw: &mut [[u8; 4]]) {
    let Meaning::Values(values) = fields.meaning else {
        return join::join_f32(fields, raw);
    };
    let upper = Upper::new(values);
    let (steps, last) = raw.as_chunks_mut::<STEP>();
    let (symbols, last_symbols) = fields.symbols.as_chunks::<STEP>();
    let (bytes, last_bytes) = fields.bytes.as_chunks::<STEP>();
    let (pairs, last_pairs) = fields.pairs.as_chunks::<STEP>();
    for (((raw, symbols), bytes), pairs) in steps.iter_mut().zip(symbols).zip(bytes).zip(pairs) {
        let places = raw.as_flattened_mut().as_chunks_mut::<64>().0;
        let halves = upper.of(symbols, bytes);
        let words = pairs.as_flattened().as_chunks().0;
        for ((place, upper), words) in places.iter_mut().zip(halves).zip(words) {
            let word = load(words);
            let first = _mm256_unpacklo_epi16(word, upper);
            let second = _mm256_unpackhi_epi16(word, upper);
            let (front, back) = place.as_chunks_mut().0.split_at_mut(1);
            store(
                &mut front[0],
                _mm256_permute2x128_si256::<0x20>(first, second),
            );
            store(
                &mut back[0],
                _mm256_permute2x128_si256::<0x31>(first, second),
            );
        }
    }
    let rest = Fields {
        symbols: last_symbols,
        bytes: last_bytes,
        pairs: last_pairs,
        ..fields
    };
    join::join_f32(rest, last);
}
