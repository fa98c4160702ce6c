//! What a number says, by its place and the phase of its prediction; and how far estimates move.

use super::prior::BELOW;
use super::{PHASES, SYMBOLS};

/// A logarithm in octaves has this many bits behind the point.
pub(super) const LOG_BITS: u32 = 8;
/// An estimate of a scale has this many, so that it can move slowly.
pub(super) const SCALE_BITS: u32 = 16;
/// The greatest scale, in octaves above the least exponent.
const SCALE_MAX: i32 = 256;

/// 65536 · 2^(i/8).
const EIGHTHS: [i32; 8] = [65536, 71468, 77936, 84990, 92682, 101_070, 110_218, 120_194];

/// 65536 · 2^(k/8).
const fn exp2_eighths(k: i32) -> i32 {
    let eighth = EIGHTHS[(k & 7) as usize];
    if k < 0 {
        eighth >> -(k >> 3)
    } else {
        eighth << (k >> 3)
    }
}

const fn clamp(x: i32, least: i32, greatest: i32) -> i32 {
    if x < least {
        least
    } else if x > greatest {
        greatest
    } else {
        x
    }
}

/// What a number says that is at one of the places around its prediction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cell {
    /// What it says of the scale: its square beside the variance less one, at most 6, and more
    /// strongly below −4 octaves; times 65536.
    pub(super) pull: i32,
    /// Its size beside the predicted one, times 4096.
    pub(super) size: i32,
    /// Its logarithm less that of the prediction, −5 to 3 octaves, in 2^-[`LOG_BITS`] octaves.
    pub(super) distance: i32,
    /// The same in half octaves from −5 on, 0 to 15.
    pub(super) near: i32,
}

impl Cell {
    /// Of the numbers with a place at a phase, those in the middle.
    const fn new(place: i32, phase: i32) -> Self {
        // 256 · log2(1.25) and 256 · log2(1.75) are the middles of the halves of an octave.
        let middle = if place % 2 == 0 { 82 } else { 207 };
        let distance = (((place - BELOW) >> 1) << LOG_BITS) + middle - 16 * phase - 8;
        let square = clamp(exp2_eighths(clamp(distance >> 4, -128, 30)), 0, 7 << 16);
        let below = clamp((distance >> 4) + 64, -64, 0) << 11;
        let limited = clamp(distance, -5 << LOG_BITS, 3 << LOG_BITS);
        Self {
            pull: square - (1 << 16) + below,
            size: exp2_eighths(clamp(distance >> 5, -48, 16)) >> 4,
            distance: limited,
            near: clamp((limited >> 7) + 10, 0, 15),
        }
    }
}

/// The cells of a place are together.
pub(super) static CELLS: [Cell; SYMBOLS * PHASES] = {
    const { assert!(PHASES == 16) }
    let mut cells = [Cell::new(0, 0); SYMBOLS * PHASES];
    let (mut i, mut place, mut phase) = (0, 0, 0);
    while i < cells.len() {
        cells[i] = Cell::new(place, phase);
        i += 1;
        phase = (phase + 1) & 15;
        if phase == 0 {
            place += 1;
        }
    }
    cells
};

/// From here on an estimate fades.
const SEEN_MAX: usize = 242;

const RATES: [i32; SEEN_MAX + 1] = {
    let mut rates = [0; SEEN_MAX + 1];
    let (mut seen, mut weight) = (0, 16);
    while seen <= SEEN_MAX {
        rates[seen] = 47274 / weight;
        seen += 1;
        weight += 1;
    }
    rates
};

/// The rate of an estimate that has seen `seen` numbers, of 65536: like a mean of all, then
/// fading.
#[inline(always)]
pub(super) fn scale_rate(seen: usize) -> i32 {
    RATES[seen.min(SEEN_MAX)]
}

/// The same for means of columns.
#[inline(always)]
pub(super) fn mean_rate(seen: usize) -> i32 {
    let seen = i32::try_from(seen.min(316)).unwrap_or(316);
    65536 / (seen + 16)
}

