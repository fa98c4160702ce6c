//! Directions that updates have in common: an update is mostly a sum of a few products of a row's
//! part with a column's, so that small numbers for rows and columns tell the likely signs.

use crate::error::{Result, corrupt};
use crate::input::{Input, put_varint};
use crate::kernel::COLUMNS_REACH;
use crate::plane::{PlaneDecoder, PlaneEncoder, Rows, Shape};

/// Most directions of a tensor.
pub(super) const RANK_MAX: u8 = 16;
/// The largest part that a row or a column has in a direction. With this, a sum of so many products
/// fits 16 bits.
pub(super) const PART_MAX: i16 = 31;
const _: () = assert!(RANK_MAX as i64 * PART_MAX as i64 * PART_MAX as i64 <= i16::MAX as i64);
/// Bits of a part, which is stored above `-PART_MAX - 1`.
const PART_BITS: u32 = 6;

/// The parts of rows and columns in each direction; none at first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directions {
    rank: usize,
    threshold: i16,
    /// `rank` parts for each row that has changes.
    rows: Vec<i16>,
    /// For each direction the parts of all columns, and [`COLUMNS_REACH`] zeros.
    columns: Vec<i16>,
    stride: usize,
}

impl Directions {
    /// The inclination of a number is the sum over the directions of its row's part times its
    /// column's; above `threshold`, its sign is likelier. `rows` has `rank` parts for each row,
    /// `columns` has the parts of all columns, direction after direction.
    pub(super) fn new(rank: usize, threshold: i16, rows: Vec<i16>, columns: &[i16]) -> Self {
        if rank == 0 {
            return Self::default();
        }
        let len = columns.len() / rank;
        let stride = len + COLUMNS_REACH;
        let mut padded = Vec::with_capacity(rank * stride);
        for of_direction in columns.chunks_exact(len) {
            padded.extend_from_slice(of_direction);
            padded.resize(padded.len() + COLUMNS_REACH, 0);
        }
        Self {
            rank,
            threshold,
            rows,
            columns: padded,
            stride,
        }
    }

    /// Levels of likelihood.
    pub(super) fn levels(&self) -> usize {
        if self.rank > 0 { 2 } else { 1 }
    }

    pub(super) fn threshold(&self) -> i16 {
        self.threshold
    }

    /// The parts of the row that is this one of those that have changes.
    pub(super) fn of_row(&self, changed: usize) -> &[i16] {
        let start = changed * self.rank;
        self.rows.get(start..start + self.rank).unwrap_or(&[])
    }

