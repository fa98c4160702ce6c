//! The loops of decoders with AVX-512. Called only where its instructions were found.

#![allow(
    unsafe_code,
    reason = "vectors are loaded and stored through pointers, in these few functions"
)]

use std::arch::x86_64::*;

use super::avx512::{load, store};
use super::join::{self, Above, Fields, Meaning, Packed, Values};
use crate::entropy::avx512::{Block, decode_groups};
use crate::entropy::{Classes, DecodeSet};
use crate::error::Result;

/// Numbers in a step.
const STEP: usize = 64;

#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(words: &[u16; 32]) -> __m512i {
    // SAFETY: 32 words are a vector.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// For each width up to 8 bits: which bytes eight values lie in, and how far each is shifted.
static BYTE_PLACES: [[[u8; 64]; 2]; 9] = {
    let mut tables = [[[0; 64]; 2]; 9];
    let mut width = 1;
    while width <= 8 {
        let mut i = 0u8;
        while i < 64 {
            let byte = if i % 8 < width { i % 8 } else { width - 1 };
            tables[width as usize][0][i as usize] = i / 8 * width + byte;
            tables[width as usize][1][i as usize] = i % 8 * width;
            i += 1;
        }
        width += 1;
    }
    tables
};

/// For each width up to 16 bits, for the first 16 and the last 16 of 32 values: which 4 bytes each
/// lies in, and how far it is shifted.
static WORD_PLACES: [[[[u8; 64]; 2]; 2]; 17] = {
    let mut tables = [[[[0; 64]; 2]; 2]; 17];
    let mut width = 1;
    while width <= 16 {
        let mut i = 0u16;
        while i < 128 {
            let bit = i / 4 * width;
            let (place, shift) = (
                (bit / 8 + i % 4) & 63,
                if i.is_multiple_of(4) { bit % 8 } else { 0 },
            );
            let half = &mut tables[width as usize][(i / 64) as usize];
            half[0][(i % 64) as usize] = place.to_le_bytes()[0];
            half[1][(i % 64) as usize] = shift.to_le_bytes()[0];
            i += 1;
        }
        width += 1;
    }
    tables
};

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
    let [parts, shifts] = BYTE_PLACES[width as usize].map(|table| load(&table));
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
    if width == 16 {
        let pairs = packed.as_chunks::<2>().0;
        let pairs = words.iter_mut().zip(pairs);
        return pairs.for_each(|(word, pair)| *word = u16::from_le_bytes(*pair));
    }
    let per_step = 4 * width as usize;
    let [lower, upper] = WORD_PLACES[width as usize].map(|half| half.map(|table| load(&table)));
    let mask = _mm512_set1_epi16((u16::MAX >> (16 - width)).cast_signed());
    let shift_by = _mm_cvtsi32_si128(count(shift));
    let base = _mm512_set1_epi16(base.cast_signed());
    let even = load_words(&EVEN);
    let mut done = 0;
    for step in words.as_chunks_mut::<32>().0 {
        let Some(source) = packed.get(done * per_step..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let source = load(source);
        let take = |[places, shifts]: [__m512i; 2]| {
            _mm512_srlv_epi32(_mm512_permutexvar_epi8(places, source), shifts)
        };
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

/// Every second word of two vectors.
static EVEN: [u16; 32] = {
    let mut words = [0; 32];
    let mut i = 0;
    while i < 32 {
        words[i as usize] = 2 * i;
        i += 1;
    }
    words
};

/// The words of two vectors in turn, those of the second being counted from 32: of the first 16 of
/// each, and of the last.
static PAIRS: [[u16; 32]; 2] = {
    let mut words = [[0; 32]; 2];
    let mut i = 0;
    while i < 64 {
        words[(i / 32) as usize][(i % 32) as usize] = i / 2 + i % 2 * 32;
        i += 1;
    }
    words
};

/// What symbols mean, as [`Meaning`] has it.
#[derive(Clone, Copy)]
enum Exponents {
    Values(__m512i),
    /// The base, the bits of a code that are above it, those of an exponent.
    Above(__m512i, __m512i, __m512i),
}

impl Exponents {
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(meaning: Meaning<'_>) -> Self {
        let all = |word: u16| _mm512_set1_epi16(word.cast_signed());
        match meaning {
            Meaning::Values(values) => Self::Values(load_words(values)),
            Meaning::Above(Above { base, mask, signed }) => {
                let size = all(if signed { 0x7f } else { 0xff });
                Self::Above(all(base), size, all(mask))
            }
        }
    }

    /// The exponents of 32 symbols, and their signs as the top bits, if they have any.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn of(self, symbols: __m256i) -> (__m512i, __m512i) {
        let symbols = _mm512_cvtepu8_epi16(symbols);
        match self {
            Self::Values(values) => (
                _mm512_permutexvar_epi16(symbols, values),
                _mm512_setzero_si512(),
            ),
            Self::Above(base, size, mask) => {
                let above = _mm512_and_si512(symbols, size);
                let sign = _mm512_slli_epi16::<8>(_mm512_andnot_si512(size, symbols));
                let exponent = _mm512_and_si512(_mm512_add_epi16(base, above), mask);
                (exponent, sign)
            }
        }
    }
}

/// The upper 16 bits of 32 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn upper(symbols: __m256i, bytes: __m256i, exponents: Exponents) -> __m512i {
    let (exponent, own_sign) = exponents.of(symbols);
    let byte = _mm512_cvtepu8_epi16(bytes);
    // The sign is moved by a shift of the same word; what it carries along is masked off.
    let sign = _mm512_and_si512(_mm512_slli_epi16::<9>(byte), _mm512_set1_epi16(i16::MIN));
    let low = _mm512_and_si512(byte, _mm512_set1_epi16(0x3f));
    let sign = _mm512_or_si512(sign, own_sign);
    _mm512_ternarylogic_epi32::<0xfe>(_mm512_slli_epi16::<6>(exponent), sign, low)
}

