//! Where dense coding pays, by a sample; and the scales of rows and columns. All in whole numbers.

use std::ops::Range;

use super::super::Rows;
use super::context::Scales;
use super::grid::{Grid, Kernel, ROW_LEN_MAX};
use super::{BASE_MAX, SCALE_WIDTH};
use crate::layout::FloatFormat;
use crate::log2::{LOG_BITS, log2};

/// Fewer numbers do not repay the tables.
const NUMBERS_MIN: usize = 1 << 14;
/// Fewer rows do not repay the scales of the columns.
const ROWS_MIN: usize = 8;
/// Sides of kernels that are looked for.
const SIDES: [usize; 3] = [3, 5, 7];
/// Pieces of a sample, and numbers in each.
const PIECES: usize = 32;
const PIECE_LEN: usize = 512;
/// Neighbours count as alike if one pair in this many more than half agrees in sign (or differs).
const ALIKE_SHARE: usize = 32;
/// One number in this many is in a sample of columns, and not more than so many.
const COLUMNS_SHARE: usize = 16;
const COLUMNS_SAMPLE: usize = 1 << 14;
/// How far apart columns must be: the variance of their scales, in half octaves times 2^10,
/// squared.
const VARIANCE_MIN: i64 = 1 << 18;
/// The step of a value that is as large as its scale.
const SIGNED_ANCHOR: i32 = 10;
const ANCHOR: i32 = 22;

/// The grid in which dense coding of floats is worth a try.
pub(crate) fn find(format: FloatFormat, raw: &[u8], rows: Rows) -> Option<Grid> {
    let tops = Tops::new(format, raw);
    let row_len = usize::try_from(rows.len).ok()?;
    let n = tops.len();
    if !(2..=ROW_LEN_MAX).contains(&row_len) || n < NUMBERS_MIN || n < ROWS_MIN * row_len {
        return None;
    }
    let before = usize::try_from(rows.before).ok()?;
    let kernel = tops.kernel(row_len, before);
    if kernel == Kernel::POINT && tops.spread(row_len, before) < VARIANCE_MIN {
        return None;
    }
    Some(Grid {
        kernel,
        channels: row_len / kernel.taps(),
        before,
        n,
    })
}

/// The upper two bytes of floats.
struct Tops<'a> {
    raw: &'a [u8],
    len: usize,
    /// Bits below the plane of exponents.
    below: u32,
}

impl<'a> Tops<'a> {
    fn new(format: FloatFormat, raw: &'a [u8]) -> Self {
        let width = format.planes().next().map_or(15, |(_, width)| width);
        Self {
            raw,
            len: format.len(),
            below: 15 - width,
        }
    }

    fn len(&self) -> usize {
        self.raw.len() / self.len
    }

    fn tops(&self, range: Range<usize>) -> impl Iterator<Item = u16> + Clone + use<'a> {
        let numbers = self.raw[range.start * self.len..range.end * self.len].chunks_exact(self.len);
        numbers.map(|number| match number {
            [.., low, high] => u16::from_le_bytes([*low, *high]),
            _ => 0,
        })
    }

    /// The kernel in whose sides the signs of neighbours are alike.
    fn kernel(&self, row_len: usize, before: usize) -> Kernel {
        let mut sides = [1; 3];
        let mut lag = 1;
        let signs = self.signs();
        for side in &mut sides {
            let scores = SIDES
                .into_iter()
                .filter(|side| row_len.is_multiple_of(lag * side))
                .map(|side| (likeness(&signs, before, lag, side), side));
            let best = scores.filter(|&(score, _)| score > 0).max();
            let Some((_, found)) = best else { break };
            *side = found;
            lag *= found;
        }
        Kernel {
            width: sides[0],
            height: sides[1],
            depth: sides[2],
        }
    }

    /// The signs of pieces of the numbers, and where these begin.
    fn signs(&self) -> Vec<(usize, Bits)> {
        let piece = |piece| {
            let start = (self.len() - PIECE_LEN) / PIECES * piece;
            let mut signs = Bits::default();
            for (word, i) in signs.iter_mut().zip((start..).step_by(64)) {
                let tops = self.tops(i..i + 64).enumerate();
                *word = tops.fold(0, |word, (i, top)| word | u64::from(top >> 15) << i);
            }
            (start, signs)
        };
        (0..PIECES).map(piece).collect()
    }

    /// How much the scales of columns differ, beyond chance: the covariance of what one half of a
    /// sample of rows and what the other half says.
    fn spread(&self, row_len: usize, before: usize) -> i64 {
        let below = self.below;
        let size = move |top: u16| (top & 0x7fff) >> below;
        let skip = (row_len - before) % row_len;
        let n_rows = (self.len() - skip) / row_len;
        let sample = (n_rows * row_len / COLUMNS_SHARE).min(COLUMNS_SAMPLE);
        let step = (n_rows * row_len / sample.max(1)).clamp(1, n_rows / ROWS_MIN + 1);
        let rows = || {
            let starts = (0..n_rows).step_by(step).map(|row| skip + row * row_len);
            starts.map(|at| self.tops(at..at + row_len).map(size))
        };
        let largest = rows().flatten().fold(0, u16::max);
        let energy = Energy::new(largest);
        let mut sums = [vec![0u64; row_len], vec![0u64; row_len]];
        for (half, row) in rows().enumerate() {
            for (sum, size) in sums[half % 2].iter_mut().zip(row) {
                *sum += energy.of(size);
            }
        }
        let logs = sums.map(|sums| {
            let logs = sums.into_iter().map(|sum| i64::from(log2(sum)));
            logs.collect::<Vec<i64>>()
        });
        let columns = i64::try_from(row_len).unwrap_or(i64::MAX);
        let [first, second] = logs
            .each_ref()
            .map(|logs| logs.iter().sum::<i64>() / columns);
        let pairs = logs[0].iter().zip(&logs[1]);
        pairs.map(|(a, b)| (a - first) * (b - second)).sum::<i64>() / columns
    }
}

