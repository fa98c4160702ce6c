//! Finding what is damaged in a file with parity, and making it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::cell::{CELL_HEAD_LEN, CELL_MAGIC, Geometry, Holds, end_mark};
use super::code::Decoder;
use crate::error::{Error, Result};
use crate::pack::Source;

/// Bytes that are read at once.
const WINDOW: u64 = 1 << 20;

/// What is whole and what is not in a file that has parity.
#[derive(Debug)]
pub(crate) struct Examined {
    /// How the file is cut.
    pub geometry: Geometry,
    /// The checksum of every block of the body.
    table: Vec<u32>,
    /// Numbers of the blocks that are damaged, in order.
    pub bad_blocks: Vec<usize>,
    /// Numbers of the cells that are damaged, in order; the number after the last cell is the end
    /// mark's.
    pub bad_cells: Vec<usize>,
    /// Whether the file has the length that it should have.
    right_len: bool,
}

impl Examined {
    /// Whether everything is as it was written.
    pub(crate) fn is_whole(&self) -> bool {
        self.bad_blocks.is_empty() && self.bad_cells.is_empty() && self.right_len
    }

    /// Recovery blocks that are whole.
    fn good_recovery(&self) -> Vec<usize> {
        let bad = |cell: &usize| self.bad_cells.binary_search(cell).is_ok();
        let first = self.geometry.n_table();
        let cells = first..first + self.geometry.n_recovery();
        cells
            .filter(|cell| !bad(cell))
            .map(|cell| cell - first)
            .collect()
    }
}

/// Blocks that were made again; what they replace is left out where it is right.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patches {
    block_len: u64,
    blocks: Arc<BTreeMap<u64, Bytes>>,
}

impl Patches {
    /// Corrects bytes of the body that were read from `offset`.
    pub(crate) fn apply(&self, offset: u64, bytes: &mut [u8]) {
        if self.block_len == 0 {
            return;
        }
        let end = offset + bytes.len() as u64;
        let blocks = offset / self.block_len..end.div_ceil(self.block_len);
        for (index, block) in self.blocks.range(blocks) {
            let start = index * self.block_len;
            let (from, to) = (start.max(offset), (start + self.block_len).min(end));
            let place = |at: u64, base: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
            bytes[place(from, offset)..place(to, offset)]
                .copy_from_slice(&block[place(from, start)..place(to, start)]);
        }
    }
}

/// Looks at every block and cell of a file; `None` if there is no parity, or too little of it is
/// left to say what is damaged.
pub(crate) async fn examine(source: Source<'_>) -> Result<Option<Examined>> {
    let file_len = source.len().await?;
    let Some(geometry) = locate(source, file_len).await? else {
        return Ok(None);
    };
    let (table, bad_cells) = read_cells(source, &geometry).await?;
    let Some(table) = table else {
        return Ok(None);
    };
    let mut bad_blocks = Vec::new();
    let block_len = geometry.block_len();
    let mut index = 0;
    let end = geometry.body_len().min(file_len);
    let mut walk = Walk::new(0, end, block_len as u64);
    while let Some(bytes) = walk.next(source).await? {
        for block in bytes.chunks(block_len) {
            if checksum(block, block_len) != table[index] {
                bad_blocks.push(index);
            }
            index += 1;
        }
    }
    // A block that is cut off is bad by its checksum, or was already; what lies behind is gone.
    bad_blocks.extend(index..geometry.n_blocks());
    let right_len = geometry.file_len() == file_len;
    Ok(Some(Examined {
        geometry,
        table,
        bad_blocks,
        bad_cells,
        right_len,
    }))
}

/// The CRC-32C of a block, filled up with zeros.
fn checksum(block: &[u8], block_len: usize) -> u32 {
    if block.len() == block_len {
        return crc_fast::crc32_iscsi(block);
    }
    let mut whole = block.to_vec();
    whole.resize(block_len, 0);
    crc_fast::crc32_iscsi(&whole)
}

