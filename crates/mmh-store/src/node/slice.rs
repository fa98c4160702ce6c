//! Slices of a file with the nodes of its BLAKE3 tree between the bytes, so that a receiver who
//! knows only the file's digest checks each group before it takes the next.
//!
//! The tree is BLAKE3's own (BLAKE3 paper, section 2.1), cut off above groups of [`GROUP_LEN`]
//! bytes; the order is that of the Bao encoding (the Bao specification, "Combined Encoding
//! Format"), without its length in front. PROTOCOL.md, "Slices".

use std::ops::Range;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root,
};
use mmh_core::Digest;

/// Bytes of a group, the least that is checked at once: a power of two times BLAKE3's chunk of
/// 1 KiB. Its nodes add 0.1 %, and it is long enough for the widest vector engine.
pub const GROUP_LEN: u64 = 64 << 10;
/// Bytes of a node: the chaining values of its left and its right half.
pub const NODE_LEN: usize = 64;
/// Longest file of which slices are made: its tree takes 4 MiB of memory for each 4 GiB.
pub const SLICED_LEN_MAX: u64 = 64 << 30;

/// A subtree: the groups from `first` whose number is at most two to the power of `level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subtree {
    first: u64,
    level: u32,
}

/// How a file is divided.
#[derive(Debug, Clone, Copy)]
struct Shape {
    len: u64,
    group_len: u64,
}

impl Shape {
    fn n_groups(self) -> u64 {
        self.len.div_ceil(self.group_len).max(1)
    }

    fn root(self) -> Subtree {
        let level = self.n_groups().next_power_of_two().trailing_zeros();
        Subtree { first: 0, level }
    }

    /// The two halves of a subtree, or `None` for a group. A subtree whose right half would be
    /// empty is the same as its left half.
    fn halves(self, of: Subtree) -> Option<(Subtree, Subtree)> {
        let mut level = of.level;
        while level > 0 {
            level -= 1;
            let right = of.first + (1 << level);
            if right < self.n_groups() {
                let first = of.first;
                return Some((
                    Subtree { first, level },
                    Subtree {
                        first: right,
                        level,
                    },
                ));
            }
        }
        None
    }

    /// The bytes of a subtree.
    fn bytes(self, of: Subtree) -> Range<u64> {
        let end = (of.first + (1 << of.level)).saturating_mul(self.group_len);
        of.first * self.group_len..end.min(self.len)
    }
}

/// The halves of a tree that a slice needs, each as its subtree's chaining value, for one file.
#[derive(Debug)]
pub struct Outline {
    shape: Shape,
    /// `levels[k][i]` is the chaining value of the groups from `i << k`.
    levels: Vec<Vec<ChainingValue>>,
}

/// What a slice is made of, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The node's bytes.
    Node([u8; NODE_LEN]),
    /// These bytes of the file.
    Group(Range<u64>),
}

/// Computes an outline from a file's bytes, given in order.
#[derive(Debug)]
pub struct Outliner {
    group_len: u64,
    len: u64,
    hasher: Hasher,
    groups: Vec<ChainingValue>,
}

impl Default for Outliner {
    fn default() -> Self {
        Self::with_groups(GROUP_LEN)
    }
}

impl Outliner {
    fn with_groups(group_len: u64) -> Self {
        Self {
            group_len,
            len: 0,
            hasher: Hasher::new(),
            groups: Vec::new(),
        }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let within = self.len % self.group_len;
            if within == 0 && self.len > 0 {
                self.end_group();
            }
            let room = usize::try_from(self.group_len - within).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.hasher.update(now);
            self.len += now.len() as u64;
            bytes = later;
        }
    }

    fn end_group(&mut self) {
        self.groups.push(self.hasher.finalize_non_root());
        self.hasher = Hasher::new();
        self.hasher.set_input_offset(self.len);
    }

    /// The outline, and the digest of what was given.
    #[must_use]
    pub fn finish(mut self) -> (Outline, Digest) {
        let shape = Shape {
            len: self.len,
            group_len: self.group_len,
        };
        if shape.n_groups() == 1 {
            let root = Digest::from_bytes(*self.hasher.finalize().as_bytes());
            let levels = Vec::new();
            return (Outline { shape, levels }, root);
        }
        self.groups.push(self.hasher.finalize_non_root());
        let mut levels = vec![self.groups];
        while let Some(below) = levels.last()
            && below.len() > 2
        {
            let pair = |pair: &[ChainingValue]| match pair {
                [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
                // The last of an odd number goes up as it is.
                rest => rest[0],
            };
            levels.push(below.chunks(2).map(pair).collect());
        }
        let root = match levels.last().map(Vec::as_slice) {
            Some([left, right]) => merge_subtrees_root(left, right, Mode::Hash),
            _ => unreachable!("more than one group ends in two halves"),
        };
        (
            Outline { shape, levels },
            Digest::from_bytes(*root.as_bytes()),
        )
    }
}

