//! Finding the directions that updates have in common: the largest singular vectors of the matrix
//! of updates, by subspace iteration in whole numbers.

use super::directions::{Directions, PART_MAX};
use crate::kernel::{Kernels, RANK};
use crate::log2::{ONE_BIT, entropy};

/// How many of the first of [`RANK`] directions may be taken.
const RANKS: [usize; 3] = [2, 4, RANK];
/// Rounds of the iteration.
const ROUNDS: usize = 3;
/// Fewer rows or numbers do not repay the parts.
const ROWS_MIN: usize = 16;
const NUMBERS_MIN: usize = 1 << 14;
/// Bits of the entries of vectors.
const VECTOR_BITS: u32 = 11;
/// Rank and threshold are chosen by one row of so many.
const SAMPLE_SHARE: usize = 8;
/// Inclinations that are told apart.
const INCLINATIONS: usize = 64;
/// What a direction costs beside its parts: two records.
const DIRECTION_BITS: u64 = 60;

/// Updates relative to the usual one of their row, see [`Kernels::relate_updates`].
#[derive(Debug, Default)]
pub(super) struct Updates {
    /// Rows of `len`.
    pub(super) entries: Vec<i16>,
    pub(super) len: usize,
}

impl Updates {
    fn rows(&self) -> impl Iterator<Item = &[i16]> {
        self.entries.chunks_exact(self.len.max(1))
    }

    /// The directions by which signs take the fewest bits, if any take fewer with what they cost.
    pub(super) fn directions(&self, kernels: &Kernels) -> Directions {
        let n_rows = self.entries.len().checked_div(self.len).unwrap_or(0);
        if n_rows < ROWS_MIN || self.entries.len() < NUMBERS_MIN {
            return Directions::default();
        }
        let columns = self.subspace(kernels);
        let rows = self.times(&columns, kernels);
        let parts = Parts::of(rows.as_flattened(), &columns, n_rows, self.len);
        let sample = self.rows().zip(parts.rows.as_chunks::<RANK>().0);
        let sample: Vec<_> = sample.step_by(SAMPLE_SHARE).collect();
        let mut sums = vec![0i16; sample.len() * self.len];
        let alone = sample.iter().flat_map(|(row, _)| *row);
        let alone = alone.filter(|&&entry| entry != 0).count() as u64;
        let mut best = (alone * ONE_BIT * SAMPLE_SHARE as u64, 0, 0);
        let mut known = 0;
        for rank in RANKS {
            for ((_, parts_of_row), sums) in sample.iter().zip(sums.chunks_exact_mut(self.len)) {
                let columns = &parts.columns[known * self.len..rank * self.len];
                (kernels.incline)(&parts_of_row[known..rank], columns, sums);
            }
            known = rank;
            let entries = sample.iter().flat_map(|(row, _)| *row);
            let (signs, threshold) = signs(sums.iter().zip(entries));
            let cost = signs * SAMPLE_SHARE as u64 + parts.cost(rank);
            if cost < best.0 {
                best = (cost, rank, threshold);
            }
        }
        let (_, rank, threshold) = best;
        let rows = parts.rows.chunks_exact(RANK);
        let rows = rows.flat_map(|parts| &parts[..rank]).copied().collect();
        Directions::new(rank, threshold, rows, &parts.columns[..rank * self.len])
    }

    /// [`RANK`] vectors of columns, nearly orthogonal, that updates have most of.
    fn subspace(&self, kernels: &Kernels) -> Vec<i16> {
        // Signs without an order of their own: the top bits of the multiples of an odd number.
        let sign = |i: u32| {
            if i.wrapping_mul(0x9e37_79b9).cast_signed() < 0 {
                -1
            } else {
                1
            }
        };
        let signs = (1u32..).map(|i| sign(i.wrapping_mul(i)));
        let mut vectors: Vec<i16> = signs.take(RANK * self.len).collect();
        for _ in 0..ROUNDS {
            let parts = narrow(&self.times(&vectors, kernels));
            let mut sums = vec![0i32; RANK * self.len];
            let rows: Vec<&[i16]> = self.rows().collect();
            let (pairs, last) = rows.as_chunks();
            let (parts, of_last) = parts.as_chunks();
            for (&rows, [first, second]) in pairs.iter().zip(parts) {
                (kernels.add_rows)(rows, [first, second], &mut sums);
            }
            if let ([row], [parts]) = (last, of_last) {
                (kernels.add_rows)([row, row], [parts, &[0; RANK]], &mut sums);
            }
            vectors = orthogonal(&sums, self.len);
        }
        vectors
    }

    /// The product of each row with each of [`RANK`] vectors of columns.
    fn times(&self, vectors: &[i16], kernels: &Kernels) -> Vec<[i32; RANK]> {
        let product = |row: &[i16]| {
            let mut products = [0; RANK];
            (kernels.products)(row, vectors, &mut products);
            products
        };
        self.rows().map(product).collect()
    }
}

