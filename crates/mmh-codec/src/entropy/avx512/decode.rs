//! Decoding with AVX-512: four vectors of 16 states. Where a whole group has one class, its alias
//! table lies in registers; where each symbol has its own, entries are looked up.
//!
//! The last groups of a block, whose words do not fill what a step may load, go through the
//! reference.

#![allow(
    unsafe_code,
    reason = "vectors are loaded, stored and gathered through pointers"
)]

use std::arch::x86_64::*;

use crate::entropy::reference::{Cursor, GROUP_LEN_MAX};
use crate::entropy::{
    Alphabet, Classes, DecodeSet, DecodeTable, EachBlock, LANES, PROB_SCALE, STATE_MIN,
};
use crate::error::Result;

/// One block whose groups have a class each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) set: &'a DecodeSet,
    pub(crate) groups: &'a [u8],
    pub(crate) coded: &'a [u8],
}

/// Fills `symbols` from one block.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,popcnt")]
pub(super) fn decode(
    set: &DecodeSet,
    classes: Classes<'_>,
    coded: &[u8],
    symbols: &mut [u8],
) -> Result<()> {
    let groups = symbols.as_chunks_mut().0;
    let (mut cursor, done) = match classes {
        Classes::Groups(classes) => {
            let block = Block {
                set,
                groups: classes,
                coded,
            };
            let n = groups.len();
            let mut groups = groups.iter_mut();
            decode_groups(&block, n, |symbols| {
                if let Some(group) = groups.next() {
                    store(group, symbols);
                }
            })?
        }
        Classes::Symbols(classes) => {
            let mut cursor = Cursor::start(coded)?;
            let done = of_symbols(
                &Thresholds::of(set),
                set,
                [(&mut cursor, classes.as_chunks().0, groups)],
            );
            (cursor, done)
        }
    };
    cursor.groups(set, classes, done, &mut symbols[done * LANES..])?;
    cursor.finish()
}

