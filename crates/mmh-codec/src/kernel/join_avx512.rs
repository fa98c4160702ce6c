//! The loops of decoders with AVX-512. Called only where its instructions were found.

#![allow(
    unsafe_code,
    reason = "vectors are loaded and stored through pointers, in these few functions"
)]

use std::arch::x86_64::*;

use super::join::{self, Fields, Packed};

/// Numbers in a step.
const STEP: usize = 64;

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes are a vector.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(words: &[u16; 32]) -> __m512i {
    // SAFETY: 32 words are a vector.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(bytes: &mut [u8; 64], vector: __m512i) {
    // SAFETY: 64 bytes are a vector.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

/// A vector of what `byte` gives for each place.
#[inline]
#[target_feature(enable = "avx512f")]
fn bytes_of(byte: impl Fn(u32) -> u32) -> __m512i {
    let mut place = 0;
    load(&[(); 64].map(|()| {
        let byte = byte(place).to_le_bytes()[0];
        place += 1;
        byte
    }))
}

fn count(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(0)
}

/// Eight values of `width` bits are `width` bytes: each such part becomes 64 bits, of which a
/// shift for each byte takes out the values.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn unpack_bytes(packed: &[u8], how: Packed, bytes: &mut [u8]) {
    let Packed { base, shift, width } = how;
    if width == 0 || width > 8 || shift > 7 {
        return join::unpack_bytes(packed, how, bytes);
    }
    let per_step = 8 * width as usize;
    let parts = bytes_of(|i| i / 8 * width + (i % 8).min(width - 1));
    let shifts = bytes_of(|i| i % 8 * width);
    let mask = _mm512_set1_epi8((u8::MAX >> (8 - width)).cast_signed());
    let shift_by = _mm_cvtsi32_si128(count(shift));
    let base = _mm512_set1_epi8(base.to_le_bytes()[0].cast_signed());
    let (steps, _) = bytes.as_chunks_mut::<STEP>();
    let mut done = 0;
    for step in steps {
        let Some(source) = packed.get(done * per_step..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let parted = _mm512_permutexvar_epi8(parts, load(source));
        let values = _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, parted), mask);
        // No bit leaves its byte: a value has at most 8 bits with the zeros below it.
        let values = _mm512_sll_epi16(values, shift_by);
        store(step, _mm512_or_si512(values, base));
        done += 1;
    }
    join::unpack_bytes(&packed[done * per_step..], how, &mut bytes[done * STEP..]);
}

/// A value of up to 16 bits lies in 3 bytes: they are brought into 32 bits and shifted.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn unpack_words(packed: &[u8], how: Packed, words: &mut [u16]) {
    let Packed { base, shift, width } = how;
    if width == 0 || width > 16 || shift > 15 {
        return join::unpack_words(packed, how, words);
    }
    let per_step = 4 * width as usize;
    let half = |first: u32| {
        let bit = move |i: u32| (first + i / 4) * width;
        let places = bytes_of(|i| (bit(i) / 8 + i % 4).min(63));
        let shifts = bytes_of(|i| if i % 4 == 0 { bit(i) % 8 } else { 0 });
        (places, shifts)
    };
    let (lower, upper) = (half(0), half(16));
    let mask = _mm512_set1_epi16((u16::MAX >> (16 - width)).cast_signed());
    let shift_by = _mm_cvtsi32_si128(count(shift));
    let base = _mm512_set1_epi16(base.cast_signed());
    let even = words_of(|i| 2 * i);
    let mut done = 0;
    for step in words.as_chunks_mut::<32>().0 {
        let Some(source) = packed.get(done * per_step..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let source = load(source);
        let take =
            |(places, shifts)| _mm512_srlv_epi32(_mm512_permutexvar_epi8(places, source), shifts);
        let values = _mm512_permutex2var_epi16(take(lower), even, take(upper));
        let values = _mm512_sll_epi16(_mm512_and_si512(values, mask), shift_by);
        // SAFETY: 32 words are a vector.
        unsafe {
            _mm512_storeu_si512(step.as_mut_ptr().cast(), _mm512_or_si512(values, base));
        }
        done += 1;
    }
    join::unpack_words(&packed[done * per_step..], how, &mut words[done * 32..]);
}

/// A vector of the words that `word` gives for each place.
#[inline]
#[target_feature(enable = "avx512f")]
fn words_of(word: impl Fn(u16) -> u16) -> __m512i {
    let mut place = 0;
    load_words(&[(); 32].map(|()| {
        let word = word(place);
        place += 1;
        word
    }))
}

