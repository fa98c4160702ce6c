//! Encoding with NEON: the states as eight vectors of low and eight of high halves. Entries are
//! looked up bytewise where a whole group has one class, and slots are fetched one by one.

#![allow(unsafe_code, reason = "vectors are loaded and stored through pointers")]

use std::arch::aarch64::*;

use super::{HALVES, States, marks, zip};
use crate::entropy::reference::{check, encode_group, finish, index_in_group};
use crate::entropy::{
    Alphabet, Classes, EncodeSet, EncodeTable, LANES, PROB_SCALE, STATE_MIN, SYMBOLS_MAX,
};
use crate::error::Result;

/// Slots of one class.
const SLOTS: usize = PROB_SCALE as usize;
/// Words of a group, with room for a whole vector behind the last.
type Batch = [u16; LANES + 8];

/// For each set of 8 lanes, the places of their bytes, the last lane first.
static KEPT: [[u8; 16]; 256] = {
    let mut kept = [[0; 16]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut at) = (8, 0);
        while lane > 0 {
            lane -= 1;
            if set >> lane & 1 == 1 {
                kept[set][at] = 2 * lane;
                kept[set][at + 1] = 2 * lane + 1;
                at += 2;
            }
        }
        set += 1;
    }
    kept
};

/// Appends one block that codes `symbols`.
#[target_feature(enable = "neon")]
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
    match (classes, set.alphabet) {
        (Classes::Groups(classes), Alphabet::Sixteen) => {
            coder.groups::<false>(set, classes, groups, &mut words);
        }
        (Classes::Groups(classes), Alphabet::ThirtyTwo) => {
            coder.groups::<true>(set, classes, groups, &mut words);
        }
        (Classes::Symbols(each), _) => coder.each(set, each.as_chunks().0, groups, &mut words),
    }
    lacking |= vminvq_u16(coder.least) == 0;
    coder.states.store(&mut states);
    finish(&states, &words, lacking, out)
}

/// The states, and the least frequency that a symbol had.
struct Encoder {
    states: States,
    least: uint16x8_t,
}

impl Encoder {
    #[target_feature(enable = "neon")]
    fn new(states: &[u32; LANES]) -> Self {
        Self {
            states: States::load(states),
            least: vdupq_n_u16(1),
        }
    }

    /// Codes whole groups of one class each, the last first, and appends their words.
    #[target_feature(enable = "neon")]
    fn groups<const WIDE: bool>(
        &mut self,
        set: &EncodeSet,
        classes: &[u8],
        groups: &[[u8; LANES]],
        words: &mut Vec<u16>,
    ) {
        let tables: Vec<Planes<WIDE>> = set.tables.iter().map(Planes::new).collect();
        for (&class, group) in classes[..groups.len()].iter().zip(groups).rev() {
            let planes = &tables[usize::from(class)];
            let slots = &set.slots[usize::from(class) * SLOTS..][..SLOTS];
            // SAFETY: a group is the 64 bytes of four vectors.
            let symbols = unsafe { vld4q_u8(group.as_ptr()) };
            let entries = [
                planes.look_up(symbols.0),
                planes.look_up(symbols.1),
                planes.look_up(symbols.2),
                planes.look_up(symbols.3),
            ];
            self.code(&entries, |_, at| slots[usize::from(at) % SLOTS], words);
        }
    }

    /// Codes whole groups whose symbols have a class each, all of them in the set.
    #[target_feature(enable = "neon")]
    fn each(
        &mut self,
        set: &EncodeSet,
        classes: &[[u8; LANES]],
        groups: &[[u8; LANES]],
        words: &mut Vec<u16>,
    ) {
        for (each, group) in classes[..groups.len()].iter().zip(groups).rev() {
            let class = |k: usize| usize::from(each[index_in_group(k)]);
            let mut entries = [0; LANES];
            let mut reciprocals = [0.0; LANES];
            for (k, (entry, reciprocal)) in entries.iter_mut().zip(&mut reciprocals).enumerate() {
                let table = &set.tables[class(k)];
                let symbol = usize::from(group[index_in_group(k)]) % SYMBOLS_MAX;
                (*entry, *reciprocal) = (table.symbols[symbol], table.reciprocals[symbol]);
            }
            let entries = Entries::load(&entries, &reciprocals);
            let slot = |k: usize, at: u16| set.slots[class(k) * SLOTS + usize::from(at)];
            self.code(&entries, slot, words);
        }
    }

