//! The model of numbers: a scale for each row and each column, learnt from what was coded
//! before, and distributions of what a number is beside its prediction. The numbers of a step,
//! which are of one column, are predicted together; none helps to predict another of its step.

use super::adaptive::{Bank, Bits, mean_of_bits};
use super::cell::{CELLS, LOG_BITS, SCALE_BITS, moved, possible, scale_rate};
use super::prior::{BELOW, normal};
use super::sign::{ColumnSigns, Signs};
use super::stream::{Choices, PROB_SCALE};
use super::{LANES, Lanes, PHASES, SYMBOLS, Setup};

/// The mean distance of a normal number's logarithm from that of its standard deviation.
const USUAL: i32 = -230;
/// The last place around a prediction.
const PLACE_MAX: i32 = 31;
const _: () = assert!(SYMBOLS == 32, "the last is 31");

/// Which rows have a number in a step.
pub(super) trait Active: Copy {
    /// Those rows, in order.
    fn lanes(self) -> impl Iterator<Item = usize>;
    /// How many there are.
    fn count(self) -> i32;
}

/// All of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct All;

impl Active for All {
    #[inline(always)]
    fn lanes(self) -> impl Iterator<Item = usize> {
        0..LANES
    }

    #[inline(always)]
    fn count(self) -> i32 {
        i32::try_from(LANES).unwrap_or(0)
    }
}

/// Those that are said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Only(pub(super) [bool; LANES]);

impl Active for Only {
    #[inline(always)]
    fn lanes(self) -> impl Iterator<Item = usize> {
        (0..LANES).filter(move |&lane| self.0[lane])
    }