/// The upper 16 bits of 32 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn upper(symbols: __m256i, bytes: __m256i, values: __m512i) -> __m512i {
    let exponent = _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(symbols), values);
    let byte = _mm512_cvtepu8_epi16(bytes);
    // The sign is moved by a shift of the same word; what it carries along is masked off.
    let sign = _mm512_and_si512(_mm512_slli_epi16::<9>(byte), _mm512_set1_epi16(i16::MIN));
    let low = _mm512_and_si512(byte, _mm512_set1_epi16(0x3f));
    _mm512_ternarylogic_epi32::<0xfe>(_mm512_slli_epi16::<6>(exponent), sign, low)
}

/// The upper 16 bits of 64 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn uppers(symbols: &[u8; STEP], bytes: &[u8; STEP], values: __m512i) -> [__m512i; 2] {
    let (symbols, bytes) = (load(symbols), load(bytes));
    [
        upper(
            _mm512_castsi512_si256(symbols),
            _mm512_castsi512_si256(bytes),
            values,
        ),
        upper(
            _mm512_extracti64x4_epi64::<1>(symbols),
            _mm512_extracti64x4_epi64::<1>(bytes),
            values,
        ),
    ]
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn join_bf16(fields: Fields<'_>, raw: &mut [[u8; 2]]) {
    let Fields {
        symbols,
        values,
        bytes,
        ..
    } = fields;
    let table = load_words(values);
    let (steps, last) = raw.as_chunks_mut::<STEP>();
    let (symbols, last_symbols) = symbols.as_chunks::<STEP>();
    let (bytes, last_bytes) = bytes.as_chunks::<STEP>();
    for ((raw, symbols), bytes) in steps.iter_mut().zip(symbols).zip(bytes) {
        let halves = uppers(symbols, bytes, table);
        let places = raw.as_flattened_mut().as_chunks_mut().0;
        for (place, half) in places.iter_mut().zip(halves) {
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

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn join_f16(fields: Fields<'_>, raw: &mut [[u8; 2]]) {
    let Fields {
        symbols,
        values,
        words,
        ..
    } = fields;
    let table = load_words(values);
    let nine = _mm512_set1_epi16(0x1ff);
    let (steps, last) = raw.as_chunks_mut::<32>();
    let (symbols, last_symbols) = symbols.as_chunks::<32>();
    let (words, last_words) = words.as_chunks::<32>();
    for ((raw, symbols), words) in steps.iter_mut().zip(symbols).zip(words) {
        // SAFETY: 32 bytes are half a vector.
        let symbols = unsafe { _mm256_loadu_si256(symbols.as_ptr().cast()) };
        let exponent = _mm512_permutexvar_epi16(_mm512_cvtepu8_epi16(symbols), table);
        let word = load_words(words);
        let sign = _mm512_and_si512(_mm512_slli_epi16::<6>(word), _mm512_set1_epi16(i16::MIN));
        let low = _mm512_and_si512(word, nine);
        let joined = _mm512_ternarylogic_epi32::<0xfe>(_mm512_slli_epi16::<9>(exponent), sign, low);
        if let Some(place) = raw.as_flattened_mut().first_chunk_mut() {
            store(place, joined);
        }
    }
    let rest = Fields {
        symbols: last_symbols,
        words: last_words,
        ..fields
    };
    join::join_f16(rest, last);
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn join_f32(fields: Fields<'_>, raw: &mut [[u8; 4]]) {
    let Fields {
        symbols,
        values,
        bytes,
        words,
    } = fields;
    let table = load_words(values);
    // Low and upper halves of 16 numbers in turn; those of the second vector are counted from 32.
    let pairs = |first: u16| words_of(move |i| first + i / 2 + i % 2 * 32);
    let (first, second) = (pairs(0), pairs(16));
    let (steps, last) = raw.as_chunks_mut::<STEP>();
    let (symbols, last_symbols) = symbols.as_chunks::<STEP>();
    let (bytes, last_bytes) = bytes.as_chunks::<STEP>();
    let (words, last_words) = words.as_chunks::<STEP>();
    for (((raw, symbols), bytes), words) in steps.iter_mut().zip(symbols).zip(bytes).zip(words) {
        let halves = uppers(symbols, bytes, table);
        let (lows, _) = words.as_chunks();
        let places = raw.as_flattened_mut().as_chunks_mut::<64>().0;
        for ((places, upper), low) in places.chunks_mut(2).zip(halves).zip(lows) {
            let low = load_words(low);
            for (place, pairs) in places.iter_mut().zip([first, second]) {
                store(place, _mm512_permutex2var_epi16(low, pairs, upper));
            }
        }
    }
    let rest = Fields {
        symbols: last_symbols,
        values,
        bytes: last_bytes,
        words: last_words,
    };
    join::join_f32(rest, last);
}
