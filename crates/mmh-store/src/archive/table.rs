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
