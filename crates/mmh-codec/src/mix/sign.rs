//! The sign: guessed from the signs before it in its column and in its row, by weights that learn.

use super::adaptive::{Bits, mean_of_bits};
use super::cell::mean_rate;
use super::model::Active;
use super::stream::{Choices, PROB_SCALE};
use super::{LANES, Lanes};

/// A signed size is remembered up to 1.5 of the predicted one.
const REMEMBERED_MAX: i32 = 6144;
/// The weights stay within ±4, so that products fit 32 bits.
const WEIGHT_MAX: i32 = 4 << 16;
/// What signs are guessed from: the mean of the column, the mean of the row, the number to the
/// left, and the one above the group.
const CLUES: usize = 4;

/// What a column knows of signs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ColumnSigns {
    /// The mean of signed sizes, times 2^20.
    mean: i32,
    /// The signed size in the last row, times 4096.
    last: i32,
}

/// The model of signs.
#[derive(Debug)]
pub(super) struct Signs {
    /// Times 2^16.
    weights: [i32; CLUES],
    /// The means of signed sizes in the rows, times 2^20.
    row_mean: Lanes,
    /// The signed sizes to the left, times 4096.
    last: Lanes,
    /// By how much the mean of a column moves in these rows, of 65536.
    rate: i32,
    by_size: Bits<1024>,
    by_column: Bits<2048>,
}

impl Signs {
    pub(super) fn new() -> Self {
        const HALF: u32 = 1 << 21;
        Self {
            weights: [1 << 15, 0, 0, 0],
            row_mean: [0; LANES],
            last: [0; LANES],
            rate: mean_rate(LANES),
            by_size: Bits::new(HALF, (16, 1023)),
            by_column: Bits::new(HALF, (16, 1023)),
        }
    }

    /// Begins the next group, after `rows` rows.
    pub(super) fn next_rows(&mut self, rows: usize) {
        self.row_mean.iter_mut().for_each(|mean| *mean >>= 1);
        self.rate = mean_rate(rows + LANES);
    }

    /// Codes signs, 1 for negative numbers. `size` is that of the numbers, times 4096, 0 where
    /// there is none; `distance` their logarithm beside the prediction.
    #[inline(always)]
    pub(super) fn code<C: Choices, A: Active>(
        &mut self,
        choices: &mut C,
        column: &mut ColumnSigns,
        (size, distance): (&Lanes, &Lanes),
        (active, wanted): (A, &Lanes),
    ) -> Lanes {
        let clues = self.clues(*column, size);
        let (by_size, by_column) = self.contexts(&clues, distance);
        let (mut set, mut negative) = ([0; LANES], [0; LANES]);
        for lane in active.lanes() {
            let (a, b) = (
                self.by_size.set(by_size[lane]),
                self.by_column.set(by_column[lane]),
            );
            set[lane] = mean_of_bits(a, b, 64);
            let bit = choices.bit(lane, PROB_SCALE - set[lane], wanted[lane] == 1);
            negative[lane] = i32::from(bit);
        }
        for lane in active.lanes() {
            self.by_size.learn(by_size[lane], negative[lane] == 1);
            self.by_column.learn(by_column[lane], negative[lane] == 1);
        }
        let mut error = [0; LANES];
        let mut signed = [0; LANES];
        for lane in 0..LANES {
            error[lane] = set[lane] - (negative[lane] << 15);
            signed[lane] = (size[lane] ^ -negative[lane]) + negative[lane];
        }
        self.weigh(&clues, &error);
        self.remember(column, &signed, active);
        negative
    }

    /// What each clue says of each sign, times 1024.
    #[inline(always)]
    fn clues(&self, column: ColumnSigns, size: &Lanes) -> [Lanes; CLUES] {
        let mut clues = [[0; LANES]; CLUES];
        for lane in 0..LANES {
            clues[0][lane] = ((column.mean >> 8) * size[lane]) >> 14;
        }
        for lane in 0..LANES {
            clues[1][lane] = ((self.row_mean[lane] >> 8) * size[lane]) >> 14;
        }
        for lane in 0..LANES {
            clues[2][lane] = (self.last[lane] * size[lane]) >> 14;
        }
        for lane in 0..LANES {
            clues[3][lane] = (column.last * size[lane]) >> 14;
        }
        clues
    }