/// Windows of whole units, one after the other.
struct Walk {
    offset: u64,
    end: u64,
    window: u64,
}

impl Walk {
    fn new(offset: u64, end: u64, unit: u64) -> Self {
        let window = (WINDOW / unit).max(1) * unit;
        Self {
            offset,
            end,
            window,
        }
    }

    async fn next(&mut self, source: Source<'_>) -> Result<Option<Bytes>> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let len = self.window.min(self.end - self.offset);
        let bytes = source.read(self.offset, len).await?;
        self.offset += len;
        Ok(Some(bytes))
    }
}

/// Finds how the file is cut: from the end mark, else from the last cell whose head is whole.
async fn locate(source: Source<'_>, file_len: u64) -> Result<Option<Geometry>> {
    let head_len = CELL_HEAD_LEN as u64;
    if file_len < head_len {
        return Ok(None);
    }
    let mark = source.read(file_len - head_len, head_len).await?;
    if let Some(geometry) = end_mark(&mark, file_len) {
        return Ok(Some(geometry));
    }
    let mut end = file_len;
    while end >= head_len {
        let start = end.saturating_sub(WINDOW);
        let bytes = source.read(start, end - start).await?;
        let heads = bytes.windows(CELL_HEAD_LEN).enumerate().rev();
        let found = heads
            .filter(|(_, head)| head.starts_with(&CELL_MAGIC))
            .find_map(|(at, head)| Geometry::parse(head, start + at as u64).ok());
        if found.is_some() || start == 0 {
            return Ok(found);
        }
        // A head may lie across the border of two windows.
        end = start + head_len - 1;
    }
    Ok(None)
}

/// Reads all cells: the checksums of the table, unless it is lost, and which cells are bad.
pub(crate) async fn read_cells(
    source: Source<'_>,
    geometry: &Geometry,
) -> Result<(Option<Vec<u32>>, Vec<usize>)> {
    let file_len = source.len().await?;
    let mut bad = Vec::new();
    let (mut table, mut recovery) = (BTreeMap::new(), Vec::new());
    let cell_len = usize::try_from(geometry.cell_len()).expect("little more than a block");
    let end = geometry.cell_offset(geometry.n_cells()).min(file_len);
    let mut walk = Walk::new(geometry.body_len(), end, geometry.cell_len());
    let mut index = 0;
    while let Some(bytes) = walk.next(source).await? {
        for cell in bytes.chunks(cell_len) {
            match (geometry.block(index, cell), geometry.holds(index)) {
                (None, _) => bad.push(index),
                (Some(block), (Holds::Table, i)) => drop(table.insert(i, block.to_vec())),
                (Some(block), (Holds::TableRecovery, i)) => recovery.push((i, block.to_vec())),
                (Some(_), (Holds::Recovery, _)) => {}
            }
            index += 1;
        }
    }
    bad.extend(index..geometry.n_cells());
    if !has_end_mark(source, geometry, file_len).await? {
        bad.push(geometry.n_cells());
    }
    let missing = geometry.n_table() - table.len();
    if missing > recovery.len() {
        return Ok((None, bad));
    }
    if missing > 0 {
        restore_table(geometry, &mut table, &recovery[..missing])?;
    }
    let sums = table.values().flat_map(|block| block.chunks_exact(4));
    let sums = sums.map(|sum| u32::from_le_bytes(sum.try_into().expect("four bytes")));
    Ok((Some(sums.take(geometry.n_blocks()).collect()), bad))
}

async fn has_end_mark(source: Source<'_>, geometry: &Geometry, file_len: u64) -> Result<bool> {
    let (offset, len) = (
        geometry.cell_offset(geometry.n_cells()),
        CELL_HEAD_LEN as u64,
    );
    if offset + len > file_len {
        return Ok(false);
    }
    let mark = source.read(offset, len).await?;
    Ok(mark[..] == geometry.head(geometry.n_cells(), &[]))
}

