//! Decoding with NEON: the states as eight vectors of low and eight of high halves. Where a whole
//! group has one class, its alias table is looked up bytewise, 16 slots at a time; where each symbol
//! has its own, entries are fetched one by one. The rest of a step is the same.
//!
//! The last groups of a block, whose words do not fill what a step may load, go through the
//! reference.

#![allow(unsafe_code, reason = "vectors are loaded and stored through pointers")]

use std::arch::aarch64::*;

use super::{HALVES, States, marks, zip};
use crate::entropy::reference::{Cursor, GROUP_LEN_MAX, index_in_group};
use crate::entropy::{
    Alphabet, Classes, DecodeSet, DecodeTable, LANES, PROB_SCALE, STATE_MIN, SYMBOLS_MAX,
};
use crate::error::Result;

/// Fills `symbols` from one block.
#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
fn of_groups<const WIDE: bool>(
    cursor: &mut Cursor<'_>,
    set: &DecodeSet,
    classes: &[u8],
    groups: &mut [[u8; LANES]],
) -> usize {
    let tables: Vec<Planes<WIDE>> = set.tables.iter().map(Planes::new).collect();
    let mut states = States::load(&cursor.states);
    let mut done = 0;
    for (group, &class) in groups.iter_mut().zip(classes) {
        let (Some(planes), Some(window)) =
            (tables.get(usize::from(class)), cursor.words.first_chunk())
        else {
            break;
        };
        let used = states.step(|low| planes.look_up(low), window, group);
        cursor.words = &cursor.words[2 * used..];
        done += 1;
    }
    states.store(&mut cursor.states);
    done
}

/// Decodes groups whose symbols have a class each, as many as it can, and says how many that were.
#[target_feature(enable = "neon")]
fn of_symbols(
    cursor: &mut Cursor<'_>,
    set: &DecodeSet,
    classes: &[[u8; LANES]],
    groups: &mut [[u8; LANES]],
) -> usize {
    let mut states = States::load(&cursor.states);
    let mut done = 0;
    for (group, each) in groups.iter_mut().zip(classes) {
        let Some(window) = cursor.words.first_chunk() else {
            break;
        };
        let slots = states.slots();
        let found = match set.alphabet {
            Alphabet::Sixteen => fetch::<8>(&set.tables, each, &slots),
            Alphabet::ThirtyTwo => fetch::<7>(&set.tables, each, &slots),
        };
        let Some(entries) = found else {
            break;
        };
        let quarters = entries.as_chunks().0;
        let load = |_: &_| std::array::from_fn(|j| Quarter::load(&quarters[j]));
        let used = states.step(load, window, group);
        cursor.words = &cursor.words[2 * used..];
        done += 1;
    }
    states.store(&mut cursor.states);
    done
}

/// The entry of each state's slot, in the order of states, if all classes have a table.
#[inline(always)]
pub(super) fn fetch<const BUCKET_BITS: u32>(
    tables: &[DecodeTable],
    each: &[u8; LANES],
    slots: &[u16; LANES],
) -> Option<[u32; LANES]> {
    let mut entries = [0; LANES];
    for (k, (entry, slot)) in entries.iter_mut().zip(slots).enumerate() {
        let table = tables.get(usize::from(each[index_in_group(k)]))?;
        let slot = u32::from(*slot);
        let bucket = (slot >> BUCKET_BITS) as usize % SYMBOLS_MAX;
        let side = usize::from(slot >= table.threshold[bucket]);
        *entry = table.entries[side][bucket];
    }
    Some(entries)
}

/// For each set of 8 lanes: from which bytes of the next words theirs come; zeros elsewhere.
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