/// The upper 16 bits of 64 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn upper_halves(symbols: __m512i, bytes: __m512i, exponents: Exponents) -> [__m512i; 2] {
    let low = |x| _mm512_castsi512_si256(x);
    let high = |x| _mm512_extracti64x4_epi64::<1>(x);
    [
        upper(low(symbols), low(bytes), exponents),
        upper(high(symbols), high(bytes), exponents),
    ]
}

/// Decodes a block of symbols whose numbers have `8 * PART` bits of packed mantissas for each 8 of
/// them, and hands over 64 symbols at a time, with the `REACH` bytes from their mantissas on and the
/// place of their numbers. Gives how many numbers that were; the symbols of the others are in `tail`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,popcnt")]
fn decode_steps<const PART: usize, const REACH: usize>(
    (set, groups, coded): (&DecodeSet, &[u8], &[u8]),
    packed: &[u8],
    tail: &mut Vec<u8>,
    raw: &mut [[u8; 2]],
    mut join: impl FnMut(__m512i, &[u8; REACH], &mut [[u8; 64]; 2]),
) -> Result<usize> {
    let len = 8 * PART;
    let mut places = raw.as_flattened_mut().as_chunks_mut::<64>().0;
    // The last step that has all the bytes within its reach.
    let n = packed
        .len()
        .checked_sub(REACH)
        .map_or(0, |rest| rest / len + 1);
    let n = n.min(places.len() / 2);
    let mut mantissas = packed;
    let join_group = |symbols: __m512i| {
        let (now, rest) = std::mem::take(&mut places).split_at_mut(2);
        places = rest;
        if let (Some(place), Some(source)) = (now.as_mut_array(), mantissas.first_chunk()) {
            join(symbols, source, place);
        }
        mantissas = &mantissas[len..];
    };
    let block = Block { set, groups, coded };
    let (mut cursor, done) = decode_groups(&block, n, join_group)?;
    tail.resize(raw.len() - done * STEP, 0);
    cursor.groups(set, Classes::Groups(groups), done, tail)?;
    cursor.finish()?;
    Ok(done * STEP)
}

/// Decodes a block of symbols, and joins them with mantissas of 7 bits to numbers of bfloat16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,popcnt")]
pub(super) fn decode_bf16(
    block: (&DecodeSet, &[u8], &[u8]),
    values: &Values,
    packed: &[u8],
    tail: &mut Vec<u8>,
    raw: &mut [[u8; 2]],
) -> Result<()> {
    let table = Exponents::Values(load_words(values));
    let [parts, shifts] = &BYTE_PLACES[7];
    let [parts, shifts] = [load(parts), load(shifts)];
    let seven = _mm512_set1_epi8(0x7f);
    let join = |symbols: __m512i, source: &[u8; 64], places: &mut [[u8; 64]; 2]| {
        let parted = _mm512_permutexvar_epi8(parts, load(source));
        let bytes = _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, parted), seven);
        for (place, half) in places.iter_mut().zip(upper_halves(symbols, bytes, table)) {
            store(place, half);
        }
    };
    let done = decode_steps::<7, 64>(block, packed, tail, raw, join)?;
    let mut bytes = vec![0; tail.len()];
    let how = Packed {
        width: 7,
        ..Packed::default()
    };
    unpack_bytes(&packed[done / 8 * 7..], how, &mut bytes);
    let rest = Fields {
        symbols: tail,
        meaning: Meaning::Values(values),
        bytes: &bytes,
        words: &[],
        pairs: &[],
    };
    join_bf16(rest, &mut raw[done..]);
    Ok(())
}

