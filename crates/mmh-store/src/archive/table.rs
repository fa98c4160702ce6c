//! The footer table of an archive: entries sorted by id. Pure functions over hostile bytes.

use mmh_core::ChunkId;

use crate::pack::{ARCHIVE_ENTRY_LEN, Entry, Flaw, HEADER_LEN, digest_at, u32_at, u64_at};

/// Entries in a block of the table, what a lookup reads.
const TABLE_BLOCK_ENTRIES: usize = 256;
/// Length in bytes of a block.
pub(crate) const TABLE_BLOCK_LEN: usize = TABLE_BLOCK_ENTRIES * ARCHIVE_ENTRY_LEN;

/// Writes an entry.
pub(crate) fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(entry.id.as_bytes());
    out.extend_from_slice(&entry.offset.to_le_bytes());
    out.extend_from_slice(&entry.stored_len.to_le_bytes());
    out.extend_from_slice(&entry.packed().to_le_bytes());
}

/// Reads an entry; `None` if it is beyond the limits or does not end before the footer.
pub(crate) fn parse_entry(bytes: &[u8], footer_offset: u64) -> Option<Entry> {
    let id = ChunkId::from_digest(digest_at(bytes, 0));
    let entry = Entry::unpack(id, u64_at(bytes, 32), u32_at(bytes, 40), u32_at(bytes, 44))?;
    let end = entry.offset.checked_add(entry.record_len())?;
    (entry.offset >= HEADER_LEN && end <= footer_offset).then_some(entry)
}

/// Finds the bytes of the entry of an id in a block, by halving.
pub(crate) fn find<'a>(block: &'a [u8], id: &ChunkId) -> Option<&'a [u8]> {
    let entry = |i: usize| &block[i * ARCHIVE_ENTRY_LEN..(i + 1) * ARCHIVE_ENTRY_LEN];
    let (mut low, mut high) = (0, block.len() / ARCHIVE_ENTRY_LEN);
    while low < high {
        let middle = low + (high - low) / 2;
        match entry(middle)[..32].cmp(id.as_bytes()) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Some(entry(middle)),
        }
    }
    None
}

/// Checks a table block by block and notes where each begins.
#[derive(Debug, Default)]
pub(crate) struct TableScan {
    /// First id of every block.
    pub fences: Vec<ChunkId>,
    last: Option<ChunkId>,
}

impl TableScan {
    /// Takes the next block.
    pub(crate) fn block(&mut self, bytes: &[u8], footer_offset: u64) -> Result<(), Flaw> {
        for (i, bytes) in bytes.chunks_exact(ARCHIVE_ENTRY_LEN).enumerate() {
            let entry = parse_entry(bytes, footer_offset).ok_or("an entry is beyond the limits")?;
            if self.last.is_some_and(|last| last >= entry.id) {
                return Err("the table is not sorted".into());
            }
            if i == 0 {
                self.fences.push(entry.id);
            }
            self.last = Some(entry.id);
        }
        Ok(())
    }
}

/// Reads any bytes as the table of an archive; for fuzzing.
pub fn fuzz_archive_table(bytes: &[u8]) {
    let whole = bytes.len() - bytes.len() % ARCHIVE_ENTRY_LEN;
    let mut scan = TableScan::default();
    let footer_offset = 1 << 40;
    let sorted = bytes[..whole]
        .chunks(TABLE_BLOCK_LEN)
        .all(|block| scan.block(block, footer_offset).is_ok());
    for block in bytes[..whole].chunks(TABLE_BLOCK_LEN) {
        for entry in block.chunks_exact(ARCHIVE_ENTRY_LEN) {
            let id = ChunkId::from_digest(digest_at(entry, 0));
            assert!(!sorted || find(block, &id) == Some(entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(n: u32) -> (Vec<u8>, Vec<Entry>) {
        let entry = |i: u32| Entry {
            id: ChunkId::of(&i.to_le_bytes()),
            offset: 16 + u64::from(i) * 10,
            stored_len: 2,
            raw_len: i,
            method: 1,
        };
        let mut entries: Vec<Entry> = (0..n).map(entry).collect();
        entries.sort_by_key(|entry| entry.id);
        let mut bytes = Vec::new();
        entries
            .iter()
            .for_each(|entry| encode_entry(entry, &mut bytes));
        (bytes, entries)
    }

    #[test]
    fn entries_are_found_by_halving() {
        let (bytes, entries) = table(100);
        for entry in &entries {
            let found = find(&bytes, &entry.id).unwrap();
            assert_eq!(parse_entry(found, 1 << 20), Some(*entry));
        }
        assert_eq!(find(&bytes, &ChunkId::of(b"none")), None);
        assert_eq!(find(&[], &ChunkId::of(b"none")), None);
    }

    #[test]
    fn an_entry_ends_before_the_footer() {
        let (bytes, entries) = table(1);
        let end = entries[0].offset + entries[0].record_len();
        assert!(parse_entry(&bytes, end).is_some());
        assert!(parse_entry(&bytes, end - 1).is_none());
        let mut bad = bytes;
        bad[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(parse_entry(&bad, u64::MAX).is_none());
    }

    #[test]
    fn a_scan_notes_each_block_and_refuses_disorder() {
        let (bytes, entries) = table(600);
        let mut scan = TableScan::default();
        for block in bytes.chunks(TABLE_BLOCK_LEN) {
            scan.block(block, 1 << 20).unwrap();
        }
        let firsts: Vec<ChunkId> = entries.chunks(256).map(|block| block[0].id).collect();
        assert_eq!(scan.fences, firsts);
        assert!(
            scan.block(&bytes[..48], 1 << 20).is_err(),
            "the first id again"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            fuzz_archive_table(&bytes);
        }

        #[test]
        fn mutated_tables_are_read_without_panic(
            n in 1..40u32, at: prop::sample::Index, with: u8,
        ) {
            let (mut bytes, _) = table(n);
            fuzz_archive_table(&bytes);
            let at = at.index(bytes.len());
            bytes[at] = with;
            fuzz_archive_table(&bytes);
        }
    }
}