    #[inline(always)]
    fn count(self) -> i32 {
        self.0.iter().map(|&active| i32::from(active)).sum()
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Column {
    /// What this column adds to the scale of a row, in 2^-[`SCALE_BITS`] octaves.
    scale: i32,
    signs: ColumnSigns,
    /// Which numbers of the last 8 rows were far below, in the lowest bits.
    far: u32,
}

/// What is predicted of the numbers of a step.
#[derive(Debug)]
struct Predicted {
    /// The exponent, with the top bit of the mantissa, at place 0.
    least: Lanes,
    phase: Lanes,
    by_trend: Lanes,
    by_scales: Lanes,
}

/// What is known before the next step.
#[derive(Debug)]
pub(super) struct Model {
    far_is_told: bool,
    columns: Vec<Column>,
    /// Rows begun before these.
    rows: usize,
    /// By how much the scale of a column moves in these rows, of 65536.
    column_rate: i32,
    /// Scales of the rows.
    scale: Lanes,
    /// Scale of the rows before.
    usual_scale: i32,
    /// Distances of the last two numbers of each row, in half octaves.
    near: [Lanes; 2],
    /// The fading means of distances, in 2^-12 octaves.
    trend: Lanes,
    /// Which of the last 8 numbers were far below, in the lowest bits.
    far: [u32; LANES],
    by_trend: Bank<SYMBOLS, 1024>,
    by_scales: Bank<SYMBOLS, 1024>,
    mantissas: Bank<4, { SYMBOLS * PHASES }>,
    far_near: Bits<256>,
    far_counts: Bits<128>,
    escapes_high: Bank<16, 2>,
    escapes_low: Bank<SYMBOLS, 32>,
    signs: Signs,
}

impl Model {
    pub(super) fn new(setup: Setup) -> Self {
        let scale = i32::from(setup.level) << (SCALE_BITS - LOG_BITS);
        let expected = |context: usize| normal(4 * (context % 4) + 1);
        Self {
            far_is_told: setup.far,
            columns: vec![Column::default(); setup.row_len],
            rows: 0,
            column_rate: scale_rate(LANES),
            scale: [scale; LANES],
            usual_scale: scale,
            near: [[8; LANES]; 2],
            trend: [USUAL << 4; LANES],
            far: [0; LANES],
            by_trend: Bank::new(512, expected),
            by_scales: Bank::new(512, expected),
            mantissas: Bank::even(64),
            far_near: Bits::new(1 << 16, (2, 256)),
            far_counts: Bits::new(1 << 16, (2, 256)),
            escapes_high: Bank::even(8),
            escapes_low: Bank::even(8),
            signs: Signs::new(),
        }
    }

    /// Codes the next step, in column `j`: an encoder's numbers, or whatever a decoder finds. A
    /// number is its exponent and the top bit of the mantissa, then the sign, then the next two
    /// bits of the mantissa.
    #[inline(always)]
    pub(super) fn code<C: Choices, A: Active>(
        &mut self,
        choices: &mut C,
        j: usize,
        active: A,
        wanted: &Lanes,
    ) -> Lanes {
        let predicted = self.predict(j);
        let mut place = [0; LANES];
        for lane in 0..LANES {
            place[lane] = ((wanted[lane] >> 3) - predicted.least[lane]).clamp(0, PLACE_MAX);
        }
        let mut far = [false; LANES];
        if self.far_is_told {
            far = self.code_far(choices, j, active, &place);
        }
        self.code_places(choices, active, (&predicted, &far), &mut place);
        let mut number = [0; LANES];
        let mut escaped = false;
        for lane in 0..LANES {
            number[lane] = (predicted.least[lane] + place[lane]) << 3;
            escaped |= place[lane] == 0 || place[lane] == PLACE_MAX;
        }
        if escaped {
            for lane in active.lanes() {
                if place[lane] == 0 || place[lane] == PLACE_MAX {
                    let symbol =
                        self.code_escape(choices, lane, place[lane] != 0, wanted[lane] >> 3);
                    number[lane] = symbol << 3;
                }
            }
        }
        let mut context = [0; LANES];
        for lane in active.lanes() {
            let cell = place[lane] << 4 | predicted.phase[lane];
            context[lane] = cell.cast_unsigned() as usize % CELLS.len();
            let sums = self.mantissas.sums(context[lane]);
            let mantissa = choices.quarter(lane, sums, (wanted[lane] & 3).cast_unsigned() as usize);
            place[lane] = i32::try_from(mantissa).unwrap_or(0);
            number[lane] |= place[lane];
        }
        for lane in active.lanes() {
            let mantissa = place[lane].cast_unsigned() as usize;
            self.mantissas.learn(context[lane], mantissa);
        }
        let wanted = wanted.map(|wanted| wanted >> 2 & 1);
        let signs = self.adapt(choices, (j, active), (&context, &far), &wanted);
        for lane in 0..LANES {
            number[lane] |= signs[lane] << 2;
        }
        number
    }

    #[inline(always)]
    fn predict(&self, j: usize) -> Predicted {
        let of_column = self.columns[j].scale;
        let column = 8 * ((of_column >> (SCALE_BITS - 1)) + 16).clamp(0, 31);
        let mut predicted = Predicted {
            least: [0; LANES],
            phase: [0; LANES],
            by_trend: [0; LANES],
            by_scales: [0; LANES],
        };
        for lane in 0..LANES {
            let scale = possible(self.scale[lane] + of_column);
            let phase = scale >> (SCALE_BITS - 4) & 15;
            predicted.phase[lane] = phase;
            predicted.least[lane] = 2 * (scale >> SCALE_BITS) - BELOW;
            let trend = ((self.trend[lane] - (USUAL << 4)) * 6) >> 12;
            let near = (self.near[0][lane] + self.near[1][lane]) >> 1;
            predicted.by_trend[lane] = (16 * near + (trend + 8).clamp(0, 15)) << 2 | phase >> 2;
            let row = (self.scale[lane] - self.usual_scale) >> (SCALE_BITS - 2);
            predicted.by_scales[lane] = (column + (row + 4).clamp(0, 7)) << 2 | phase >> 2;
        }
        predicted
    }

    /// Codes where among the symbols around the predictions the numbers are that are not `far`.
    #[inline(always)]
    fn code_places<C: Choices, A: Active>(
        &mut self,
        choices: &mut C,
        active: A,
        (predicted, far): (&Predicted, &[bool; LANES]),
        place: &mut Lanes,
    ) {
        let contexts = |lane: usize| {
            let of = [predicted.by_trend[lane], predicted.by_scales[lane]];
            of.map(|context| context.cast_unsigned() as usize)
        };
        for lane in active.lanes() {
            if far[lane] {
                place[lane] = 0;
                continue;
            }
            let [trend, scales] = contexts(lane);
            let sums = [self.by_trend.sums(trend), self.by_scales.sums(scales)];
            let wanted = place[lane].cast_unsigned() as usize;
            place[lane] = i32::try_from(choices.place(lane, sums, wanted)).unwrap_or(0);
        }
        for lane in active.lanes() {
            if far[lane] {
                continue;
            }
            let [trend, scales] = contexts(lane);
            let outcome = place[lane].cast_unsigned() as usize;
            self.by_trend.learn(trend, outcome);
            self.by_scales.learn(scales, outcome);
        }
    }

    /// Codes signs, and learns from what the numbers are: of each, its cell.
    #[inline(always)]
    fn adapt<C: Choices, A: Active>(
        &mut self,
        choices: &mut C,
        (j, active): (usize, A),
        (cell, far): (&[usize; LANES], &[bool; LANES]),
        wanted: &Lanes,
    ) -> Lanes {
        let [mut pull, mut size, mut distance] = [[0; LANES]; 3];
        for lane in active.lanes() {
            let cell = &CELLS[cell[lane]];
            (pull[lane], size[lane]) = if far[lane] {
                (0, 0)
            } else {
                (cell.pull, cell.size)
            };
            distance[lane] = cell.distance;
            self.near[1][lane] = self.near[0][lane];
            self.near[0][lane] = cell.near;
        }
        let column = &mut self.columns[j];
        let sized = (&size, &distance);
        let signs = self
            .signs
            .code(choices, &mut column.signs, sized, (active, wanted));
        column.scale = moved(column.scale, pull.iter().sum(), self.column_rate);
        let rate = scale_rate(j);
        for (scale, pull) in self.scale.iter_mut().zip(pull) {
            *scale = moved(*scale, pull, rate);
        }
        for lane in active.lanes() {
            self.trend[lane] += ((distance[lane] << 4) - self.trend[lane]) >> 3;
        }
        signs
    }

    /// Begins the next group of rows.
    pub(super) fn next_rows(&mut self) {
        self.rows += LANES;
        let sum: i64 = self.scale.iter().map(|&scale| i64::from(scale)).sum();
        let mean = i32::try_from(sum >> LANES.ilog2()).unwrap_or(0);
        self.usual_scale += (mean - self.usual_scale) >> 1;
        self.scale = [(mean + self.usual_scale) >> 1; LANES];
        self.trend = [USUAL << 4; LANES];
        self.column_rate = scale_rate(self.rows + LANES);
        self.signs.next_rows(self.rows);
    }

    /// Codes whether numbers are far below their predictions, as those of dead channels are.
    #[inline(never)]
    fn code_far<C: Choices, A: Active>(
        &mut self,
        choices: &mut C,
        j: usize,
        active: A,
        place: &Lanes,
    ) -> [bool; LANES] {
        let mut far = [false; LANES];
        let column = &mut self.columns[j].far;
        let [mut near, mut counts] = [[0; LANES]; 2];
        for lane in active.lanes() {
            let row = self.far[lane];
            near[lane] = ((*column & 15) << 4 | row & 15) as usize;
            counts[lane] = (9 * (*column & 255).count_ones() + (row & 255).count_ones()) as usize;
            let (a, b) = (
                self.far_near.set(near[lane]),
                self.far_counts.set(counts[lane]),
            );
            let set = mean_of_bits(a, b, 8);
            far[lane] = choices.bit(lane, PROB_SCALE - set, place[lane] == 0);
        }
        for lane in active.lanes() {
            self.far_near.learn(near[lane], far[lane]);
            self.far_counts.learn(counts[lane], far[lane]);
            *column = *column << 1 | u32::from(far[lane]);
            self.far[lane] = self.far[lane] << 1 | u32::from(far[lane]);
        }
        far
    }

    /// Codes an exponent, with the top bit of the mantissa, that is too far from its prediction.
    #[cold]
    #[inline(never)]
    fn code_escape<C: Choices>(
        &mut self,
        choices: &mut C,
        lane: usize,
        above: bool,
        wanted: i32,
    ) -> i32 {
        let above = usize::from(above);
        let wanted = wanted.cast_unsigned() as usize;
        let high = choices.any(lane, &self.escapes_high.starts(above), wanted >> 5);
        self.escapes_high.learn(above, high);
        let context = 16 * above + high;
        let low = choices.any(lane, &self.escapes_low.starts(context), wanted & 31);
        self.escapes_low.learn(context, low);
        i32::try_from(high << 5 | low).unwrap_or(0)
    }
}