impl States {
    /// The slots that the states stand in.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn slots(&self) -> [u16; LANES] {
        let mut slots = [0; LANES];
        for (eight, &low) in slots.as_chunks_mut::<8>().0.iter_mut().zip(&self.low) {
            // SAFETY: 8 slots are the 16 bytes of a vector.
            unsafe { vst1q_u16(eight.as_mut_ptr(), vandq_u16(low, slot_mask())) };
        }
        slots
    }

    /// Writes the symbols of the slots that the states stand in, whose entries `find` gives from the
    /// low halves; brings the states behind them, and says how many words these took.
    #[inline]
    #[target_feature(enable = "neon")]
    fn step(
        &mut self,
        find: impl FnOnce(&[uint16x8_t; HALVES]) -> [Quarter; 4],
        window: &[u8; GROUP_LEN_MAX],
        group: &mut [u8; LANES],
    ) -> usize {
        const { assert!(STATE_MIN == 1 << 16) };
        let quarters = find(&self.low);
        let [a, b, c, d] = quarters.map(|quarter| quarter.symbols);
        // SAFETY: a group is the 64 bytes of four vectors.
        unsafe { vst4q_u8(group.as_mut_ptr(), uint8x16x4_t(a, b, c, d)) };
        let mut short = [vdupq_n_u16(0); HALVES];
        for (k, short) in short.iter_mut().enumerate() {
            let (quarter, half) = (&quarters[k / 2], k % 2);
            let (offset, frequency) = (quarter.offsets[half], quarter.frequencies[half]);
            (self.low[k], self.high[k]) = advance(self.low[k], self.high[k], offset, frequency);
            *short = vceqzq_u16(self.high[k]);
        }
        let words = Words::new(marks(&short), window);
        for (k, &short) in short.iter().enumerate() {
            let next = words.of(k);
            let low = self.low[k];
            self.high[k] = vbslq_u16(short, low, self.high[k]);
            self.low[k] = vbslq_u16(short, next, low);
        }
        words.used()
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn slot_mask() -> uint16x8_t {
    const { assert!(PROB_SCALE == 1 << 12) };
    vdupq_n_u16(0xfff)
}

/// The halves of states behind symbols of 16 times these frequencies, whose ranks are their slots
/// plus the low 12 bits of `offset`; before words are taken.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn advance(
    low: uint16x8_t,
    high: uint16x8_t,
    offset: uint16x8_t,
    frequency: uint16x8_t,
) -> (uint16x8_t, uint16x8_t) {
    let rank = vandq_u16(vaddq_u16(low, offset), slot_mask());
    // frequency * (state >> 12) + rank, of which the part without the high half fits 16 bits:
    // 4095 * 15 + 4095.
    let part = vmlaq_u16(rank, vshrq_n_u16::<4>(frequency), vshrq_n_u16::<12>(low));
    let first = vmull_u16(vget_low_u16(frequency), vget_low_u16(high));
    let first = vreinterpretq_u16_u32(vaddw_u16(first, vget_low_u16(part)));
    let last = vreinterpretq_u16_u32(vaddw_high_u16(vmull_high_u16(frequency, high), part));
    (vuzp1q_u16(first, last), vuzp2q_u16(first, last))
}

/// The words that the symbols of a group take.
pub(super) struct Words<'a> {
    window: &'a [u8; GROUP_LEN_MAX],
    /// For each vector, the lanes that take one.
    lanes: [u8; HALVES],
    /// For each vector, how many it and those before it take.
    ends: u64,
}

impl<'a> Words<'a> {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new(lanes: uint8x8_t, window: &'a [u8; GROUP_LEN_MAX]) -> Self {
        let counts = vget_lane_u64::<0>(vreinterpret_u64_u8(vcnt_u8(lanes)));
        Self {
            window,
            lanes: vget_lane_u64::<0>(vreinterpret_u64_u8(lanes)).to_le_bytes(),
            ends: counts.wrapping_mul(0x0101_0101_0101_0101),
        }
    }

    /// Each lane's word, for the lanes of vector `k` that take one.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn of(&self, k: usize) -> uint16x8_t {
        let start = (self.ends << 8).to_le_bytes()[k % HALVES];
        let places = &SPREAD[usize::from(self.lanes[k % HALVES])];
        // SAFETY: places are the 16 bytes of a vector. Before vector k of 8 at most 8 k words were
        // taken, so that 8 are left in the window of 64.
        let (next, places) = unsafe {
            (
                vld1q_u8(self.window.as_ptr().add(2 * usize::from(start))),
                vld1q_u8(places.as_ptr()),
            )
        };
        vreinterpretq_u16_u8(vqtbl1q_u8(next, places))
    }

    pub(super) fn used(&self) -> usize {
        usize::from(self.ends.to_le_bytes()[HALVES - 1])
    }
}

/// The entries of 16 slots, those of a quarter of the states.
#[derive(Clone, Copy)]
pub(super) struct Quarter {
    pub(super) symbols: uint8x16_t,
    /// Offsets in the low 12 bits.
    pub(super) offsets: [uint16x8_t; 2],
    /// 16 times the frequencies.
    pub(super) frequencies: [uint16x8_t; 2],
}

