//! New-style groups with many links: a version 2 B-tree of heap ids, and a fractal heap of link
//! messages.

use super::{Cursor, File};
use crate::error::Result;

/// Deepest nesting of B-tree nodes and of indirect blocks.
const DEPTH_MAX: u64 = 32;
/// Signature, version, type and checksum of a B-tree node.
const NODE_OVERHEAD: u64 = 10;

/// Places of the link messages of a group, or `None` if the heap is of a kind that is not read
/// (with filters, or objects outside its blocks).
pub(super) fn links(file: &mut File<'_>, heap: u64, index: u64) -> Result<Option<Vec<Cursor>>> {
    let heap = Heap::read(file, heap)?;
    let mut found = Vec::new();
    if heap.filtered {
        return Ok(None);
    }
    for id in Index::read(file, index)?.heap_ids(file)? {
        match heap.object(file, id)? {
            Some(message) => found.push(message),
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// The header of a fractal heap.
struct Heap {
    filtered: bool,
    /// Bytes of an offset and of a length in a heap id.
    offset_width: u8,
    length_width: u8,
    table_width: u64,
    first_block_len: u64,
    direct_block_len_max: u64,
    root: u64,
    /// Rows of the root if it is an indirect block; 0 if it is a direct one.
    root_rows: u64,
}

impl Heap {
    fn read(file: &mut File<'_>, at: u64) -> Result<Self> {
        let mut cursor = file.signed(at, b"FRHP")?;
        let (address, length) = (u64::from(file.address_width), u64::from(file.length_width));
        file.take(&mut cursor, 3)?;
        let filters_len = file.uint(&mut cursor, 2)?;
        let _flags = file.u8(&mut cursor)?;
        let object_len_max = file.uint(&mut cursor, 4)?;
        // Twelve counters and addresses of no use here.
        file.take(&mut cursor, 10 * length + 2 * address)?;
        let table_width = file.uint(&mut cursor, 2)?;
        let first_block_len = file.length(&mut cursor)?;
        let direct_block_len_max = file.length(&mut cursor)?;
        let heap_bits = file.uint(&mut cursor, 2)?;
        file.take(&mut cursor, 2)?;
        let root = file.address(&mut cursor)?;
        let root_rows = file.uint(&mut cursor, 2)?;
        let sound = table_width > 0
            && first_block_len.is_power_of_two()
            && direct_block_len_max.is_power_of_two()
            && direct_block_len_max >= first_block_len
            && table_width.checked_mul(first_block_len).is_some()
            && (1..=64).contains(&heap_bits);
        let (true, Some(root)) = (sound, root) else {
            return Err(file.reader.malformed(format!("fractal heap at {at}")));
        };
        Ok(Self {
            filtered: filters_len > 0,
            offset_width: u8::try_from(heap_bits.div_ceil(8)).unwrap_or(8),
            length_width: width_of(object_len_max.min(direct_block_len_max)),
            table_width,
            first_block_len,
            direct_block_len_max,
            root,
            root_rows,
        })
    }

    /// The place of the object with the heap id at `id`; `None` for one that is not managed.
    fn object(&self, file: &mut File<'_>, mut id: Cursor) -> Result<Option<Cursor>> {
        const KIND: u8 = 0x30;
        if file.u8(&mut id)? & KIND != 0 {
            return Ok(None);
        }
        let offset = file.uint(&mut id, self.offset_width)?;
        let len = file.uint(&mut id, self.length_width)?;
        let at = self.locate(file, offset)?;
        Ok(Some(Cursor {
            at,
            end: file.reader.end(at, len)?,
        }))
    }

    /// The place in the file of an offset in the heap's space, block headers included.
    fn locate(&self, file: &mut File<'_>, mut offset: u64) -> Result<u64> {
        let mut at = self.root;
        let mut rows = self.root_rows;
        for _ in 0..DEPTH_MAX {
            file.step()?;
            if rows == 0 {
                file.signed(at, b"FHDB")?;
                return file.reader.end(at, offset);
            }
            let mut cursor = file.signed(at, b"FHIB")?;
            let head_len = 1 + u64::from(file.address_width) + u64::from(self.offset_width);
            file.take(&mut cursor, head_len)?;
            let row = self.row(offset);
            let (start, block_len) = self.row_extent(row);
            let column = (offset - start) / block_len;
            if row >= rows || column >= self.table_width {
                return Err(file
                    .reader
                    .malformed(format!("heap offset {offset} in no block")));
            }
            let entry = row * self.table_width + column;
            file.take(&mut cursor, entry * u64::from(file.address_width))?;
            let child = file.address(&mut cursor)?;
            at = child.ok_or_else(|| file.reader.malformed(format!("no heap block at {at}")))?;
            offset -= start + column * block_len;
            rows = if block_len <= self.direct_block_len_max {
                0
            } else {
                self.row(block_len - 1) + 1
            };
        }
        Err(file.reader.too_large("heap blocks nested too deep"))
    }

    /// The row of the doubling table that an offset lies in: rows 0 and 1 hold blocks of the
    /// first length, each further row blocks of twice the length before.
    fn row(&self, offset: u64) -> u64 {
        let first_row_len = self.table_width * self.first_block_len;
        (offset / first_row_len)
            .checked_ilog2()
            .map_or(0, |log| u64::from(log) + 1)
    }

    /// Where a row begins, and the length of its blocks. `row` comes from [`Self::row`], so
    /// nothing overflows: the row begins at or before a 64-bit offset.
    fn row_extent(&self, row: u64) -> (u64, u64) {
        match row.checked_sub(1) {
            None => (0, self.first_block_len),
            Some(doublings) => {
                let first_row_len = self.table_width * self.first_block_len;
                (
                    first_row_len << doublings,
                    self.first_block_len << doublings,
                )
            }
        }
    }
}

/// Bytes that hold any number up to `max`.
fn width_of(max: u64) -> u8 {
    let bits = u64::BITS - max.max(1).leading_zeros();
    u8::try_from(bits.div_ceil(8)).unwrap_or(8)
}

/// The header of a version 2 B-tree of link names.
struct Index {
    node_len: u64,
    record_len: u64,
    depth: u64,
    root: Option<u64>,
    n_root_records: u64,
}

impl Index {
    fn read(file: &mut File<'_>, at: u64) -> Result<Self> {
        const LINK_NAMES: u64 = 5;
        let mut cursor = file.signed(at, b"BTHD")?;
        file.take(&mut cursor, 1)?;
        let kind = file.uint(&mut cursor, 1)?;
        let node_len = file.uint(&mut cursor, 4)?;
        let record_len = file.uint(&mut cursor, 2)?;
        let depth = file.uint(&mut cursor, 2)?;
        file.take(&mut cursor, 2)?;
        let root = file.address(&mut cursor)?;
        let n_root_records = file.uint(&mut cursor, 2)?;
        let sound = kind == LINK_NAMES && record_len > 4 && node_len > NODE_OVERHEAD;
        if !sound || depth > DEPTH_MAX {
            return Err(file.reader.malformed(format!("index of links at {at}")));
        }
        Ok(Self {
            node_len,
            record_len,
            depth,
            root,
            n_root_records,
        })
    }

    /// The heap ids of all records.
    fn heap_ids(&self, file: &mut File<'_>) -> Result<Vec<Cursor>> {
        let mut ids = Vec::new();
        let mut pending: Vec<_> = self
            .root
            .map(|root| (root, self.depth, self.n_root_records))
            .into_iter()
            .collect();
        let pointers = self.pointer_widths(file.address_width);
        while let Some((at, depth, n_records)) = pending.pop() {
            let signature = if depth == 0 { b"BTLF" } else { b"BTIN" };
            let mut cursor = file.signed(at, signature)?;
            file.take(&mut cursor, 2)?;
            for _ in 0..n_records {
                file.step()?;
                // A hash of the name stands before the heap id.
                let record = file.take(&mut cursor, self.record_len)?;
                ids.push(Cursor {
                    at: record + 4,
                    end: record + self.record_len,
                });
            }
            let Some(below) = depth.checked_sub(1) else {
                continue;
            };
            let total_width = usize::try_from(below).ok().and_then(|i| pointers.1.get(i));
            for _ in 0..=n_records {
                file.step()?;
                let child = file.address(&mut cursor)?;
                let n_records = file.uint(&mut cursor, pointers.0)?;
                file.take(&mut cursor, total_width.copied().unwrap_or(0).into())?;
                pending.extend(child.map(|child| (child, below, n_records)));
            }
        }
        Ok(ids)
    }

    /// The widths in a child's pointer: of its number of records, and for each depth of the
    /// child, of the number of records below it (which leaves leave out).
    fn pointer_widths(&self, address_width: u8) -> (u8, Vec<u8>) {
        let room = self.node_len - NODE_OVERHEAD;
        let leaf_records = room / self.record_len;
        let count_width = width_of(leaf_records);
        let mut widths = vec![0];
        let mut total = leaf_records;
        for _ in 0..self.depth {
            let below = widths.last().copied().unwrap_or(0);
            let pointer = u64::from(address_width) + u64::from(count_width) + u64::from(below);
            let records = room.saturating_sub(pointer) / (self.record_len + pointer);
            total = total.saturating_mul(records + 1).saturating_add(records);
            widths.push(width_of(total));
        }
        (count_width, widths)
    }
}
