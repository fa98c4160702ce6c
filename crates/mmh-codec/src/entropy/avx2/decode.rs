//! Decoding with AVX2: eight vectors of 8 states. Where a whole group has one class, its alias table
//! is looked up bytewise, 32 slots at a time; where each symbol has its own, tables are gathered.
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
    Alphabet, Classes, DecodeSet, DecodeTable, LANES, PROB_SCALE, STATE_MIN, SYMBOLS_MAX,
};
use crate::error::Result;

/// Fills `symbols` from one block.
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn decode(
    set: &DecodeSet,
    classes: Classes<'_>,
    coded: &[u8],
    symbols: &mut [u8],
) -> Result<()> {
    let mut cursor = Cursor::start(coded)?;
    let groups = symbols.as_chunks_mut().0;
    let done = match (classes, set.alphabet) {
        (Classes::Groups(classes), Alphabet::Sixteen) => {
            of_groups::<false>(&mut cursor, set, classes, groups)
        }
        (Classes::Groups(classes), Alphabet::ThirtyTwo) => {
            of_groups::<true>(&mut cursor, set, classes, groups)
        }
        (Classes::Symbols(each), _) => of_symbols(&mut cursor, set, each.as_chunks().0, groups),
    };
    cursor.groups(set, classes, done, &mut symbols[done * LANES..])?;
    cursor.finish()
}

/// Decodes groups of one class each, as many as it can, and says how many that were.
#[target_feature(enable = "avx2,popcnt")]
fn of_groups<const WIDE: bool>(
    cursor: &mut Cursor<'_>,
    set: &DecodeSet,
    classes: &[u8],
    groups: &mut [[u8; LANES]],
) -> usize {
    let tables: Vec<Planes> = set.tables.iter().map(Planes::of::<WIDE>).collect();
    let mut states = load_states(&cursor.states);
    let mut done = 0;
    for (group, &class) in groups.iter_mut().zip(classes) {
        let (Some(planes), Some(window)) =
            (tables.get(usize::from(class)), cursor.words.first_chunk())
        else {
            break;
        };
        let mut entries = [[_mm256_setzero_si256(); 2]; 4];
        for (half, part) in group.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let found = planes.look_up::<WIDE>([
                states[0][half],
                states[1][half],
                states[2][half],
                states[3][half],
            ]);
            for (entry, found) in entries.iter_mut().zip(found.entries) {
                entry[half] = found;
            }
            store(part, found.symbols);
        }
        let mut words = Words::new(window);
        for (states, entries) in states.iter_mut().zip(entries) {
            for (state, entry) in states.iter_mut().zip(entries) {
                *state = advance(*state, _mm256_srli_epi32::<16>(entry), entry, &mut words);
            }
        }
        cursor.words = &cursor.words[2 * words.used..];
        done += 1;
    }
    store_states(&states, &mut cursor.states);
    done
}

/// Decodes groups whose symbols have a class each, as many as it can, and says how many that were.
#[target_feature(enable = "avx2,popcnt")]
fn of_symbols(
    cursor: &mut Cursor<'_>,
    set: &DecodeSet,
    classes: &[[u8; LANES]],
    groups: &mut [[u8; LANES]],
) -> usize {
    let bucket_bits = _mm_cvtsi32_si128(set.alphabet.bucket_bits().cast_signed());
    let mut states = load_states(&cursor.states);
    let mut done = 0;
    for (group, each) in groups.iter_mut().zip(classes) {
        let Some(window) = cursor.words.first_chunk() else {
            break;
        };
        let Some(classes) = halves(each, set.tables.len()) else {
            break;
        };
        let mut words = Words::new(window);
        let mut symbols = [_mm256_setzero_si256(); 2];
        for (j, states) in (0..).zip(&mut states) {
            let shift = _mm_cvtsi32_si128(8 * j);
            for ((state, classes), symbols) in states.iter_mut().zip(classes).zip(&mut symbols) {
                let class = _mm256_and_si256(_mm256_srl_epi32(classes, shift), low(8));
                let slot = _mm256_and_si256(*state, slot_mask());
                let bucket = _mm256_srl_epi32(slot, bucket_bits);
                let entry = gather(&set.tables, class, bucket, slot);
                let symbol = _mm256_sll_epi32(_mm256_and_si256(entry, low(8)), shift);
                *symbols = _mm256_or_si256(*symbols, symbol);
                let frequency = _mm256_srli_epi32::<20>(entry);
                *state = advance(*state, frequency, _mm256_srli_epi32::<8>(entry), &mut words);
            }
        }
        for (part, symbols) in group.as_chunks_mut().0.iter_mut().zip(symbols) {
            store(part, symbols);
        }
        cursor.words = &cursor.words[2 * words.used..];
        done += 1;
    }
    store_states(&states, &mut cursor.states);
    done
}