impl Outline {
    /// Length in bytes of the file.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "the length of the file")]
    pub fn len(&self) -> u64 {
        self.shape.len
    }

    /// Bytes of memory that it takes, about.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.shape.n_groups() * NODE_LEN as u64
    }

    /// The pieces of the slice with these bytes of the file: the nodes above them, and the groups
    /// that they lie in, whole.
    pub fn slice(&self, bytes: Range<u64>) -> impl Iterator<Item = Piece> + use<> {
        let mut stack = vec![self.shape.root()];
        let mut pieces = Vec::new();
        while let Some(subtree) = stack.pop() {
            let all = self.shape.bytes(subtree);
            if !overlaps(&all, &bytes) {
                continue;
            }
            match self.shape.halves(subtree) {
                Some((left, right)) => {
                    let mut node = [0; NODE_LEN];
                    node[..32].copy_from_slice(self.value(left));
                    node[32..].copy_from_slice(self.value(right));
                    pieces.push(Piece::Node(node));
                    stack.push(right);
                    stack.push(left);
                }
                None => pieces.push(Piece::Group(all)),
            }
        }
        pieces.into_iter()
    }

    fn value(&self, of: Subtree) -> &ChainingValue {
        let at = usize::try_from(of.first >> of.level).unwrap_or(usize::MAX);
        &self.levels[of.level as usize][at]
    }
}

/// What a receiver is told that does not fit the digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what was sent for bytes {}..{} does not have the digest that was asked for", at.start, at.end)]
pub struct Lie {
    /// The bytes that it was to prove, or to be.
    pub at: Range<u64>,
}

/// What a subtree must be.
#[derive(Debug, Clone, Copy)]
enum Promise {
    /// The whole file has this digest.
    Whole(Digest),
    /// A half has this chaining value.
    Half(ChainingValue),
}

/// Checks a slice piece by piece. What it let pass is what the digest stands for, provided that
/// the length is right, which only the last group proves.
#[derive(Debug)]
pub struct Checker {
    shape: Shape,
    bytes: Range<u64>,
    /// What is still to come, the next on top.
    stack: Vec<(Subtree, Promise)>,
}

impl Checker {
    /// For the slice with `bytes` of the file of `len` bytes with that digest.
    #[must_use]
    pub fn new(digest: Digest, len: u64, bytes: Range<u64>) -> Self {
        Self::with_groups(GROUP_LEN, digest, len, bytes)
    }

    fn with_groups(group_len: u64, digest: Digest, len: u64, bytes: Range<u64>) -> Self {
        let shape = Shape { len, group_len };
        let mut checker = Self {
            shape,
            bytes,
            stack: Vec::new(),
        };
        checker.expect(shape.root(), Promise::Whole(digest));
        checker
    }

    /// Expects a subtree, if the slice has any of its bytes.
    fn expect(&mut self, subtree: Subtree, promise: Promise) {
        if overlaps(&self.shape.bytes(subtree), &self.bytes) {
            self.stack.push((subtree, promise));
        }
    }