/// A bit for each number of a piece, the first in the lowest.
type Bits = [u64; PIECE_LEN / 64];

/// `bits` from `by` on, as many as [`Bits`] has; there are zeros where `bits` end.
fn bits_from(bits: &[u64], by: usize) -> Bits {
    let word = |i: usize| bits.get(i).copied().unwrap_or(0);
    std::array::from_fn(|i| {
        let (at, shift) = (i + by / 64, by % 64);
        // In two steps, for a shift by 64 is none.
        word(at) >> shift | word(at + 1) << (63 - shift) << 1
    })
}

/// How many more pairs than by chance agree in sign, or fewer, of those that stand `lag` apart in
/// periods of `lag * side`; in parts of 2^16, and 0 if it may be chance.
fn likeness(signs: &[(usize, Bits)], before: usize, lag: usize, side: usize) -> usize {
    let period = lag * side;
    if lag >= PIECE_LEN {
        return 0;
    }
    // The first `lag` of each period have their neighbour in another one.
    let mut paired = vec![0u64; (PIECE_LEN + period).div_ceil(64)];
    for (i, into) in (0..PIECE_LEN + period).zip((0..period).cycle()) {
        paired[i / 64] |= u64::from(into >= lag) << (i % 64);
    }
    let (mut pairs, mut equal) = (0usize, 0usize);
    for (start, signs) in signs {
        let paired = bits_from(&paired, (before + start) % period + lag);
        let after = bits_from(signs, lag);
        let n = PIECE_LEN - lag;
        for (i, ((sign, after), mut paired)) in signs.iter().zip(after).zip(paired).enumerate() {
            // The last `lag` have no neighbour in the piece.
            let left = n.saturating_sub(64 * i).min(64);
            paired &= if left > 0 { u64::MAX >> (64 - left) } else { 0 };
            pairs += paired.count_ones() as usize;
            equal += (paired & !(sign ^ after)).count_ones() as usize;
        }
    }
    let excess = (2 * equal).abs_diff(pairs);
    if excess * ALIKE_SHARE < pairs {
        0
    } else {
        (excess << 16) / pairs.max(1)
    }
}

/// Squares of sizes, which are exponents with the top bit of the mantissa, relative to the largest.
struct Energy {
    of: Vec<u64>,
    top: i32,
}

impl Energy {
    fn new(largest: u16) -> Self {
        let top = largest >> 1;
        let of = (0..=largest).map(|size| {
            // (5/4)^2 and (7/4)^2, times 16.
            let square = if size & 1 == 0 { 25u64 } else { 49 };
            let below = 2 * u32::from(top - (size >> 1));
            32u32.checked_sub(below).map_or(0, |shift| square << shift)
        });
        Self {
            of: of.collect(),
            top: i32::from(top),
        }
    }

