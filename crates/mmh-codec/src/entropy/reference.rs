//! The engine to be read: plain scalar loops, the twin in code of FORMAT.md's "Coded blocks".

use super::states::{put_states, take_states};
use super::{
    Classes, DecodeSet, DecodeTable, EncodeSet, EncodeTable, Engine, LANES, PROB_BITS, PROB_SCALE,
    STATE_MIN,
};
use crate::error::{Error, Result, corrupt};

/// Bytes that one group of 64 symbols takes at most.
pub(super) const GROUP_LEN_MAX: usize = 2 * LANES;

/// The scalar engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference;

/// The index in its group of the `k`th symbol in coding order, which is also that of state `k`.
pub(super) const fn index_in_group(k: usize) -> usize {
    4 * (k % 16) + k / 16
}

impl Engine for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn encode(
        &self,
        set: &EncodeSet,
        classes: Classes<'_>,
        symbols: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        check(set, classes, symbols)?;
        let mut states = [STATE_MIN; LANES];
        // Words come out last first.
        let mut words = Vec::with_capacity(symbols.len() / 4);
        let mut lacking = false;
        for (g, group) in symbols.chunks(LANES).enumerate().rev() {
            lacking |= match classes {
                Classes::Groups(groups) => {
                    let coder = set.coder(groups[g]);
                    encode_group(|_| coder, group, &mut states, &mut words)
                }
                Classes::Symbols(each) => {
                    let each = &each[g * LANES..];
                    encode_group(|i| set.coder(each[i]), group, &mut states, &mut words)
                }
            }
        }
        finish(&states, &words, lacking, out)
    }

    fn decode(
        &self,
        set: &DecodeSet,
        classes: Classes<'_>,
        block: &[u8],
        symbols: &mut [u8],
    ) -> Result<()> {
        let mut cursor = Cursor::start(block)?;
        cursor.groups(set, classes, 0, symbols)?;
        cursor.finish()
    }
}

/// Finds out beforehand what the loops take for granted.
pub(super) fn check(set: &EncodeSet, classes: Classes<'_>, symbols: &[u8]) -> Result<()> {
    let (classes, needed) = match classes {
        Classes::Groups(classes) => (classes, symbols.len().div_ceil(LANES)),
        Classes::Symbols(classes) => (classes, symbols.len()),
    };
    let highest = |bytes: &[u8]| usize::from(bytes.iter().fold(0, |highest, &b| b.max(highest)));
    let known = classes.is_empty() || highest(classes) < set.tables.len();
    let whole = set.slots.len() == set.tables.len() * PROB_SCALE as usize + 1;
    if classes.len() < needed || !known || !whole {
        return Err(Error::Unencodable {
            what: "a class has no distribution",
        });
    }
    if highest(symbols) >= set.alphabet.size() {
        return Err(Error::Unencodable {
            what: "a symbol is outside its alphabet",
        });
    }
    Ok(())
}

/// Words that are turned round at once.
const TURNED: usize = 512;

/// Appends a block of these states and these words, of which the last comes first.
#[inline(always)]
pub(super) fn finish(
    states: &[u32; LANES],
    words: &[u16],
    lacking: bool,
    out: &mut Vec<u8>,
) -> Result<()> {
    if lacking {
        return Err(Error::Unencodable {
            what: "a symbol has no frequency in its class",
        });
    }
    put_states(states, out);
    let mut turned = [[0; 2]; TURNED];
    for part in words.rchunks(TURNED) {
        for (to, word) in turned.iter_mut().zip(part.iter().rev()) {
            *to = word.to_le_bytes();
        }
        out.extend_from_slice(turned[..part.len()].as_flattened());
    }
    Ok(())
}

/// What codes the symbols of one class.
#[derive(Clone, Copy)]
pub(super) struct Coder<'a> {
    table: &'a EncodeTable,
    slots: &'a [u16],
}

impl EncodeSet {
    /// The coder of a class that [`check`] found in the set.
    #[inline(always)]
    pub(super) fn coder(&self, class: u8) -> Coder<'_> {
        let first = usize::from(class) * PROB_SCALE as usize;
        Coder {
            table: &self.tables[usize::from(class)],
            slots: &self.slots[first..first + PROB_SCALE as usize],
        }
    }
}

/// Codes a group, appends its words, and says whether a symbol had no frequency.
#[inline(always)]
pub(super) fn encode_group<'a>(
    coder: impl Fn(usize) -> Coder<'a>,
    group: &[u8],
    states: &mut [u32; LANES],
    words: &mut Vec<u16>,
) -> bool {
    let mut lacking = false;
    // Each symbol writes a word, and what counts is how many of them are kept.
    let mut kept = [0u16; LANES];
    let mut n_kept = 0;
    for (k, state) in states.iter_mut().enumerate().rev() {
        let i = index_in_group(k);
        let Some(&symbol) = group.get(i) else {
            continue;
        };
        let Coder { table, slots } = coder(i);
        let symbol = usize::from(symbol & 31);
        let entry = table.symbols[symbol];
        let (freq, first) = (entry & (PROB_SCALE - 1), entry >> PROB_BITS);
        let full = u32::from(*state >= freq << 20);
        kept[n_kept & (LANES - 1)] = low_word(*state);
        n_kept += full as usize;
        let x = *state >> (16 * full);
        lacking |= freq == 0;
        let (quotient, rank) = (x / freq.max(1), x % freq.max(1));
        let slot = slots[((first + rank) & (PROB_SCALE - 1)) as usize];
        *state = quotient << PROB_BITS | u32::from(slot);
    }
    words.extend_from_slice(&kept[..n_kept]);
    lacking
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the low word is what is wanted"
)]
fn low_word(x: u32) -> u16 {
    x as u16
}

