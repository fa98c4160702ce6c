//! How an object is spread over shards: which bytes lie where, and how parity is made of them.
//!
//! The object is cut into *rows* of one block for each data shard; the parity shards have a
//! Reed–Solomon block for each row. The last row is divided evenly. An object with one data
//! shard is simply copied.

use std::ops::Range;

use crate::error::Result;
use crate::parity::{Decoder, Encoder};

use super::shard::to_usize;

/// Bytes of a row that one shard holds, but for the last row.
pub const SHARD_BLOCK_LEN: u64 = 1 << 20;
/// Blocks are multiples of the unit of the code's arithmetic in bytes.
const UNIT: u64 = 64;

/// How one object lies on the stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Length of the object in bytes.
    pub len: u64,
    /// Shards that hold its bytes as they are.
    pub data: usize,
    /// Shards that hold parity.
    pub parity: usize,
}

/// A row of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Offset in the object of its first byte.
    pub start: u64,
    /// Its bytes of the object.
    pub len: u64,
    /// Offset of its block in the payload of every shard.
    pub at: u64,
    /// Length in bytes of its blocks, zeros at their end included.
    pub block_len: u64,
}

/// A part of an object that lies in one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    /// Which shard.
    pub number: usize,
    /// Which row.
    pub row: u64,
    /// Where in the block.
    pub block: Range<u64>,
}

impl Layout {
    fn row_len(&self) -> u64 {
        SHARD_BLOCK_LEN * self.data as u64
    }

    /// All shards.
    pub(super) fn n(&self) -> usize {
        self.data + self.parity
    }

    /// Rows of the object.
    pub(super) fn n_rows(&self) -> u64 {
        self.len.div_ceil(self.row_len())
    }

    /// A row, which must be one of the object's.
    pub(super) fn row(&self, no: u64) -> Row {
        let start = no * self.row_len();
        let len = self.row_len().min(self.len - start);
        let even = len.div_ceil(self.data as u64);
        let block_len = match self.data {
            1 => even,
            _ => even.next_multiple_of(UNIT),
        };
        Row {
            start,
            len,
            at: no * SHARD_BLOCK_LEN,
            block_len,
        }
    }

    /// Bytes that a shard stores of a block: trailing zeros of data are left out.
    pub(super) fn stored_len(&self, row: &Row, number: usize) -> u64 {
        if number >= self.data {
            return row.block_len;
        }
        let before = number as u64 * row.block_len;
        row.len.saturating_sub(before).min(row.block_len)
    }

    /// Length in bytes of the payload of a shard.
    pub(super) fn payload_len(&self, number: usize) -> u64 {
        match self.n_rows().checked_sub(1) {
            None => 0,
            Some(last) => {
                let row = self.row(last);
                row.at + self.stored_len(&row, number)
            }
        }
    }

    /// Where the bytes of a range lie, in the order of the object. The range must be in it.
    pub(super) fn extents(&self, range: &Range<u64>) -> Vec<Extent> {
        let (mut found, mut at) = (Vec::new(), range.start);
        while at < range.end {
            let no = at / self.row_len();
            let row = self.row(no);
            let number = (at - row.start) / row.block_len;
            let from = at - row.start - number * row.block_len;
            let len = (row.block_len - from).min(range.end - at);
            // The end of the object is the end of its last block.
            let len = len.min(row.start + row.len - at);
            found.push(Extent {
                number: to_usize(number),
                row: no,
                block: from..from + len,
            });
            at += len;
        }
        found
    }

    /// The blocks of a row, one for each shard as it is stored, made of the row's bytes.
    pub(super) fn encode(&self, row: &Row, bytes: &[u8]) -> Vec<Vec<u8>> {
        if self.data == 1 {
            return vec![bytes.to_vec(); self.n()];
        }
        let mut encoder = Encoder::new(to_usize(row.block_len), self.parity);
        let mut blocks = Vec::with_capacity(self.n());
        for number in 0..self.data {
            let start = (number as u64 * row.block_len).min(row.len);
            let end = start + self.stored_len(row, number);
            let block = &bytes[to_usize(start)..to_usize(end)];
            encoder.push(block);
            blocks.push(block.to_vec());
        }
        let recovery = encoder.finish();
        let recovery = recovery.chunks_exact(to_usize(row.block_len));
        blocks.extend(recovery.map(<[u8]>::to_vec));
        blocks
    }