/// The states, two vectors for each quarter of them.
type States = [[__m256i; 2]; 4];

#[inline]
#[target_feature(enable = "avx2")]
fn load_states(states: &[u32; LANES]) -> States {
    let mut vectors = [[_mm256_setzero_si256(); 2]; 4];
    let eights = states.as_chunks::<8>().0;
    for (vector, eight) in vectors.as_flattened_mut().iter_mut().zip(eights) {
        // SAFETY: 8 states are the 32 bytes of a vector.
        *vector = unsafe { _mm256_loadu_si256(eight.as_ptr().cast()) };
    }
    vectors
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_states(vectors: &States, states: &mut [u32; LANES]) {
    let eights = states.as_chunks_mut::<8>().0;
    for (vector, eight) in vectors.as_flattened().iter().zip(eights) {
        // SAFETY: 8 states are the 32 bytes of a vector.
        unsafe { _mm256_storeu_si256(eight.as_mut_ptr().cast(), *vector) };
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: 32 bytes are a vector.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) };
}

/// The lowest bits of each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn low(n_bits: u32) -> __m256i {
    _mm256_set1_epi32((1 << n_bits) - 1)
}

#[inline]
#[target_feature(enable = "avx2")]
fn slot_mask() -> __m256i {
    _mm256_set1_epi32(PROB_SCALE.cast_signed() - 1)
}

/// The words that the symbols of a group may take.
struct Words<'a> {
    window: &'a [u8; GROUP_LEN_MAX],
    /// How many words were taken: at most 8 for each of eight steps.
    used: usize,
}

impl<'a> Words<'a> {
    fn new(window: &'a [u8; GROUP_LEN_MAX]) -> Self {
        Self { window, used: 0 }
    }

    /// The next 8 words; the caller says later how many it took.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn next(&self) -> __m128i {
        // SAFETY: before the eighth step at most 56 words were taken, so that 8 are left.
        unsafe { _mm_loadu_si128(self.window.as_ptr().add(2 * self.used).cast()) }
    }
}

/// For each set of lanes: from which bytes of the next words theirs come; zeros elsewhere.
static SPREAD: [[u8; 16]; 256] = {
    let mut spread = [[0x80; 16]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < 8 {
            if set >> lane & 1 == 1 {
                spread[set][2 * lane] = next;
                spread[set][2 * lane + 1] = next + 1;
                next += 2;
            }
            lane += 1;
        }
        set += 1;
    }
    spread
};

/// The states after symbols of these frequencies, whose ranks are their slots plus the low 12 bits
/// of `offset`.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn advance(state: __m256i, frequency: __m256i, offset: __m256i, words: &mut Words<'_>) -> __m256i {
    const { assert!(STATE_MIN == 1 << 16) };
    let rank = _mm256_and_si256(_mm256_add_epi32(state, offset), slot_mask());
    let product = _mm256_mullo_epi32(frequency, _mm256_srli_epi32::<12>(state));
    let state = _mm256_add_epi32(product, rank);
    let short = _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(state), _mm256_setzero_si256());
    let lanes = _mm256_movemask_ps(_mm256_castsi256_ps(short)).cast_unsigned();
    let places = &SPREAD[(lanes & 0xff) as usize];
    // SAFETY: places are the 16 bytes of a vector.
    let places = unsafe { _mm_loadu_si128(places.as_ptr().cast()) };
    let next = _mm256_cvtepu16_epi32(_mm_shuffle_epi8(words.next(), places));
    words.used += lanes.count_ones() as usize;
    let shift = _mm256_and_si256(short, _mm256_set1_epi32(16));
    _mm256_or_si256(_mm256_sllv_epi32(state, shift), next)
}