    /// The parts of columns from `column` on, see [`crate::kernel::Expected::columns`].
    pub(super) fn parts_from(&self, column: usize) -> &[i16] {
        self.columns.get(column..).unwrap_or(&[])
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    pub(super) fn put(&self, encoder: &mut PlaneEncoder<'_>, out: &mut Vec<u8>) -> Result<()> {
        out.push(u8::try_from(self.rank).unwrap_or(0));
        if self.rank == 0 {
            return Ok(());
        }
        put_varint(out, usize::from(self.threshold.unsigned_abs()));
        let n_columns = self.stride - COLUMNS_REACH;
        let columns = self.columns.chunks_exact(self.stride);
        let columns = columns.flat_map(|parts| &parts[..n_columns]).map(stored);
        let columns: Vec<u16> = columns.collect();
        put_parts(encoder, &columns, n_columns, out)?;
        let n_rows = self.rows.len() / self.rank;
        let of_direction = |k: usize| self.rows.iter().skip(k).step_by(self.rank);
        let rows: Vec<u16> = (0..self.rank).flat_map(of_direction).map(stored).collect();
        put_parts(encoder, &rows, n_rows, out)
    }

    /// Reads the directions of `n` numbers in rows of `len`, of which `n_rows` have changes.
    pub(super) fn read(
        input: &mut Input<'_>,
        (n, len, n_rows): (usize, usize, usize),
        decoder: &mut PlaneDecoder<'_>,
    ) -> Result<Self> {
        let rank = usize::from(input.u8()?);
        if rank == 0 {
            return Ok(Self::default());
        }
        // So no more parts are read than the content has numbers.
        if rank > usize::from(RANK_MAX) || rank * len > n {
            return corrupt("a delta has more directions than its numbers can have");
        }
        let threshold = i16::try_from(input.varint()?);
        let Ok(threshold) = threshold else {
            return corrupt("no inclination can be so large");
        };
        let columns = read_parts(decoder, input, rank * len)?;
        let by_direction = read_parts(decoder, input, rank * n_rows)?;
        let of_row = |row: usize| by_direction.iter().skip(row).step_by(n_rows).copied();
        let rows = (0..n_rows).flat_map(of_row).collect();
        Ok(Self::new(rank, threshold, rows, &columns))
    }
}

fn stored(part: &i16) -> u16 {
    (part + PART_MAX + 1).unsigned_abs()
}

/// Appends a record of parts, of which each direction has `each`.
fn put_parts(
    encoder: &mut PlaneEncoder<'_>,
    parts: &[u16],
    each: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let shape = Shape {
        width: PART_BITS,
        rows: Rows::new(each as u64, 0),
        sequential: false,
    };
    encoder.put(parts, shape, out)
}

fn read_parts(decoder: &mut PlaneDecoder<'_>, input: &mut Input<'_>, n: usize) -> Result<Vec<i16>> {
    let mut values = vec![0; n];
    decoder.read_side(input, PART_BITS, &mut values)?;
    let parts: Vec<i16> = values
        .into_iter()
        .map(|value| i16::try_from(value).unwrap_or(0) - PART_MAX - 1)
        .collect();
    if parts
        .iter()
        .any(|part| !(-PART_MAX..=PART_MAX).contains(part))
    {
        return corrupt("a row or a column has too large a part in a direction");
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Effort;
    use crate::entropy::Reference;
    use crate::plane::{Buffers, Scratch};
    use crate::samples::Noise;
    use crate::zstd::{Packer, Unpacker};

    const N: (usize, usize, usize) = (64 * 50, 64, 40);

    fn some(rank: usize) -> Directions {
        let noise = &mut Noise::new(5);
        let mut parts =
            |n: usize| -> Vec<i16> { (0..n).map(|_| i16::from(noise.below(63)) - 31).collect() };
        let rows = parts(rank * 40);
        Directions::new(rank, 77, rows, &parts(rank * 64))
    }

    fn written(directions: &Directions) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = PlaneEncoder {
            engine: &Reference,
            packer: &mut Packer::new(3),
            scratch: &mut Scratch::default(),
            effort: Effort {
                classes_max: 4,
                rounds: 2,
            },
            dense: false,
        };
        directions.put(&mut encoder, &mut out).unwrap();
        out
    }

    fn read(bytes: &[u8], of: (usize, usize, usize)) -> Result<Directions> {
        let mut input = Input::new(bytes);
        let mut decoder = PlaneDecoder {
            engine: &Reference,
            unpacker: &mut Unpacker::default(),
            buffers: &mut Buffers::default(),
        };
        let directions = Directions::read(&mut input, of, &mut decoder)?;
        input.expect_end()?;
        Ok(directions)
    }

    #[test]
    fn directions_come_back() {
        for rank in [0, 1, 2, 8, 16] {
            let directions = some(rank);
            assert_eq!(directions.levels(), if rank > 0 { 2 } else { 1 });
            assert_eq!(read(&written(&directions), N), Ok(directions), "{rank}");
        }
    }

    #[test]
    fn parts_are_of_their_row_and_column() {
        let directions = Directions::new(2, 1, vec![1, 2, 3, 4], &[5, 6, 7, 8, 9, 10]);
        assert_eq!(directions.of_row(1), [3, 4]);
        assert_eq!(directions.of_row(2), []);
        let parts = directions.parts_from(2);
        assert_eq!((parts[0], parts[directions.stride()]), (7, 10));
        assert!(parts.len() > directions.stride() + COLUMNS_REACH);
    }

    #[test]
    fn impossible_directions_are_refused() {
        let bytes = written(&some(2));
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut], N).is_err(), "{cut}");
        }
        // More parts than numbers, and ranks that there are not.
        assert!(read(&bytes, (127, 64, 40)).is_err());
        for rank in [17, 64, 255] {
            assert!(read(&[&[rank], &bytes[1..]].concat(), N).is_err(), "{rank}");
        }
        // A threshold of 2^15; then a record of the value 0, which is below all parts.
        let threshold = [&[2, 0x80, 0x80, 2], &bytes[2..]].concat();
        assert!(read(&threshold, N).is_err());
        for (value, possible) in [(0, false), (1, true), (63, true)] {
            let constant = [0, 2, value, 0];
            let bytes = [&[1, 9][..], &constant, &constant].concat();
            assert_eq!(read(&bytes, N).is_ok(), possible, "{value}");
        }
    }
}
