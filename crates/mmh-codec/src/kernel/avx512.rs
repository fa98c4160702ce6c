//! The loops with AVX-512.

#![allow(
    unsafe_code,
    reason = "vectors are loaded and stored through pointers, in these few functions"
)]

use std::arch::x86_64::*;

use super::bins_avx512::{coarsen, refine};
use super::dense_avx512::{classes, contexts, interleave, keep, keep_signed};
use super::expect_avx512::{expect_doubles, expect_words};
use super::join_avx512::{
    decode_bf16, decode_f16, join_bf16, join_f16, join_f32, unpack_bytes, unpack_words,
};
use super::moves_avx512::{decay, move_doubles, move_words};
use super::xxh3_avx512::xxh3;
use super::{Bases, Kernels, Keys, Parts, RANK, RARE, Seen};
use super::{portable, vectors};
use crate::cluster::{Histogram, Prices};
use crate::entropy::Avx512;
use crate::error::Result;
use crate::layout::Field;
use crate::mix::{self, Setup};
use crate::plane::grouped::put;
use crate::plane::grouped::units::{self, Apart, Extremes, Source};

/// Numbers in a step.
const STEP: usize = 64;

/// A function that calls one of those below.
macro_rules! safe {
    ($work:ident($($argument:ident),*)) => {
        |$($argument),*| {
            // SAFETY: only `Kernels::avx512` hands this out, for an `Avx512`, which is only made
            // where its instructions were found.
            unsafe { $work($($argument),*) }
        }
    };
}

impl Kernels {
    /// The loops for a CPU that has what [`Avx512`] needs, of which one is the proof.
    pub(crate) const fn avx512(_: Avx512) -> Self {
        Self {
            count: safe!(count(symbols)),
            assign: safe!(assign(segments, prices, ids)),
            split_bf16: safe!(split_bf16(raw, keys, bases, parts)),
            split_f16: safe!(split_f16(raw, keys, bases, parts)),
            split_f32: safe!(split_f32(raw, keys, bases, parts)),
            pack_bytes: safe!(pack_bytes(values, shift, width, out)),
            pack_words: safe!(pack_words(values, shift, width, out)),
            unpack_bytes: safe!(unpack_bytes(packed, how, bytes)),
            unpack_words: safe!(unpack_words(packed, how, words)),
            decode_bf16: Some(safe!(decode_bf16(block, values, packed, tail, raw))),
            decode_f16: Some(safe!(decode_f16(block, values, packed, tail, raw))),
            join_bf16: safe!(join_bf16(fields, raw)),
            join_f16: safe!(join_f16(fields, raw)),
            join_f32: safe!(join_f32(fields, raw)),
            refine: safe!(refine(bins, details, symbols, bytes)),
            coarsen: safe!(coarsen(codes, symbols, bytes, details)),
            expect_words: safe!(expect_words(base, expected, classes, shifts)),
            expect_doubles: safe!(expect_doubles(base, expected, classes, shifts)),
            move_words: safe!(move_words(numbers, symbols, shifts, fields, at)),
            move_doubles: safe!(move_doubles(numbers, symbols, shifts, fields, at)),
            products: safe!(products(row, vectors, out)),
            add_rows: safe!(add_rows(rows, parts, sums)),
            incline: safe!(incline(parts, columns, sums)),
            sum_updates: safe!(sum_updates(differences, exponents, least)),
            relate_updates: safe!(relate_updates(differences, exponents, size, entries)),
            decay: safe!(decay(numbers, factor, steps)),
            restore: safe!(restore(source, starts, extremes, unit, values)),
            split_field: safe!(split_field(field, raw, block_len, values)),
            take_extremes: safe!(take_extremes(values, unit, centre)),
            join_field: safe!(join_field(field, values, raw, block_len)),
            contexts: safe!(contexts(near, known)),
            classes: safe!(classes(map, of, out)),
            keep: safe!(keep(coded, kept)),
            keep_signed: safe!(keep_signed(coded, kept)),
            interleave: safe!(interleave(how, taps, out)),
            xxh3: safe!(xxh3(content)),
            put_numbers: safe!(put_numbers(setup, numbers, out)),
            read_numbers: safe!(read_numbers(setup, content, numbers, width)),
        }
    }
}

/// As [`Field::take`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi2")]
fn split_field(field: &Field, raw: &[u8], block_len: usize, values: &mut [u8]) {
    field.take(raw, block_len, values);
}