/// Fills the symbols of two blocks that have a class for each symbol. What one waits for is done
/// while the other goes on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,popcnt")]
pub(super) fn decode_two(set: &DecodeSet, blocks: [EachBlock<'_>; 2]) -> Result<()> {
    let thresholds = Thresholds::of(set);
    let [first, second] = blocks;
    let mut cursors = [Cursor::start(first.coded)?, Cursor::start(second.coded)?];
    let [a, b] = &mut cursors;
    let both = [
        (
            a,
            first.classes.as_chunks().0,
            first.symbols.as_chunks_mut().0,
        ),
        (
            b,
            second.classes.as_chunks().0,
            second.symbols.as_chunks_mut().0,
        ),
    ];
    let together = of_symbols(&thresholds, set, both);
    for (mut cursor, block) in cursors.into_iter().zip([first, second]) {
        let classes = block.classes.get(together * LANES..).unwrap_or_default();
        let groups = block.symbols[together * LANES..].as_chunks_mut().0;
        let alone = [(&mut cursor, classes.as_chunks().0, groups)];
        let done = together + of_symbols(&thresholds, set, alone);
        let classes = Classes::Symbols(block.classes);
        cursor.groups(set, classes, done, &mut block.symbols[done * LANES..])?;
        cursor.finish()?;
    }
    Ok(())
}

/// Decodes at most `n` groups and hands over the symbols of each. Gives where it stopped, and how
/// many groups it did: not all, where the words do not fill what a step may load.
///
/// It has the target features of its callers, without which their closures would not be inlined.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,popcnt")]
pub(crate) fn decode_groups<'a>(
    block: &Block<'a>,
    n: usize,
    take: impl FnMut(__m512i),
) -> Result<(Cursor<'a>, usize)> {
    let mut cursor = Cursor::start(block.coded)?;
    let done = match block.set.alphabet {
        Alphabet::Sixteen => of_groups::<false>(&mut cursor, block, n, take),
        Alphabet::ThirtyTwo => of_groups::<true>(&mut cursor, block, n, take),
    };
    Ok((cursor, done))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,popcnt")]
fn of_groups<const WIDE: bool>(
    cursor: &mut Cursor<'_>,
    block: &Block<'_>,
    n: usize,
    mut take: impl FnMut(__m512i),
) -> usize {
    let mut states = load_states(&cursor.states);
    let mut done = 0;
    // Neighbours mostly have one class, whose table then stays in registers.
    let classes = &block.groups[..n.min(block.groups.len())];
    for run in classes.chunk_by(|a, b| a == b) {
        let Some(table) = block.set.tables.get(usize::from(run[0])) else {
            break;
        };
        let table = Table::<WIDE>::new(table);
        let [mut a, mut b, mut c, mut d] = states;
        let mut words_left = cursor.words;
        let mut left = run.len();
        while left > 0 {
            let Some(window) = words_left.first_chunk() else {
                break;
            };
            let mut words = Words::new(window);
            let mut step = |state: &mut __m512i| {
                let slot = _mm512_and_si512(*state, _mm512_set1_epi32(SLOT_MASK));
                let entry = table.entries(slot);
                *state = advance(*state, slot, entry, &mut words);
                entry
            };
            take(merge([
                step(&mut a),
                step(&mut b),
                step(&mut c),
                step(&mut d),
            ]));
            words_left = &words_left[2 * words.used..];
            left -= 1;
        }
        states = [a, b, c, d];
        cursor.words = words_left;
        done += run.len() - left;
        if left > 0 {
            break;
        }
    }
    store_states(&states, &mut cursor.states);
    done
}

/// A block whose symbols have a class each: where it is read, the classes of whole groups, and the
/// groups to fill.
type OfSymbols<'a, 'b> = (&'a mut Cursor<'b>, &'a [[u8; LANES]], &'a mut [[u8; LANES]]);

/// Decodes as many groups of each of `N` blocks as it can, and says how many that were.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,popcnt")]
fn of_symbols<const N: usize>(
    thresholds: &Thresholds,
    set: &DecodeSet,
    mut blocks: [OfSymbols<'_, '_>; N],
) -> usize {
    let bucket_bits = _mm_cvtsi32_si128(set.alphabet.bucket_bits().cast_signed());
    let n = |(_, classes, groups): &OfSymbols<'_, '_>| classes.len().min(groups.len());
    let n = blocks.iter().map(n).min().unwrap_or(0);
    // Loops, since what is called from `map` would not be inlined.
    let mut states = [[_mm512_setzero_si512(); 4]; N];
    for (states, (cursor, ..)) in states.iter_mut().zip(&blocks) {
        *states = load_states(&cursor.states);
    }
    // The last words, and zeros after them.
    let mut last = [[0; GROUP_LEN_MAX]; N];
    let mut done = 0;
    'groups: while done < n {
        let (mut slots, mut at) = (states, [[0; LANES]; N]);
        for (k, (_, each, _)) in blocks.iter().enumerate() {
            let Some(known) = known(&each[done], set.tables.len()) else {
                break 'groups;
            };
            let mut buckets = slots[k];
            for (slot, bucket) in slots[k].iter_mut().zip(&mut buckets) {
                *slot = _mm512_and_si512(*slot, _mm512_set1_epi32(SLOT_MASK));
                *bucket = _mm512_srl_epi32(*slot, bucket_bits);
            }
            let buckets = merge(buckets);
            let second = thresholds.reached(known, buckets, merge(slots[k]));
            // In its table, a number lies behind the thresholds, among those of its side.
            let all = _mm512_mask_add_epi8(buckets, second, buckets, _mm512_set1_epi8(32));
            at[k] = entries_at(known, all);
        }
        let (mut entries, mut next) = (states, states);
        let mut left = [&[][..]; N];
        for (k, (cursor, ..)) in blocks.iter().enumerate() {
            let window = cursor.words.first_chunk().unwrap_or_else(|| {
                last[k] = [0; GROUP_LEN_MAX];
                last[k][..cursor.words.len()].copy_from_slice(cursor.words);
                &last[k]
            });
            let mut words = Words::new(window);
            for j in 0..4 {
                entries[k][j] = load_entries(&set.tables, &at[k], j);
                next[k][j] = advance(states[k][j], slots[k][j], entries[k][j], &mut words);
            }
            let Some(words_left) = cursor.words.get(2 * words.used..) else {
                break 'groups;
            };
            left[k] = words_left;
        }
        states = next;
        for (k, (cursor, _, groups)) in blocks.iter_mut().enumerate() {
            cursor.words = left[k];
            store(&mut groups[done], merge(entries[k]));
        }
        done += 1;
    }
    for (states, (cursor, ..)) in states.iter().zip(&mut blocks) {
        store_states(states, &mut cursor.states);
    }
    done
}