/// Decodes a block of symbols, and joins them with mantissas of 10 bits to numbers of binary16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,popcnt")]
pub(super) fn decode_f16(
    block: (&DecodeSet, &[u8], &[u8]),
    values: &Values,
    packed: &[u8],
    tail: &mut Vec<u8>,
    raw: &mut [[u8; 2]],
) -> Result<()> {
    /// Bytes of the mantissas of 32 numbers.
    const HALF: usize = 40;
    let table = Exponents::Values(load_words(values));
    let [lower, upper] = &WORD_PLACES[10];
    let [lower, upper] = [lower, upper].map(|[places, shifts]| [load(places), load(shifts)]);
    let even = load_words(&EVEN);
    let join = |symbols: __m512i, source: &[u8; HALF + 64], places: &mut [[u8; 64]; 2]| {
        let low = _mm512_castsi512_si256(symbols);
        let high = _mm512_extracti64x4_epi64::<1>(symbols);
        let sources = [source.first_chunk(), source.last_chunk()];
        for ((place, symbols), source) in places.iter_mut().zip([low, high]).zip(sources) {
            let source = source.map_or(_mm512_setzero_si512(), |source| load(source));
            let take = |[places, shifts]: [__m512i; 2]| {
                _mm512_srlv_epi32(_mm512_permutexvar_epi8(places, source), shifts)
            };
            let words = _mm512_permutex2var_epi16(take(lower), even, take(upper));
            store(place, halves(symbols, words, table));
        }
    };
    let done = decode_steps::<10, { HALF + 64 }>(block, packed, tail, raw, join)?;
    let mut words = vec![0; tail.len()];
    let how = Packed {
        width: 10,
        ..Packed::default()
    };
    unpack_words(&packed[done / 8 * 10..], how, &mut words);
    let rest = Fields {
        symbols: tail,
        meaning: Meaning::Values(values),
        bytes: &[],
        words: &words,
        pairs: &[],
    };
    join_f16(rest, &mut raw[done..]);
    Ok(())
}

/// 32 numbers of binary16, of the exponents of symbols and the low 10 bits of words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn halves(symbols: __m256i, word: __m512i, exponents: Exponents) -> __m512i {
    let (exponent, own_sign) = exponents.of(symbols);
    let sign = _mm512_and_si512(_mm512_slli_epi16::<6>(word), _mm512_set1_epi16(i16::MIN));
    let low = _mm512_and_si512(word, _mm512_set1_epi16(0x1ff));
    let sign = _mm512_or_si512(sign, own_sign);
    _mm512_ternarylogic_epi32::<0xfe>(_mm512_slli_epi16::<9>(exponent), sign, low)
}

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn join_bf16(fields: Fields<'_>, raw: &mut [[u8; 2]]) {
    let Fields { symbols, bytes, .. } = fields;
    let table = Exponents::new(fields.meaning);
    let (steps, last) = raw.as_chunks_mut::<STEP>();
    let (symbols, last_symbols) = symbols.as_chunks::<STEP>();
    let (bytes, last_bytes) = bytes.as_chunks::<STEP>();
    for ((raw, symbols), bytes) in steps.iter_mut().zip(symbols).zip(bytes) {
        let halves = upper_halves(load(symbols), load(bytes), table);
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
    let Fields { symbols, words, .. } = fields;
    let table = Exponents::new(fields.meaning);
    let (steps, last) = raw.as_chunks_mut::<32>();
    let (symbols, last_symbols) = symbols.as_chunks::<32>();
    let (words, last_words) = words.as_chunks::<32>();
    for ((raw, symbols), words) in steps.iter_mut().zip(symbols).zip(words) {
        // SAFETY: 32 bytes are half a vector.
        let symbols = unsafe { _mm256_loadu_si256(symbols.as_ptr().cast()) };
        if let Some(place) = raw.as_flattened_mut().first_chunk_mut() {
            store(place, halves(symbols, load_words(words), table));
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
        bytes,
        pairs,
        ..
    } = fields;
    let table = Exponents::new(fields.meaning);
    let [first, second] = PAIRS.map(|order| load_words(&order));
    let (steps, last) = raw.as_chunks_mut::<STEP>();
    let (symbols, last_symbols) = symbols.as_chunks::<STEP>();
    let (bytes, last_bytes) = bytes.as_chunks::<STEP>();
    let (pairs, last_pairs) = pairs.as_chunks::<STEP>();
    for (((raw, symbols), bytes), low_halves) in steps.iter_mut().zip(symbols).zip(bytes).zip(pairs)
    {
        let halves = upper_halves(load(symbols), load(bytes), table);
        let (lows, _) = low_halves.as_flattened().as_chunks();
        let places = raw.as_flattened_mut().as_chunks_mut::<64>().0;
        for ((places, upper), low) in places.chunks_mut(2).zip(halves).zip(lows) {
            let low = load(low);
            for (place, pairs) in places.iter_mut().zip([first, second]) {
                store(place, _mm512_permutex2var_epi16(low, pairs, upper));
            }
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