/// As [`put::take_extremes`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi2")]
fn take_extremes(values: &[u8], unit: usize, centre: u8) -> (Extremes, Vec<u8>) {
    put::take_extremes(values, unit, centre)
}

/// As [`mix::put_numbers`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
fn put_numbers(setup: Setup, numbers: &[u16], out: &mut Vec<u8>) {
    mix::put_numbers(setup, numbers, out);
}

/// As [`mix::read_numbers`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
fn read_numbers(setup: Setup, content: &[u8], numbers: &mut [u16], width: u32) -> Result<()> {
    mix::read_numbers::<mix::Avx512>(setup, content, numbers, width)
}

/// As [`vectors::products`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn products(row: &[i16], vectors: &[i16], out: &mut [i32; RANK]) {
    vectors::products(row, vectors, out);
}

/// As [`vectors::add_rows`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn add_rows(rows: [&[i16]; 2], parts: [&[i16; RANK]; 2], sums: &mut [i32]) {
    vectors::add_rows(rows, parts, sums);
}

/// As [`vectors::incline`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn incline(parts: &[i16], columns: &[i16], sums: &mut [i16]) {
    vectors::incline(parts, columns, sums);
}

/// As [`vectors::sum_updates`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn sum_updates(differences: &[i32], exponents: &[i32], least: i32) -> u64 {
    vectors::sum_updates(differences, exponents, least)
}

/// As [`vectors::relate_updates`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn relate_updates(differences: &[i32], exponents: &[i32], size: i32, entries: &mut [i16]) {
    vectors::relate_updates(differences, exponents, size, entries);
}

/// As [`units::restore`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn restore(
    source: Source<'_>,
    starts: &[u32],
    extremes: Apart<'_>,
    unit: usize,
    values: &mut [u8],
) {
    units::restore(source, starts, extremes, unit, values);
}

