//! The model of numbers: a scale for each row and each column, learnt from what was coded
//! before, and distributions of what a number is beside its prediction.

use super::adaptive::{Bank, Bits, mean, mean_of_bits};
use super::prior::{BELOW, normal};
use super::scale::{LOG_BITS, SCALE_BITS, index, log2, possible, pull, scale_rate, size, within};
use super::sign::{ColumnSigns, Signs};
use super::stream::{Choices, Kind, PROB_SCALE};
use super::{PHASES, SYMBOLS, Setup};

/// The mean distance of a normal number's logarithm from that of its standard deviation.
const USUAL: i32 = -230;

/// A number as the model sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Number {
    /// The exponent and the top bit of the mantissa.
    pub(super) symbol: i32,
    /// The next two bits of the mantissa.
    pub(super) mantissa: u8,
    /// The sign.
    pub(super) negative: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Column {
    /// What this column adds to the scale of a row, in 2^-[`SCALE_BITS`] octaves.
    scale: i32,
    signs: ColumnSigns,
    /// Which numbers of the last 8 rows were far below.
    far: u8,
}

/// The distributions of symbols, each in contexts of its own; their mean is what is coded with.
#[derive(Debug)]
struct Symbols {
    by_phase: Bank<SYMBOLS>,
    by_trend: Bank<SYMBOLS>,
    by_neighbours: Bank<SYMBOLS>,
    by_column: Bank<SYMBOLS>,
}

/// What is known before the next number.
#[derive(Debug)]
pub(super) struct Model {
    setup: Setup,
    columns: Vec<Column>,
    column: usize,
    /// Rows begun before this one.
    row: usize,
    /// By how much the scale of a column moves in this row, of 65536.
    column_rate: i32,
    /// Scale of the row.
    scale: i32,
    /// Scale of the rows before.
    usual_scale: i32,
    /// Numbers of this row that told of its scale.
    seen: usize,
    /// Distances of the last two numbers from their predictions.
    last: [i32; 2],
    /// Their fading mean, in 2^-12 octaves.
    trend: i32,
    /// Which of the last 8 numbers were far below.
    far: u8,
    symbols: Symbols,
    mantissas: Bank<4>,
    far_near: Bits,
    far_counts: Bits,
    escapes_high: Bank<16>,
    escapes_low: Bank<SYMBOLS>,
    signs: Signs,
}

impl Model {
    pub(super) fn new(setup: Setup) -> Self {
        let bank = |n: usize| Bank::new(4 * n, 256, |context| normal(4 * (context % 4) + 1));
        let scale = i32::from(setup.level) << (SCALE_BITS - LOG_BITS);
        Self {
            setup,
            columns: vec![Column::default(); setup.row_len],
            column: setup.first,
            row: 0,
            column_rate: scale_rate(0),
            scale,
            usual_scale: scale,
            seen: 0,
            last: [USUAL; 2],
            trend: USUAL << 4,
            far: 0,
            symbols: Symbols {
                by_phase: Bank::new(PHASES, 256, normal),
                by_trend: bank(16),
                by_neighbours: bank(256),
                by_column: bank(32),
            },
            mantissas: Bank::even(SYMBOLS * PHASES, 64),
            far_near: Bits::new(256, 1 << 22, (2, 256)),
            far_counts: Bits::new(81, 1 << 22, (2, 256)),
            escapes_high: Bank::even(2, 8),
            escapes_low: Bank::even(32, 8),
            signs: Signs::new(),
        }
    }

    /// Codes the next number: an encoder's `number`, or whatever a decoder finds.
    #[inline(always)]
    pub(super) fn code<C: Choices>(&mut self, choices: &mut C, number: Number) -> Number {
        let column_scale = self.columns[self.column].scale;
        let predicted = possible(self.scale + column_scale);
        let phase = (predicted >> (SCALE_BITS - 4) & 15).cast_unsigned() as usize;
        let least = 2 * (predicted >> SCALE_BITS) - BELOW;
        let wanted = (number.symbol - least).clamp(0, SYMBOLS_TOP);
        let far = self.setup.far && self.code_far(choices, wanted == 0);
        let place = if far {
            0
        } else {
            self.code_place(choices, column_scale, phase, wanted)
        };
        let escaped = far || place == SYMBOLS_TOP || place == 0;
        let symbol = if escaped {
            self.code_escape(choices, place != 0, number.symbol)
        } else {
            least + place
        };
        let context = place.cast_unsigned() as usize * PHASES + phase;
        let starts = self.mantissas.starts(context);
        let mantissa = choices.pick(Kind::Mantissa, &starts, usize::from(number.mantissa));
        self.mantissas.learn(context, mantissa);

        let distance = log2(symbol) - (predicted >> (SCALE_BITS - LOG_BITS));
        let size = if far { 0 } else { size(distance) };
        let column = &mut self.columns[self.column];
        let negative = self.signs.code(
            choices,
            &mut column.signs,
            (size, distance),
            number.negative,
        );
        if !far {
            self.scale = within(self.scale + pull(distance, scale_rate(self.seen)));
            column.scale = within(column_scale + pull(distance, self.column_rate));
            self.seen += 1;
        }
        let distance = distance.clamp(-5 << LOG_BITS, 3 << LOG_BITS);
        self.last = [distance, self.last[0]];
        self.trend += ((distance << 4) - self.trend) >> 3;
        self.column += 1;
        if self.column == self.setup.row_len {
            self.next_row();
        }
        Number {
            symbol,
            mantissa: u8::try_from(mantissa).unwrap_or(0),
            negative,
        }
    }

