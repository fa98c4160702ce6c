//! Content-defined chunks, cut where the protocol's clients cut.
//!
//! Specification, "Chunking": a Gear hash over the last 64 bytes with the table of `rust-gearhash`; a
//! chunk ends where its upper sixteen bits are zero, between 8 and 128 KiB.

use gearhash::Hasher;

/// Shortest chunk in bytes, but for the last of a file.
pub const CHUNK_LEN_MIN: usize = 8 << 10;
/// Longest chunk in bytes.
pub const CHUNK_LEN_MAX: usize = 128 << 10;
/// Bytes that a hash depends on.
const WINDOW: usize = 64;
/// The bits that are zero where a chunk ends: one place in 64 KiB.
const MASK: u64 = 0xffff << 48;

/// The length of the first chunk of `bytes`, which are at least [`CHUNK_LEN_MAX`] or all that is left
/// of a file; 0 if there are none.
#[must_use]
pub fn cut(bytes: &[u8]) -> usize {
    let window = bytes.get(..CHUNK_LEN_MAX).unwrap_or(bytes);
    let mut hasher = Hasher::default();
    // No chunk ends before; the hash is warm when one may.
    let mut at = CHUNK_LEN_MIN - WINDOW - 1;
    while let Some(rest) = window.get(at..)
        && let Some(found) = hasher.next_match(rest, MASK)
    {
        at += found;
        if at >= CHUNK_LEN_MIN {
            return at;
        }
    }
    window.len()
}

/// Cuts a stream of pieces of any length into chunks. Holds at most one chunk.
#[derive(Debug, Default)]
pub struct Chunker {
    held: Vec<u8>,
}

impl Chunker {
    /// Takes the next bytes and hands every chunk that is complete to `take`.
    pub fn push(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(&[u8])) {
        while !bytes.is_empty() {
            if self.held.is_empty() && bytes.len() >= CHUNK_LEN_MAX {
                let (chunk, rest) = bytes.split_at(cut(bytes));
                take(chunk);
                bytes = rest;
                continue;
            }
            let n = bytes.len().min(CHUNK_LEN_MAX - self.held.len());
            let (head, rest) = bytes.split_at(n);
            self.held.extend_from_slice(head);
            bytes = rest;
            if self.held.len() == CHUNK_LEN_MAX {
                self.give(take);
            }
        }
    }

    /// Hands over what is left at the end of the file.
    pub fn finish(mut self, take: &mut dyn FnMut(&[u8])) {
        while !self.held.is_empty() {
            self.give(take);
        }
    }

    fn give(&mut self, take: &mut dyn FnMut(&[u8])) {
        let len = cut(&self.held);
        take(self.held.get(..len).unwrap_or_default());
        self.held.drain(..len);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lens(bytes: &[u8], pieces: usize) -> Vec<usize> {
        let (mut chunker, mut lens) = (Chunker::default(), Vec::new());
        let mut take = |chunk: &[u8]| lens.push(chunk.len());
        for piece in bytes.chunks(pieces) {
            chunker.push(piece, &mut take);
        }
        chunker.finish(&mut take);
        lens
    }

    fn noise(mut state: u64, len: usize) -> Vec<u8> {
        let next = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(next).collect()
    }

    /// From the specification, a byte at a time, with no skipping.
    fn cut_plainly(bytes: &[u8]) -> usize {
        let mut hash = 0u64;
        for (i, byte) in bytes.iter().enumerate().take(CHUNK_LEN_MAX) {
            hash = (hash << 1).wrapping_add(gearhash::DEFAULT_TABLE[usize::from(*byte)]);
            if i + 1 >= CHUNK_LEN_MIN && hash & MASK == 0 {
                return i + 1;
            }
        }
        bytes.len().min(CHUNK_LEN_MAX)
    }

    #[test]
    fn skipping_changes_no_cut() {
        let bytes = noise(17, 4 << 20);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let len = cut_plainly(rest);
            assert_eq!(cut(rest), len);
            rest = &rest[len..];
        }
    }

    #[test]
    fn short_input_is_one_chunk() {
        assert_eq!(cut(b""), 0);
        assert_eq!(lens(b"", 1), [0; 0]);
        assert_eq!(lens(&[5; 100], 7), [100]);
        assert_eq!(cut(&noise(3, CHUNK_LEN_MIN)), CHUNK_LEN_MIN);
    }

    #[test]
    fn what_never_matches_is_cut_at_the_longest() {
        let flat = vec![0xff; 3 * CHUNK_LEN_MAX + 10];
        let expected = [CHUNK_LEN_MAX, CHUNK_LEN_MAX, CHUNK_LEN_MAX, 10];
        assert_eq!(lens(&flat, 1000), expected);
    }

    /// The point of it: a change moves the cuts near it, and no others.
    #[test]
    fn cuts_come_back_after_an_insertion() {
        let mut bytes = noise(11, 2 << 20);
        let before = lens(&bytes, 1 << 20);
        bytes.splice(1 << 20..1 << 20, [1; 40]);
        let after = lens(&bytes, 1 << 20);
        let same = before.iter().rev().zip(after.iter().rev());
        let same = same.take_while(|(a, b)| a == b).count();
        assert!(same > 4, "{before:?} {after:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// How the bytes arrive does not matter, and every length is within bounds.
        #[test]
        fn pieces_do_not_matter(state: u64, len in 0usize..600_000, piece in 1usize..200_000) {
            let bytes = noise(state, len);
            let whole = lens(&bytes, len.max(1));
            prop_assert_eq!(&lens(&bytes, piece), &whole);
            prop_assert_eq!(whole.iter().sum::<usize>(), len);
            let mut but_last = whole.iter().rev().skip(1);
            prop_assert!(but_last.all(|len| (CHUNK_LEN_MIN..=CHUNK_LEN_MAX).contains(len)));
        }
    }
}
