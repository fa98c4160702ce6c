//! Which chunks are alive: a set in memory, of 20 to 40 bytes for each.
//!
//! An id is kept by its first 126 bits. That two ids share them would need 2^63 attempts to bring
//! about, and then at worst a dead chunk stays.

use std::collections::{BTreeSet, HashSet};

use mmh_core::{ChunkId, SnapshotId};

/// What is known of a chunk; the lowest bits of a key.
#[derive(Debug, Clone, Copy)]
enum Fact {
    Live = 0,
    Walked = 1,
    Referred = 2,
}

/// The chunks that must stay.
#[derive(Debug, Default)]
pub struct Marks {
    keys: HashSet<u128>,
    live: u64,
    /// Marked since [`Marks::watch`].
    fresh: Option<Vec<ChunkId>>,
    pruned: BTreeSet<SnapshotId>,
}

fn key(id: &ChunkId, fact: Fact) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&id.as_bytes()[..16]);
    u128::from_le_bytes(bytes) & !3 | fact as u128
}

impl Marks {
    /// Marks a chunk as alive, without what it links to; says whether it was not before.
    pub fn insert(&mut self, id: ChunkId) -> bool {
        let new = self.keys.insert(key(&id, Fact::Live));
        if new {
            self.live += 1;
            self.fresh.iter_mut().for_each(|fresh| fresh.push(id));
        }
        new
    }

    /// Marks a chunk that holds an object; says whether what it links to is still to be marked.
    /// That its bytes were marked as those of a file does not count.
    pub fn walk(&mut self, id: ChunkId) -> bool {
        self.insert(id);
        self.keys.insert(key(&id, Fact::Walked))
    }

    /// Takes note that the tree of a snapshot is not marked although later ones have it among
    /// their ancestors.
    pub fn prune(&mut self, id: SnapshotId) {
        self.pruned.insert(id);
    }

    /// Whether a chunk is alive.
    #[must_use]
    pub fn contains(&self, id: &ChunkId) -> bool {
        self.keys.contains(&key(id, Fact::Live))
    }

    /// How many chunks are alive.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.live
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Bytes that the set takes at most: a key and a byte of control for each of its places, of
    /// which at least seven in sixteen are in use.
    #[must_use]
    pub fn memory_len(&self) -> u64 {
        (self.keys.capacity() as u64).saturating_mul(8) / 7 * 17
    }

    /// Whether it is for the first time that the references of a chunk's frame are asked for.
    pub(super) fn refer(&mut self, id: &ChunkId) -> bool {
        self.keys.insert(key(id, Fact::Referred))
    }

    /// Begins to collect what is marked from here on.
    pub(super) fn watch(&mut self) {
        self.fresh.get_or_insert_default();
    }

    /// Takes one of those that were marked since [`Marks::watch`].
    pub(super) fn next_fresh(&mut self) -> Option<ChunkId> {
        self.fresh.as_mut()?.pop()
    }

    pub(super) fn pruned(&self) -> &BTreeSet<SnapshotId> {
        &self.pruned
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> ChunkId {
        ChunkId::of(&n.to_le_bytes())
    }

    /// A file may have the very bytes of a tree: that the file was marked must not hide what the
    /// tree links to.
    #[test]
    fn bytes_of_a_file_do_not_hide_an_object() {
        let mut marks = Marks::default();
        assert!(marks.insert(id(1)));
        assert!(marks.walk(id(1)), "its links are still to be marked");
        assert!(!marks.walk(id(1)));
        assert!(!marks.insert(id(1)));
        assert!(marks.refer(&id(1)) && !marks.refer(&id(1)));
        assert_eq!(marks.len(), 1);
    }

    #[test]
    fn what_is_marked_later_is_handed_out_once() {
        let mut marks = Marks::default();
        marks.insert(id(1));
        assert_eq!(marks.next_fresh(), None);
        marks.watch();
        marks.insert(id(1));
        marks.walk(id(2));
        marks.insert(id(3));
        assert_eq!(marks.next_fresh(), Some(id(3)));
        assert_eq!(marks.next_fresh(), Some(id(2)));
        assert_eq!(marks.next_fresh(), None);
    }

    #[test]
    fn a_chunk_costs_at_most_forty_bytes() {
        let mut marks = Marks::default();
        for n in 0..100_000 {
            marks.insert(id(n));
            let each = marks.memory_len() / u64::from(n + 1);
            assert!(n < 1000 || (17..=40).contains(&each), "{each} at {n}");
        }
    }

    proptest! {
        #[test]
        fn marks_are_a_set(numbers in prop::collection::vec(0..50u32, 0..80)) {
            let mut marks = Marks::default();
            let mut model = BTreeSet::new();
            for n in &numbers {
                prop_assert_eq!(marks.insert(id(*n)), model.insert(*n));
            }
            prop_assert_eq!(marks.len(), model.len() as u64);
            for n in 0..50 {
                prop_assert_eq!(marks.contains(&id(n)), model.contains(&n));
            }
        }
    }
}
