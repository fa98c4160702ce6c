//! Hashes of xorbs and files: a Merkle tree over chunks whose groups end where hashes say.
//!
//! Specification, "Hashing Methods": groups have two to nine members and end early after a hash whose
//! last number is divisible by four; a node hashes lines of `hash : length`.

use std::fmt::Write as _;

use crate::hash::XetHash;

/// Key for nodes.
const NODE_KEY: [u8; 32] = [
    1, 126, 197, 199, 165, 71, 41, 150, 253, 148, 102, 102, 180, 138, 2, 230, 93, 221, 83, 111, 55,
    199, 109, 210, 248, 99, 82, 230, 74, 83, 113, 63,
];
/// Key for ranges of chunks, by which a client shows that it has what it refers to.
const RANGE_KEY: [u8; 32] = [
    127, 24, 87, 214, 206, 86, 237, 102, 18, 127, 249, 19, 231, 165, 195, 243, 164, 205, 38, 213,
    181, 219, 73, 230, 65, 36, 152, 127, 40, 251, 148, 195,
];
/// Key that a file's root is hashed with once more.
const FILE_KEY: [u8; 32] = [0; 32];
/// Mean number of members of a group.
const BRANCHING: u64 = 4;
/// No group ends after so few members, unless there are no more.
const GROUP_MIN: usize = 2;
/// Most members of a group.
const GROUP_MAX: usize = 9;

/// A chunk's hash and its length in raw bytes.
pub type Leaf = (XetHash, u64);

/// A tree that grows leaf by leaf. It holds less than one group a level.
#[derive(Debug, Default)]
pub struct Tree {
    levels: Vec<Level>,
}

#[derive(Debug, Default)]
struct Level {
    /// The group that is not complete.
    group: Vec<Leaf>,
    /// How many there were on this level.
    total: u64,
}

impl Tree {
    /// Takes the next chunk.
    pub fn push(&mut self, leaf: Leaf) {
        self.push_at(0, leaf);
    }

    fn push_at(&mut self, mut at: usize, leaf: Leaf) {
        let mut next = Some(leaf);
        while let Some(leaf) = next {
            if at == self.levels.len() {
                self.levels.push(Level::default());
            }
            next = self.levels.get_mut(at).and_then(|level| level.push(leaf));
            at += 1;
        }
    }

    /// The root; zero if there was no leaf.
    pub(crate) fn root(mut self) -> XetHash {
        let mut at = 0;
        while let Some(level) = self.levels.get_mut(at) {
            let rest = std::mem::take(&mut level.group);
            match rest.first() {
                Some(only) if level.total == 1 => return only.0,
                Some(_) => self.push_at(at + 1, node(&rest)),
                None => {}
            }
            at += 1;
        }
        XetHash::default()
    }

    /// The hash of a file with these chunks.
    #[must_use]
    pub fn file_hash(self) -> XetHash {
        if self.levels.is_empty() {
            return XetHash::default();
        }
        XetHash::keyed(&FILE_KEY, self.root().as_bytes())
    }
}

impl Level {
    /// Takes the next member, and gives the node of its group if that is complete.
    fn push(&mut self, leaf: Leaf) -> Option<Leaf> {
        self.total += 1;
        self.group.push(leaf);
        let n = self.group.len();
        let ends = n > GROUP_MIN && leaf.0.last().is_multiple_of(BRANCHING);
        (ends || n == GROUP_MAX).then(|| node(&std::mem::take(&mut self.group)))
    }
}

/// The hash of a xorb of these chunks; zero for none.
#[must_use]
pub fn xorb_hash(chunks: &[Leaf]) -> XetHash {
    tree(chunks).root()
}

/// The hash of a file of these chunks; zero for none.
#[must_use]
pub fn file_hash(chunks: &[Leaf]) -> XetHash {
    tree(chunks).file_hash()
}

/// The hash over the hashes of a run of chunks.
#[must_use]
pub fn range_hash<'a>(chunks: impl IntoIterator<Item = &'a XetHash>) -> XetHash {
    let mut hasher = blake3::Hasher::new_keyed(&RANGE_KEY);
    for hash in chunks {
        hasher.update(hash.as_bytes());
    }
    XetHash::from_bytes(*hasher.finalize().as_bytes())
}

fn tree(chunks: &[Leaf]) -> Tree {
    let mut tree = Tree::default();
    chunks.iter().for_each(|leaf| tree.push(*leaf));
    tree
}

fn node(group: &[Leaf]) -> Leaf {
    let mut lines = String::with_capacity(GROUP_MAX * 88);
    let mut sum = 0u64;
    for (hash, len) in group {
        writeln!(lines, "{hash} : {len}").expect("a string takes all that is written");
        sum = sum.saturating_add(*len);
    }
    (XetHash::keyed(&NODE_KEY, lines.as_bytes()), sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(last: u8, len: u64) -> Leaf {
        let mut bytes = [9; 32];
        bytes[24] = last;
        (XetHash::from_bytes(bytes), len)
    }

    #[test]
    fn nothing_is_zero_and_one_is_itself() {
        assert_eq!(xorb_hash(&[]), XetHash::default());
        assert_eq!(file_hash(&[]), XetHash::default());
        let one = leaf(1, 5);
        assert_eq!(xorb_hash(&[one]), one.0);
        assert_ne!(file_hash(&[one]), one.0);
    }

    /// A group of two never ends early; from the third member on, a hash divisible by four ends it.
    #[test]
    fn groups_end_where_hashes_say() {
        let ends = |leaves: &[Leaf]| {
            let mut level = Level::default();
            leaves.iter().position(|leaf| level.push(*leaf).is_some())
        };
        let plain = [leaf(1, 1); 20];
        assert_eq!(ends(&plain), Some(8));
        assert_eq!(ends(&plain[..4]), None);
        let mut early = plain;
        early[1] = leaf(4, 1);
        assert_eq!(ends(&early), Some(8));
        early[2] = leaf(8, 1);
        assert_eq!(ends(&early), Some(2));
    }

    /// Written down from the specification, level by level, with all of a level in memory.
    fn by_levels(chunks: &[Leaf]) -> XetHash {
        let mut level = chunks.to_vec();
        while level.len() > 1 {
            let (mut rest, mut above) = (level.as_slice(), Vec::new());
            while !rest.is_empty() {
                let window = rest.iter().take(9).enumerate().skip(2);
                let mut cuts = window.filter(|(_, (hash, _))| hash.last() % 4 == 0);
                let len = cuts.next().map_or(rest.len().min(9), |(i, _)| i + 1);
                above.push(node(&rest[..len]));
                rest = &rest[len..];
            }
            level = above;
        }
        level.first().map(|leaf| leaf.0).unwrap_or_default()
    }

    #[test]
    fn growing_gives_what_levels_give() {
        let leaves: Vec<Leaf> = (0..700u64)
            .map(|i| (XetHash::of_chunk(&i.to_le_bytes()), i + 1))
            .collect();
        for n in (0..60).chain([255, 256, 257, 699, 700]) {
            assert_eq!(xorb_hash(&leaves[..n]), by_levels(&leaves[..n]), "{n}");
        }
    }

    #[test]
    fn lengths_and_order_count() {
        let (a, b) = (leaf(1, 1), leaf(2, 1));
        assert_ne!(xorb_hash(&[a, b]), xorb_hash(&[b, a]));
        assert_ne!(xorb_hash(&[a, b]), xorb_hash(&[a, leaf(2, 2)]));
        assert_ne!(range_hash([&a.0, &b.0]), range_hash([&b.0, &a.0]));
    }
}