    /// Codes a symbol in each state. `slot` gives the slot of state `k` at a place of its class.
    #[inline]
    #[target_feature(enable = "neon")]
    fn code(
        &mut self,
        entries: &[Entries; 4],
        slot: impl Fn(usize, u16) -> u16,
        words: &mut Vec<u16>,
    ) {
        let States { low, high } = &mut self.states;
        let frequency = |k: usize| entries[k / 2].frequency[k % 2];
        let mut full = [vdupq_n_u16(0); HALVES];
        for (k, full) in full.iter_mut().enumerate() {
            self.least = vminq_u16(self.least, frequency(k));
            // state >= frequency << 20
            *full = vcgeq_u16(high[k], vshlq_n_u16::<4>(frequency(k)));
        }
        push(low, marks(&full), words);
        let mut places = [0; LANES];
        for (k, places) in places.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let reciprocals = &entries[k / 2].reciprocals;
            let x = (
                vbslq_u16(full[k], high[k], low[k]),
                vbicq_u16(high[k], full[k]),
            );
            let (quotient, rank) = divide(
                x,
                frequency(k),
                [reciprocals[2 * (k % 2)], reciprocals[2 * (k % 2) + 1]],
            );
            let at = vaddq_u16(rank, entries[k / 2].first[k % 2]);
            let at = vandq_u16(at, vdupq_n_u16(0xfff));
            // SAFETY: 8 places are the 16 bytes of a vector.
            unsafe { vst1q_u16(places.as_mut_ptr(), at) };
            // The new state is quotient << 12 | slot.
            let [first, last] = quotient;
            high[k] = vshrn_high_n_u32::<4>(vshrn_n_u32::<4>(first), last);
            low[k] = vuzp1q_u16(vreinterpretq_u16_u32(first), vreinterpretq_u16_u32(last));
        }
        for (k, place) in places.iter_mut().enumerate() {
            *place = slot(k, *place);
        }
        for (low, slots) in low.iter_mut().zip(places.as_chunks::<8>().0) {
            // SAFETY: 8 slots are the 16 bytes of a vector.
            *low = vsliq_n_u16::<12>(unsafe { vld1q_u16(slots.as_ptr()) }, *low);
        }
    }
}

/// Appends the words in the marked lanes, those of the last state first.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn push(low: &[uint16x8_t; HALVES], marks: uint8x8_t, words: &mut Vec<u16>) {
    let mut batch: Batch = [0; LANES + 8];
    let mut len = 0;
    let lanes = vget_lane_u64::<0>(vreinterpret_u64_u8(marks)).to_le_bytes();
    let counts = vget_lane_u64::<0>(vreinterpret_u64_u8(vcnt_u8(marks))).to_le_bytes();
    for ((&low, lanes), count) in low.iter().zip(lanes).zip(counts).rev() {
        // SAFETY: an order is the 16 bytes of a vector.
        let order = unsafe { vld1q_u8(KEPT[usize::from(lanes)].as_ptr()) };
        let kept = vqtbl1q_u8(vreinterpretq_u8_u16(low), order);
        // SAFETY: before the last of 8 vectors at most 56 words were written, and 8 are now.
        unsafe { vst1q_u16(batch.as_mut_ptr().add(len), vreinterpretq_u16_u8(kept)) };
        len += usize::from(count);
    }
    words.extend_from_slice(&batch[..len]);
}

/// The quotients and remainders of states below `frequency << 20`, given as their low and high
/// halves.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn divide(
    (low, high): (uint16x8_t, uint16x8_t),
    frequency: uint16x8_t,
    reciprocals: [float32x4_t; 2],
) -> ([uint32x4_t; 2], uint16x8_t) {
    let quotient = |x: uint16x8_t, reciprocal: float32x4_t| {
        let x = vcvtq_f32_u32(vreinterpretq_u32_u16(x));
        vcvtq_u32_f32(vmulq_f32(x, reciprocal))
    };
    let first = quotient(vzip1q_u16(low, high), reciprocals[0]);
    let last = quotient(vzip2q_u16(low, high), reciprocals[1]);
    let lowest = vuzp1q_u16(vreinterpretq_u16_u32(first), vreinterpretq_u16_u32(last));
    // Below twice the frequency, so that its low half is all of it.
    let rank = vmlsq_u16(low, lowest, frequency);
    let over = vcgeq_u16(rank, frequency);
    let rank = vsubq_u16(rank, vandq_u16(frequency, over));
    // A lane that is over is -1.
    let over = vreinterpretq_s16_u16(over);
    let first = vsubw_s16(vreinterpretq_s32_u32(first), vget_low_s16(over));
    let last = vsubw_high_s16(vreinterpretq_s32_u32(last), over);
    (
        [vreinterpretq_u32_s32(first), vreinterpretq_u32_s32(last)],
        rank,
    )
}