fn restore_table(
    geometry: &Geometry,
    table: &mut BTreeMap<usize, Vec<u8>>,
    recovery: &[(usize, Vec<u8>)],
) -> Result<()> {
    let (n, m) = (geometry.n_table(), geometry.n_table_recovery());
    let mut decoder = Decoder::new(n, m, geometry.block_len())?;
    for (index, block) in &*table {
        decoder.block(*index, block)?;
    }
    for (index, block) in recovery {
        decoder.recovery(*index, block)?;
    }
    table.extend(decoder.finish()?);
    Ok(())
}

/// Makes the damaged blocks of the body again; `None` if more are damaged than can be healed.
/// Holds them, and at most about 160 MiB more.
pub(crate) async fn restore(source: Source<'_>, found: &Examined) -> Result<Option<Patches>> {
    let geometry = &found.geometry;
    let block_len = geometry.block_len();
    let mut recovery = found.good_recovery();
    if found.bad_blocks.len() > recovery.len() {
        return Ok(None);
    }
    recovery.truncate(found.bad_blocks.len());
    let mut blocks: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let column_len = Decoder::column_len(geometry.n_blocks(), geometry.n_recovery(), block_len);
    let mut column = 0;
    while column < block_len && !recovery.is_empty() {
        let len = column_len.min(block_len - column);
        let fed = feed(source, found, &recovery, (column, len)).await?;
        let decoded = tokio::task::spawn_blocking(|| fed.finish()).await;
        let decoded = decoded.map_err(|e| Error::Internal {
            what: format!("a healing job stopped: {e}"),
        })??;
        for (index, bytes) in decoded {
            blocks.entry(index).or_default().extend_from_slice(&bytes);
        }
        column += len;
    }
    // What was read may have rotted since it was examined, or a checksum have met damage by chance.
    if blocks
        .iter()
        .any(|(index, block)| crc_fast::crc32_iscsi(block) != found.table[*index])
    {
        return Ok(None);
    }
    let blocks = blocks
        .into_iter()
        .map(|(index, block)| (index as u64, block.into()));
    Ok(Some(Patches {
        block_len: block_len as u64,
        blocks: Arc::new(blocks.collect()),
    }))
}

