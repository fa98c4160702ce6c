//! Encoding with AVX-512: four vectors of 16 states, whose tables lie in registers where a whole
//! group has one class, and are gathered where each symbol has its own.
//!
//! Vectors hold the states of a quarter in descending order. So the words that a step gives come
//! in the order in which an encoder writes them, and are stored one vector after the other.

#![allow(
    unsafe_code,
    reason = "vectors are loaded, stored and gathered through pointers"
)]

use std::arch::x86_64::*;

use crate::entropy::pieces::{CELL_BITS, Pieces};
use crate::entropy::reference::{check, encode_group, finish};
use crate::entropy::{Alphabet, Classes, EncodeSet, LANES, PROB_SCALE, STATE_MIN, SYMBOLS_MAX};
use crate::error::Result;

/// Groups whose words are collected before they are appended.
const BATCH: usize = 32;

/// Appends one block that codes `symbols`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,popcnt")]
pub(super) fn encode(
    set: &EncodeSet,
    classes: Classes<'_>,
    symbols: &[u8],
    out: &mut Vec<u8>,
) -> Result<()> {
    check(set, classes, symbols)?;
    let mut states = [STATE_MIN; LANES];
    let mut words = Vec::with_capacity(symbols.len() / 4);
    let (groups, last) = symbols.as_chunks::<LANES>();
    let mut lacking = false;
    if !last.is_empty() {
        let n = groups.len();
        lacking |= match classes {
            Classes::Groups(classes) => {
                let coder = set.coder(classes[n]);
                encode_group(|_| coder, last, &mut states, &mut words)
            }
            Classes::Symbols(each) => {
                let each = &each[n * LANES..];
                encode_group(|i| set.coder(each[i]), last, &mut states, &mut words)
            }
        };
    }
    let mut coder = Encoder::new(&states);
    match (classes, set.alphabet) {
        (Classes::Groups(classes), Alphabet::Sixteen) => {
            coder.groups::<false>(set, &classes[..groups.len()], groups, &mut words);
        }
        (Classes::Groups(classes), Alphabet::ThirtyTwo) => {
            coder.groups::<true>(set, &classes[..groups.len()], groups, &mut words);
        }
        (Classes::Symbols(each), _) => {
            coder.each(set, each.as_chunks().0, groups, &mut words);
        }
    }
    lacking |= coder.lacks();
    finish(&coder.states(), &words, lacking, out)
}

/// The states, and the least frequency that a symbol had.
struct Encoder {
    states: [__m512i; 4],
    least: __m512i,
}

/// Words of a batch, with room for a whole vector behind the last.
type Batch = [u16; BATCH * LANES + 16];

/// Writes the low words of the states in `full` at `len`, and gives the length with them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
fn push(batch: &mut Batch, len: usize, states: __m512i, full: __mmask16) -> usize {
    let kept = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, states));
    if let Some(place) = batch.get_mut(len..len + 16) {
        // SAFETY: the place has 16 words, the 32 bytes of a half vector.
        unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), kept) };
    }
    len + full.count_ones() as usize
}

impl Encoder {
    #[target_feature(enable = "avx512f")]
    fn new(states: &[u32; LANES]) -> Self {
        let quarter = |j: usize| reverse(load(&states.as_chunks::<16>().0[j]));
        Self {
            states: [quarter(0), quarter(1), quarter(2), quarter(3)],
            least: _mm512_set1_epi32(1),
        }
    }

    #[target_feature(enable = "avx512f")]
    fn states(&self) -> [u32; LANES] {
        let mut states = [0; LANES];
        for (quarter, &state) in states.as_chunks_mut::<16>().0.iter_mut().zip(&self.states) {
            // SAFETY: a quarter has 16 states, the 64 bytes of a vector.
            unsafe { _mm512_storeu_si512(quarter.as_mut_ptr().cast(), reverse(state)) };
        }
        states
    }

