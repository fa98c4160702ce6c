//! Writing parity behind a body that lies in a staged file.

use std::io;

use super::cell::Geometry;
use super::code::Encoder;
use crate::staging::StagedFile;

/// Bytes of the body that are read at once.
const WINDOW: usize = 1 << 20;

/// Appends parity for `percent` of what the file holds; 0 appends nothing.
pub(crate) fn append_for(file: &dyn StagedFile, percent: u32) -> io::Result<()> {
    match Geometry::new(file.len(), percent) {
        Some(geometry) => append(file, &geometry),
        None => Ok(()),
    }
}

/// Appends the parity of the body that the file holds. Reads it once, and holds about four times
/// the recovery blocks in memory.
pub(crate) fn append(file: &dyn StagedFile, geometry: &Geometry) -> io::Result<()> {
    let block_len = geometry.block_len();
    let mut encoder = Encoder::new(block_len, geometry.n_recovery());
    let mut table = Vec::with_capacity(4 * geometry.n_blocks());
    let mut window = vec![0; WINDOW.max(block_len)];
    let mut offset = 0;
    while offset < geometry.body_len() {
        let left = geometry.body_len() - offset;
        let len = usize::try_from(left).map_or(window.len(), |left| left.min(window.len()));
        file.read_at(offset, &mut window[..len])?;
        // The tail of the last block counts as zeros.
        let whole = len.next_multiple_of(block_len);
        window[len..whole].fill(0);
        for block in window[..whole].chunks_exact(block_len) {
            table.extend_from_slice(&crc_fast::crc32_iscsi(block).to_le_bytes());
            encoder.push(block);
        }
        offset += len as u64;
    }
    table.resize(geometry.n_table() * block_len, 0);
    let recovery = encoder.finish();
    let mut encoder = Encoder::new(block_len, geometry.n_table_recovery());
    table
        .chunks_exact(block_len)
        .for_each(|block| encoder.push(block));
    let table_recovery = encoder.finish();
    append_cells(file, geometry, &[table, recovery, table_recovery].concat())
}

/// Appends a cell for each block, and the end mark.
fn append_cells(file: &dyn StagedFile, geometry: &Geometry, blocks: &[u8]) -> io::Result<()> {
    let mut n_cells = 0;
    let cells_at_once = (WINDOW / geometry.block_len()).max(1);
    for some in blocks.chunks(cells_at_once * geometry.block_len()) {
        let mut bytes = Vec::new();
        for block in some.chunks_exact(geometry.block_len()) {
            bytes.extend_from_slice(&geometry.head(n_cells, block));
            bytes.extend_from_slice(block);
            n_cells += 1;
        }
        file.append(&[&bytes])?;
    }
    file.append(&[&geometry.head(n_cells, &[])])
}