/// A byte for each of 32 buckets of four classes.
type FourClasses = [[u8; 64]; 2];

/// The thresholds of a set as bytes: those of four classes are looked up in two vectors.
struct Thresholds {
    /// In each bucket, the slot where its second side begins; 32 buckets for each class. If a bucket
    /// has no second side, its entries are equal, and any place will do. A power of two of them.
    tables: Vec<FourClasses>,
    /// The bits of a slot within its bucket.
    inside: i8,
}

/// Where thresholds are looked up: the places in the vectors of four classes, and which lanes have
/// the bits of a class above the lowest two, lowest first.
#[derive(Clone, Copy)]
struct Looked {
    places: __m512i,
    upper: [__mmask64; 4],
}

impl Thresholds {
    fn of(set: &DecodeSet) -> Self {
        let bits = set.alphabet.bucket_bits();
        let fours = set.tables.len().div_ceil(4).next_power_of_two();
        let mut tables = vec![[[0; 64]; 2]; fours];
        let places = tables
            .as_flattened_mut()
            .as_flattened_mut()
            .as_chunks_mut::<32>();
        for (places, table) in places.0.iter_mut().zip(&set.tables) {
            for ((bucket, place), threshold) in (0..).zip(places).zip(&table.threshold) {
                let first: u32 = bucket << bits;
                let within = threshold.saturating_sub(first);
                *place = u8::try_from(within).unwrap_or(u8::MAX);
            }
        }
        let [inside, _] = ((1u16 << bits) - 1).to_le_bytes();
        Self {
            tables,
            inside: inside.cast_signed(),
        }
    }

    /// Which of these slots, of which the low bytes are given, lie on the second side. Classes are
    /// below the number of tables.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn reached(&self, classes: __m512i, buckets: __m512i, slots: __m512i) -> __mmask64 {
        // Bits that leave their byte are masked off.
        let low = _mm512_and_si512(_mm512_slli_epi16::<5>(classes), _mm512_set1_epi8(0x60));
        let places = _mm512_or_si512(low, buckets);
        let upper = [4, 8, 16, 32].map(|bit| _mm512_set1_epi8(bit));
        let upper = [
            _mm512_test_epi8_mask(classes, upper[0]),
            _mm512_test_epi8_mask(classes, upper[1]),
            _mm512_test_epi8_mask(classes, upper[2]),
            _mm512_test_epi8_mask(classes, upper[3]),
        ];
        let looked = Looked { places, upper };
        let threshold = look_up(&self.tables, looked);
        let inside = _mm512_and_si512(slots, _mm512_set1_epi8(self.inside));
        _mm512_cmpge_epu8_mask(inside, threshold)
    }
}

