//! Which bytes of a pack are read for the sake of some of its records: as few requests as go well
//! with reading little that is not wanted.

use crate::pack::Entry;

/// Bytes of an extent after which the next begins.
const EXTENT_LEN: u64 = 4 << 20;
/// Bytes that are not wanted and are read rather than asking once more: about what a distant store
/// sends in the time that a request takes.
const GAP_LEN_MAX: u64 = 256 << 10;

/// The records of one read, in the order of their offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    /// Offset in bytes of the first record.
    pub offset: u64,
    /// Bytes from there to the end of the last record.
    pub len: u64,
    /// The records that are wanted.
    pub entries: Vec<Entry>,
}

/// Joins records, sorted by offset, to extents.
pub(super) fn extents(entries: Vec<Entry>) -> Vec<Extent> {
    let mut all: Vec<Extent> = Vec::new();
    for entry in entries {
        let end = entry.offset.saturating_add(entry.record_len());
        match all.last_mut() {
            Some(last)
                if last.len < EXTENT_LEN
                    && entry.offset.saturating_sub(last.offset + last.len) <= GAP_LEN_MAX =>
            {
                last.len = last.len.max(end.saturating_sub(last.offset));
                last.entries.push(entry);
            }
            _ => all.push(Extent {
                offset: entry.offset,
                len: entry.record_len(),
                entries: vec![entry],
            }),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use mmh_core::ChunkId;
    use proptest::prelude::*;

    use super::*;

    fn entry(offset: u64, stored_len: u32) -> Entry {
        Entry {
            id: ChunkId::of(&offset.to_le_bytes()),
            offset,
            stored_len,
            raw_len: 1,
            method: 0,
        }
    }

    #[test]
    fn neighbours_are_read_at_once_and_wide_gaps_are_not() {
        let (a, b) = (entry(16, 92), entry(116, 92));
        let near = entry(216 + GAP_LEN_MAX, 92);
        let far = entry(near.offset + 101 + GAP_LEN_MAX, 92);
        let found = extents(vec![a, b, near, far]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].offset, found[0].len), (16, 300 + GAP_LEN_MAX));
        assert_eq!(found[0].entries, [a, b, near]);
        assert_eq!((found[1].offset, found[1].len), (far.offset, 100));
        assert_eq!(extents(Vec::new()), []);
    }

    proptest! {
        /// Every record is read once, whole, and no extent is much longer than it may be.
        #[test]
        fn extents_cover_what_is_wanted(
            parts in prop::collection::vec((0..400_000u64, 1..3_000_000u32), 0..40),
        ) {
            let (mut offset, mut entries) = (16, Vec::new());
            for (gap, len) in parts {
                offset += gap;
                entries.push(entry(offset, len));
                offset += u64::from(len) + 8;
            }
            let found = extents(entries.clone());
            let again: Vec<Entry> = found.iter().flat_map(|e| e.entries.clone()).collect();
            prop_assert_eq!(again, entries);
            for extent in &found {
                let (first, last) = (extent.entries[0], extent.entries[extent.entries.len() - 1]);
                prop_assert_eq!(extent.offset, first.offset);
                prop_assert_eq!(extent.offset + extent.len, last.offset + last.record_len());
                prop_assert!(extent.len < EXTENT_LEN + GAP_LEN_MAX + last.record_len());
            }
        }
    }
}