/// Gives a decoder the column of every whole block, and of as many recovery blocks as it needs.
async fn feed(
    source: Source<'_>,
    found: &Examined,
    recovery: &[usize],
    (column, len): (usize, usize),
) -> Result<Decoder> {
    let geometry = &found.geometry;
    let block_len = geometry.block_len();
    let mut decoder = Decoder::new(geometry.n_blocks(), geometry.n_recovery(), len)?;
    let file_len = source.len().await?;
    let mut index = 0;
    let mut walk = Walk::new(0, geometry.body_len().min(file_len), block_len as u64);
    while let Some(bytes) = walk.next(source).await? {
        for block in bytes.chunks(block_len) {
            if found.bad_blocks.binary_search(&index).is_err() {
                let mut whole;
                let block = if block.len() == block_len {
                    block
                } else {
                    whole = block.to_vec();
                    whole.resize(block_len, 0);
                    &whole
                };
                decoder.block(index, &block[column..column + len])?;
            }
            index += 1;
        }
    }
    for index in recovery {
        let cell = geometry.cell_offset(geometry.n_table() + index);
        let offset = cell + (CELL_HEAD_LEN + column) as u64;
        decoder.recovery(*index, &source.read(offset, len as u64).await?)?;
    }
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conformance::noise;
    use crate::heal::read_patched;
    use crate::parity::append_for;
    use crate::staging::{MemoryStaging, StagedFile, Staging};

    fn staged(bytes: &[u8]) -> Box<dyn StagedFile> {
        let file = MemoryStaging::default().create().unwrap();
        file.append(&[bytes]).unwrap();
        file
    }

    fn content(file: &dyn StagedFile) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    /// A body with its parity.
    fn with_parity(body: &[u8], percent: u32) -> (Vec<u8>, Geometry) {
        let file = staged(body);
        append_for(&*file, percent).unwrap();
        let geometry = Geometry::new(body.len() as u64, percent).unwrap();
        assert_eq!(file.len(), geometry.file_len());
        (content(&*file), geometry)
    }

    /// The body as it is read after healing; `None` if it cannot be healed.
    async fn healed(file: &[u8], body_len: usize) -> Option<Vec<u8>> {
        let file = staged(file);
        let source = Source::Staged(&*file);
        let found = examine(source).await.unwrap()?;
        let patches = restore(source, &found).await.unwrap()?;
        Some(
            read_patched(source, &patches, 0, body_len as u64)
                .await
                .unwrap(),
        )
    }

    /// The places that count: blocks of the body, then cells, then the end mark.
    fn places(geometry: &Geometry) -> Vec<std::ops::Range<usize>> {
        let place = |n: u64| usize::try_from(n).unwrap();
        let (body_len, block_len) = (place(geometry.body_len()), geometry.block_len());
        let block = |i: usize| i * block_len..((i + 1) * block_len).min(body_len);
        let cell = |i| place(geometry.cell_offset(i))..place(geometry.cell_offset(i + 1));
        let end = place(geometry.cell_offset(geometry.n_cells()))..place(geometry.file_len());
        let cells = (0..geometry.n_cells()).map(cell);
        (0..geometry.n_blocks())
            .map(block)
            .chain(cells)
            .chain([end])
            .collect()
    }

    #[tokio::test]
    async fn what_is_whole_is_found_whole() {
        for (len, percent) in [(1, 1), (512, 3), (513, 3), (5000, 50), (600 << 10, 3)] {
            let body = noise(1, len);
            let (file, geometry) = with_parity(&body, percent);
            let file = staged(&file);
            let found = examine(Source::Staged(&*file)).await.unwrap().unwrap();
            assert!(found.is_whole() && found.geometry == geometry, "{found:?}");
        }
    }

    /// A burst as long as the budget, at every place of a short file and at many of a long one:
    /// over the head, the trailer's place, the table, the border, the end.
    #[tokio::test]
    async fn a_burst_heals_wherever_it_lies() {
        for (len, percent, step) in [(3000, 3, 97), (40_000, 5, 997), (700 << 10, 4, 16_411)] {
            let body = noise(2, len);
            let (file, geometry) = with_parity(&body, percent);
            // A burst that is not aligned to blocks touches one more of them than it is long.
            let burst = (geometry.n_recovery() - 1) * geometry.block_len();
            for start in (0..file.len()).step_by(step) {
                let mut bad = file.clone();
                let end = (start + burst).min(bad.len());
                bad[start..end].iter_mut().for_each(|byte| *byte = !*byte);
                assert!(
                    healed(&bad, len).await.unwrap() == body,
                    "from {start} of {len}"
                );
            }
        }
    }

    /// One sector of zeros heals even in the shortest packs.
    #[tokio::test]
    async fn a_sector_of_zeros_heals_in_short_files() {
        for len in [1, 400, 4096, 9000] {
            let body = noise(3, len);
            let (file, _) = with_parity(&body, 1);
            for start in (0..file.len()).step_by(4096) {
                let mut bad = file.clone();
                let end = (start + 4096).min(bad.len());
                bad[start..end].fill(0);
                assert!(
                    healed(&bad, len).await.unwrap() == body,
                    "from {start} of {len}"
                );
            }
        }
    }

    /// Cut anywhere: either it heals, or there is no parity left to say what it was.
    #[tokio::test]
    async fn what_is_cut_off_the_end_heals() {
        let body = noise(4, 3000);
        let (file, geometry) = with_parity(&body, 3);
        let least = usize::try_from(geometry.cell_offset(geometry.n_table() + 1)).unwrap();
        for len in 0..file.len() {
            match healed(&file[..len], body.len()).await {
                Some(whole) => assert!(whole == body, "cut to {len}"),
                // Of the table, as many blocks must be left as it has.
                None => assert!(len < least, "cut to {len}"),
            }
        }
        let longer = [&file[..], &noise(9, 5000)].concat();
        assert!(healed(&longer, body.len()).await.unwrap() == body);
    }

    /// A pack that holds another pack's file as a chunk has heads of cells inside, which are whole.
    #[tokio::test]
    async fn the_parity_of_a_file_that_is_stored_inside_is_not_taken() {
        let (inner, _) = with_parity(&noise(5, 20_000), 20);
        let body = [&noise(6, 1000)[..], &inner, &noise(7, 1000)].concat();
        let (mut file, _) = with_parity(&body, 10);
        let len = file.len();
        file[len - 10] ^= 1;
        file[3] ^= 1;
        assert!(healed(&file, body.len()).await.unwrap() == body);
        let bare = body.clone();
        assert!(healed(&bare, body.len()).await.is_none(), "its own is gone");
    }

    /// So many blocks that the decoder takes them column by column.
    #[tokio::test]
    async fn columns_are_put_together() {
        let body = noise(8, 129 << 20);
        let (mut file, geometry) = with_parity(&body, 1);
        assert_eq!(geometry.block_len(), 8192);
        let (n, m) = (geometry.n_blocks(), geometry.n_recovery());
        assert!(Decoder::column_len(n, m, 8192) < 8192);
        for block in [0, 77, 16_000] {
            file[block * 8192 + 5000] ^= 1;
        }
        assert!(healed(&file, body.len()).await.unwrap() == body);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Any damage heals that leaves as many recovery blocks as blocks are damaged, and as many
        /// blocks of the table as it has; no other damage heals wrongly.
        #[test]
        fn damage_within_the_budget_heals(
            len in 1..60_000usize, percent in 1..=50u32, seed: u64, share in 0..120u64,
        ) {
            let body = noise(seed, len);
            let (mut file, geometry) = with_parity(&body, percent);
            let places = places(&geometry);
            let mut order: Vec<usize> = (0..places.len()).collect();
            let key = |i: &usize| noise(seed ^ (*i as u64 + 1) << 20, 8);
            order.sort_by_cached_key(key);
            let n_hit = geometry.n_recovery() * usize::try_from(share).unwrap() / 100;
            let hit = &order[..n_hit.min(order.len())];
            for place in hit {
                // One bit, or all bytes.
                let range = places[*place].clone();
                match place % 3 {
                    0 => file[range.start + usize::try_from(seed).unwrap() % range.len()] ^= 0x40,
                    _ => file[range].iter_mut().for_each(|byte| *byte = byte.wrapping_add(1)),
                }
            }
            let kind = |place: &&usize| {
                place.checked_sub(geometry.n_blocks()).map(|cell| geometry.holds(cell).0)
            };
            let count = |what| hit.iter().filter(|place| kind(place) == what).count();
            // The end mark counts as a part of the table in `holds`.
            let last = places.len() - 1;
            let table = count(Some(Holds::Table)) + count(Some(Holds::TableRecovery))
                - usize::from(hit.contains(&last));
            let fits = count(None) + count(Some(Holds::Recovery)) <= geometry.n_recovery()
                && table <= geometry.n_table_recovery();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let whole = runtime.block_on(healed(&file, len));
            prop_assert_eq!(whole.is_some(), fits, "{} hit of {}", hit.len(), places.len());
            prop_assert!(whole.is_none_or(|whole| whole == body));
        }

        /// Whatever lies there, nothing panics and nothing beyond the file is asked for.
        #[test]
        fn any_files_are_examined_without_panic(
            bytes: Vec<u8>, cut in 0..6000usize, at: prop::sample::Index, with: u8,
        ) {
            let (mut file, _) = with_parity(&noise(1, 2000), 5);
            let place = at.index(file.len());
            file[place] = with;
            file.truncate(cut.max(1));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for file in [bytes, file] {
                runtime.block_on(healed(&file, 2000));
            }
        }
    }
}