    fn next_row(&mut self) {
        self.column = 0;
        self.row += 1;
        self.usual_scale += (self.scale - self.usual_scale) >> 2;
        self.scale = (self.scale + self.usual_scale) >> 1;
        self.seen = 0;
        self.trend = USUAL << 4;
        self.column_rate = scale_rate(self.row);
        self.signs
            .next_row(i32::try_from(self.row).unwrap_or(i32::MAX));
    }

    /// Codes where among the symbols around the prediction a number is.
    #[inline(always)]
    fn code_place<C: Choices>(
        &mut self,
        choices: &mut C,
        column_scale: i32,
        phase: usize,
        wanted: i32,
    ) -> i32 {
        let coarse = phase / 4;
        let trend = (((self.trend - (USUAL << 4)) * 6) >> 12) + 8;
        let neighbour = |i: usize| index(((self.last[i] + 256) >> 7) + 8, 16);
        let by_trend = coarse + 4 * index(trend, 16);
        let by_neighbours = coarse + 4 * (16 * neighbour(0) + neighbour(1));
        let by_column = coarse + 4 * index((column_scale >> (SCALE_BITS - 1)) + 16, 32);
        let symbols = &mut self.symbols;
        let starts = mean([
            symbols.by_phase.sums(phase),
            symbols.by_trend.sums(by_trend),
            symbols.by_neighbours.sums(by_neighbours),
            symbols.by_column.sums(by_column),
        ]);
        let place = choices.pick(Kind::Symbol, &starts, wanted.cast_unsigned() as usize);
        symbols.by_phase.learn(phase, place);
        symbols.by_trend.learn(by_trend, place);
        symbols.by_neighbours.learn(by_neighbours, place);
        symbols.by_column.learn(by_column, place);
        i32::try_from(place).unwrap_or(0)
    }

    /// Codes whether a number is far below its prediction, as those of dead channels are.
    #[inline(always)]
    fn code_far<C: Choices>(&mut self, choices: &mut C, wanted: bool) -> bool {
        let column = &mut self.columns[self.column];
        let near = usize::from(column.far & 15) << 4 | usize::from(self.far & 15);
        let counts = 9 * column.far.count_ones() as usize + self.far.count_ones() as usize;
        let set = mean_of_bits(self.far_near.set(near), self.far_counts.set(counts), 8);
        let far = choices.pick(Kind::Far, &[0, PROB_SCALE - set], usize::from(wanted)) == 1;
        self.far_near.learn(near, far);
        self.far_counts.learn(counts, far);
        column.far = column.far << 1 | u8::from(far);
        self.far = self.far << 1 | u8::from(far);
        far
    }

    /// Codes a symbol that is too far from its prediction.
    #[cold]
    fn code_escape<C: Choices>(&mut self, choices: &mut C, above: bool, wanted: i32) -> i32 {
        let above = usize::from(above);
        let wanted = wanted.cast_unsigned() as usize;
        let starts = self.escapes_high.starts(above);
        let high = choices.pick(Kind::Symbol, &starts, wanted >> 5);
        self.escapes_high.learn(above, high);
        let context = 16 * above + high;
        let starts = self.escapes_low.starts(context);
        let low = choices.pick(Kind::Symbol, &starts, wanted & 31);
        self.escapes_low.learn(context, low);
        i32::try_from(high << 5 | low).unwrap_or(0)
    }
}

/// The last symbol around a prediction.
const SYMBOLS_TOP: i32 = 31;
const _: () = assert!(SYMBOLS == 32, "the last is 31");