    /// Length in bytes of the next piece, at most [`GROUP_LEN`]; `None` at the end.
    #[must_use]
    pub fn next_len(&self) -> Option<usize> {
        let (subtree, _) = self.stack.last()?;
        Some(match self.shape.halves(*subtree) {
            Some(_) => NODE_LEN,
            None => {
                let bytes = self.shape.bytes(*subtree);
                usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX)
            }
        })
    }

    /// Checks the next piece, of [`Checker::next_len`] bytes; returns which bytes of the file it
    /// is, or `None` for a node. After an error the slice is over.
    ///
    /// # Errors
    /// A [`Lie`].
    pub fn accept(&mut self, piece: &[u8]) -> Result<Option<Range<u64>>, Lie> {
        let next_len = self.next_len();
        let popped = self.stack.pop();
        let lie = |at| Lie { at };
        let Some((subtree, promise)) = popped.filter(|_| next_len == Some(piece.len())) else {
            self.stack.clear();
            return Err(lie(self.bytes.clone()));
        };
        let at = self.shape.bytes(subtree);
        let halves = self.shape.halves(subtree);
        let holds = match halves {
            Some(_) => node_holds(piece, promise),
            None => group_holds(piece, at.start, promise),
        };
        if !holds {
            self.stack.clear();
            return Err(lie(at));
        }
        let Some((left, right)) = halves else {
            return Ok(Some(at));
        };
        if let Some((l, r)) = split_node(piece) {
            self.expect(right, Promise::Half(r));
            self.expect(left, Promise::Half(l));
        }
        Ok(None)
    }
}

fn split_node(piece: &[u8]) -> Option<(ChainingValue, ChainingValue)> {
    let (left, right) = piece.split_first_chunk::<32>()?;
    Some((*left, right.try_into().ok()?))
}

fn node_holds(piece: &[u8], promise: Promise) -> bool {
    let Some((l, r)) = split_node(piece) else {
        return false;
    };
    match promise {
        Promise::Whole(digest) => {
            merge_subtrees_root(&l, &r, Mode::Hash).as_bytes() == digest.as_bytes()
        }
        Promise::Half(value) => merge_subtrees_non_root(&l, &r, Mode::Hash) == value,
    }
}

fn group_holds(piece: &[u8], offset: u64, promise: Promise) -> bool {
    match promise {
        Promise::Whole(digest) => Digest::of(piece) == digest,
        Promise::Half(value) => {
            let mut hasher = Hasher::new();
            hasher.set_input_offset(offset).update(piece);
            hasher.finalize_non_root() == value
        }
    }
}

