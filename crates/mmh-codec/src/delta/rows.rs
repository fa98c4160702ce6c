//! The rows that a delta has a size for: those of the tensor, or runs of a fixed length.

use std::ops::Range;

use crate::error::{Result, corrupt};
use crate::input::{Input, put_varint};

/// Numbers in a row where those of the tensor are too short or too long.
const DEFAULT_LEN: usize = 512;
/// Shortest row that has a size of its own.
const LEN_MIN: usize = 64;
/// Longest.
const LEN_MAX: usize = 1 << 16;

/// The first row may be shorter, and the last ends with the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    first: usize,
    len: usize,
}

impl Rows {
    /// Rows of a tensor of which `before` numbers of the first row lie before the content.
    pub(super) fn of(len: u64, before: u64) -> Self {
        match usize::try_from(len) {
            Ok(len) if (LEN_MIN..=4096).contains(&len) => {
                let before = usize::try_from(before % len as u64).unwrap_or(0);
                Self {
                    first: len - before,
                    len,
                }
            }
            _ => Self {
                first: DEFAULT_LEN,
                len: DEFAULT_LEN,
            },
        }
    }

    pub(super) fn count(self, n: usize) -> usize {
        if n == 0 {
            0
        } else {
            1 + n.saturating_sub(self.first).div_ceil(self.len)
        }
    }

    /// The ranges of numbers, which tile `0..n`.
    pub(super) fn ranges(self, n: usize) -> impl Iterator<Item = Range<usize>> {
        (0..self.count(n)).map(move |i| self.range(i, n))
    }

    /// The numbers of row `i`, of `n` in all.
    pub(super) fn range(self, i: usize, n: usize) -> Range<usize> {
        let end = self.first + i * self.len;
        let start = if i == 0 { 0 } else { end - self.len };
        start..end.min(n)
    }

    /// Rows, and their numbers, as far as they lie in `numbers`.
    pub(super) fn parts(
        self,
        numbers: Range<usize>,
    ) -> impl Iterator<Item = (usize, Range<usize>)> {
        let mut start = numbers.start;
        let first = if start < self.first {
            0
        } else {
            1 + (start - self.first) / self.len
        };
        (first..).map_while(move |row| {
            let range = start..self.range(row, numbers.end).end;
            start = range.end;
            (!range.is_empty()).then_some((row, range))
        })
    }

    /// The place of a number in its row of the tensor.
    pub(super) fn column(self, number: usize) -> usize {
        (number + self.len - self.first) % self.len
    }

    /// Numbers in a row.
    pub(super) fn len(self) -> usize {
        self.len
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        put_varint(out, self.first);
        put_varint(out, self.len);
    }

    pub(super) fn read(input: &mut Input<'_>) -> Result<Self> {
        let (first, len) = (input.varint()?, input.varint()?);
        if first == 0 || first > len || !(LEN_MIN..=LEN_MAX).contains(&len) {
            return corrupt("rows of a delta have no possible length");
        }
        Ok(Self { first, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_tile_the_content() {
        for (len, before) in [(64, 0), (384, 100), (3, 0), (0, 7), (5000, 1), (4096, 4095)] {
            let rows = Rows::of(len, before);
            for n in [0, 1, 63, 64, 65, 1000, 4097] {
                let mut end = 0;
                for range in rows.ranges(n) {
                    assert_eq!(range.start, end);
                    assert!(!range.is_empty());
                    end = range.end;
                }
                assert_eq!(end, n);
                assert_eq!(rows.ranges(n).count(), rows.count(n));
            }
            let mut out = Vec::new();
            rows.put(&mut out);
            assert_eq!(Rows::read(&mut Input::new(&out)), Ok(rows));
        }
    }

    #[test]
    fn parts_are_rows_as_far_as_they_reach() {
        let rows = Rows::of(100, 30);
        assert_eq!((rows.range(0, 500), rows.range(2, 500)), (0..70, 170..270));
        assert_eq!(rows.range(2, 200), 170..200);
        let parts: Vec<_> = rows.parts(60..180).collect();
        assert_eq!(parts, [(0, 60..70), (1, 70..170), (2, 170..180)]);
        assert_eq!(rows.parts(170..171).collect::<Vec<_>>(), [(2, 170..171)]);
        assert_eq!(rows.parts(9..9).count(), 0);
        let columns = [0, 69, 70, 169, 170].map(|number| rows.column(number));
        assert_eq!(columns, [30, 99, 0, 99, 0]);
    }

    #[test]
    fn impossible_rows_are_refused() {
        for (first, len) in [(0, 64), (65, 64), (1, 63), (1, (1 << 16) + 1)] {
            let mut out = Vec::new();
            put_varint(&mut out, first);
            put_varint(&mut out, len);
            assert!(Rows::read(&mut Input::new(&out)).is_err(), "{first} {len}");
        }
    }
}