    #[inline(always)]
    fn contexts(
        &self,
        clues: &[Lanes; CLUES],
        distance: &Lanes,
    ) -> ([usize; LANES], [usize; LANES]) {
        let w = self.weights.map(|weight| weight >> 4);
        let (mut by_size, mut by_column) = ([0; LANES], [0; LANES]);
        for lane in 0..LANES {
            let ab = w[0] * clues[0][lane] + w[1] * clues[1][lane];
            let cd = w[2] * clues[2][lane] + w[3] * clues[3][lane];
            let level = steps((ab + cd) >> 10, 32);
            by_size[lane] = level + 64 * ((distance[lane] >> 7) + 10).clamp(0, 15);
            by_column[lane] = level + 64 * steps(clues[0][lane] << 2, 16);
        }
        let index = |of: Lanes| of.map(|context| context.cast_unsigned() as usize);
        (index(by_size), index(by_column))
    }

    #[inline(always)]
    fn weigh(&mut self, clues: &[Lanes; CLUES], error: &Lanes) {
        for (weight, clue) in self.weights.iter_mut().zip(clues) {
            let mut moves = 0;
            for lane in 0..LANES {
                moves += (error[lane] * clue[lane]) >> 16;
            }
            *weight = (*weight + moves).clamp(-WEIGHT_MAX, WEIGHT_MAX);
        }
    }

    #[inline(always)]
    fn remember<A: Active>(&mut self, column: &mut ColumnSigns, signed: &Lanes, active: A) {
        let sum: i32 = signed.iter().sum();
        let behind = (sum << 8) - active.count() * column.mean;
        column.mean += ((behind >> 8) * self.rate) >> 8;
        for lane in active.lanes() {
            self.row_mean[lane] += ((signed[lane] << 8) - self.row_mean[lane]) >> 4;
            self.last[lane] = signed[lane].clamp(-REMEMBERED_MAX, REMEMBERED_MAX);
            column.last = self.last[lane];
        }
    }
}

/// A clue in sixths, of which there are twice `half`.
#[inline(always)]
fn steps(clue: i32, half: i32) -> i32 {
    (((clue * 6) >> 12) + half).clamp(0, 2 * half - 1)
}

#[cfg(test)]
mod tests {
    use super::super::machine::Portable;
    use super::super::model::{All, Only};
    use super::super::stream::{Reader, Recorder};
    use super::*;
    use crate::samples::Noise;

    const COLUMNS: usize = 8;

    /// Codes signs in rows of 8 columns, drawn by `negative(noise, column)`, and returns the bits
    /// that one takes.
    fn cost(mut negative: impl FnMut(&mut Noise, usize) -> bool) -> f64 {
        const GROUPS: usize = 250;
        let noise = &mut Noise::new(7);
        let mut wanted = vec![[[0; LANES]; COLUMNS]; GROUPS];
        for group in &mut wanted {
            for lane in 0..LANES {
                for (i, column) in group.iter_mut().enumerate() {
                    column[lane] = i32::from(negative(noise, i));
                }
            }
        }
        let mut recorder = Recorder::default();
        let back = code(&mut recorder, &wanted, All);
        assert!(back == wanted);
        let mut content = Vec::new();
        recorder.put(&mut content);
        for every in [false, true] {
            let mut reader = Reader::<Portable>::new(&content).unwrap();
            let nothing = vec![[[0; LANES]; COLUMNS]; GROUPS];
            let back = if every {
                code(&mut reader, &nothing, Only([true; LANES]))
            } else {
                code(&mut reader, &nothing, All)
            };
            assert!(back == wanted);
            reader.finish().unwrap();
        }
        8.0 * content.len() as f64 / (GROUPS * LANES * COLUMNS) as f64
    }

    type Group = [Lanes; COLUMNS];

    fn code<C: Choices>(choices: &mut C, wanted: &[Group], active: impl Active) -> Vec<Group> {
        let mut signs = Signs::new();
        let mut columns = [ColumnSigns::default(); COLUMNS];
        let mut all = Vec::new();
        for (i, group) in wanted.iter().enumerate() {
            let mut found = [[0; LANES]; COLUMNS];
            for ((column, wanted), found) in columns.iter_mut().zip(group).zip(&mut found) {
                let sized = (&[4096; LANES], &[0; LANES]);
                *found = signs.code(choices, column, sized, (active, wanted));
            }
            signs.next_rows((i + 1) * LANES);
            all.push(found);
        }
        all
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
        assert!(bits < 0.88, "{bits}");
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
            let (size, distance) = [(0, -5 << 8), (4 << 12, 3 << 8)][i % 2];
            let wanted = [i32::from(i / 5000 % 2 == 0); LANES];
            let sized = (&[size; LANES], &[distance; LANES]);
            signs.code(&mut recorder, &mut column, sized, (All, &wanted));
        }
    }
}
