//! The sign: guessed from the signs before it in its column and in its row, by weights that learn.

use super::adaptive::{Bits, KEPT_BITS, mean_of_bits};
use super::scale::{index, mean_rate};
use super::stream::{Choices, Kind, PROB_SCALE};

/// A signed size is remembered up to 1.5 of the predicted one.
const REMEMBERED_MAX: i32 = 6144;
/// The weights stay within ±4, so that products fit 32 bits.
const WEIGHT_MAX: i32 = 4 << 16;

/// What a column knows of signs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ColumnSigns {
    /// The mean of signed sizes, times 2^20.
    mean: i32,
    /// The signed size in the row before, times 4096.
    last: i32,
}

/// What signs are guessed from: one number for each of the mean of the column, the mean of the
/// row, the number to the left, and the one above.
#[derive(Debug, Clone, Copy)]
struct Clues {
    column: i32,
    row: i32,
    left: i32,
    above: i32,
}

/// The model of signs.
#[derive(Debug)]
pub(super) struct Signs {
    /// Times 2^16.
    weights: Clues,
    /// The mean of signed sizes in the row, times 2^20.
    row_mean: i32,
    /// The signed size to the left, times 4096.
    last: i32,
    /// By how much the mean of a column moves in this row, of 65536.
    rate: i32,
    by_size: Bits,
    by_column: Bits,
}

impl Signs {
    pub(super) fn new() -> Self {
        let bits = |n| Bits::new(n, 1 << (KEPT_BITS - 1), (16, 1024));
        Self {
            weights: Clues {
                column: 1 << 15,
                row: 0,
                left: 0,
                above: 0,
            },
            row_mean: 0,
            last: 0,
            rate: mean_rate(0),
            by_size: bits(1024),
            by_column: bits(2048),
        }
    }

    /// Begins a row after `rows` others.
    pub(super) fn next_row(&mut self, rows: i32) {
        self.row_mean >>= 1;
        self.rate = mean_rate(rows);
    }

    /// Codes a sign. `size` is that of the number, times 4096, `distance` its logarithm beside
    /// the prediction.
    #[inline(always)]
    pub(super) fn code<C: Choices>(
        &mut self,
        choices: &mut C,
        column: &mut ColumnSigns,
        (size, distance): (i32, i32),
        negative: bool,
    ) -> bool {
        let times_size = |x: i32| (x * size) >> 14;
        let clues = Clues {
            column: times_size(column.mean >> 8),
            row: times_size(self.row_mean >> 8),
            left: times_size(self.last),
            above: times_size(column.last),
        };
        let level = steps(self.weighed(&clues), 32);
        let by_size = level + 64 * index((distance >> 7) + 10, 16);
        let by_column = level + 64 * steps(clues.column << 2, 16);
        let set = mean_of_bits(self.by_size.set(by_size), self.by_column.set(by_column), 64);
        let negative = choices.pick(Kind::Sign, &[0, PROB_SCALE - set], usize::from(negative)) == 1;
        self.by_size.learn(by_size, negative);
        self.by_column.learn(by_column, negative);
        self.learn(&clues, set - if negative { PROB_SCALE } else { 0 });
        self.remember(column, if negative { -size } else { size });
        negative
    }

    /// What the clues say together, times 4096. They are times 1024.
    #[inline(always)]
    fn weighed(&self, clues: &Clues) -> i32 {
        let w = &self.weights;
        let column = (w.column >> 4) * clues.column;
        let row = (w.row >> 4) * clues.row;
        let left = (w.left >> 4) * clues.left;
        let above = (w.above >> 4) * clues.above;
        (column + row + left + above) >> 10
    }

    #[inline(always)]
    fn learn(&mut self, clues: &Clues, error: i32) {
        let moved = |weight: i32, clue: i32| {
            (weight + ((error * clue) >> 16)).clamp(-WEIGHT_MAX, WEIGHT_MAX)
        };
        let w = &mut self.weights;
        w.column = moved(w.column, clues.column);
        w.row = moved(w.row, clues.row);
        w.left = moved(w.left, clues.left);
        w.above = moved(w.above, clues.above);
    }

    #[inline(always)]
    fn remember(&mut self, column: &mut ColumnSigns, signed: i32) {
        let behind = (signed << 8) - column.mean;
        column.mean += ((behind >> 8) * self.rate) >> 8;
        self.row_mean += ((signed << 8) - self.row_mean) >> 4;
        let signed = signed.clamp(-REMEMBERED_MAX, REMEMBERED_MAX);
        self.last = signed;
        column.last = signed;
    }
}

/// A clue in sixths, of which there are twice `half`.
#[inline(always)]
fn steps(clue: i32, half: i32) -> usize {
    index(((clue * 6) >> 12) + half, 2 * half)
}

#[cfg(test)]
mod tests {
    use super::super::stream::{Reader, Recorder};
    use super::*;
    use crate::samples::Noise;

    /// Codes signs in rows of 8 columns, drawn by `negative(noise, column)`, and returns the bits
    /// that one takes.
    fn cost(mut negative: impl FnMut(&mut Noise, usize) -> bool) -> f64 {
        const ROWS: i32 = 2000;
        let noise = &mut Noise::new(7);
        let (mut recorder, mut signs) = (Recorder::default(), Signs::new());
        let mut columns = [ColumnSigns::default(); 8];
        let mut wanted = Vec::new();
        for row in 1..=ROWS {
            for (i, column) in columns.iter_mut().enumerate() {
                let sign = negative(noise, i);
                wanted.push(sign);
                signs.code(&mut recorder, column, (4096, 0), sign);
            }
            signs.next_row(row);
        }
        let mut content = Vec::new();
        recorder.put(&mut content);
        let (mut reader, mut signs) = (Reader::new(&content).unwrap(), Signs::new());
        let mut columns = [ColumnSigns::default(); 8];
        let mut wanted = wanted.into_iter();
        for row in 1..=ROWS {
            for column in &mut columns {
                let sign = signs.code(&mut reader, column, (4096, 0), false);
                assert_eq!(Some(sign), wanted.next());
            }
            signs.next_row(row);
        }
        reader.finish().unwrap();
        f64::from(u32::try_from(8 * content.len()).unwrap()) / f64::from(8 * ROWS)
    }

    #[test]
    fn signs_that_follow_nothing_cost_a_bit() {
        let bits = cost(|noise, _| noise.below(2) == 0);
        assert!((0.99..1.03).contains(&bits), "{bits}");
    }

    /// Columns of which each has its own majority, a quarter against it: 0.81 bits.
    #[test]
    fn the_majority_of_a_column_is_learnt() {
        let bits = cost(|noise, column| (noise.below(4) == 0) != (column % 3 == 0));
        assert!(bits < 0.86, "{bits}");
    }

    #[test]
    fn a_sign_that_follows_its_neighbour_is_learnt() {
        let mut last = false;
        let bits = cost(|noise, _| {
            last = (noise.below(5) == 0) != last;
            last
        });
        assert!(bits < 0.85, "{bits}");
    }

    /// The greatest sizes and means stay within the arithmetic.
    #[test]
    fn extremes_do_not_overflow() {
        let (mut recorder, mut signs) = (Recorder::default(), Signs::new());
        let mut column = ColumnSigns::default();
        for i in 0..40_000 {
            let (size, distance) = [(0, i32::MIN >> 8), (4 << 12, i32::MAX >> 8)][i % 2];
            signs.code(
                &mut recorder,
                &mut column,
                (size, distance),
                i / 5000 % 2 == 0,
            );
        }
    }
}
