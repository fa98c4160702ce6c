//! Encoding with AVX2: eight vectors of 8 states, in the descending order of states in which an
//! encoder writes words.

#![allow(
    unsafe_code,
    reason = "vectors are loaded, stored and gathered through pointers"
)]

use std::arch::x86_64::*;

use crate::entropy::reference::{check, encode_group, finish};
use crate::entropy::{
    Alphabet, Classes, EncodeSet, EncodeTable, LANES, PROB_SCALE, STATE_MIN, SYMBOLS_MAX,
};
use crate::error::Result;

/// Groups whose words are collected before they are appended.
const BATCH: usize = 32;
/// Slots of one class.
const SLOTS: usize = PROB_SCALE as usize;
/// Words of a batch, with room for a whole vector behind the last.
type Batch = [u16; BATCH * LANES + 8];

/// For each set of lanes, their numbers in ascending order.
static KEPT: [[u8; 8]; 256] = {
    let mut kept = [[0; 8]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut n) = (0, 0);
        while lane < 8 {
            if set >> lane & 1 == 1 {
                kept[set][n] = lane;
                n += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    kept
};

/// Appends one block that codes `symbols`.
#[target_feature(enable = "avx2,popcnt")]
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
    let n = groups.len();
    let mut lacking = false;
    if !last.is_empty() {
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
    let mut batch = [0; BATCH * LANES + 8];
    let mut end = n;
    while end > 0 {
        let start = end.saturating_sub(BATCH);
        let groups = &groups[start..end];
        let len = match (classes, set.alphabet) {
            (Classes::Groups(classes), Alphabet::Sixteen) => {
                coder.groups::<false>(set, &classes[start..end], groups, &mut batch)
            }
            (Classes::Groups(classes), Alphabet::ThirtyTwo) => {
                coder.groups::<true>(set, &classes[start..end], groups, &mut batch)
            }
            (Classes::Symbols(each), _) => {
                coder.each(set, &each.as_chunks().0[start..end], groups, &mut batch)
            }
        };
        words.extend_from_slice(&batch[..len]);
        end = start;
    }
    lacking |= coder.lacks();
    finish(&coder.states(), &words, lacking, out)
}

/// The states, two vectors for each quarter of them, and the least frequency that a symbol had.
struct Encoder {
    states: [[__m256i; 2]; 4],
    least: __m256i,
}

impl Encoder {
    #[target_feature(enable = "avx2")]
    fn new(states: &[u32; LANES]) -> Self {
        let eights = states.as_chunks::<8>().0;
        let vector = |i: usize| reverse(load(&eights[i]));
        let quarter = |j: usize| [vector(2 * j + 1), vector(2 * j)];
        Self {
            states: [quarter(0), quarter(1), quarter(2), quarter(3)],
            least: _mm256_set1_epi32(1),
        }
    }

    #[target_feature(enable = "avx2")]
    fn states(&self) -> [u32; LANES] {
        let mut states = [0; LANES];
        for (quarter, vectors) in states.as_chunks_mut::<16>().0.iter_mut().zip(&self.states) {
            let halves = quarter.as_chunks_mut::<8>().0.iter_mut().rev();
            for (half, &vector) in halves.zip(vectors) {
                // SAFETY: 8 states are the 32 bytes of a vector.
                unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), reverse(vector)) };
            }
        }
        states
    }

    #[target_feature(enable = "avx2")]
    fn lacks(&self) -> bool {
        let lacking = _mm256_cmpeq_epi32(self.least, _mm256_setzero_si256());
        _mm256_movemask_epi8(lacking) != 0
    }

    /// Codes whole groups of one class each, the last first, and gives the number of words.
    #[inline(never)]
    #[target_feature(enable = "avx2,popcnt")]
    fn groups<const WIDE: bool>(
        &mut self,
        set: &EncodeSet,
        classes: &[u8],
        groups: &[[u8; LANES]],
        batch: &mut Batch,
    ) -> usize {
        let mut len = 0;
        for (&class, group) in classes.iter().zip(groups).rev() {
            let table = Table::<WIDE>::new(&set.tables[usize::from(class)]);
            let slots = &set.slots[usize::from(class) * SLOTS..][..SLOTS + 1];
            let halves = split(group);
            for j in (0..4).rev() {
                for (state, symbols) in self.states[j].iter_mut().zip(halves) {
                    let symbols = quarter(symbols, j);
                    let (entry, reciprocal) = table.look_up(symbols);
                    self.least = _mm256_min_epu32(self.least, frequency(entry));
                    len = push(batch, len, *state, full(*state, entry));
                    let at = |at| gather_slots(slots, at);
                    *state = step(*state, entry, reciprocal, at);
                }
            }
        }
        len
    }

    /// Codes whole groups whose symbols have a class each, all of them in the set.
    #[inline(never)]
    #[target_feature(enable = "avx2,popcnt")]
    fn each(
        &mut self,
        set: &EncodeSet,
        classes: &[[u8; LANES]],
        groups: &[[u8; LANES]],
        batch: &mut Batch,
    ) -> usize {
        let mut len = 0;
        for (class, group) in classes.iter().zip(groups).rev() {
            let halves = split(group).into_iter().zip(split(class));
            for j in (0..4).rev() {
                for (state, (symbols, classes)) in self.states[j].iter_mut().zip(halves.clone()) {
                    let (symbols, classes) = (quarter(symbols, j), quarter(classes, j));
                    let (entry, reciprocal) = gather_entries(set, classes, symbols);
                    self.least = _mm256_min_epu32(self.least, frequency(entry));
                    let base = _mm256_slli_epi32::<12>(classes);
                    len = push(batch, len, *state, full(*state, entry));
                    let at = |at| gather_slots(&set.slots, _mm256_add_epi32(base, at));
                    *state = step(*state, entry, reciprocal, at);
                }
            }
        }
        len
    }
}