    /// Makes data blocks again, or equal windows of blocks, from as many others as there are data
    /// shards; returns those that were not given. Lengths are multiples of 64.
    ///
    /// # Errors
    /// Internal if they do not fit together.
    pub(super) fn decode(&self, given: &[(usize, Vec<u8>)]) -> Result<Vec<(usize, Vec<u8>)>> {
        let len = given.first().map_or(0, |(_, block)| block.len());
        let mut decoder = Decoder::new(self.data, self.parity, len)?;
        for (number, block) in given {
            match number.checked_sub(self.data) {
                None => decoder.block(*number, block)?,
                Some(recovery) => decoder.recovery(recovery, block)?,
            }
        }
        decoder.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conformance::noise;

    fn layout(len: u64, data: usize, parity: usize) -> Layout {
        Layout { len, data, parity }
    }

    /// The payloads of all shards.
    fn spread(layout: &Layout, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut shards = vec![Vec::new(); layout.n()];
        for no in 0..layout.n_rows() {
            let row = layout.row(no);
            let part = &bytes[to_usize(row.start)..to_usize(row.start + row.len)];
            for (shard, block) in shards.iter_mut().zip(layout.encode(&row, part)) {
                shard.extend(block);
            }
        }
        shards
    }

    #[test]
    fn an_object_without_bytes_has_shards_without_payload() {
        let empty = layout(0, 4, 2);
        assert_eq!((empty.n_rows(), empty.payload_len(0)), (0, 0));
        assert_eq!((empty.payload_len(5), empty.extents(&(0..0))), (0, vec![]));
    }

    #[test]
    fn a_short_object_is_divided_evenly() {
        let short = layout(200, 2, 1);
        assert_eq!(short.row(0).block_len, 128);
        let lens: Vec<u64> = (0..3).map(|number| short.payload_len(number)).collect();
        assert_eq!(lens, [128, 72, 128]);
        // Ten bytes over four stores: the first has all of them.
        let lens: Vec<u64> = (0..5).map(|n| layout(10, 4, 1).payload_len(n)).collect();
        assert_eq!(lens, [10, 0, 0, 0, 64]);
    }

    #[test]
    fn copies_are_equal_and_have_no_zeros() {
        let copied = layout(100, 1, 2);
        assert_eq!((0..3).map(|n| copied.payload_len(n)).sum::<u64>(), 300);
        assert_eq!(
            copied.encode(&copied.row(0), &[7; 100]),
            vec![vec![7; 100]; 3]
        );
    }

    #[test]
    fn a_range_within_a_block_lies_in_one_shard() {
        let long = layout(7 << 20, 2, 1);
        let found = long.extents(&((3 << 20) + 5..(3 << 20) + 100));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].number, found[0].row), (1, 1));
        assert_eq!(
            long.extents(&(0..7 << 20)).len(),
            8,
            "the last row is divided"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn extents_tile_the_range(
            len in 1..9_000_000u64, data in 1..6usize, from: prop::sample::Index, n in 1..5_000_000u64,
        ) {
            let layout = layout(len, data, 2);
            let start = from.index(to_usize(len)) as u64;
            let end = (start + n).min(len);
            let mut at = start;
            for extent in layout.extents(&(start..end)) {
                let row = layout.row(extent.row);
                prop_assert_eq!(row.start + extent.number as u64 * row.block_len + extent.block.start, at);
                prop_assert!(extent.block.end <= layout.stored_len(&row, extent.number));
                at += extent.block.end - extent.block.start;
            }
            prop_assert_eq!(at, end);
            let stored: u64 = (0..data).map(|number| layout.payload_len(number)).sum();
            prop_assert_eq!(stored, len, "data shards hold every byte once");
        }

        #[test]
        fn any_data_shards_can_be_missing(
            len in 1..400_000u64, data in 2..6usize, parity in 1..4usize, order: u64,
        ) {
            let layout = layout(len, data, parity);
            let bytes = noise(len, to_usize(len));
            let shards = spread(&layout, &bytes);
            for (number, shard) in shards.iter().enumerate() {
                prop_assert_eq!(shard.len() as u64, layout.payload_len(number));
            }
            let mut numbers: Vec<usize> = (0..layout.n()).collect();
            numbers.sort_by_key(|n| (*n as u64 + 1).wrapping_mul(order) % 1009);
            let row = layout.row(0);
            let block = |number: usize| {
                let mut block = shards[number].clone();
                block.resize(to_usize(row.block_len), 0);
                (number, block)
            };
            let given: Vec<_> = numbers[..data].iter().map(|number| block(*number)).collect();
            let made = layout.decode(&given).unwrap();
            for (number, bytes) in &made {
                prop_assert_eq!(bytes, &block(*number).1);
            }
            let there = given.iter().filter(|(number, _)| *number < data).count();
            prop_assert_eq!(made.len() + there, data);
        }
    }
}