    #[target_feature(enable = "avx512f")]
    fn lacks(&self) -> bool {
        _mm512_cmpeq_epi32_mask(self.least, _mm512_setzero_si512()) != 0
    }

    /// Codes whole groups of one class each, the last first.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,popcnt")]
    fn groups<const WIDE: bool>(
        &mut self,
        set: &EncodeSet,
        classes: &[u8],
        groups: &[[u8; LANES]],
        words: &mut Vec<u16>,
    ) {
        let mut batch = [0; BATCH * LANES + 16];
        for (classes, groups) in classes.rchunks(BATCH).zip(groups.rchunks(BATCH)) {
            let len = self.batch_of_groups::<WIDE>(set, classes, groups, &mut batch);
            words.extend_from_slice(&batch[..len]);
        }
    }

    /// A function of its own, in which nothing but the loop asks for registers.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,popcnt")]
    fn batch_of_groups<const WIDE: bool>(
        &mut self,
        set: &EncodeSet,
        classes: &[u8],
        groups: &[[u8; LANES]],
        batch: &mut Batch,
    ) -> usize {
        let (mut states, mut least, mut len) = (self.states, self.least, 0);
        for (&class, group) in classes.iter().zip(groups).rev() {
            let (table, symbols) = (&set.tables[usize::from(class)], split(group));
            if let Some(pieces) = &set.pieces {
                let pieces = &pieces[usize::from(class)];
                let table = Table::<WIDE>::new(&pieces.symbols, &table.reciprocals);
                len = table.group(pieces, symbols, (&mut states, &mut least), (batch, len));
                continue;
            }
            let table = Table::<WIDE>::new(&table.symbols, &table.reciprocals);
            let slots = &set.slots[usize::from(class) * SLOTS..][..SLOTS + 1];
            for j in (0..4).rev() {
                let entry = table.entries(symbols[j]);
                let reciprocal = table.reciprocals(symbols[j]);
                let (state, full) = step(states[j], entry, reciprocal, slots);
                len = push(batch, len, states[j], full);
                states[j] = state;
                least = _mm512_min_epu32(least, frequency(entry));
            }
        }
        (self.states, self.least) = (states, least);
        len
    }

    /// Codes whole groups whose symbols have a class each, the last group first. The classes must
    /// be in the set.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,popcnt")]
    fn each(
        &mut self,
        set: &EncodeSet,
        classes: &[[u8; LANES]],
        groups: &[[u8; LANES]],
        words: &mut Vec<u16>,
    ) {
        let mut batch = [0; BATCH * LANES + 16];
        let classes = &classes[..groups.len()];
        for (classes, groups) in classes.rchunks(BATCH).zip(groups.rchunks(BATCH)) {
            let len = self.batch_of_each(set, classes, groups, &mut batch);
            words.extend_from_slice(&batch[..len]);
        }
    }

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,popcnt")]
    fn batch_of_each(
        &mut self,
        set: &EncodeSet,
        classes: &[[u8; LANES]],
        groups: &[[u8; LANES]],
        batch: &mut Batch,
    ) -> usize {
        let (mut states, mut least, mut len) = (self.states, self.least, 0);
        for (class, group) in classes.iter().zip(groups).rev() {
            let (classes, symbols) = (split(class), split(group));
            for j in (0..4).rev() {
                let (entry, reciprocal) = gather_entries(set, classes[j], symbols[j]);
                let base = _mm512_slli_epi32::<12>(classes[j]);
                let (state, full) = step_at(states[j], entry, reciprocal, |at| {
                    gather_slots(&set.slots, _mm512_add_epi32(base, at))
                });
                len = push(batch, len, states[j], full);
                states[j] = state;
                least = _mm512_min_epu32(least, frequency(entry));
            }
        }
        (self.states, self.least) = (states, least);
        len
    }
}

/// Slots of one class.
const SLOTS: usize = PROB_SCALE as usize;

/// The table of one class in registers. `WIDE`: an alphabet of 32 symbols.
struct Table<const WIDE: bool> {
    entries: [__m512i; 2],
    reciprocals: [__m512; 2],
}