/// A block in the middle of being decoded.
pub(crate) struct Cursor<'a> {
    pub(super) states: [u32; LANES],
    /// The words that are left.
    pub(super) words: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Reads the states at the head of a block.
    pub(super) fn start(block: &'a [u8]) -> Result<Self> {
        let (states, words) = take_states(block)?;
        Ok(Self { states, words })
    }

    /// Decodes groups of which the first is number `first` of the block.
    pub(crate) fn groups(
        &mut self,
        set: &DecodeSet,
        classes: Classes<'_>,
        first: usize,
        symbols: &mut [u8],
    ) -> Result<()> {
        match set.alphabet.bucket_bits() {
            7 => self.groups_of::<7>(set, classes, first, symbols),
            _ => self.groups_of::<8>(set, classes, first, symbols),
        }
    }

    fn groups_of<const BUCKET_BITS: u32>(
        &mut self,
        set: &DecodeSet,
        classes: Classes<'_>,
        first: usize,
        symbols: &mut [u8],
    ) -> Result<()> {
        let Self { states, words } = self;
        for (g, group) in (first..).zip(symbols.chunks_mut(LANES)) {
            let tables = match classes {
                Classes::Groups(groups) => {
                    let table = groups
                        .get(g)
                        .and_then(|&class| set.tables.get(usize::from(class)));
                    Tables::One(table.ok_or(NO_CLASS)?)
                }
                Classes::Symbols(each) => {
                    let each = each
                        .get(g * LANES..g * LANES + group.len())
                        .ok_or(NO_CLASS)?;
                    if each
                        .iter()
                        .any(|&class| usize::from(class) >= set.tables.len())
                    {
                        return Err(NO_CLASS);
                    }
                    Tables::Each(each)
                }
            };
            let used = match (tables, words.first_chunk(), group.as_mut_array()) {
                (Tables::One(table), Some(window), Some(group)) => {
                    fast_group::<BUCKET_BITS>(|_| table, states, window, group)
                }
                (Tables::Each(each), Some(window), Some(group)) => {
                    let table = |i: usize| &set.tables[usize::from(each[i])];
                    fast_group::<BUCKET_BITS>(table, states, window, group)
                }
                (Tables::One(table), _, _) => {
                    last_group::<BUCKET_BITS>(|_| table, states, words, group)?
                }
                (Tables::Each(each), _, _) => {
                    let table = |i: usize| &set.tables[usize::from(each[i])];
                    last_group::<BUCKET_BITS>(table, states, words, group)?
                }
            };
            *words = &words[used..];
        }
        Ok(())
    }

    /// Checks that the block ends here.
    pub(crate) fn finish(self) -> Result<()> {
        if !self.words.is_empty() || self.states.iter().any(|&state| state != STATE_MIN) {
            return corrupt("a block does not end as it must");
        }
        Ok(())
    }
}

const NO_CLASS: Error = Error::Corrupt {
    what: "a class has no distribution",
};

enum Tables<'a> {
    One(&'a DecodeTable),
    Each(&'a [u8]),
}

/// One symbol and the state before renormalisation.
#[inline(always)]
fn step<const BUCKET_BITS: u32>(table: &DecodeTable, x: u32) -> (u8, u32) {
    let slot = x & (PROB_SCALE - 1);
    let bucket = (slot >> BUCKET_BITS) as usize;
    let side = usize::from(slot >= table.threshold[bucket]);
    let entry = table.entries[side][bucket];
    let rank = (slot + (entry >> 8)) & (PROB_SCALE - 1);
    (
        entry.to_le_bytes()[0],
        (entry >> 20)
            .wrapping_mul(x >> PROB_BITS)
            .wrapping_add(rank),
    )
}

/// A whole group, with enough bytes ahead for the most words that it can take.
#[inline(always)]
fn fast_group<'a, const BUCKET_BITS: u32>(
    table: impl Fn(usize) -> &'a DecodeTable,
    states: &mut [u32; LANES],
    window: &[u8; GROUP_LEN_MAX],
    group: &mut [u8; LANES],
) -> usize {
    let words = window.as_chunks::<2>().0;
    let mut used = 0;
    for (j, quarter) in states.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        for (i, state) in quarter.iter_mut().enumerate() {
            let (symbol, y) = step::<BUCKET_BITS>(table(4 * i + j), *state);
            // Arithmetic instead of a branch, which would be guessed wrong a third of the time.
            let short = u32::from(y < STATE_MIN);
            let word = u32::from(u16::from_le_bytes(words[used & (LANES - 1)]));
            *state = y << (16 * short) | word & short.wrapping_neg();
            used += short as usize;
            group[(4 * i + j) & (LANES - 1)] = symbol;
        }
    }
    2 * used
}

/// A group that is not whole, or one near the end of the block.
fn last_group<'a, const BUCKET_BITS: u32>(
    table: impl Fn(usize) -> &'a DecodeTable,
    states: &mut [u32; LANES],
    bytes: &[u8],
    group: &mut [u8],
) -> Result<usize> {
    let mut words = bytes.as_chunks::<2>().0.iter();
    for (k, state) in states.iter_mut().enumerate() {
        let i = index_in_group(k);
        if i >= group.len() {
            continue;
        }
        let (symbol, y) = step::<BUCKET_BITS>(table(i), *state);
        *state = y;
        if y < STATE_MIN {
            let Some(&word) = words.next() else {
                return corrupt("a block ends early");
            };
            *state = y << 16 | u32::from(u16::from_le_bytes(word));
        }
        group[i] = symbol;
    }
    Ok(bytes.len() / 2 * 2 - 2 * words.len())
}

#[cfg(test)]
mod tests;
