//! The cells of a parity section: their heads, and where each lies. Pure functions over hostile
//! bytes.

use crate::pack::{Flaw, u32_at, u64_at};

/// First bytes of a cell.
pub const CELL_MAGIC: [u8; 8] = *b"MMH-PRTY";
/// Version of the layout.
const PARITY_VERSION: u32 = 1;
/// Length in bytes of a cell's head, and of the end mark.
pub const CELL_HEAD_LEN: usize = 36;
/// Most recovery blocks for each hundred blocks of the body.
pub const PARITY_PERCENT_MAX: u32 = 50;
/// Length in bytes of a block, but for very short and very long bodies: a disk's sector.
pub const PARITY_BLOCK_LEN: u64 = 4096;
/// Length in bytes of the blocks of short bodies, so that their parity is short too.
pub const PARITY_BLOCK_LEN_SMALL: u64 = 512;
/// Longest body in bytes that has short blocks.
pub const PARITY_SMALL_BODY: u64 = 512 << 10;
/// Most blocks of a body: of longer ones the blocks are longer.
pub const PARITY_BLOCKS_MAX: u64 = 1 << 15;
/// Longest body in bytes.
pub const PARITY_BODY_LEN_MAX: u64 = 1 << 32;

/// How a body is cut, and where the cells of its parity lie. Follows from two numbers, which
/// every cell states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    body_len: u64,
    n_recovery: u32,
}

impl Geometry {
    /// For a body of this length, with recovery blocks for `percent` of it, but at least for one
    /// sector; `None` if nothing is to be coded.
    pub(crate) fn new(body_len: u64, percent: u32) -> Option<Self> {
        if percent == 0 {
            return None;
        }
        let n = body_len.div_ceil(block_len(body_len));
        let share = (n * u64::from(percent.min(PARITY_PERCENT_MAX))).div_ceil(100);
        let n_recovery = u32::try_from(share.max(least_recovery(body_len))).ok()?;
        Self::of(body_len, n_recovery)
    }

    /// What a head states, if it is within the limits.
    fn of(body_len: u64, n_recovery: u32) -> Option<Self> {
        if !(1..=PARITY_BODY_LEN_MAX).contains(&body_len) {
            return None;
        }
        let n = body_len.div_ceil(block_len(body_len));
        let most = (n * u64::from(PARITY_PERCENT_MAX)).div_ceil(100);
        let bounds = 1..=most.max(least_recovery(body_len));
        let it = Self {
            body_len,
            n_recovery,
        };
        bounds.contains(&u64::from(n_recovery)).then_some(it)
    }

    /// Length in bytes of what is protected.
    pub(crate) fn body_len(&self) -> u64 {
        self.body_len
    }

    /// Length in bytes of a block.
    pub(crate) fn block_len(&self) -> usize {
        usize::try_from(block_len(self.body_len)).expect("at most 128 KiB")
    }

    /// Blocks of the body; the last is filled up with zeros.
    pub(crate) fn n_blocks(&self) -> usize {
        to_usize(self.body_len.div_ceil(block_len(self.body_len)))
    }

    /// Blocks of the table.
    pub(crate) fn n_table(&self) -> usize {
        (4 * self.n_blocks()).div_ceil(self.block_len())
    }

    /// Recovery blocks of the table.
    pub(crate) fn n_table_recovery(&self) -> usize {
        self.n_table() + 1
    }

    /// Recovery blocks of the body.
    pub(crate) fn n_recovery(&self) -> usize {
        self.n_recovery as usize
    }

    /// All cells: table, recovery of the body, recovery of the table.
    pub(crate) fn n_cells(&self) -> usize {
        self.n_table() + self.n_recovery() + self.n_table_recovery()
    }

    /// What the cell of this number holds, and its place among its kind.
    pub(crate) fn holds(&self, cell: usize) -> (Holds, usize) {
        let (table, recovery) = (self.n_table(), self.n_recovery());
        match cell {
            _ if cell < table => (Holds::Table, cell),
            _ if cell < table + recovery => (Holds::Recovery, cell - table),
            _ => (Holds::TableRecovery, cell - table - recovery),
        }
    }

    /// Length in bytes of a cell.
    pub(crate) fn cell_len(&self) -> u64 {
        CELL_HEAD_LEN as u64 + block_len(self.body_len)
    }

    /// Offset in bytes of a cell, or of the end mark.
    pub(crate) fn cell_offset(&self, cell: usize) -> u64 {
        self.body_len + cell as u64 * self.cell_len()
    }

    /// Length in bytes of the file: body, cells and end mark.
    pub(crate) fn file_len(&self) -> u64 {
        self.cell_offset(self.n_cells()) + CELL_HEAD_LEN as u64
    }