fn overlaps(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conformance::noise;

    /// Groups as small as a chunk, so that short files have tall trees.
    const SMALL: u64 = 1024;

    fn outline(bytes: &[u8], group_len: u64) -> (Outline, Digest) {
        let mut outliner = Outliner::with_groups(group_len);
        // In steps that meet no border.
        bytes.chunks(777).for_each(|some| outliner.update(some));
        outliner.finish()
    }

    /// The slice as it is sent.
    fn sent(bytes: &[u8], group_len: u64, range: Range<u64>) -> Vec<Vec<u8>> {
        let (outline, _) = outline(bytes, group_len);
        let send = |piece| match piece {
            Piece::Node(node) => node.to_vec(),
            Piece::Group(at) => bytes[usize::try_from(at.start).unwrap()..]
                [..usize::try_from(at.end - at.start).unwrap()]
                .to_vec(),
        };
        outline.slice(range).map(send).collect()
    }

    /// A group, and its bytes.
    type Proved = (Range<u64>, Vec<u8>);

    /// Takes what is sent, until a lie; returns what was proved and where it ended.
    fn received(checker: &mut Checker, sent: &[u8]) -> (Vec<Proved>, Option<Lie>) {
        let (mut rest, mut proved) = (sent, Vec::new());
        while let Some(len) = checker.next_len() {
            let Some((piece, later)) = rest.split_at_checked(len) else {
                return (proved, None);
            };
            match checker.accept(piece) {
                Ok(Some(at)) => proved.push((at, piece.to_vec())),
                Ok(None) => {}
                Err(lie) => return (proved, Some(lie)),
            }
            rest = later;
        }
        (proved, None)
    }

    #[test]
    fn outlines_have_the_digest_of_the_bytes() {
        for n in [
            0, 1, 1023, 1024, 1025, 2048, 2049, 3072, 5000, 16384, 16385, 70_001,
        ] {
            let bytes = noise(n as u64, n);
            let (small, digest) = outline(&bytes, SMALL);
            assert_eq!((small.len(), digest), (n as u64, Digest::of(&bytes)), "{n}");
        }
        let bytes = noise(9, 5 * 65_536 + 1);
        let (large, digest) = outline(&bytes, GROUP_LEN);
        assert_eq!((large.size(), digest), (6 * 64, Digest::of(&bytes)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_slice_is_proved_and_covers_what_was_asked(len in 0usize..40_000, a: u64, b: u64) {
            let bytes = noise(1, len);
            let (a, b) = (a % (len as u64 + 1), b % (len as u64 + 1));
            let range = a.min(b)..a.max(b);
            let sent = sent(&bytes, SMALL, range.clone()).concat();
            let mut checker = Checker::with_groups(SMALL, Digest::of(&bytes), len as u64, range.clone());
            let (proved, lie) = received(&mut checker, &sent);
            prop_assert_eq!(lie, None);
            prop_assert_eq!(checker.next_len(), None);
            let mut at = proved.first().map_or(range.start, |(first, _)| first.start);
            prop_assert!(at <= range.start);
            for (group, piece) in &proved {
                prop_assert_eq!(group.start, at);
                prop_assert_eq!(&bytes[usize::try_from(at).unwrap()..][..piece.len()], &piece[..]);
                at = group.end;
            }
            prop_assert!(at >= range.end);
        }

        /// No byte beyond the piece with the flip is taken.
        #[test]
        fn a_flip_anywhere_is_noticed_in_its_piece(len in 1usize..20_000, at: prop::sample::Index, bit in 0u8..8) {
            let bytes = noise(2, len);
            let pieces = sent(&bytes, SMALL, 0..len as u64);
            let mut flat = pieces.concat();
            let at = at.index(flat.len());
            flat[at] ^= 1 << bit;
            let mut checker = Checker::with_groups(SMALL, Digest::of(&bytes), len as u64, 0..len as u64);
            let (mut start, mut groups) = (0, 0);
            for piece in &pieces {
                if at < start + piece.len() {
                    break;
                }
                start += piece.len();
                groups += usize::from(piece.len() != NODE_LEN || pieces.len() == 1);
            }
            let (proved, lie) = received(&mut checker, &flat);
            prop_assert!(lie.is_some());
            prop_assert!(proved.len() <= groups + 1, "{} of {groups}", proved.len());
            prop_assert!(checker.next_len().is_none(), "it is over");
            for (group, piece) in proved {
                prop_assert_eq!(&bytes[usize::try_from(group.start).unwrap()..][..piece.len()], &piece[..]);
            }
        }

        #[test]
        fn any_pieces_are_refused_without_panic(len: u64, range in any::<(u64, u64)>(), piece in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut checker = Checker::new(Digest::of(b"x"), len % SLICED_LEN_MAX, range.0..range.1);
            if checker.next_len().is_some() {
                prop_assert!(checker.accept(&piece).is_err());
                prop_assert!(checker.next_len().is_none());
            }
        }
    }

    /// A shorter or longer file than the digest's has another tree, or another last group.
    #[test]
    fn a_wrong_length_is_noticed_at_the_end_at_the_latest() {
        let bytes = noise(3, 10_000);
        for len in [1, 1024, 9_000, 9_999, 10_001, 10_240, 10_241, 20_000] {
            let flat = sent(&bytes, SMALL, 0..10_000).concat();
            let mut checker = Checker::with_groups(SMALL, Digest::of(&bytes), len, 0..len);
            let (_, lie) = received(&mut checker, &flat);
            assert!(lie.is_some() || checker.next_len().is_some(), "{len}");
        }
    }

    #[test]
    fn a_slice_adds_little() {
        let bytes = noise(4, 4 << 20);
        let len = |range| sent(&bytes, GROUP_LEN, range).concat().len();
        assert_eq!(len(0..4 << 20), (4 << 20) + 63 * NODE_LEN);
        assert_eq!(len(70_000..70_001), 65_536 + 6 * NODE_LEN);
        assert_eq!(len(5..5), 0);
    }
}