/// An alias table as bytes. Numbers above a byte have a plane for their low and one for their high
/// bytes.
struct Planes {
    /// By bucket: the slot in the bucket where the second side begins. If a bucket has no second side,
    /// its entries are equal, and any place will do.
    threshold: [u8; SYMBOLS_MAX],
    /// By bucket: the symbol of the second side; that of the first is the bucket's number.
    other: [u8; SYMBOLS_MAX],
    /// By bucket: the offsets of the first side, and of the second.
    offsets: [[[u8; SYMBOLS_MAX]; 2]; 2],
    /// By symbol.
    frequency: [[u8; SYMBOLS_MAX]; 2],
}

/// What 32 slots, those of a quarter's half for each quarter, stand for.
struct Found {
    /// For each quarter, `frequency << 16 | offset`.
    entries: [__m256i; 4],
    /// In the order of the group.
    symbols: __m256i,
}

impl Planes {
    fn of<const WIDE: bool>(table: &DecodeTable) -> Self {
        let mut planes = Self {
            threshold: [0; SYMBOLS_MAX],
            other: [0; SYMBOLS_MAX],
            offsets: [[[0; SYMBOLS_MAX]; 2]; 2],
            frequency: [[0; SYMBOLS_MAX]; 2],
        };
        let (bits, size) = if WIDE { (7, 32) } else { (8, 16) };
        for bucket in 0..size {
            let first = u32::try_from(bucket << bits).unwrap_or(0);
            let within = table.threshold[bucket].saturating_sub(first);
            planes.threshold[bucket] = u8::try_from(within).unwrap_or(u8::MAX);
            planes.other[bucket] = table.entries[1][bucket].to_le_bytes()[0];
            for side in 0..2 {
                let entry = table.entries[side][bucket];
                let symbol = (entry & 31) as usize;
                let [_, offset, ..] = entry.to_le_bytes();
                planes.offsets[side][0][bucket] = offset;
                planes.offsets[side][1][bucket] = (entry >> 16).to_le_bytes()[0] & 0xf;
                let [low, high, ..] = (entry >> 20).to_le_bytes();
                planes.frequency[0][symbol] = low;
                planes.frequency[1][symbol] = high;
            }
        }
        planes
    }

