//! Cutting in sealed repositories: FastCDC with a gear table that only key holders know.
//!
//! With a public table anybody can compute how a known file is cut, and look for that sequence of
//! lengths on a disk. With a keyed one the lengths say nothing without the key; and since stored
//! lengths are padded, they do not give the key away either (docs/threat-model.md; the attack is
//! a test of this module).

use std::fmt;

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use mmh_crypto::ChunkerKey;
use zeroize::Zeroizing;

/// The words of a gear hash, one for each byte.
type Table = Box<Zeroizing<[u64; 256]>>;

/// A gear table, and the same shifted by one, which the two-byte step of the 2020 version needs.
pub(crate) struct Gear {
    words: Table,
    shifted: Table,
}

/// Shows nothing of the table.
impl fmt::Debug for Gear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gear(secret)")
    }
}

impl Gear {
    /// The table of a repository.
    pub(crate) fn new(key: &ChunkerKey) -> Self {
        Self::of(key.gear())
    }

    fn of(words: Table) -> Self {
        let mut shifted = words.clone();
        shifted.iter_mut().for_each(|word| *word <<= 1);
        Self { words, shifted }
    }

    /// Length of the first chunk of `window`; lengths in bytes, shortest, average and longest.
    pub(crate) fn cut(&self, window: &[u8], (min, average, max): (usize, usize, usize)) -> usize {
        let (strict, relaxed) = select_masks(average, Normalization::Level1);
        let (_, cut) = cut_gear(
            window,
            min,
            average,
            max,
            strict,
            relaxed,
            strict << 1,
            relaxed << 1,
            &self.words[..],
            &self.shifted[..],
        );
        cut
    }
}

#[cfg(test)]
mod tests;
