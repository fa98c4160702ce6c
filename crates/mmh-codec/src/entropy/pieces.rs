//! The slots of a distribution as pieces that lie in a row, so small that an encoder keeps them in
//! registers: what a table of 4096 slots says, without a load for each symbol.
//!
//! A bucket's side is a run of slots of one symbol whose ranks run too. So the ranks of a symbol fall
//! into pieces, at most 64 of all symbols together, and in each of them the slot is the rank and a
//! constant. Ranks become *places*: those of a symbol follow its first place, which is a multiple of
//! 64. The 64 places of a *cell* tell almost which piece is meant: few pieces end within a cell.

use super::model::{Alphabet, Levels, PROB_BITS, SYMBOLS_MAX, for_each_side};

/// Places of a cell, as a power of two.
pub(super) const CELL_BITS: u32 = 6;
/// Cells that a table has room for; at most 96 are used: 4096 places, and 63 lost for each symbol.
const CELLS: usize = 128;
/// Pieces that a table has room for: two for each bucket.
const PIECES: usize = 64;
/// Pieces that may end within one cell: with more, loads are as fast.
const ENDS_MAX: usize = 8;

/// The pieces of one distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Pieces {
    /// `first << 12 | frequency` of each symbol, where *first* is its first place.
    pub(super) symbols: [u32; SYMBOLS_MAX],
    /// The piece in which each cell begins.
    pub(super) cells: [u8; CELLS],
    /// The place after each piece; the last of a symbol has no end.
    pub(super) ends: [u16; PIECES],
    /// What is added to a place of each piece to get the slot, modulo 2^16.
    pub(super) shifts: [u16; PIECES],
    /// The most pieces that end within one cell.
    pub(super) n_ends: usize,
}

impl Pieces {
    /// The pieces of `levels`, whose symbols beyond the alphabet must have level 0. `None` if more
    /// than [`ENDS_MAX`] end within a cell, which is rare.
    pub(super) fn new(levels: &Levels, alphabet: Alphabet) -> Option<Self> {
        let freqs = levels.frequencies();
        // Sides come in the order of slots: sorted by symbol they are in the order of ranks.
        let mut sides = Vec::with_capacity(PIECES);
        for_each_side(&freqs, alphabet, |side| {
            if side.n_slots > 0 {
                sides.push((side.symbol, side.first_slot, side.n_slots));
            }
        });
        sides.sort_by_key(|(symbol, ..)| *symbol);
        let mut pieces = Self {
            symbols: [0; SYMBOLS_MAX],
            cells: [0; CELLS],
            ends: [u16::MAX; PIECES],
            shifts: [0; PIECES],
            n_ends: 0,
        };
        let mut n_ends = [0; CELLS];
        let mut place = 0_u32;
        for (n, &(symbol, first_slot, n_slots)) in sides.iter().enumerate() {
            let cell = |place: u32| (place >> CELL_BITS) as usize;
            if n == 0 || sides[n - 1].0 != symbol {
                place = place.next_multiple_of(1 << CELL_BITS);
                pieces.symbols[symbol] = place << PROB_BITS | u32::from(freqs[symbol]);
            } else {
                pieces.ends[n - 1] = low_word(place);
                n_ends[cell(place)] += 1;
            }
            pieces.shifts[n] = low_word(first_slot.wrapping_sub(place));
            let next = place + n_slots;
            let begun = cell(place + (1 << CELL_BITS) - 1)..cell(next - 1) + 1;
            pieces.cells[begun].fill(u8::try_from(n).expect("at most 64 sides"));
            place = next;
        }
        pieces.n_ends = n_ends.into_iter().fold(0, usize::max);
        (pieces.n_ends <= ENDS_MAX).then_some(pieces)
    }

    /// The slot of a place: what encoders with vectors do for many.
    #[cfg(test)]
    fn slot(&self, place: u16) -> u16 {
        let mut piece = usize::from(self.cells[(place >> CELL_BITS) as usize]);
        for _ in 0..self.n_ends {
            piece += usize::from(place >= self.ends[piece]);
        }
        place.wrapping_add(self.shifts[piece])
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "numbers modulo 2^16 are what is wanted"
)]
fn low_word(x: u32) -> u16 {
    x as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::model::{EncodeTable, LEVEL_MAX, PROB_SCALE};
    use super::*;

    /// Compares all places with the slots; `false` if there are no pieces.
    fn check(levels: &Levels, alphabet: Alphabet) -> bool {
        let Some(pieces) = Pieces::new(levels, alphabet) else {
            return false;
        };
        let mut slots = Vec::new();
        let table = EncodeTable::new(levels, alphabet, &mut slots);
        for (entry, padded) in table.symbols.iter().zip(pieces.symbols) {
            let freq = entry & (PROB_SCALE - 1);
            assert_eq!(padded & (PROB_SCALE - 1), freq);
            for rank in 0..freq {
                let slot = slots[((entry >> PROB_BITS) + rank) as usize];
                let place = u16::try_from((padded >> PROB_BITS) + rank).unwrap();
                assert_eq!(pieces.slot(place), slot);
            }
        }
        true
    }

    proptest! {
        #[test]
        fn pieces_say_what_slots_say(values in prop::array::uniform32(0..=LEVEL_MAX), keep in 0u32..) {
            let mut levels = Levels(values);
            for (i, level) in levels.0.iter_mut().enumerate() {
                if keep >> i & 1 == 0 { *level = 0; }
            }
            check(&levels, Alphabet::ThirtyTwo);
            levels.0[16..].fill(0);
            check(&levels, Alphabet::Sixteen);
        }
    }

    /// Exponents of normal weights, of which each next one is half as frequent.
    #[test]
    fn weights_have_pieces() {
        for alphabet in [Alphabet::Sixteen, Alphabet::ThirtyTwo] {
            let n = alphabet.size();
            let found = (0..n).filter(|top| {
                let mut counts = std::array::from_fn(|i| 1 << 20 >> top.abs_diff(i).min(20));
                counts[n..].fill(0);
                check(&Levels::from_counts(&counts), alphabet)
            });
            assert!(found.count() > n * 3 / 4, "{alphabet:?}");
        }
    }
}
