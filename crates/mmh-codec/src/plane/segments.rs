//! How a plane is cut: segments that share a class or a width, and blocks that decode alone.

use std::ops::Range;

use crate::cluster::SEGMENT_LEN_MAX;
use crate::entropy::LANES;
use crate::error::{Result, corrupt};
use crate::input::{Input, put_varint};

/// Values in a block, the unit that an engine codes and that decodes alone.
pub const BLOCK_LEN: usize = 256 << 10;
/// Most groups in a segment.
const GROUPS_MAX: usize = SEGMENT_LEN_MAX / LANES;
/// Groups in a segment where the rows of the tensor do not fall on groups.
const DEFAULT_GROUPS: usize = 4;
/// Longer rows are cut: their parts may differ, and a class costs only a few bits.
const ROW_GROUPS_MAX: usize = 24;

/// The rows of a tensor, counted in values of one plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Values in a row; 0 when unknown.
    pub(crate) len: u64,
    /// Values of the first row that lie before the plane.
    pub(crate) before: u64,
}

impl Rows {
    pub(crate) fn new(len: u64, first: u64) -> Self {
        Self {
            len,
            before: if len == 0 { 0 } else { first % len },
        }
    }
}

/// Runs of whole groups of 64 values: the first may be shorter, and the last ends with the plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segments {
    first: usize,
    len: usize,
}

impl Segments {
    /// Segments that are rows, or equal parts of rows, where rows consist of whole groups; else
    /// runs of a fixed length.
    pub(crate) fn of_rows(rows: Rows) -> Self {
        let group = LANES as u64;
        let whole =
            rows.len > 0 && rows.len.is_multiple_of(group) && rows.before.is_multiple_of(group);
        let Some(row) = usize::try_from(rows.len / group).ok().filter(|_| whole) else {
            return Self {
                first: DEFAULT_GROUPS,
                len: DEFAULT_GROUPS,
            };
        };
        let parts = (row.div_ceil(ROW_GROUPS_MAX)..=row).find(|&parts| row.is_multiple_of(parts));
        let len = row / parts.unwrap_or(row);
        let before = usize::try_from(rows.before / group).unwrap_or(0) % len;
        Self {
            first: len - before,
            len,
        }
    }

    pub(crate) fn count(self, n: usize) -> usize {
        let groups = n.div_ceil(LANES);
        if groups == 0 {
            0
        } else {
            1 + groups.saturating_sub(self.first).div_ceil(self.len)
        }
    }

    /// The ranges of values, which tile `0..n`.
    pub(crate) fn ranges(self, n: usize) -> impl Iterator<Item = Range<usize>> {
        (0..self.count(n)).map(move |i| {
            let end = LANES * (self.first + i * self.len);
            let start = if i == 0 { 0 } else { end - LANES * self.len };
            start..end.min(n)
        })
    }

    /// Repeats what each segment has for each of its groups.
    pub(crate) fn spread(self, each: &[u8], n: usize) -> Vec<u8> {
        let mut groups = Vec::with_capacity(n.div_ceil(LANES));
        for (range, &value) in self.ranges(n).zip(each) {
            groups.resize(groups.len() + range.len().div_ceil(LANES), value);
        }
        groups
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        put_varint(out, self.first);
        put_varint(out, self.len);
    }

    pub(crate) fn read(input: &mut Input<'_>) -> Result<Self> {
        let (first, len) = (input.varint()?, input.varint()?);
        if first == 0 || first > len || len > GROUPS_MAX {
            return corrupt("segments have no possible length");
        }
        Ok(Self { first, len })
    }
}

/// The blocks of a plane of `n` values: each of [`BLOCK_LEN`], the last between a half and one
/// and a half of it.
pub(crate) fn blocks(n: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    parts(n, BLOCK_LEN)
}

/// Parts of `n` things: each of `len`, the last between a half and one and a half of it.
pub(crate) fn parts(n: usize, len: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    let count = n_parts(n, len);
    (0..count).map(move |i| {
        let end = if i + 1 == count { n } else { (i + 1) * len };
        i * len..end
    })
}

/// How many blocks a plane has: at least one.
pub(crate) fn n_blocks(n: usize) -> usize {
    n_parts(n, BLOCK_LEN)
}

/// How many parts of about `len` there are: at least one.
pub(crate) fn n_parts(n: usize, len: usize) -> usize {
    ((n + len / 2) / len).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(segments: Segments, n: usize) {
        let mut end = 0;
        for range in segments.ranges(n) {
            assert_eq!(range.start, end);
            assert!(range.end > range.start && range.len() <= SEGMENT_LEN_MAX);
            end = range.end;
        }
        assert_eq!(end, n);
        assert_eq!(segments.ranges(n).count(), segments.count(n));
        let ids: Vec<u8> = (0..segments.count(n))
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect();
        let groups = segments.spread(&ids, n);
        assert_eq!(groups.len(), n.div_ceil(LANES));
        for (range, id) in segments.ranges(n).zip(ids) {
            assert!(
                groups[range.start / LANES..range.end.div_ceil(LANES)]
                    .iter()
                    .all(|&g| g == id)
            );
        }
        let mut out = Vec::new();
        segments.put(&mut out);
        assert_eq!(Segments::read(&mut Input::new(&out)), Ok(segments));
    }

    #[test]
    fn segments_tile_every_plane() {
        let rows = [
            (384, 0),
            (384, 128),
            (384, 380),
            (3, 0),
            (0, 0),
            (1 << 20, 640),
            (64 * 257, 64),
        ];
        for (len, first) in rows {
            for n in [0, 1, 63, 64, 65, 1000, 40_000] {
                check(Segments::of_rows(Rows::new(len, first)), n);
            }
        }
    }

    #[test]
    fn rows_of_whole_groups_are_segments() {
        let segments = Segments::of_rows(Rows::new(384, 128));
        let ranges: Vec<_> = segments.ranges(1000).collect();
        assert_eq!(ranges, [0..256, 256..640, 640..1000]);
    }

    #[test]
    fn impossible_segments_are_refused() {
        for (first, len) in [(0, 1), (2, 1), (1, 257), (0, 0)] {
            let mut out = Vec::new();
            Segments { first, len }.put(&mut out);
            assert!(Segments::read(&mut Input::new(&out)).is_err());
        }
    }

    #[test]
    fn a_short_rest_joins_the_last_block() {
        let lens = |n| blocks(n).map(|b| b.len()).collect::<Vec<_>>();
        assert_eq!(lens(0), [0]);
        assert_eq!(lens(5), [5]);
        assert_eq!(
            lens(BLOCK_LEN + BLOCK_LEN / 2 - 1),
            [BLOCK_LEN + BLOCK_LEN / 2 - 1]
        );
        assert_eq!(lens(BLOCK_LEN + BLOCK_LEN / 2), [BLOCK_LEN, BLOCK_LEN / 2]);
        assert_eq!(lens(4 * BLOCK_LEN), [BLOCK_LEN; 4]);
    }
}
