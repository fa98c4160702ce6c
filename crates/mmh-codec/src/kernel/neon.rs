//! The loops of decoders with NEON. The plain loops of encoders need no other form: NEON is there
//! wherever they are compiled for 64-bit ARM.

#![allow(
    unsafe_code,
    reason = "vectors are loaded and stored through pointers, in these few functions"
)]

use std::arch::aarch64::*;

use super::Kernels;
use super::join::{self, Fields, Meaning, Packed, Values};
use super::places::{BYTE_PLACES, WORD_PLACES};
use crate::entropy::{Neon, SYMBOLS_MAX};

/// Numbers in a step.
const STEP: usize = 16;

/// A function that calls one of those below.
macro_rules! safe {
    ($work:ident($($argument:ident),*)) => {
        |$($argument),*| {
            // SAFETY: only `Kernels::neon` hands this out, for a `Neon`, which is only made where
            // its instructions were found.
            unsafe { $work($($argument),*) }
        }
    };
}

impl Kernels {
    /// The loops for a CPU that has what [`Neon`] needs, of which one is the proof.
    pub(crate) const fn neon(_: Neon) -> Self {
        Self {
            unpack_bytes: safe!(unpack_bytes(packed, how, bytes)),
            unpack_words: safe!(unpack_words(packed, how, words)),
            join_bf16: safe!(join_bf16(fields, raw)),
            join_f16: safe!(join_f16(fields, raw)),
            join_f32: safe!(join_f32(fields, raw)),
            ..Self::PORTABLE
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: 16 bytes are a vector.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// The 16 bytes from `start` on, if there are so many.
#[inline]
#[target_feature(enable = "neon")]
fn load_at(packed: &[u8], start: usize) -> Option<uint8x16_t> {
    packed.get(start..)?.first_chunk().map(|bytes| load(bytes))
}

/// A value of up to 8 bits lies in 2 bytes: they are brought into a word and shifted.
#[target_feature(enable = "neon")]
fn unpack_bytes(packed: &[u8], how: Packed, bytes: &mut [u8]) {
    let Packed { base, shift, width } = how;
    if width == 0 || width > 8 || shift > 7 {
        return join::unpack_bytes(packed, how, bytes);
    }
    let part = 2 * width as usize;
    let [lower, upper] = BYTE_PLACES[width as usize].map(|half| half.map(|table| load(&table)));
    let down = vdupq_n_s16(i16::from(width.to_le_bytes()[0]) - 16);
    let shift_by = vdupq_n_s8(shift.to_le_bytes()[0].cast_signed());
    let base = vdupq_n_u8(base.to_le_bytes()[0]);
    let mut done = 0;
    for step in bytes.as_chunks_mut::<STEP>().0 {
        let Some(source) = load_at(packed, part * done) else {
            break;
        };
        let take = |[places, factors]: [uint8x16_t; 2]| {
            let words = vreinterpretq_u16_u8(vqtbl1q_u8(source, places));
            let words = vmulq_u16(words, vreinterpretq_u16_u8(factors));
            vreinterpretq_u8_u16(vshlq_u16(words, down))
        };
        let values = vshlq_u8(vuzp1q_u8(take(lower), take(upper)), shift_by);
        // SAFETY: a step is the 16 bytes of a vector.
        unsafe { vst1q_u8(step.as_mut_ptr(), vorrq_u8(values, base)) };
        done += 1;
    }
    join::unpack_bytes(&packed[part * done..], how, &mut bytes[done * STEP..]);
}

/// A value of up to 16 bits lies in 3 bytes: they are brought into 32 bits and shifted.
#[target_feature(enable = "neon")]
fn unpack_words(packed: &[u8], how: Packed, words: &mut [u16]) {
    let Packed { base, shift, width } = how;
    if width == 0 || width > 15 || shift > 15 {
        return join::unpack_words(packed, how, words);
    }
    let part = width as usize;
    let [lower, upper] = WORD_PLACES[part].map(|half| half.map(|table| load(&table)));
    let mask = vdupq_n_u16((1 << width) - 1);
    let shift_by = vdupq_n_s16(i16::from(shift.to_le_bytes()[0]));
    let base = vdupq_n_u16(base);
    let mut done = 0;
    for step in words.as_chunks_mut::<8>().0 {
        let Some(source) = load_at(packed, part * done) else {
            break;
        };
        let take = |[places, shifts]: [uint8x16_t; 2]| {
            let values = vreinterpretq_u32_u8(vqtbl1q_u8(source, places));
            let down = vnegq_s32(vreinterpretq_s32_u8(shifts));
            vreinterpretq_u16_u32(vshlq_u32(values, down))
        };
        let values = vandq_u16(vuzp1q_u16(take(lower), take(upper)), mask);
        let values = vorrq_u16(vshlq_u16(values, shift_by), base);
        // SAFETY: 8 words are the 16 bytes of a vector.
        unsafe { vst1q_u16(step.as_mut_ptr(), values) };
        done += 1;
    }
    join::unpack_words(&packed[part * done..], how, &mut words[done * 8..]);
}

/// A byte for each symbol.
struct Table(uint8x16x2_t);

impl Table {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(values: &Values, byte: impl Fn(u16) -> u16) -> Self {
        let mut bytes = [0; SYMBOLS_MAX];
        for (place, &value) in bytes.iter_mut().zip(values) {
            [*place, _] = byte(value).to_le_bytes();
        }
        // SAFETY: 32 bytes are two vectors.
        Self(unsafe { vld1q_u8_x2(bytes.as_ptr()) })
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn of(&self, symbols: uint8x16_t) -> uint8x16_t {
        vqtbl2q_u8(self.0, vandq_u8(symbols, vdupq_n_u8(31)))
    }
}

/// The tables of the two bytes of the upper half of a number.
struct Upper {
    low: Table,
    high: Table,
}

impl Upper {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(values: &Values) -> Self {
        Self {
            low: Table::new(values, |value| value << 6),
            high: Table::new(values, |value| value >> 2),
        }
    }

    /// The two bytes of the upper halves of 16 numbers.
    #[inline]
    #[target_feature(enable = "neon")]
    fn of(&self, symbols: &[u8; STEP], bytes: &[u8; STEP]) -> [uint8x16_t; 2] {
        let (symbols, bytes) = (load(symbols), load(bytes));
        let six = vandq_u8(bytes, vdupq_n_u8(0x3f));
        let sign = vandq_u8(vaddq_u8(bytes, bytes), vdupq_n_u8(0x80));
        [
            vorrq_u8(self.low.of(symbols), six),
            vorrq_u8(self.high.of(symbols), sign),
        ]
    }
}

#[target_feature(enable = "neon")]
fn join_bf16(fields: Fields<'_>, raw: &mut [[u8; 2]]) {
    let Meaning::Values(values) = fields.meaning else {
        return join::join_bf16(fields, raw);
    };
    let upper = Upper::new(values);
    let (steps, last) = raw.as_chunks_mut::<STEP>();
    let (symbols, last_symbols) = fields.symbols.as_chunks();
    let (bytes, last_bytes) = fields.bytes.as_chunks();
    for ((raw, symbols), bytes) in steps.iter_mut().zip(symbols).zip(bytes) {
        let [low, high] = upper.of(symbols, bytes);
        // SAFETY: 16 numbers of 2 bytes are two vectors.
        unsafe { vst2q_u8(raw.as_mut_ptr().cast(), uint8x16x2_t(low, high)) };
    }
    let rest = Fields {
        symbols: last_symbols,
        bytes: last_bytes,
        ..fields
    };
    join::join_bf16(rest, last);
}

#[target_feature(enable = "neon")]
fn join_f16(fields: Fields<'_>, raw: &mut [[u8; 2]]) {
    let Meaning::Values(values) = fields.meaning else {
        return join::join_f16(fields, raw);
    };
    let table = Table::new(values, |value| value << 1);
    let (steps, last) = raw.as_chunks_mut::<STEP>();
    let (symbols, last_symbols) = fields.symbols.as_chunks();
    let (words, last_words) = fields.words.as_chunks::<STEP>();
    for ((raw, symbols), words) in steps.iter_mut().zip(symbols).zip(words) {
        // SAFETY: 16 words are the 32 bytes of two vectors.
        let words = unsafe { vld2q_u8(words.as_ptr().cast()) };
        let (low, word_high) = (words.0, words.1);
        // Bit 9 is the sign, bit 8 the highest of the rest.
        let sign = vandq_u8(vshlq_n_u8::<6>(word_high), vdupq_n_u8(0x80));
        let top = vandq_u8(word_high, vdupq_n_u8(1));
        let high = vorrq_u8(table.of(load(symbols)), vorrq_u8(sign, top));
        // SAFETY: 16 numbers of 2 bytes are two vectors.
        unsafe { vst2q_u8(raw.as_mut_ptr().cast(), uint8x16x2_t(low, high)) };
    }
    let rest = Fields {
        symbols: last_symbols,
        words: last_words,
        ..fields
    };
    join::join_f16(rest, last);
}

#[target_feature(enable = "neon")]
fn join_f32(fields: Fields<'_>, raw: &mut [[u8; 4]]) {
    let Meaning::Values(values) = fields.meaning else {
        return join::join_f32(fields, raw);
    };
    let upper = Upper::new(values);
    let (steps, last) = raw.as_chunks_mut::<STEP>();
    let (symbols, last_symbols) = fields.symbols.as_chunks();
    let (bytes, last_bytes) = fields.bytes.as_chunks();
    let (pairs, last_pairs) = fields.pairs.as_chunks::<STEP>();
    for (((raw, symbols), bytes), pairs) in steps.iter_mut().zip(symbols).zip(bytes).zip(pairs) {
        let [low, high] = upper.of(symbols, bytes);
        // SAFETY: 16 pairs are the 32 bytes of two vectors.
        let words = unsafe { vld2q_u8(pairs.as_ptr().cast()) };
        let joined = uint8x16x4_t(words.0, words.1, low, high);
        // SAFETY: 16 numbers of 4 bytes are four vectors.
        unsafe { vst4q_u8(raw.as_mut_ptr().cast(), joined) };
    }
    let rest = Fields {
        symbols: last_symbols,
        bytes: last_bytes,
        pairs: last_pairs,
        ..fields
    };
    join::join_f32(rest, last);
}