    /// Four vectors of 8 slots are packed to 32 bytes, in an order that unpacking undoes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn look_up<const WIDE: bool>(&self, states: [__m256i; 4]) -> Found {
        let [a, b, c, d] = states;
        let slots = |a, b| {
            let (a, b) = (
                _mm256_and_si256(a, slot_mask()),
                _mm256_and_si256(b, slot_mask()),
            );
            _mm256_packus_epi32(a, b)
        };
        let (ab, cd) = (slots(a, b), slots(c, d));
        let (bucket, inside) = if WIDE {
            let bits = _mm256_set1_epi16(0x7f);
            (
                _mm256_packus_epi16(_mm256_srli_epi16::<7>(ab), _mm256_srli_epi16::<7>(cd)),
                _mm256_packus_epi16(_mm256_and_si256(ab, bits), _mm256_and_si256(cd, bits)),
            )
        } else {
            let bits = _mm256_set1_epi16(0xff);
            (
                _mm256_packus_epi16(_mm256_srli_epi16::<8>(ab), _mm256_srli_epi16::<8>(cd)),
                _mm256_packus_epi16(_mm256_and_si256(ab, bits), _mm256_and_si256(cd, bits)),
            )
        };
        let by_bucket = Index::<WIDE>::new(bucket);
        let threshold = by_bucket.of(&self.threshold);
        let second = _mm256_cmpeq_epi8(_mm256_max_epu8(inside, threshold), inside);
        let symbol = _mm256_blendv_epi8(bucket, by_bucket.of(&self.other), second);
        let by_symbol = Index::<WIDE>::new(symbol);
        let [low, high] = &self.frequency;
        let frequency = [by_symbol.of(low), by_symbol.of(high)];
        let [first_side, second_side] = &self.offsets;
        let low = (by_bucket.of(&first_side[0]), by_bucket.of(&second_side[0]));
        let high = (by_bucket.of(&first_side[1]), by_bucket.of(&second_side[1]));
        let offset = [
            _mm256_blendv_epi8(low.0, low.1, second),
            _mm256_blendv_epi8(high.0, high.1, second),
        ];
        let frequencies = unpack_bytes(frequency);
        let offsets = unpack_bytes(offset);
        let [a, b] = unpack_words([offsets[0], frequencies[0]]);
        let [c, d] = unpack_words([offsets[1], frequencies[1]]);
        let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
        ));
        Found {
            entries: [a, b, c, d],
            symbols: _mm256_shuffle_epi8(symbol, order),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn unpack_bytes([low, high]: [__m256i; 2]) -> [__m256i; 2] {
    [
        _mm256_unpacklo_epi8(low, high),
        _mm256_unpackhi_epi8(low, high),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn unpack_words([low, high]: [__m256i; 2]) -> [__m256i; 2] {
    [
        _mm256_unpacklo_epi16(low, high),
        _mm256_unpackhi_epi16(low, high),
    ]
}

/// Places in planes. `WIDE`: of 32 bytes; else of 16.
struct Index<const WIDE: bool> {
    places: __m256i,
    /// The top bit of each byte says whether the place is among the last 16.
    upper: __m256i,
}

impl<const WIDE: bool> Index<WIDE> {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(places: __m256i) -> Self {
        Self {
            places,
            upper: _mm256_slli_epi16::<3>(places),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, plane: &[u8; SYMBOLS_MAX]) -> __m256i {
        // SAFETY: a plane has the bytes of two vectors, the second of which begins at 16.
        let (first, last) = unsafe {
            (
                _mm_loadu_si128(plane.as_ptr().cast()),
                _mm_loadu_si128(plane.as_ptr().add(16).cast()),
            )
        };
        let first = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(first), self.places);
        let last = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(last), self.places);
        if WIDE {
            _mm256_blendv_epi8(first, last, self.upper)
        } else {
            first
        }
    }
}

/// The classes of a group, 4 in each lane, if the set has them.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(each: &[u8; LANES], n_classes: usize) -> Option<[__m256i; 2]> {
    let last = u8::try_from(n_classes.checked_sub(1)?).ok()?;
    let last = _mm256_set1_epi8(last.cast_signed());
    let mut halves = [_mm256_setzero_si256(); 2];
    let mut known = _mm256_set1_epi8(-1);
    for (half, bytes) in halves.iter_mut().zip(each.as_chunks::<32>().0) {
        // SAFETY: 32 bytes are a vector.
        *half = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
        let within = _mm256_cmpeq_epi8(_mm256_max_epu8(*half, last), last);
        known = _mm256_and_si256(known, within);
    }
    (_mm256_movemask_epi8(known) == -1).then_some(halves)
}

/// The entries of slots in the tables of these classes, all of which are in `tables`.
#[inline]
#[target_feature(enable = "avx2")]
fn gather(tables: &[DecodeTable], class: __m256i, bucket: __m256i, slot: __m256i) -> __m256i {
    // A table is 96 numbers: thresholds, entries of first sides, entries of second sides.
    let table = _mm256_mullo_epi32(class, _mm256_set1_epi32(96));
    let at = _mm256_add_epi32(table, bucket);
    // SAFETY: classes are below the number of tables and buckets below 32, so that places lie in
    // the tables, whose layout is fixed (`repr(C)`).
    let threshold = unsafe { _mm256_i32gather_epi32::<4>(tables.as_ptr().cast(), at) };
    let first = _mm256_cmpgt_epi32(threshold, slot);
    let skipped = _mm256_add_epi32(_mm256_set1_epi32(64), _mm256_slli_epi32::<5>(first));
    let at = _mm256_add_epi32(at, skipped);
    // SAFETY: as above; places are now between 32 and 95 in their table.
    unsafe { _mm256_i32gather_epi32::<4>(tables.as_ptr().cast(), at) }
}