    fn of(&self, size: u16) -> u64 {
        self.of.get(usize::from(size)).copied().unwrap_or(0)
    }

    /// The power of two, in half octaves, that is nearest to the root of the mean square.
    fn scale(&self, sum: u64, count: u64) -> i32 {
        let log = i64::from(log2(sum)) - i64::from(log2(count));
        let rounded = (log + (1 << (LOG_BITS - 1))) >> LOG_BITS;
        i32::try_from(rounded).unwrap_or(0) - 36 + 2 * self.top
    }
}

/// The base of all scales, and the scales. `sizes` are exponents with the top bit of the mantissa.
pub(super) fn fit(grid: Grid, sizes: &[u16]) -> (u16, Scales) {
    let energy = Energy::new(sizes.iter().copied().max().unwrap_or(0));
    let (base, scales) = if grid.kernel.taps() > 1 {
        let (base, columns) = relative(&columns(grid, sizes, &energy, &[]), SIGNED_ANCHOR);
        let rows = Vec::new();
        (base - SIGNED_ANCHOR, Scales { columns, rows })
    } else {
        let (_, by_row) = relative(&rows(grid, sizes, &energy, &[]), 0);
        let (_, columns) = relative(&columns(grid, sizes, &energy, &by_row), 0);
        let (base, rows) = relative(&rows(grid, sizes, &energy, &columns), ANCHOR);
        (base - ANCHOR, Scales { columns, rows })
    };
    let base = u16::try_from(base).unwrap_or(0).min(BASE_MAX);
    (base, scales)
}

/// Scales relative to one of the lowest, but at least `least`; the few that are lower are 0.
fn relative(scales: &[i32], least: i32) -> (i32, Vec<u8>) {
    let mut sorted = scales.to_vec();
    sorted.sort_unstable();
    let low = sorted.get(sorted.len() / 50).copied().unwrap_or(0);
    let low = low.max(least);
    let most = (1 << SCALE_WIDTH) - 1;
    let above = |&scale: &i32| u8::try_from((scale - low).clamp(0, most)).unwrap_or(0);
    (low, scales.iter().map(above).collect())
}

fn columns(grid: Grid, sizes: &[u16], energy: &Energy, rows: &[u8]) -> Vec<i32> {
    let row_len = grid.row_len();
    let mut sums = vec![(0u64, 0u64); row_len];
    for (row, part, first) in rows_of(grid, sizes) {
        let shift = rows.get(row).copied().unwrap_or(0);
        for (sum, &size) in sums[first..].iter_mut().zip(part) {
            sum.0 += energy.of(size) >> shift;
            sum.1 += 1;
        }
    }
    sums.iter().map(|&(sum, n)| energy.scale(sum, n)).collect()
}

fn rows(grid: Grid, sizes: &[u16], energy: &Energy, columns: &[u8]) -> Vec<i32> {
    let scales = rows_of(grid, sizes).map(|(_, part, first)| {
        let shift = |i: usize| columns.get(first + i).copied().unwrap_or(0);
        let squares = part.iter().enumerate();
        let sum = squares.map(|(i, &size)| energy.of(size) >> shift(i)).sum();
        energy.scale(sum, part.len() as u64)
    });
    scales.collect()
}

/// The rows of a plane: their number, their values, and the column of the first of these.
fn rows_of(grid: Grid, values: &[u16]) -> impl Iterator<Item = (usize, &[u16], usize)> {
    let row_len = grid.row_len();
    let cut = (row_len - grid.before).min(values.len());
    let (first, rest) = values.split_at(cut);
    let rest = rest.chunks(row_len).map(|part| (part, 0));
    let parts = std::iter::once((first, grid.before)).chain(rest);
    parts
        .enumerate()
        .map(|(row, (part, first))| (row, part, first))
}

#[cfg(test)]
mod tests {
    use mmh_core::Dtype;
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{convolution, weights};

    const N: usize = 1 << 16;

    fn found(sides: [usize; 3], channels: usize, first: u64) -> Option<[usize; 3]> {
        let raw = convolution(Dtype::BF16, sides, channels, N, 2);
        let taps: usize = sides.iter().product();
        let first = usize::try_from(first).unwrap();
        let rows = Rows::new((channels * taps) as u64, first as u64);
        let grid = find(FloatFormat::Bf16, &raw[2 * first..], rows)?;
        assert_eq!(grid.row_len(), channels * taps);
        assert_eq!(grid.before, first % grid.row_len());
        let Kernel {
            width,
            height,
            depth,
        } = grid.kernel;
        Some([width, height, depth])
    }