/// What signs cost at these inclinations, and the threshold between two levels of them.
fn signs<'a>(pairs: impl Iterator<Item = (&'a i16, &'a i16)>) -> (u64, i16) {
    let mut counts = [[0u32; 2]; INCLINATIONS];
    for (&sum, &entry) in pairs {
        let inclination = usize::from(sum.unsigned_abs()).min(INCLINATIONS - 1);
        let unexpected = usize::from((sum < 0) != (entry < 0));
        counts[inclination][unexpected] += u32::from(entry != 0);
    }
    let total = sum_of(&counts);
    let split = |at: usize| {
        let below = sum_of(&counts[..=at]);
        let above = [total[0] - below[0], total[1] - below[1]];
        entropy(&below) + entropy(&above)
    };
    let best = (0..INCLINATIONS - 1).min_by_key(|&at| split(at));
    best.map_or((0, 0), |at| (split(at), i16::try_from(at).unwrap_or(0)))
}

fn sum_of(counts: &[[u32; 2]]) -> [u32; 2] {
    [0, 1].map(|i| counts.iter().map(|counts| counts[i]).sum())
}

/// Vectors of [`RANK`] numbers each, brought to [`VECTOR_BITS`] bits by a shift for each place.
fn narrow(vectors: &[[i32; RANK]]) -> Vec<[i16; RANK]> {
    let mut all = [0u32; RANK];
    for parts in vectors {
        for (all, part) in all.iter_mut().zip(parts) {
            *all |= part.unsigned_abs();
        }
    }
    let shifts = all.map(|all| (u32::BITS - all.leading_zeros()).saturating_sub(VECTOR_BITS));
    let narrowed = |parts: &[i32; RANK]| -> [i16; RANK] {
        std::array::from_fn(|k| i16::try_from(parts[k] >> shifts[k]).unwrap_or(0))
    };
    vectors.iter().map(narrowed).collect()
}

/// Takes from each vector of `len` numbers what it has of those before it.
fn orthogonal(vectors: &[i32], len: usize) -> Vec<i16> {
    let mut done: Vec<i16> = Vec::with_capacity(vectors.len());
    for vector in vectors.chunks_exact(len) {
        let mut vector: Vec<i64> = vector.iter().copied().map(i64::from).collect();
        shrink(&mut vector, 20);
        for before in done.chunks_exact(len) {
            let dot = |other: &mut dyn Iterator<Item = i64>| -> i64 {
                before
                    .iter()
                    .zip(other)
                    .map(|(&a, b)| i64::from(a) * b)
                    .sum()
            };
            let own = dot(&mut before.iter().copied().map(i64::from)).max(1);
            let common = dot(&mut vector.iter().copied());
            for (x, &b) in vector.iter_mut().zip(before) {
                *x -= i64::from(b) * common / own;
            }
        }
        shrink(&mut vector, VECTOR_BITS);
        done.extend(vector.iter().map(|&x| i16::try_from(x).unwrap_or(0)));
    }
    done
}

/// Brings numbers to at most this many bits.
fn shrink(vector: &mut [i64], bits: u32) {
    let all = vector.iter().fold(0, |all, x| all | x.unsigned_abs());
    let shift = (u64::BITS - all.leading_zeros()).saturating_sub(bits);
    vector.iter_mut().for_each(|x| *x >>= shift);
}

/// Parts as they are stored, of rows [`RANK`] each.
struct Parts {
    rows: Vec<i16>,
    columns: Vec<i16>,
    n_rows: usize,
}

impl Parts {
    /// Rounds vectors, so that the parts of a direction are the larger the more of the updates it
    /// makes up: the square root of that for rows and columns alike.
    fn of(rows: &[i32], columns: &[i16], n_rows: usize, len: usize) -> Self {
        let mut mean_row = [0u64; RANK];
        for parts in rows.as_chunks::<RANK>().0 {
            for (sum, part) in mean_row.iter_mut().zip(parts) {
                *sum += u64::from(part.unsigned_abs()).pow(2) / n_rows as u64;
            }
        }
        let mean_row = mean_row.map(|square| square.isqrt().max(1));
        let mean_column: [u64; RANK] = std::array::from_fn(|k| {
            let parts = &columns[k * len..(k + 1) * len];
            let squares = parts
                .iter()
                .map(|part| u64::from(part.unsigned_abs()).pow(2));
            (squares.sum::<u64>() / len as u64).isqrt().max(1)
        });
        // Products are of the columns as they are, so that these count once more.
        let strength: [u64; RANK] = std::array::from_fn(|k| (mean_row[k] << 12) / mean_column[k]);
        let usual = (strength.iter().sum::<u64>() / RANK as u64).max(1);
        // The mean part of a usual direction is 5/4; in units of 2^-8.
        let sizes = strength.map(|strength| ((strength << 16) / usual).isqrt() * 5 / 4);
        let rounded = |part: i64, k: usize, mean: u64| {
            let unit = (mean << 8).cast_signed();
            let scaled = part * sizes[k].cast_signed();
            let nearest = (2 * scaled + scaled.signum() * unit) / (2 * unit);
            let limit = i64::from(PART_MAX);
            i16::try_from(nearest.clamp(-limit, limit)).unwrap_or(0)
        };
        let of_rows = rows.iter().enumerate();
        let of_columns = columns.iter().enumerate();
        Self {
            rows: of_rows
                .map(|(i, &part)| rounded(i64::from(part), i % RANK, mean_row[i % RANK]))
                .collect(),
            columns: of_columns
                .map(|(i, &part)| rounded(i64::from(part), i / len, mean_column[i / len]))
                .collect(),
            n_rows,
        }
    }