    /// The head of a cell; the end mark is a head without a block.
    pub(crate) fn head(&self, cell: usize, block: &[u8]) -> [u8; CELL_HEAD_LEN] {
        let mut head = [0; CELL_HEAD_LEN];
        let index = u32::try_from(cell).expect("below 2^17");
        head[..8].copy_from_slice(&CELL_MAGIC);
        head[8..12].copy_from_slice(&PARITY_VERSION.to_le_bytes());
        head[12..20].copy_from_slice(&self.body_len.to_le_bytes());
        head[20..24].copy_from_slice(&self.n_recovery.to_le_bytes());
        head[24..28].copy_from_slice(&index.to_le_bytes());
        head[28..32].copy_from_slice(&crc_fast::crc32_iscsi(block).to_le_bytes());
        let crc = crc_fast::crc32_iscsi(&head[..32]);
        head[32..].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// Reads the head at the beginning of `bytes`, which lie at `offset`. A head that is not where
    /// it says that it should be is none: it may be of a pack that is stored in this one.
    pub(crate) fn parse(bytes: &[u8], offset: u64) -> Result<Self, Flaw> {
        let head = bytes
            .first_chunk::<CELL_HEAD_LEN>()
            .ok_or("shorter than a head")?;
        if head[..8] != CELL_MAGIC || crc_fast::crc32_iscsi(&head[..32]) != u32_at(head, 32) {
            return Err("no head of a cell".into());
        }
        if u32_at(head, 8) != PARITY_VERSION {
            return Err(Flaw::Version(u32_at(head, 8)));
        }
        let geometry = Self::of(u64_at(head, 12), u32_at(head, 20)).ok_or("beyond the limits")?;
        let index = u32_at(head, 24) as usize;
        if index > geometry.n_cells() || geometry.cell_offset(index) != offset {
            return Err("the head of a cell that lies elsewhere".into());
        }
        Ok(geometry)
    }

    /// The block of a cell, if head and block are whole.
    pub(crate) fn block<'a>(&self, cell: usize, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (head, block) = bytes.split_first_chunk::<CELL_HEAD_LEN>()?;
        let whole = block.len() == self.block_len() && *head == self.head(cell, block);
        whole.then_some(block)
    }
}

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Checksums of blocks.
    Table,
    /// A recovery block of the body.
    Recovery,
    /// A recovery block of the table.
    TableRecovery,
}

/// The geometry that the end of a file of `file_len` bytes states; `tail` are its last bytes.
pub(crate) fn end_mark(tail: &[u8], file_len: u64) -> Option<Geometry> {
    let mark = tail.last_chunk::<CELL_HEAD_LEN>()?;
    let geometry = Geometry::parse(mark, file_len.checked_sub(CELL_HEAD_LEN as u64)?).ok()?;
    (geometry.file_len() == file_len).then_some(geometry)
}

/// Length in bytes of the blocks of a body.
fn block_len(body_len: u64) -> u64 {
    if body_len <= PARITY_SMALL_BODY {
        return PARITY_BLOCK_LEN_SMALL;
    }
    let least = body_len.div_ceil(PARITY_BLOCKS_MAX).next_power_of_two();
    least.max(PARITY_BLOCK_LEN)
}

/// Recovery blocks that heal one sector wherever it lies: in cells it is not aligned.
fn least_recovery(body_len: u64) -> u64 {
    PARITY_BLOCK_LEN / block_len(body_len).min(PARITY_BLOCK_LEN) + 1
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("at most 2^15 blocks")
}