/// What an estimate becomes at a rate, when numbers pull `pull` in all.
#[inline(always)]
pub(super) fn moved(scale: i32, pull: i32, rate: i32) -> i32 {
    let scale = scale + (((pull >> 4) * rate) >> 12);
    scale.clamp(-SCALE_MAX << SCALE_BITS, SCALE_MAX << SCALE_BITS)
}

/// Keeps a prediction among the exponents that there are.
#[inline(always)]
pub(super) fn possible(scale: i32) -> i32 {
    scale.clamp(0, (SCALE_MAX << SCALE_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::super::LANES;
    use super::*;
    use crate::samples::Noise;

    fn cell(place: usize, phase: usize) -> &'static Cell {
        &CELLS[place * PHASES + phase]
    }

    #[test]
    fn distances_are_of_the_middle_of_what_is_open() {
        for place in 14..30 {
            for phase in 0..PHASES {
                let at = |half: usize| {
                    let octaves = (place + half) / 2;
                    let top = if (place + half).is_multiple_of(2) {
                        1.0f64
                    } else {
                        1.5
                    };
                    octaves as f64 + top.log2() - 12.0 - (phase as f64 + 0.5) / 16.0
                };
                let distance = f64::from(cell(place, phase).distance) / 256.0;
                let limited = |x: f64| x.clamp(-5.0, 3.0);
                assert!(
                    limited(at(0)) <= distance && distance <= limited(at(1)),
                    "{place} {phase}"
                );
            }
        }
    }

    /// Estimates rise with what is larger than predicted, and fall with what is smaller.
    #[test]
    fn larger_numbers_pull_more_and_have_more_size() {
        for phase in 0..PHASES {
            for place in 1..SYMBOLS {
                let (less, more) = (cell(place - 1, phase), cell(place, phase));
                assert!(less.pull <= more.pull && less.size <= more.size);
                assert!(less.distance <= more.distance && less.near <= more.near);
                assert!(more.pull.signum() * more.distance.signum() >= 0, "{more:?}");
            }
            assert!((0..16).contains(&cell(0, phase).near) && cell(31, phase).near < 16);
            assert!(cell(31, phase).size <= 4 << 12);
        }
    }

    /// The greatest pulls of all rows at once, at the greatest rate, fit the arithmetic.
    #[test]
    fn pulls_of_all_lanes_do_not_overflow() {
        let lanes = i32::try_from(LANES).unwrap();
        for pull in [cell(0, 15).pull, cell(31, 0).pull] {
            let exact = ((i64::from(lanes * pull) >> 4) * i64::from(scale_rate(0))) >> 12;
            assert_eq!(i64::from(moved(0, lanes * pull, scale_rate(0))), exact);
        }
        assert_eq!(moved(SCALE_MAX << 16, 1 << 16, 4000), SCALE_MAX << 16);
        assert_eq!(moved(-SCALE_MAX << 16, -1 << 16, 4000), -SCALE_MAX << 16);
        assert_eq!((possible(-1), possible(i32::MAX)), (0, (1 << 24) - 1));
    }

    /// For normal numbers the estimate settles at their standard deviation.
    #[test]
    fn an_estimate_finds_the_scale_of_normal_numbers() {
        let noise = &mut Noise::new(9);
        let mut scale = 100 << SCALE_BITS;
        for seen in 0..60_000 {
            // A deviation of 2^-20, whose exponent is 107.
            let symbol = (noise.normal() / 1_048_576.0).to_bits() >> 22 & 511;
            let least = 2 * (scale >> SCALE_BITS) - BELOW;
            let place = (symbol.cast_signed() - least).clamp(0, 31).cast_unsigned() as usize;
            let phase = (scale >> 12 & 15).cast_unsigned() as usize;
            scale = moved(scale, cell(place, phase).pull, scale_rate(seen));
        }
        let octaves = f64::from(scale) / f64::from(1 << SCALE_BITS);
        assert!((octaves - 107.0).abs() < 0.2, "{octaves}");
    }

    #[test]
    fn rates_fall_and_then_stay() {
        assert_eq!((scale_rate(0), scale_rate(242)), (47274 / 16, 47274 / 258));
        assert_eq!(scale_rate(usize::MAX), scale_rate(242));
        assert_eq!((mean_rate(0), mean_rate(usize::MAX)), (4096, 65536 / 332));
    }
}