impl Quarter {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn load(entries: &[u32; 16]) -> Self {
        // SAFETY: 16 entries are the 64 bytes of four vectors.
        let uint32x4x4_t(a, b, c, d) = unsafe { vld1q_u32_x4(entries.as_ptr()) };
        let words = |x| vreinterpretq_u16_u32(x);
        let low = |x, y| vreinterpretq_u8_u16(vuzp1q_u16(words(x), words(y)));
        let offsets = |x, y| vshrn_high_n_u32::<8>(vshrn_n_u32::<8>(x), y);
        let upper = |x, y| vandq_u16(vuzp2q_u16(words(x), words(y)), vdupq_n_u16(0xfff0));
        Self {
            symbols: vuzp1q_u8(low(a, b), low(c, d)),
            offsets: [offsets(a, b), offsets(c, d)],
            frequencies: [upper(a, b), upper(c, d)],
        }
    }
}

/// An alias table as bytes. `WIDE`: of 32 buckets; else of 16.
pub(super) struct Planes<const WIDE: bool> {
    /// By bucket: the slot in the bucket where the second side begins, at the top of the byte. If a
    /// bucket has no second side, its entries are equal, and any place will do.
    threshold: [u8; SYMBOLS_MAX],
    /// The four bytes of entries: of the first sides of all buckets, then of the second sides.
    entries: [[u8; 2 * SYMBOLS_MAX]; 4],
}

impl<const WIDE: bool> Planes<WIDE> {
    const SIZE: u8 = if WIDE { 32 } else { 16 };

    pub(super) fn new(table: &DecodeTable) -> Self {
        let mut planes = Self {
            threshold: [0; SYMBOLS_MAX],
            entries: [[0; 2 * SYMBOLS_MAX]; 4],
        };
        let size = usize::from(Self::SIZE);
        for bucket in 0..size {
            let before = bucket * (PROB_SCALE as usize / size);
            let within = (table.threshold[bucket] as usize).saturating_sub(before);
            let within = if WIDE { 2 * within } else { within };
            planes.threshold[bucket] = u8::try_from(within).unwrap_or(u8::MAX);
            for side in 0..2 {
                let entry = table.entries[side][bucket].to_le_bytes();
                for (plane, byte) in planes.entries.iter_mut().zip(entry) {
                    plane[side * size + bucket] = byte;
                }
            }
        }
        planes
    }

    /// The entries of the slots that states with these low halves stand in.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn look_up(&self, low: &[uint16x8_t; HALVES]) -> [Quarter; 4] {
        let places = [
            self.places(low[0], low[1]),
            self.places(low[2], low[3]),
            self.places(low[4], low[5]),
            self.places(low[6], low[7]),
        ];
        // One plane after the other, because one fills four registers.
        let [firsts, seconds, thirds, fourths] = self.entries.each_ref().map(|plane| {
            // SAFETY: a plane is the 64 bytes of four vectors.
            let plane = unsafe { vld1q_u8_x4(plane.as_ptr()) };
            places.map(|places| {
                if WIDE {
                    vqtbl4q_u8(plane, places)
                } else {
                    vqtbl2q_u8(uint8x16x2_t(plane.0, plane.1), places)
                }
            })
        });
        std::array::from_fn(|j| Quarter {
            symbols: firsts[j],
            offsets: zip(seconds[j], thirds[j]),
            frequencies: zip(vandq_u8(thirds[j], vdupq_n_u8(0xf0)), fourths[j]),
        })
    }

    /// The places of 16 slots in the planes of entries.
    #[inline]
    #[target_feature(enable = "neon")]
    fn places(&self, first: uint16x8_t, last: uint16x8_t) -> uint8x16_t {
        // The place inside a bucket comes to the top of the low byte, the bucket into the high one.
        let (first, last) = if WIDE {
            (vshlq_n_u16::<1>(first), vshlq_n_u16::<1>(last))
        } else {
            (first, last)
        };
        let (first, last) = (vreinterpretq_u8_u16(first), vreinterpretq_u8_u16(last));
        let inside = vuzp1q_u8(first, last);
        let bucket = vandq_u8(vuzp2q_u8(first, last), vdupq_n_u8(Self::SIZE - 1));
        // SAFETY: thresholds are the 32 bytes of two vectors.
        let thresholds = unsafe { vld1q_u8_x2(self.threshold.as_ptr()) };
        let threshold = if WIDE {
            vqtbl2q_u8(thresholds, bucket)
        } else {
            vqtbl1q_u8(thresholds.0, bucket)
        };
        let second = vandq_u8(vcgeq_u8(inside, threshold), vdupq_n_u8(Self::SIZE));
        vorrq_u8(bucket, second)
    }
}