impl<const WIDE: bool> Table<WIDE> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(entries: &[u32; SYMBOLS_MAX], reciprocals: &[f32; SYMBOLS_MAX]) -> Self {
        let (entries, reciprocals) = (entries.as_chunks().0, reciprocals.as_chunks().0);
        Self {
            entries: [load(&entries[0]), load(&entries[1])],
            reciprocals: [load_floats(&reciprocals[0]), load_floats(&reciprocals[1])],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn entries(&self, symbols: __m512i) -> __m512i {
        let [lower, upper] = self.entries;
        if WIDE {
            _mm512_permutex2var_epi32(lower, symbols, upper)
        } else {
            _mm512_permutexvar_epi32(symbols, lower)
        }
    }

    /// Codes a group with the pieces of its class; the number of words that there are then.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,popcnt")]
    fn group(
        &self,
        pieces: &Pieces,
        symbols: [__m512i; 4],
        (states, least): (&mut [__m512i; 4], &mut __m512i),
        (batch, mut len): (&mut Batch, usize),
    ) -> usize {
        let (mut quotients, mut places) = (*states, *states);
        for j in (0..4).rev() {
            let entry = self.entries(symbols[j]);
            let freq = frequency(entry);
            let (quotient, rank, full) = divide(states[j], freq, self.reciprocals(symbols[j]));
            len = push(batch, len, states[j], full);
            *least = _mm512_min_epu32(*least, freq);
            quotients[j] = _mm512_slli_epi32::<12>(quotient);
            places[j] = _mm512_add_epi32(rank, _mm512_srli_epi32::<12>(entry));
        }
        let (cells, ends) = (halves(&pieces.cells), halves(&pieces.ends));
        let shifts = halves(&pieces.shifts);
        // Places are words: those of two quarters fit a vector.
        for j in [0, 2] {
            let places = _mm512_or_si512(places[j], _mm512_slli_epi32::<16>(places[j + 1]));
            // What the upper bytes look up does not matter: of a piece only the low bits do.
            let cell = _mm512_srli_epi16::<CELL_BITS>(places);
            let mut piece = _mm512_permutex2var_epi8(cells.0, cell, cells.1);
            for _ in 0..pieces.n_ends {
                let end = _mm512_permutex2var_epi16(ends.0, piece, ends.1);
                let over = _mm512_cmpge_epu16_mask(places, end);
                piece = _mm512_mask_sub_epi16(piece, over, piece, _mm512_set1_epi16(-1));
            }
            let shift = _mm512_permutex2var_epi16(shifts.0, piece, shifts.1);
            let slots = _mm512_add_epi16(places, shift);
            let low = _mm512_and_si512(slots, _mm512_set1_epi32(0xffff));
            states[j] = _mm512_or_si512(quotients[j], low);
            states[j + 1] = _mm512_or_si512(quotients[j + 1], _mm512_srli_epi32::<16>(slots));
        }
        len
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn reciprocals(&self, symbols: __m512i) -> __m512 {
        let [lower, upper] = self.reciprocals;
        if WIDE {
            _mm512_permutex2var_ps(lower, symbols, upper)
        } else {
            _mm512_permutexvar_ps(symbols, lower)
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_floats(values: &[f32; 16]) -> __m512 {
    // SAFETY: 16 values are the 64 bytes of a vector.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[u32; 16]) -> __m512i {
    // SAFETY: 16 values are the 64 bytes of a vector.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

/// The two vectors that a table of 128 bytes fills.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves<T, const N: usize>(table: &[T; N]) -> (__m512i, __m512i) {
    const { assert!(size_of::<[T; N]>() == 128) };
    let start = table.as_ptr().cast::<__m512i>();
    // SAFETY: 128 bytes are two vectors.
    unsafe {
        (
            _mm512_loadu_si512(start),
            _mm512_loadu_si512(start.wrapping_add(1)),
        )
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn reverse(values: __m512i) -> __m512i {
    let order = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    _mm512_permutexvar_epi32(order, values)
}

/// The bytes of a group, as the quarters that the vectors of states code.
#[inline]
#[target_feature(enable = "avx512f")]
fn split(group: &[u8; LANES]) -> [__m512i; 4] {
    // SAFETY: a group has the 64 bytes of a vector.
    let all = reverse(unsafe { _mm512_loadu_si512(group.as_ptr().cast()) });
    let byte = _mm512_set1_epi32(0xff);
    [
        _mm512_and_si512(all, byte),
        _mm512_and_si512(_mm512_srli_epi32::<8>(all), byte),
        _mm512_and_si512(_mm512_srli_epi32::<16>(all), byte),
        _mm512_srli_epi32::<24>(all),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn frequency(entry: __m512i) -> __m512i {
    _mm512_and_si512(entry, _mm512_set1_epi32(0xfff))
}

/// Codes one symbol in each state, with the slots of their class: the states after it, and those
/// whose low words are written.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn step(state: __m512i, entry: __m512i, reciprocal: __m512, slots: &[u16]) -> (__m512i, __mmask16) {
    step_at(state, entry, reciprocal, |at| gather_slots(slots, at))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn step_at(
    state: __m512i,
    entry: __m512i,
    reciprocal: __m512,
    slots: impl FnOnce(__m512i) -> __m512i,
) -> (__m512i, __mmask16) {
    let (quotient, rank, full) = divide(state, frequency(entry), reciprocal);
    let at = _mm512_add_epi32(rank, _mm512_srli_epi32::<12>(entry));
    let slot = slots(_mm512_and_si512(at, _mm512_set1_epi32(0xfff)));
    let state = _mm512_or_si512(_mm512_slli_epi32::<12>(quotient), slot);
    (state, full)
}

/// The quotients and remainders of the states, after those in the mask have lost their low words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn divide(state: __m512i, freq: __m512i, reciprocal: __m512) -> (__m512i, __m512i, __mmask16) {
    let full = _mm512_cmpge_epu32_mask(state, _mm512_slli_epi32::<20>(freq));
    let x = _mm512_mask_srli_epi32::<16>(state, full, state);
    let product = _mm512_mul_ps(_mm512_cvtepu32_ps(x), reciprocal);
    let quotient = _mm512_cvttps_epu32(product);
    let rank = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, freq));
    let over = _mm512_cmpge_epu32_mask(rank, freq);
    let quotient = _mm512_mask_sub_epi32(quotient, over, quotient, _mm512_set1_epi32(-1));
    let rank = _mm512_mask_sub_epi32(rank, over, rank, freq);
    (quotient, rank, full)
}

/// The slots at these places, which must have one more slot behind them.
#[inline]
#[target_feature(enable = "avx512f")]
fn gather_slots(slots: &[u16], at: __m512i) -> __m512i {
    // SAFETY: places lie below 4096 in their class, the classes were found in the set (`check`),
    // which has that many slots for each and one more; so 4 bytes from each place are inside.
    let pairs = unsafe { _mm512_i32gather_epi32::<2>(at, slots.as_ptr().cast()) };
    _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff))
}

/// The entries and reciprocals of symbols with a class each.
#[inline]
#[target_feature(enable = "avx512f")]
fn gather_entries(set: &EncodeSet, classes: __m512i, symbols: __m512i) -> (__m512i, __m512) {
    let at = _mm512_or_si512(_mm512_slli_epi32::<6>(classes), symbols);
    let reciprocals = _mm512_or_si512(at, _mm512_set1_epi32(32));
    let tables = set.tables.as_ptr();
    // SAFETY: a table is 64 numbers, those of symbols first; `check` found all classes in the set
    // and all symbols below 32.
    unsafe {
        (
            _mm512_i32gather_epi32::<4>(at, tables.cast()),
            _mm512_i32gather_ps::<4>(reciprocals, tables.cast()),
        )
    }
}