/// The bytes at these places in the tables of their classes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn look_up(tables: &[FourClasses], at: Looked) -> __m512i {
    let [first, second, third, fourth] = at.upper;
    if let [a] = tables {
        of_four(a, at.places)
    } else if let [a, b] = tables {
        of_eight([a, b], first, at.places)
    } else if let Ok(four) = <&[FourClasses; 4]>::try_from(tables) {
        of_sixteen(four, [first, second], at.places)
    } else {
        let mut found = [_mm512_setzero_si512(); 4];
        for (found, four) in found.iter_mut().zip(tables.as_chunks().0) {
            *found = of_sixteen(four, [first, second], at.places);
        }
        let lower = _mm512_mask_mov_epi8(found[0], third, found[1]);
        let upper = _mm512_mask_mov_epi8(found[2], third, found[3]);
        _mm512_mask_mov_epi8(lower, fourth, upper)
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn of_sixteen(
    [a, b, c, d]: &[FourClasses; 4],
    [first, second]: [__mmask64; 2],
    places: __m512i,
) -> __m512i {
    let lower = of_eight([a, b], first, places);
    let upper = of_eight([c, d], first, places);
    _mm512_mask_mov_epi8(lower, second, upper)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn of_eight(tables: [&FourClasses; 2], upper: __mmask64, places: __m512i) -> __m512i {
    let [a, b] = [of_four(tables[0], places), of_four(tables[1], places)];
    _mm512_mask_mov_epi8(a, upper, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn of_four([lower, upper]: &FourClasses, places: __m512i) -> __m512i {
    // SAFETY: 64 bytes are a vector.
    let (lower, upper) = unsafe {
        (
            _mm512_loadu_si512(lower.as_ptr().cast()),
            _mm512_loadu_si512(upper.as_ptr().cast()),
        )
    };
    _mm512_permutex2var_epi8(lower, places, upper)
}

const SLOT_MASK: i32 = PROB_SCALE.cast_signed() - 1;

/// The words that the symbols of a group may take.
struct Words<'a> {
    window: &'a [u8; GROUP_LEN_MAX],
    /// How many words were taken: at most 16 for each of four steps.
    used: usize,
}

impl<'a> Words<'a> {
    fn new(window: &'a [u8; GROUP_LEN_MAX]) -> Self {
        Self { window, used: 0 }
    }

    /// The next 16 words, one in each lane; the caller says later how many it took.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn next(&self) -> __m512i {
        // SAFETY: before the fourth step at most 48 words were taken, so that 16 are left.
        let words = unsafe { _mm256_loadu_si256(self.window.as_ptr().add(2 * self.used).cast()) };
        _mm512_cvtepu16_epi32(words)
    }
}

/// The states after the symbols of these entries.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,popcnt")]
fn advance(state: __m512i, slot: __m512i, entry: __m512i, words: &mut Words<'_>) -> __m512i {
    let frequency = _mm512_srli_epi32::<20>(entry);
    let rank = _mm512_add_epi32(slot, _mm512_srli_epi32::<8>(entry));
    let rank = _mm512_and_si512(rank, _mm512_set1_epi32(SLOT_MASK));
    let product = _mm512_mullo_epi32(frequency, _mm512_srli_epi32::<12>(state));
    let state = _mm512_add_epi32(product, rank);
    let short = _mm512_cmplt_epu32_mask(state, _mm512_set1_epi32(STATE_MIN.cast_signed()));
    let next = _mm512_maskz_expand_epi32(short, words.next());
    words.used += short.count_ones() as usize;
    _mm512_mask_or_epi32(state, short, _mm512_slli_epi32::<16>(state), next)
}

/// An alias table in registers. `WIDE`: 32 buckets.
struct Table<const WIDE: bool> {
    threshold: [__m512i; 2],
    entries: [[__m512i; 2]; 2],
}

impl<const WIDE: bool> Table<WIDE> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(table: &DecodeTable) -> Self {
        let halves = |values: &[u32; 32]| {
            let halves = values.as_chunks().0;
            [load(&halves[0]), load(&halves[1])]
        };
        Self {
            threshold: halves(&table.threshold),
            entries: [halves(&table.entries[0]), halves(&table.entries[1])],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn look_up(at: __m512i, [lower, upper]: [__m512i; 2]) -> __m512i {
        if WIDE {
            _mm512_permutex2var_epi32(lower, at, upper)
        } else {
            _mm512_permutexvar_epi32(at, lower)
        }
    }

    /// The entries of the sides that these slots lie on.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn entries(&self, slot: __m512i) -> __m512i {
        let bucket = if WIDE {
            _mm512_srli_epi32::<7>(slot)
        } else {
            _mm512_srli_epi32::<8>(slot)
        };
        let threshold = Self::look_up(bucket, self.threshold);
        let second = _mm512_cmpge_epu32_mask(slot, threshold);
        let [first_side, second_side] = self.entries;
        let first_side = Self::look_up(bucket, first_side);
        let second_side = Self::look_up(bucket, second_side);
        _mm512_mask_mov_epi32(first_side, second, second_side)
    }
}

/// The classes of a group, if the set has them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn known(each: &[u8; LANES], n_classes: usize) -> Option<__m512i> {
    // SAFETY: a group has the 64 bytes of a vector.
    let classes = unsafe { _mm512_loadu_si512(each.as_ptr().cast()) };
    let n = _mm512_set1_epi8(i8::try_from(n_classes).ok()?);
    (_mm512_cmpge_epu8_mask(classes, n) == 0).then_some(classes)
}

/// Where the entries of a group lie among those of all tables, in the order of its symbols.
///
/// A table is 96 numbers: thresholds, entries of first sides, entries of second sides; places are
/// in the last two thirds.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn entries_at(classes: __m512i, places: __m512i) -> [u16; LANES] {
    let mut all = [0; LANES];
    let lower = (
        _mm512_castsi512_si256(classes),
        _mm512_castsi512_si256(places),
    );
    let upper = (
        _mm512_extracti64x4_epi64::<1>(classes),
        _mm512_extracti64x4_epi64::<1>(places),
    );
    let halves = all.as_chunks_mut::<32>().0;
    for (half, (classes, places)) in halves.iter_mut().zip([lower, upper]) {
        let table = _mm512_mullo_epi16(_mm512_cvtepu8_epi16(classes), _mm512_set1_epi16(96));
        let place = _mm512_add_epi16(_mm512_cvtepu8_epi16(places), _mm512_set1_epi16(32));
        let at = _mm512_add_epi16(table, place);
        // SAFETY: 32 numbers of 16 bits are a vector.
        unsafe { _mm512_storeu_si512(half.as_mut_ptr().cast(), at) };
    }
    all
}