/// Reads any bytes as the head of a cell; for fuzzing.
pub fn fuzz_parity_head(bytes: &[u8], offset: u64) {
    if let Ok(geometry) = Geometry::parse(bytes, offset) {
        assert!(geometry.body_len() <= offset && geometry.file_len() > offset);
        assert!(geometry.n_blocks() <= to_usize(PARITY_BLOCKS_MAX));
    }
    assert!(end_mark(bytes, bytes.len() as u64).is_none_or(|g| g.body_len() < bytes.len() as u64));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The layout of FORMAT.md, byte by byte. If this fails, old packs do not heal any more.
    #[test]
    fn the_layout_is_as_documented() {
        let geometry = Geometry::new(64 << 20, 3).unwrap();
        assert_eq!((geometry.block_len(), geometry.n_blocks()), (4096, 16_384));
        assert_eq!((geometry.n_table(), geometry.n_recovery()), (16, 492));
        assert_eq!(geometry.n_cells(), 16 + 492 + 17);
        assert_eq!(geometry.cell_len(), 4132);
        assert_eq!(geometry.file_len(), (64 << 20) + 525 * 4132 + 36);
        let head = geometry.head(7, b"block");
        assert_eq!(&head[..12], b"MMH-PRTY\x01\0\0\0");
        assert_eq!(head[12..20], (64u64 << 20).to_le_bytes());
        assert_eq!(head[20..28], [492u32, 7].map(u32::to_le_bytes).concat());
        assert_eq!(head[28..32], crc_fast::crc32_iscsi(b"block").to_le_bytes());
        assert_eq!(head[32..], crc_fast::crc32_iscsi(&head[..32]).to_le_bytes());
        assert_eq!(geometry.holds(15), (Holds::Table, 15));
        assert_eq!(geometry.holds(16), (Holds::Recovery, 0));
        assert_eq!(geometry.holds(508), (Holds::TableRecovery, 0));
    }

    /// Short bodies heal a sector too, and long ones keep to the code's limits.
    #[test]
    fn blocks_grow_with_the_body() {
        let of = |len: u64| {
            let it = Geometry::new(len, 3).unwrap();
            (it.block_len(), it.n_blocks(), it.n_recovery())
        };
        assert_eq!(of(1), (512, 1, 9));
        assert_eq!(of(PARITY_SMALL_BODY), (512, 1024, 31));
        assert_eq!(of(PARITY_SMALL_BODY + 1), (4096, 129, 4));
        assert_eq!(of(128 << 20), (4096, 32_768, 984));
        assert_eq!(of((128 << 20) + 1), (8192, 16_385, 492));
        assert_eq!(of(PARITY_BODY_LEN_MAX), (131_072, 32_768, 984));
        for len in [0, PARITY_BODY_LEN_MAX + 1] {
            assert_eq!(Geometry::new(len, 3), None);
        }
        assert_eq!(Geometry::new(100, 0), None);
    }

    #[test]
    fn every_bit_of_a_head_counts() {
        let geometry = Geometry::new(10_000, 5).unwrap();
        let block = [7; 512];
        for cell in 0..geometry.n_cells() {
            let offset = geometry.cell_offset(cell);
            let bytes = [&geometry.head(cell, &block)[..], &block].concat();
            assert_eq!(Geometry::parse(&bytes, offset), Ok(geometry));
            assert_eq!(geometry.block(cell, &bytes), Some(&block[..]));
            assert!(Geometry::parse(&bytes, offset + 1).is_err(), "elsewhere");
            assert!(geometry.block(cell + 1, &bytes).is_none(), "another's");
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(geometry.block(cell, &bad).is_none(), "bit {bit}");
                let head = Geometry::parse(&bad, offset);
                assert_eq!(head.is_ok(), bit >= CELL_HEAD_LEN * 8, "bit {bit}");
            }
        }
    }

    /// A whole head with numbers of which one is beyond what the code can do.
    #[test]
    fn forged_heads_are_refused() {
        let good = Geometry::new(600 << 10, 3).unwrap();
        let head = good.head(2, b"");
        let with = |at: usize, value: &[u8]| {
            let mut bad = head;
            bad[at..at + value.len()].copy_from_slice(value);
            let crc = crc_fast::crc32_iscsi(&bad[..32]);
            bad[32..].copy_from_slice(&crc.to_le_bytes());
            Geometry::parse(&bad, good.cell_offset(2))
        };
        assert_eq!(with(0, b"MMH-PRTY"), Ok(good));
        assert_eq!(with(8, &2u32.to_le_bytes()), Err(Flaw::Version(2)));
        for len in [0, 1, u64::MAX, 1 << 33] {
            assert!(with(12, &len.to_le_bytes()).is_err(), "body of {len}");
        }
        for n in [0, 76, u32::MAX] {
            assert!(with(20, &n.to_le_bytes()).is_err(), "{n} recovery blocks");
        }
        for index in [0, 3, u32::MAX] {
            assert!(with(24, &index.to_le_bytes()).is_err(), "cell {index}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, offset: u64) {
            fuzz_parity_head(&bytes, offset);
        }

        #[test]
        fn any_numbers_in_a_whole_head_are_read_without_panic(
            body_len: u64, n_recovery: u32, index: u32, offset in 0..1u64 << 34,
        ) {
            let mut head = Geometry::new(1000, 3).unwrap().head(0, b"");
            head[12..20].copy_from_slice(&(body_len >> (index % 64)).to_le_bytes());
            head[20..24].copy_from_slice(&(n_recovery >> (body_len % 32)).to_le_bytes());
            head[24..28].copy_from_slice(&(index % 1000).to_le_bytes());
            let crc = crc_fast::crc32_iscsi(&head[..32]);
            head[32..].copy_from_slice(&crc.to_le_bytes());
            fuzz_parity_head(&head, offset);
        }

        #[test]
        fn an_end_mark_is_found_where_the_file_ends(body_len in 1..5u64 << 20, percent in 1..=50u32) {
            let geometry = Geometry::new(body_len, percent).unwrap();
            let mark = geometry.head(geometry.n_cells(), b"");
            prop_assert_eq!(end_mark(&mark, geometry.file_len()), Some(geometry));
            prop_assert_eq!(end_mark(&mark, geometry.file_len() + 1), None);
            prop_assert_eq!(end_mark(&mark[1..], geometry.file_len()), None);
            let budget = geometry.n_recovery() as u64 * geometry.block_len() as u64;
            prop_assert!(budget * 100 >= body_len * u64::from(percent) && budget >= 4096);
        }
    }
}
