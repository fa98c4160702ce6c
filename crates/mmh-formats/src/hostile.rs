//! What every parser must withstand: cuts, flipped bits, noise. The bodies are meant for tests
//! and fuzz targets alike.

use crate::error::{Error, Result};
use crate::layout::{Layout, PartKind};
use crate::read_at::ReadAt;

/// A parser as the probe calls it.
pub type Parse = fn(&dyn ReadAt) -> Result<Layout>;

/// Parses `bytes` and checks the promise of a layout: its parts tile the file, its tensors have
/// the size they claim. An error is as good an answer, unless it speaks of reading, which cannot
/// fail in memory.
///
/// # Panics
/// If the promise is broken: that is its purpose.
pub fn fuzz_parser(parse: Parse, bytes: &[u8]) {
    let source = bytes.to_vec();
    match parse(&source) {
        Ok(layout) => check_layout(&layout, bytes.len() as u64),
        Err(Error::Io { offset, len, .. }) => panic!("read {len} bytes at {offset} unchecked"),
        Err(Error::Malformed { .. } | Error::TooLarge { .. }) => {}
    }
}

/// Checks that the parts of `layout` tile `len` bytes.
///
/// # Panics
/// If they do not.
pub fn check_layout(layout: &Layout, len: u64) {
    assert_eq!(layout.len(), len);
    let mut at = 0;
    for part in layout.parts() {
        assert_eq!(part.offset, at, "gap or overlap");
        assert!(part.len > 0, "empty part at {at}");
        if let PartKind::Tensor(info) = &part.kind {
            assert_eq!(info.bytes(), Some(part.len), "size of `{}`", info.name);
        }
        at += part.len;
    }
    assert_eq!(at, len);
}

/// Runs [`fuzz_parser`] over every prefix of `sample`, every single flipped bit, and `rounds`
/// random mutations drawn from a fixed start.
///
/// # Panics
/// As [`fuzz_parser`].
pub fn attack(parse: Parse, sample: &[u8], rounds: u32) {
    for cut in 0..sample.len() {
        fuzz_parser(parse, sample.get(..cut).unwrap_or_default());
    }
    let mut bytes = sample.to_vec();
    for i in 0..sample.len() {
        for bit in 0..8 {
            flip(&mut bytes, i, 1 << bit);
            fuzz_parser(parse, &bytes);
            flip(&mut bytes, i, 1 << bit);
        }
    }
    let mut rng = Rng(0x6d6d_685f_7273);
    for _ in 0..rounds {
        let mutated = mutate(sample, &mut rng);
        fuzz_parser(parse, &mutated);
    }
}

fn flip(bytes: &mut [u8], i: usize, mask: u8) {
    if let Some(byte) = bytes.get_mut(i) {
        *byte ^= mask;
    }
}

/// Values that lengths and offsets like to overflow at.
const EDGES: [u64; 8] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

fn mutate(sample: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=rng.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.below(bytes.len());
        match rng.below(4) {
            0 => flip(&mut bytes, at, rng.byte()),
            1 => {
                let edge = EDGES
                    .get(rng.below(EDGES.len()))
                    .copied()
                    .unwrap_or(0)
                    .to_le_bytes();
                let width = [1, 2, 4, 8].get(rng.below(4)).copied().unwrap_or(1);
                for (i, byte) in edge.into_iter().take(width).enumerate() {
                    if let Some(slot) = bytes.get_mut(at + i) {
                        *slot = byte;
                    }
                }
            }
            2 => {
                // A stretch of the file copied over another: valid structures in wrong places.
                let from = rng.below(bytes.len());
                let len = rng.below(32).min(bytes.len() - from.max(at));
                bytes.copy_within(from..from + len, at);
            }
            _ => bytes.truncate(bytes.len() - rng.below(bytes.len().min(16))),
        }
    }
    bytes
}

/// xorshift64: small, and the same on every machine.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::container::Container;

    thread_local! { static CALLS: Cell<usize> = const { Cell::new(0) }; }

    #[test]
    fn an_attack_tries_each_cut_each_bit_and_the_rounds() {
        fn parse(source: &dyn ReadAt) -> Result<Layout> {
            CALLS.set(CALLS.get() + 1);
            Ok(Layout::bytes(Container::Unknown, source.len()))
        }
        attack(parse, b"sample", 10);
        assert_eq!(CALLS.get(), 6 + 48 + 10);
    }

    #[test]
    #[should_panic(expected = "unchecked")]
    fn a_parser_that_reads_past_the_end_is_caught() {
        fuzz_parser(
            |source| crate::read_vec(source, 4, 9).map(|_| unreachable!()),
            b"sample",
        );
    }
}