    #[test]
    fn kernels_are_found_by_their_signs() {
        for sides in [[3, 1, 1], [3, 3, 1], [5, 5, 1], [7, 7, 1], [3, 3, 3]] {
            assert_eq!(found(sides, 32, 0), Some(sides));
            assert_eq!(found(sides, 32, 100), Some(sides), "begun within a kernel");
        }
    }

    proptest! {
        /// The bits count what the definition does, number by number.
        #[test]
        fn pairs_are_counted_as_they_are_defined(
            seed: u64,
            odd in 2u64..20,
            before in 0usize..2000,
            lag in 1usize..600,
            side in 2usize..8,
        ) {
            let noise = &mut crate::samples::Noise::new(seed);
            let mut piece = |start| {
                let mut signs = Bits::default();
                for word in &mut signs {
                    *word = if noise.bits().is_multiple_of(odd) { u64::MAX } else { noise.bits() };
                }
                (start, signs)
            };
            let signs = [piece(0), piece(77), piece(1 << 20)];
            let (mut pairs, mut equal) = (0, 0);
            for (start, signs) in &signs {
                let sign = |i: usize| signs[i / 64] >> (i % 64) & 1;
                for i in lag..PIECE_LEN {
                    if (before + start + i) % (lag * side) >= lag {
                        pairs += 1;
                        equal += usize::from(sign(i) == sign(i - lag));
                    }
                }
            }
            let excess = (2 * equal).abs_diff(pairs);
            let chance = excess * ALIKE_SHARE < pairs;
            let expected = if chance { 0 } else { (excess << 16) / pairs.max(1) };
            prop_assert_eq!(likeness(&signs, before, lag, side), expected);
        }
    }

    #[test]
    fn columns_are_tried_where_they_differ() {
        let columns = |raw: &[u8], row| find(FloatFormat::F32, raw, Rows::new(row, 0));
        let differ = convolution(Dtype::F32, [1; 3], 64, N, 4);
        assert_eq!(
            columns(&differ, 64).map(|grid| grid.kernel),
            Some(Kernel::POINT)
        );
        // Rows differ here, and columns do not.
        let alike = weights(Dtype::F32, 64, 4 * N, 9);
        assert_eq!(columns(&alike, 64), None);
        assert_eq!(columns(&differ[..4 * 5000], 64), None, "too few numbers");
        assert_eq!(columns(&differ, N as u64 / 4), None, "too few rows");
        for row in [0, 1, u64::MAX] {
            assert_eq!(columns(&differ, row), None);
        }
    }

    #[test]
    fn scales_are_roots_of_mean_squares() {
        // Columns of 1, 2 and 4, rows of 1 and 1/2, as sizes of binary32: 254 is from 1 to 3/2, and
        // is taken as 5/4, whose square is nearer to 2 than to 1.
        let sizes: Vec<u16> = (0..60)
            .map(|i| 254 + 2 * (i % 3) - 2 * (i / 3 % 2))
            .collect();
        let grid = Grid {
            kernel: Kernel::POINT,
            channels: 3,
            before: 0,
            n: 60,
        };
        let (base, scales) = fit(grid, &sizes);
        assert_eq!(scales.columns, [0, 2, 4]);
        assert_eq!(scales.rows[..4], [2, 0, 2, 0]);
        assert_eq!(i32::from(base), 253 - ANCHOR);
        let cut = Grid { before: 1, ..grid };
        let cut_sizes = &sizes[1..];
        assert_eq!(fit(Grid { n: 59, ..cut }, cut_sizes).1.columns, [0, 2, 4]);
    }

    #[test]
    fn extreme_sizes_have_scales() {
        for sizes in [vec![0; 90], vec![0x1ff; 90], vec![0xfff; 90]] {
            for kernel in [
                Kernel::POINT,
                Kernel {
                    width: 3,
                    ..Kernel::POINT
                },
            ] {
                let channels = 9 / kernel.taps();
                let grid = Grid {
                    kernel,
                    channels,
                    before: 0,
                    n: 90,
                };
                let (base, scales) = fit(grid, &sizes);
                assert!(base <= BASE_MAX);
                assert_eq!(scales.columns, [0; 9]);
            }
        }
    }
}