/// The table of one class in registers. `WIDE`: an alphabet of 32 symbols.
struct Table<const WIDE: bool> {
    entries: [__m256i; 4],
    reciprocals: [__m256; 4],
}

impl<const WIDE: bool> Table<WIDE> {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(table: &EncodeTable) -> Self {
        let [a, b, c, d] = parts(&table.symbols);
        let [e, f, g, h] = parts(&table.reciprocals);
        Self {
            entries: [load(a), load(b), load(c), load(d)],
            reciprocals: [
                load_floats(e),
                load_floats(f),
                load_floats(g),
                load_floats(h),
            ],
        }
    }

    /// The entries and reciprocals of symbols.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn look_up(&self, symbols: __m256i) -> (__m256i, __m256) {
        let [a, b, c, d] = self.entries;
        let entries = [
            _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(a, symbols)),
            _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(b, symbols)),
            _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(c, symbols)),
            _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(d, symbols)),
        ];
        let [a, b, c, d] = self.reciprocals;
        let reciprocals = [
            _mm256_permutevar8x32_ps(a, symbols),
            _mm256_permutevar8x32_ps(b, symbols),
            _mm256_permutevar8x32_ps(c, symbols),
            _mm256_permutevar8x32_ps(d, symbols),
        ];
        (
            _mm256_castps_si256(pick::<WIDE>(entries, symbols)),
            pick::<WIDE>(reciprocals, symbols),
        )
    }
}

/// The four parts of a table.
#[inline(always)]
fn parts<T>(values: &[T; SYMBOLS_MAX]) -> [&[T; 8]; 4] {
    let parts = values.as_chunks().0;
    [&parts[0], &parts[1], &parts[2], &parts[3]]
}