    /// What the parts of the first directions cost, in units of 2^-10 bits.
    fn cost(&self, rank: usize) -> u64 {
        let len = self.columns.len() / RANK;
        let of_direction = |k: usize| {
            let mut counts = [[0u32; 64]; 2];
            let place = |part: &i16| usize::from((part + PART_MAX + 1).unsigned_abs()) & 63;
            let rows = self.rows.iter().skip(k).step_by(RANK).take(self.n_rows);
            rows.for_each(|part| counts[0][place(part)] += 1);
            let columns = &self.columns[k * len..(k + 1) * len];
            columns.iter().for_each(|part| counts[1][place(part)] += 1);
            entropy(&counts[0]) + entropy(&counts[1]) + DIRECTION_BITS * ONE_BIT
        };
        (0..rank).map(of_direction).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Noise;

    /// Updates with `rank` directions, and noise.
    fn updates(rank: usize, n_rows: usize, len: usize) -> Updates {
        let noise = &mut Noise::new(3);
        let mut normal = |n: usize| -> Vec<f32> { (0..n).map(|_| noise.normal()).collect() };
        let (rows, columns) = (normal(rank * n_rows), normal(rank * len));
        let other = normal(n_rows * len);
        #[allow(clippy::cast_possible_truncation, reason = "saturating by definition")]
        let entry = |i: usize| {
            let of = |k: usize| rows[i / len * rank + k] * columns[i % len * rank + k];
            let sum = (0..rank).map(of).sum::<f32>() * 4.0 + other[i] * 4.0;
            (sum as i16).clamp(-8, 8)
        };
        Updates {
            entries: (0..n_rows * len).map(entry).collect(),
            len,
        }
    }

    #[test]
    fn directions_are_found_where_there_are_some() {
        for rank in [1, 3] {
            let updates = updates(rank, 200, 300);
            let found = updates.directions(&Kernels::PORTABLE);
            assert_eq!(found.levels(), 2);
            let mut expected = 0;
            let mut n = 0;
            for (row, entries) in updates.rows().enumerate() {
                for (column, &entry) in entries.iter().enumerate().filter(|(_, x)| **x != 0) {
                    let parts = found.parts_from(column).iter().step_by(found.stride());
                    let sum: i32 = found
                        .of_row(row)
                        .iter()
                        .zip(parts)
                        .map(|(&a, &b)| i32::from(a * b))
                        .sum();
                    expected += usize::from((sum < 0) == (entry < 0));
                    n += 1;
                }
            }
            assert!(expected * 10 > n * 7, "{rank}: {expected} of {n}");
        }
    }

    #[test]
    fn noise_has_no_directions() {
        let none = |rank, n_rows, len| updates(rank, n_rows, len).directions(&Kernels::PORTABLE);
        assert_eq!(none(0, 200, 300), Directions::default());
        assert_eq!(none(1, 15, 3000), Directions::default());
        assert_eq!(
            Updates::default().directions(&Kernels::PORTABLE),
            Directions::default()
        );
    }

    #[test]
    fn vectors_become_orthogonal() {
        let noise = &mut Noise::new(4);
        let vectors: Vec<i32> = (0..RANK * 100)
            .map(|_| i32::from(noise.below(255)) * 5001 - 300_000)
            .collect();
        let found = orthogonal(&vectors, 100);
        for (i, a) in found.chunks_exact(100).enumerate() {
            for b in found.chunks_exact(100).skip(i + 1) {
                let dot = |a: &[i16], b: &[i16]| -> i64 {
                    a.iter()
                        .zip(b)
                        .map(|(&a, &b)| i64::from(a) * i64::from(b))
                        .sum()
                };
                let (common, own) = (dot(a, b), dot(a, a).min(dot(b, b)));
                assert!(own > 0 && common.abs() * 50 < own, "{common} {own}");
            }
        }
        assert_eq!(orthogonal(&[0; 8 * RANK], 8), [0; 8 * RANK]);
    }
}