/// As [`Field::join`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn join_field(field: &Field, values: &[u8], raw: &mut [u8], block_len: usize) {
    field.join(values, raw, block_len, |symbols, at| {
        super::join_avx2::gather(symbols, at)
    });
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes are a vector.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_signed(bytes: &[i8; 64]) -> __m512i {
    // SAFETY: 64 bytes are a vector.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_signed(bytes: &mut [i8; 64], vector: __m512i) {
    // SAFETY: 64 bytes are a vector.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_doubles(doubles: &mut [u32; 16], vector: __m512i) {
    // SAFETY: 16 double words are a vector.
    unsafe { _mm512_storeu_si512(doubles.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(words: &[i16; 32]) -> __m512i {
    // SAFETY: 32 words are a vector.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_doubles(doubles: &[i32; 16]) -> __m512i {
    // SAFETY: 16 double words are a vector.
    unsafe { _mm512_loadu_si512(doubles.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(bytes: &mut [u8; 64], vector: __m512i) {
    // SAFETY: 64 bytes are a vector.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_words(words: &mut [u16; 32], vector: __m512i) {
    // SAFETY: 32 words are a vector.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) }
}

/// Bytes that a permutation takes, for each place.
type Order = [u8; 64];

/// For each width, the whole bytes of values that lie at the low end of 8 bytes each.
static OF_EIGHT: [Order; 9] = packed_orders::<9, 8>();
/// The same of 16 bytes each.
static OF_SIXTEEN: [Order; 17] = packed_orders::<17, 16>();
/// Byte b of each 8 bytes, for b from 0 on.
static BY_PLANE: Order = {
    let mut order = [0; 64];
    let mut i = 0;
    while i < 64 {
        order[i as usize] = i % 8 * 8 + i / 8;
        i += 1;
    }
    order
};
/// The even, then the odd words of two vectors; a number takes two bytes.
static HALVES: [Order; 2] = {
    let mut orders = [[0; 64]; 2];
    let mut i = 0;
    while i < 32 {
        orders[0][2 * i as usize] = 2 * i;
        orders[1][2 * i as usize] = 2 * i + 1;
        i += 1;
    }
    orders
};

const fn packed_orders<const N: usize, const OF: u8>() -> [Order; N] {
    let mut orders = [[0; 64]; N];
    let mut width = 1;
    while width <= OF {
        let mut i = 0;
        while i < 64 {
            // Places beyond the last whole part are never kept.
            orders[width as usize][i as usize] = (i / width).wrapping_mul(OF) + i % width;
            i += 1;
        }
        width += 1;
    }
    orders
}

/// The low bytes of the words of two vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn low_bytes(words: [__m512i; 2]) -> __m512i {
    let low = _mm512_castsi256_si512(_mm512_cvtepi16_epi8(words[0]));
    _mm512_inserti64x4::<1>(low, _mm512_cvtepi16_epi8(words[1]))
}

/// Bit planes by transposing: a plane of 64 symbols is one number, whose bits are counted for
/// each of the 32 symbols.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vpopcntdq,gfni")]
fn count(symbols: &[u8]) -> Histogram {
    let (groups, last) = symbols.as_chunks::<STEP>();
    let mut counts = if last.is_empty() {
        Histogram::default()
    } else {
        portable::count(last)
    };
    let bits = _mm512_set1_epi64(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    let gathered = load(&BY_PLANE);
    let unless = |bit: u32| {
        let lanes: [i64; 8] = std::array::from_fn(|lane| i64::from(lane >> bit & 1 == 1) - 1);
        // SAFETY: 8 numbers are a vector.
        unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
    };
    let unless = [unless(0), unless(1), unless(2)];
    let mut sums = [_mm512_setzero_si512(); 4];
    for group in groups {
        // Byte b of each 8 is then plane b of 8 symbols; and then 8 bytes b are plane b of all.
        let planes = _mm512_gf2p8affine_epi64_epi8::<0>(bits, load(group));
        let planes = _mm512_permutexvar_epi8(gathered, planes);
        let plane = |b: i64| _mm512_permutexvar_epi64(_mm512_set1_epi64(b), planes);
        let lowest = _mm512_ternarylogic_epi64::<0x80>(
            _mm512_xor_si512(plane(0), unless[0]),
            _mm512_xor_si512(plane(1), unless[1]),
            _mm512_xor_si512(plane(2), unless[2]),
        );
        let (a, b) = (plane(3), plane(4));
        let quarters = [
            _mm512_ternarylogic_epi64::<0x10>(lowest, a, b),
            _mm512_ternarylogic_epi64::<0x40>(lowest, a, b),
            _mm512_ternarylogic_epi64::<0x20>(lowest, a, b),
            _mm512_ternarylogic_epi64::<0x80>(lowest, a, b),
        ];
        for (sum, quarter) in sums.iter_mut().zip(quarters) {
            *sum = _mm512_add_epi64(*sum, _mm512_popcnt_epi64(quarter));
        }
    }
    for (counts, sum) in counts.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
        let counts: *mut __m128i = counts.as_mut_ptr().cast();
        // SAFETY: 8 words are a quarter of a vector.
        unsafe {
            let all = _mm_add_epi16(_mm_loadu_si128(counts), _mm512_cvtepi64_epi16(sum));
            _mm_storeu_si128(counts, all);
        }
    }
    counts
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn assign(segments: &[Histogram], prices: &Prices, ids: &mut [u8]) {
    if prices.n_classes <= 16 {
        assign_in::<1>(segments, prices, ids);
    } else {
        assign_in::<2>(segments, prices, ids);
    }
}

/// With vectors of 16 classes, `N` of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn assign_in<const N: usize>(segments: &[Histogram], prices: &Prices, ids: &mut [u8]) {
    for (histogram, id) in segments.iter().zip(ids) {
        let mut sums = [[_mm512_setzero_si512(); N]; 2];
        for (sum, names) in sums[0].iter_mut().zip(prices.names.as_chunks().0) {
            *sum = load_doubles(names);
        }
        let pairs = histogram.as_chunks::<2>().0.iter().zip(&prices.pairs);
        for (i, (counts, prices)) in pairs.enumerate() {
            let pair = i32::from(counts[0]) & 0xffff | i32::from(counts[1]) << 16;
            let pair = _mm512_set1_epi32(pair);
            let vectors = prices.as_flattened().as_chunks::<32>().0;
            for (sum, prices) in sums[i % 2].iter_mut().zip(vectors) {
                *sum = _mm512_dpwssd_epi32(*sum, pair, load_words(prices));
            }
        }
        let mut least = _mm512_set1_epi32(i32::MAX);
        let [mut total, odd] = sums;
        for (total, odd) in total.iter_mut().zip(odd) {
            *total = _mm512_add_epi32(*total, odd);
            least = _mm512_min_epi32(least, *total);
        }
        let least = _mm512_set1_epi32(_mm512_reduce_min_epi32(least));
        let mut cheapest = 0;
        for (i, total) in total.into_iter().enumerate() {
            cheapest |= u32::from(_mm512_cmpeq_epi32_mask(total, least)) << (16 * i);
        }
        *id = cheapest.trailing_zeros().to_le_bytes()[0];
    }
}

/// The table of keys in registers.
struct KeyTable([__m512i; 8]);

impl KeyTable {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(keys: &Keys) -> Self {
        let parts = keys.as_chunks::<64>().0;
        Self([
            load(&parts[0]),
            load(&parts[1]),
            load(&parts[2]),
            load(&parts[3]),
            load(&parts[4]),
            load(&parts[5]),
            load(&parts[6]),
            load(&parts[7]),
        ])
    }

    /// The symbols of keys whose low bytes these are, and whose ninth bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn symbols(&self, low: __m512i, ninth: __mmask64) -> __m512i {
        let [a, b, c, d, e, f, g, h] = self.0;
        let eighth = _mm512_movepi8_mask(low);
        let lower = _mm512_mask_blend_epi8(
            eighth,
            _mm512_permutex2var_epi8(a, low, b),
            _mm512_permutex2var_epi8(c, low, d),
        );
        let upper = _mm512_mask_blend_epi8(
            eighth,
            _mm512_permutex2var_epi8(e, low, f),
            _mm512_permutex2var_epi8(g, low, h),
        );
        _mm512_mask_blend_epi8(ninth, lower, upper)
    }
}

/// The bits of `x` that are in `kept`, and those of `moved` that are in `sign`.
#[inline]
#[target_feature(enable = "avx512f")]
fn with_sign(x: __m512i, kept: __m512i, moved: __m512i, sign: __m512i) -> __m512i {
    // 0xf8: a | b & c.
    _mm512_ternarylogic_epi32::<0xf8>(_mm512_and_si512(x, kept), moved, sign)
}

/// The symbols and the upper mantissa bits, below the sign, of 64 numbers of bfloat16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
fn split_halves(numbers: [__m512i; 2], keys: &KeyTable) -> [__m512i; 2] {
    let [a, b] = numbers;
    let low = low_bytes([_mm512_srli_epi16::<6>(a), _mm512_srli_epi16::<6>(b)]);
    let first = _mm512_movepi16_mask(_mm512_slli_epi16::<1>(a));
    let second = _mm512_movepi16_mask(_mm512_slli_epi16::<1>(b));
    let ninth = u64::from(first) | u64::from(second) << 32;
    let (six, sign) = (_mm512_set1_epi16(0x3f), _mm512_set1_epi16(0x40));
    let upper = low_bytes([
        with_sign(a, six, _mm512_srli_epi16::<9>(a), sign),
        with_sign(b, six, _mm512_srli_epi16::<9>(b), sign),
    ]);
    [keys.symbols(low, ninth), upper]
}

/// Bits that any of 64 bytes has.
#[inline]
#[target_feature(enable = "avx512f")]
fn any_byte(vector: __m512i) -> u8 {
    let mut all = [0; 64];
    store(&mut all, vector);
    all.iter().fold(0, |any, byte| any | byte)
}

/// Bits that any of 32 words has.
#[inline]
#[target_feature(enable = "avx512f")]
fn any_word(vector: __m512i) -> u16 {
    let mut all = [0; 32];
    store_words(&mut all, vector);
    all.iter().fold(0, |any, word| any | word)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
fn split_bf16(raw: &[[u8; 2]], keys: &Keys, bases: Bases, parts: Parts<'_>) -> Seen {
    let table = KeyTable::new(keys);
    let base = _mm512_set1_epi8(i8::from_le_bytes([bases.bytes]));
    let (mut rare, mut any) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    let (steps, last) = raw.as_chunks::<STEP>();
    let (symbols, last_symbols) = parts.symbols.as_chunks_mut::<STEP>();
    let (bytes, last_bytes) = parts.bytes.as_chunks_mut::<STEP>();
    for ((raw, symbols), bytes) in steps.iter().zip(symbols).zip(bytes) {
        let halves = raw.as_flattened().as_chunks::<64>().0;
        let split = split_halves([load(&halves[0]), load(&halves[1])], &table);
        store(symbols, split[0]);
        store(bytes, split[1]);
        rare = _mm512_or_si512(rare, split[0]);
        any = _mm512_or_si512(any, _mm512_xor_si512(split[1], base));
    }
    let rest = Parts {
        symbols: last_symbols,
        bytes: last_bytes,
        words: &mut [],
    };
    let rest = portable::split_bf16(last, keys, bases, rest);
    Seen {
        rare: rest.rare || any_byte(rare) & RARE & 0x80 != 0,
        bytes: rest.bytes | any_byte(any),
        words: 0,
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
fn split_f16(raw: &[[u8; 2]], keys: &Keys, bases: Bases, parts: Parts<'_>) -> Seen {
    let table = load(&std::array::from_fn(|i| keys[i]));
    let base = _mm512_set1_epi16(i16::from_le_bytes(bases.words.to_le_bytes()));
    let (nine, sign) = (_mm512_set1_epi16(0x1ff), _mm512_set1_epi16(0x200));
    let (mut rare, mut any) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    let (steps, last) = raw.as_chunks::<STEP>();
    let (symbols, last_symbols) = parts.symbols.as_chunks_mut::<STEP>();
    let (words, last_words) = parts.words.as_chunks_mut::<STEP>();
    for ((raw, symbols), words) in steps.iter().zip(symbols).zip(words) {
        let halves = raw.as_flattened().as_chunks::<64>().0;
        let (a, b) = (load(&halves[0]), load(&halves[1]));
        // Only the six lowest bits of an index count.
        let low = low_bytes([_mm512_srli_epi16::<9>(a), _mm512_srli_epi16::<9>(b)]);
        let found = _mm512_permutexvar_epi8(low, table);
        store(symbols, found);
        rare = _mm512_or_si512(rare, found);
        for (x, words) in [a, b].into_iter().zip(words.as_chunks_mut().0) {
            let word = with_sign(x, nine, _mm512_srli_epi16::<6>(x), sign);
            store_words(words, word);
            any = _mm512_or_si512(any, _mm512_xor_si512(word, base));
        }
    }
    let rest = Parts {
        symbols: last_symbols,
        bytes: &mut [],
        words: last_words,
    };
    let rest = portable::split_f16(last, keys, bases, rest);
    Seen {
        rare: rest.rare || any_byte(rare) & RARE & 0x80 != 0,
        bytes: 0,
        words: rest.words | any_word(any),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
fn split_f32(raw: &[[u8; 4]], keys: &Keys, bases: Bases, parts: Parts<'_>) -> Seen {
    let table = KeyTable::new(keys);
    let base = _mm512_set1_epi8(i8::from_le_bytes([bases.bytes]));
    let word_base = _mm512_set1_epi16(i16::from_le_bytes(bases.words.to_le_bytes()));
    let [even, odd] = [load(&HALVES[0]), load(&HALVES[1])];
    let mut any = [_mm512_setzero_si512(); 3];
    let (steps, last) = raw.as_chunks::<STEP>();
    let (symbols, last_symbols) = parts.symbols.as_chunks_mut::<STEP>();
    let (bytes, last_bytes) = parts.bytes.as_chunks_mut::<STEP>();
    let (words, last_words) = parts.words.as_chunks_mut::<STEP>();
    for (((raw, symbols), bytes), words) in steps.iter().zip(symbols).zip(bytes).zip(words) {
        let quarters = raw.as_flattened().as_chunks::<64>().0;
        let pairs = [
            [load(&quarters[0]), load(&quarters[1])],
            [load(&quarters[2]), load(&quarters[3])],
        ];
        let halves = [
            _mm512_permutex2var_epi16(pairs[0][0], odd, pairs[0][1]),
            _mm512_permutex2var_epi16(pairs[1][0], odd, pairs[1][1]),
        ];
        let split = split_halves(halves, &table);
        store(symbols, split[0]);
        store(bytes, split[1]);
        any[0] = _mm512_or_si512(any[0], split[0]);
        any[1] = _mm512_or_si512(any[1], _mm512_xor_si512(split[1], base));
        for ([a, b], words) in pairs.into_iter().zip(words.as_chunks_mut().0) {
            let low = _mm512_permutex2var_epi16(a, even, b);
            store_words(words, low);
            any[2] = _mm512_or_si512(any[2], _mm512_xor_si512(low, word_base));
        }
    }
    let rest = Parts {
        symbols: last_symbols,
        bytes: last_bytes,
        words: last_words,
    };
    let rest = portable::split_f32(last, keys, bases, rest);
    Seen {
        rare: rest.rare || any_byte(any[0]) & RARE & 0x80 != 0,
        bytes: rest.bytes | any_byte(any[1]),
        words: rest.words | any_word(any[2]),
    }
}

/// Joins neighbours of `width` bits, which lie `apart` bits apart, into pairs.
#[inline]
#[target_feature(enable = "avx512f")]
fn join(x: __m512i, apart: u32, width: u32) -> __m512i {
    let count = |n: u32| _mm_cvtsi32_si128(i32::try_from(n).unwrap_or(0));
    // The lower neighbour of each pair that the 64 bits hold.
    let mut mask = (1i64 << apart) - 1;
    let mut reach = 2 * apart;
    while reach < 64 {
        mask |= mask << reach;
        reach *= 2;
    }
    let lower = _mm512_set1_epi64(mask);
    let upper = _mm512_andnot_si512(lower, x);
    _mm512_or_si512(
        _mm512_and_si512(x, lower),
        _mm512_srl_epi64(upper, count(apart - width)),
    )
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn pack_bytes(values: &[u8], shift: u32, width: u32, out: &mut Vec<u8>) {
    let (steps, last) = values.as_chunks::<STEP>();
    if width == 0 || width > 8 || shift > 7 {
        return portable::pack_bytes(values, shift, width, out);
    }
    let per_step = 8 * width as usize;
    let mask = _mm512_set1_epi8(i8::from_le_bytes([
        u8::MAX >> shift & u8::MAX >> (8 - width)
    ]));
    let shift_by = _mm_cvtsi32_si128(i32::try_from(shift).unwrap_or(0));
    let kept = load(&OF_EIGHT[width as usize]);
    let start = out.len();
    // Each step writes a whole vector, of which the next one keeps what counts.
    out.resize(start + steps.len() * per_step + STEP, 0);
    for (i, step) in steps.iter().enumerate() {
        let x = _mm512_and_si512(_mm512_srl_epi16(load(step), shift_by), mask);
        let x = join(join(join(x, 8, width), 16, 2 * width), 32, 4 * width);
        let place = start + i * per_step;
        if let Some(target) = out[place..].first_chunk_mut() {
            store(target, _mm512_permutexvar_epi8(kept, x));
        }
    }
    out.truncate(start + steps.len() * per_step);
    portable::pack_bytes(last, shift, width, out);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn pack_words(values: &[u16], shift: u32, width: u32, out: &mut Vec<u8>) {
    let (steps, last) = values.as_chunks::<32>();
    if width == 0 || width > 16 || shift > 15 {
        return portable::pack_words(values, shift, width, out);
    }
    let per_step = 4 * width as usize;
    let mask = _mm512_set1_epi16(i16::from_le_bytes((u16::MAX >> (16 - width)).to_le_bytes()));
    let shift_by = _mm_cvtsi32_si128(i32::try_from(shift).unwrap_or(0));
    // 4 values fill 4 * width bits of each 64; the upper of two such parts follows the lower.
    let four = i64::from(4 * width);
    let left = _mm512_setr_epi64(four, 64, four, 64, four, 64, four, 64);
    let rest = 64 - four;
    let right = _mm512_setr_epi64(64, rest, 64, rest, 64, rest, 64, rest);
    let kept = load(&OF_SIXTEEN[width as usize]);
    let start = out.len();
    out.resize(start + steps.len() * per_step + 64, 0);
    for (i, step) in steps.iter().enumerate() {
        // SAFETY: 32 words are a vector.
        let x = unsafe { _mm512_loadu_si512(step.as_ptr().cast()) };
        let x = _mm512_and_si512(_mm512_srl_epi16(x, shift_by), mask);
        let x = join(join(x, 16, width), 32, 2 * width);
        let upper = _mm512_permutex_epi64::<0b11_11_01_01>(x);
        let lower = _mm512_maskz_mov_epi64(0x55, x);
        let x = _mm512_ternarylogic_epi64::<0xfe>(
            lower,
            _mm512_sllv_epi64(upper, left),
            _mm512_srlv_epi64(upper, right),
        );
        let place = start + i * per_step;
        if let Some(target) = out[place..].first_chunk_mut() {
            store(target, _mm512_permutexvar_epi8(kept, x));
        }
    }
    out.truncate(start + steps.len() * per_step);
    portable::pack_words(last, shift, width, out);
}