/// What the part that a symbol lies in has for it.
#[inline]
#[target_feature(enable = "avx2")]
fn pick<const WIDE: bool>(found: [__m256; 4], symbols: __m256i) -> __m256 {
    let fourth = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(symbols));
    let lower = _mm256_blendv_ps(found[0], found[1], fourth);
    if WIDE {
        let fifth = _mm256_castsi256_ps(_mm256_slli_epi32::<27>(symbols));
        let upper = _mm256_blendv_ps(found[2], found[3], fourth);
        _mm256_blendv_ps(lower, upper, fifth)
    } else {
        lower
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_floats(values: &[f32; 8]) -> __m256 {
    // SAFETY: 8 values are the 32 bytes of a vector.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(values: &[u32; 8]) -> __m256i {
    // SAFETY: 8 values are the 32 bytes of a vector.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn reverse(values: __m256i) -> __m256i {
    let order = _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    _mm256_permutevar8x32_epi32(values, order)
}

/// The upper and the lower half of a group, four bytes for each state of a quarter.
#[inline]
#[target_feature(enable = "avx2")]
fn split(group: &[u8; LANES]) -> [__m256i; 2] {
    let halves = group.as_chunks::<32>().0;
    // SAFETY: each half of a group has the 32 bytes of a vector.
    unsafe {
        [
            reverse(_mm256_loadu_si256(halves[1].as_ptr().cast())),
            reverse(_mm256_loadu_si256(halves[0].as_ptr().cast())),
        ]
    }
}

/// Byte j of each four.
#[inline]
#[target_feature(enable = "avx2")]
fn quarter(bytes: __m256i, j: usize) -> __m256i {
    let byte = _mm256_set1_epi32(0xff);
    match j {
        0 => _mm256_and_si256(bytes, byte),
        1 => _mm256_and_si256(_mm256_srli_epi32::<8>(bytes), byte),
        2 => _mm256_and_si256(_mm256_srli_epi32::<16>(bytes), byte),
        _ => _mm256_srli_epi32::<24>(bytes),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn frequency(entry: __m256i) -> __m256i {
    _mm256_and_si256(entry, _mm256_set1_epi32(0xfff))
}

/// The states whose low words are written before this symbol is coded.
#[inline]
#[target_feature(enable = "avx2")]
fn full(state: __m256i, entry: __m256i) -> __m256i {
    let limit = _mm256_slli_epi32::<20>(entry);
    _mm256_cmpeq_epi32(_mm256_max_epu32(state, limit), state)
}

/// Codes one symbol in each state.
#[inline]
#[target_feature(enable = "avx2")]
fn step(
    state: __m256i,
    entry: __m256i,
    reciprocal: __m256,
    slots: impl FnOnce(__m256i) -> __m256i,
) -> __m256i {
    let freq = frequency(entry);
    let low = _mm256_set1_epi32(0xffff);
    let upper = _mm256_srli_epi32::<16>(state);
    let x = _mm256_blendv_epi8(state, upper, full(state, entry));
    // There is no conversion of unsigned numbers: both halves are converted, and the sum, which
    // is rounded once.
    let upper = _mm256_cvtepi32_ps(_mm256_srli_epi32::<16>(x));
    let lower = _mm256_cvtepi32_ps(_mm256_and_si256(x, low));
    let float = _mm256_add_ps(_mm256_mul_ps(upper, _mm256_set1_ps(65_536.0)), lower);
    let quotient = _mm256_cvttps_epi32(_mm256_mul_ps(float, reciprocal));
    let rank = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, freq));
    let under = _mm256_cmpgt_epi32(freq, rank);
    let over = _mm256_andnot_si256(under, _mm256_set1_epi32(-1));
    let quotient = _mm256_sub_epi32(quotient, over);
    let rank = _mm256_sub_epi32(rank, _mm256_and_si256(freq, over));
    let at = _mm256_add_epi32(rank, _mm256_srli_epi32::<12>(entry));
    let slot = slots(_mm256_and_si256(at, _mm256_set1_epi32(0xfff)));
    _mm256_or_si256(_mm256_slli_epi32::<12>(quotient), slot)
}

/// Writes the low words of the states in `full` at `len`.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn push(batch: &mut Batch, len: usize, states: __m256i, full: __m256i) -> usize {
    let set = _mm256_movemask_ps(_mm256_castsi256_ps(full)).to_le_bytes()[0];
    let order = &KEPT[usize::from(set)];
    // SAFETY: an order has the 8 bytes that are loaded.
    let order = _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(order.as_ptr().cast()) });
    let kept = _mm256_permutevar8x32_epi32(states, order);
    let kept = _mm256_and_si256(kept, _mm256_set1_epi32(0xffff));
    let halves = (
        _mm256_castsi256_si128(kept),
        _mm256_extracti128_si256::<1>(kept),
    );
    let kept = _mm_packus_epi32(halves.0, halves.1);
    if let Some(place) = batch.get_mut(len..len + 8) {
        // SAFETY: the place has 8 words, the 16 bytes of half a vector.
        unsafe { _mm_storeu_si128(place.as_mut_ptr().cast(), kept) };
    }
    len + set.count_ones() as usize
}

/// The slots at these places, which must have one more slot behind them.
#[inline]
#[target_feature(enable = "avx2")]
fn gather_slots(slots: &[u16], at: __m256i) -> __m256i {
    // SAFETY: places lie below 4096 in their class, the classes were found in the set (`check`),
    // which has that many slots for each and one more; so 4 bytes from each place are inside.
    let pairs = unsafe { _mm256_i32gather_epi32::<2>(slots.as_ptr().cast(), at) };
    _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff))
}

/// The entries and reciprocals of symbols with a class each.
#[inline]
#[target_feature(enable = "avx2")]
fn gather_entries(set: &EncodeSet, classes: __m256i, symbols: __m256i) -> (__m256i, __m256) {
    let at = _mm256_or_si256(_mm256_slli_epi32::<6>(classes), symbols);
    let reciprocals = _mm256_or_si256(at, _mm256_set1_epi32(32));
    let tables = set.tables.as_ptr();
    // SAFETY: a table is 64 numbers, those of symbols first; `check` found all classes in the set
    // and all symbols below 32.
    unsafe {
        (
            _mm256_i32gather_epi32::<4>(tables.cast(), at),
            _mm256_i32gather_ps::<4>(tables.cast(), reciprocals),
        )
    }
}
