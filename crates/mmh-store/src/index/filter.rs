//! Which ids a run certainly lacks: a Bloom filter whose bits for an id lie in one line of the cache
//! (Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007).
//!
//! A filter is never stored. It is made of a run that was asked in vain as often as it has blocks,
//! so that it never costs more than the asking did.

use mmh_core::ChunkId;

/// Bits of memory for each id; about one id in a hundred that is not there seems to be.
const BITS_PER_ID: u64 = 12;
/// Bits that are set for each id.
const PROBES: u32 = 7;
/// Words of a line: 64 bytes.
const LINE_WORDS: usize = 8;

type Line = [u64; LINE_WORDS];

/// The ids of one run, as far as that can be said with few bits.
#[derive(Debug)]
pub(super) struct Filter {
    lines: Vec<Line>,
}

impl Filter {
    /// How many bytes a filter for so many ids takes.
    pub(super) fn memory_len(n_ids: u64) -> u64 {
        n_lines(n_ids) * size_of::<Line>() as u64
    }

    /// An empty filter for so many ids.
    pub(super) fn new(n_ids: u64) -> Self {
        let n = usize::try_from(n_lines(n_ids)).expect("the caller compared its memory");
        Self {
            lines: vec![[0; LINE_WORDS]; n],
        }
    }

    pub(super) fn insert(&mut self, id: &ChunkId) {
        let (place, bits) = (self.place(id), bits(id));
        for (word, more) in self.lines[place].iter_mut().zip(bits) {
            *word |= more;
        }
    }

    /// Whether the id may be there; `false` is certain.
    pub(super) fn may_have(&self, id: &ChunkId) -> bool {
        let line = &self.lines[self.place(id)];
        line.iter().zip(bits(id)).all(|(word, of)| word & of == of)
    }

    /// The line of an id. Ids are digests, so that their first bytes spread them evenly; sorted ids
    /// fill one line after the other.
    fn place(&self, id: &ChunkId) -> usize {
        let scaled = u128::from(word(id, 0)) * self.lines.len() as u128;
        usize::try_from(scaled >> 64).expect("below the number of lines")
    }
}

fn n_lines(n_ids: u64) -> u64 {
    let line_bits = size_of::<Line>() as u64 * 8;
    n_ids.saturating_mul(BITS_PER_ID).div_ceil(line_bits).max(1)
}

fn word(id: &ChunkId, at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.as_bytes()[at..at + 8]);
    u64::from_be_bytes(bytes)
}

/// The bits of an id in its line, nine bits of the id for each.
fn bits(id: &ChunkId) -> Line {
    let (mut line, mut rest) = ([0; LINE_WORDS], word(id, 8));
    for _ in 0..PROBES {
        let bit = rest % 512;
        line[usize::try_from(bit / 64).expect("below 8")] |= 1 << (bit % 64);
        rest >>= 9;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ChunkId {
        ChunkId::of(&n.to_le_bytes())
    }

    #[test]
    fn what_was_inserted_is_always_found_and_little_else() {
        for n in [0, 1, 100, 20_000] {
            let mut filter = Filter::new(n);
            (0..n).for_each(|n| filter.insert(&id(n)));
            assert!((0..n).all(|n| filter.may_have(&id(n))));
            let wrong = (n..n + 10_000).filter(|n| filter.may_have(&id(*n))).count();
            assert!(wrong < 300, "{wrong} of 10000 beside {n}");
        }
    }

    #[test]
    fn its_memory_is_what_was_said() {
        for n in [0, 1, 42, 43, 1_000_000] {
            let lines = Filter::new(n).lines.len() as u64;
            assert_eq!(Filter::memory_len(n), lines * 64);
        }
        assert!(Filter::memory_len(1_000_000) < 1_600_000);
        assert!(Filter::memory_len(u64::MAX) > 1 << 50, "and not a wrap");
    }

    #[test]
    fn ids_at_the_ends_have_a_line() {
        use mmh_core::Digest;
        let mut filter = Filter::new(1000);
        for byte in [0, 255] {
            let id = ChunkId::from_digest(Digest::from_bytes([byte; 32]));
            assert!(!filter.may_have(&id));
            filter.insert(&id);
            assert!(filter.may_have(&id));
        }
    }
}