/// The entries of quarter `j` of a group. [`entries_at`] says where they are, by classes below the
/// number of tables and places below 64.
///
/// One load after the other: some processors gather more slowly.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_entries(tables: &[DecodeTable], all: &[u16; LANES], j: usize) -> __m512i {
    let entries: *const i32 = tables.as_ptr().cast();
    // SAFETY: the place is within the tables, whose layout is fixed (`repr(C)`).
    let at = |i: usize| unsafe { *entries.add(usize::from(all[4 * i + j])) };
    _mm512_setr_epi32(
        at(0),
        at(1),
        at(2),
        at(3),
        at(4),
        at(5),
        at(6),
        at(7),
        at(8),
        at(9),
        at(10),
        at(11),
        at(12),
        at(13),
        at(14),
        at(15),
    )
}

/// The symbols of four quarters in the order of their group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn merge([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let symbols = _mm512_mask_mov_epi8(a, 0x2222_2222_2222_2222, _mm512_slli_epi32::<8>(b));
    let symbols = _mm512_mask_mov_epi8(symbols, 0x4444_4444_4444_4444, _mm512_slli_epi32::<16>(c));
    _mm512_mask_mov_epi8(symbols, 0x8888_8888_8888_8888, _mm512_slli_epi32::<24>(d))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(group: &mut [u8; LANES], symbols: __m512i) {
    // SAFETY: a group has the 64 bytes of a vector.
    unsafe { _mm512_storeu_si512(group.as_mut_ptr().cast(), symbols) };
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[u32; 16]) -> __m512i {
    // SAFETY: 16 values are the 64 bytes of a vector.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn load_states(states: &[u32; LANES]) -> [__m512i; 4] {
    let quarters = states.as_chunks().0;
    [0, 1, 2, 3].map(|j| load(&quarters[j]))
}

#[target_feature(enable = "avx512f")]
fn store_states(vectors: &[__m512i; 4], states: &mut [u32; LANES]) {
    for (vector, quarter) in vectors.iter().zip(states.as_chunks_mut::<16>().0) {
        // SAFETY: a quarter has 16 states, the 64 bytes of a vector.
        unsafe { _mm512_storeu_si512(quarter.as_mut_ptr().cast(), *vector) };
    }
}