/// What is needed of the symbols of a quarter of the states.
pub(super) struct Entries {
    pub(super) frequency: [uint16x8_t; 2],
    pub(super) first: [uint16x8_t; 2],
    pub(super) reciprocals: [float32x4_t; 4],
}

impl Entries {
    /// Of the lowest three bytes of entries.
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(bytes: [uint8x16_t; 3], reciprocals: [float32x4_t; 4]) -> Self {
        let [low, middle, high] = bytes;
        let frequency = vdupq_n_u16(0xfff);
        Self {
            frequency: zip(low, middle).map(|x| vandq_u16(x, frequency)),
            first: zip(middle, high).map(|x| vshrq_n_u16::<4>(x)),
            reciprocals,
        }
    }

    /// Of entries and reciprocals in the order of states.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn load(entries: &[u32; LANES], reciprocals: &[f32; LANES]) -> [Self; 4] {
        let (entries, _) = entries.as_chunks::<16>();
        let (reciprocals, _) = reciprocals.as_chunks::<16>();
        let quarter = |j: usize| {
            // SAFETY: 16 entries, and 16 reciprocals, are the 64 bytes of four vectors.
            let (bytes, reciprocals) = unsafe {
                (
                    vld4q_u8(entries[j].as_ptr().cast()),
                    vld1q_f32_x4(reciprocals[j].as_ptr()),
                )
            };
            let float32x4x4_t(a, b, c, d) = reciprocals;
            Self::new([bytes.0, bytes.1, bytes.2], [a, b, c, d])
        };
        [quarter(0), quarter(1), quarter(2), quarter(3)]
    }
}

/// The table of a class as planes of bytes. `WIDE`: of 32 symbols; else of 16.
pub(super) struct Planes<const WIDE: bool> {
    entries: [[u8; SYMBOLS_MAX]; 3],
    reciprocals: [[u8; SYMBOLS_MAX]; 4],
}

impl<const WIDE: bool> Planes<WIDE> {
    pub(super) fn new(table: &EncodeTable) -> Self {
        let mut planes = Self {
            entries: [[0; SYMBOLS_MAX]; 3],
            reciprocals: [[0; SYMBOLS_MAX]; 4],
        };
        for symbol in 0..SYMBOLS_MAX {
            let entry = table.symbols[symbol].to_le_bytes();
            for (plane, byte) in planes.entries.iter_mut().zip(entry) {
                plane[symbol] = byte;
            }
            let reciprocal = table.reciprocals[symbol].to_le_bytes();
            for (plane, byte) in planes.reciprocals.iter_mut().zip(reciprocal) {
                plane[symbol] = byte;
            }
        }
        planes
    }

    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn look_up(&self, symbols: uint8x16_t) -> Entries {
        let of = |plane: &[u8; SYMBOLS_MAX]| {
            // SAFETY: a plane is the 32 bytes of two vectors.
            let plane = unsafe { vld1q_u8_x2(plane.as_ptr()) };
            if WIDE {
                vqtbl2q_u8(plane, symbols)
            } else {
                vqtbl1q_u8(plane.0, symbols)
            }
        };
        let [a, b, c, d] = &self.reciprocals;
        let (lower, upper) = (zip(of(a), of(b)), zip(of(c), of(d)));
        let first = |half: usize| vreinterpretq_f32_u16(vzip1q_u16(lower[half], upper[half]));
        let last = |half: usize| vreinterpretq_f32_u16(vzip2q_u16(lower[half], upper[half]));
        let [low, middle, high] = &self.entries;
        Entries::new(
            [of(low), of(middle), of(high)],
            [first(0), last(0), first(1), last(1)],
        )
    }
}
