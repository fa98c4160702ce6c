//! The densest coding of floating point numbers: each is predicted from all before it, in whole
//! numbers only, so that every machine predicts the same. FORMAT.md, "Mixed", is its text.
//!
//! What is predicted is the exponent with the top bit of the mantissa, the next two bits, and the
//! sign; the rest is noise and goes to plane records. A scale is learnt for each row and each
//! column, a number's place around it has a distribution that follows what was seen
//! ([`adaptive`]), and both ways share one text of the model ([`model`]) that either records
//! choices or reads them ([`stream`]). Eight rows are coded side by side ([`rows`]), so that a
//! processor has eight numbers at a time that do not wait for each other.

mod adaptive;
mod body;
mod cell;
mod machine;
mod model;
mod prior;
mod rows;
mod sign;
mod stream;

pub(crate) use body::{mixed_info, put_mixed, read_mixed};
#[cfg(target_arch = "x86_64")]
pub(crate) use machine::{Avx2, Avx512};
pub(crate) use machine::{Machine, Portable};

use crate::error::{Result, corrupt};
use model::{All, Model, Only};
use rows::{Grid, rows_mut};
use stream::{Reader, Recorder};

/// Symbols around a prediction.
const SYMBOLS: usize = 32;
/// Parts of an octave in which predictions differ.
const PHASES: usize = 16;
/// Longest row, so that the columns take little memory.
const ROW_LEN_MAX: usize = 1 << 16;
/// Rows that are coded side by side.
const LANES: usize = 8;
/// A whole number for each of them.
type Lanes = [i32; LANES];

/// [`put_numbers`], as the machine does it best.
pub(crate) type PutNumbers = fn(Setup, &[u16], &mut Vec<u8>);
/// [`read_numbers`], as the machine does it best.
pub(crate) type ReadNumbers = fn(Setup, &[u8], &mut [u16], u32) -> Result<()>;

/// What a model begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Columns, 1 to [`ROW_LEN_MAX`].
    row_len: usize,
    /// The first number's column.
    first: usize,
    /// The scale expected at first, in 2^-8 octaves above the least exponent.
    level: u16,
    /// Whether numbers that are far below their predictions are told apart first.
    far: bool,
}

/// Appends the choices that give `numbers`: of each the exponent and the top bit of the mantissa,
/// then the sign, then the next two bits of the mantissa.
#[inline(always)]
pub(crate) fn put_numbers(setup: Setup, numbers: &[u16], out: &mut Vec<u8>) {
    let grid = Grid::new(setup, numbers.len());
    let mut recorder = Recorder::for_numbers(numbers.len());
    let mut model = Model::new(setup);
    let number = |at: usize| numbers.get(at).map_or(0, |&number| i32::from(number));
    for group in grid.groups() {
        let whole = grid.whole(group);
        for column in 0..setup.row_len {
            if let Some(begin) = whole {
                let at = |lane: usize| begin + lane * setup.row_len + column;
                let wanted = std::array::from_fn(|lane| number(at(lane)));
                model.code(&mut recorder, column, All, &wanted);
            } else if let Some(places) = grid.places(group, column) {
                let wanted = places.map(|place| place.map_or(0, number));
                let some = Only(places.map(|place| place.is_some()));
                model.code(&mut recorder, column, some, &wanted);
            }
        }
        model.next_rows();
    }
    recorder.put(out);
}

/// Fills `numbers`, whose exponents have `width` bits with the top bit of the mantissa, from what
/// [`put_numbers`] wrote.
#[inline(always)]
pub(crate) fn read_numbers<M: Machine>(
    setup: Setup,
    content: &[u8],
    numbers: &mut [u16],
    width: u32,
) -> Result<()> {
    let grid = Grid::new(setup, numbers.len());
    let mut reader = Reader::<M>::new(content)?;
    let mut model = Model::new(setup);
    for group in grid.groups() {
        let mut any = 0;
        if let Some(begin) = grid.whole(group) {
            let mut rows = rows_mut(&mut numbers[begin..], setup.row_len);
            for column in 0..setup.row_len {
                let found = model.code(&mut reader, column, All, &[0; LANES]);
                for (row, found) in rows.iter_mut().zip(found) {
                    row[column] = low(found);
                    any |= found;
                }
            }
        } else {
            for column in 0..setup.row_len {
                let Some(places) = grid.places(group, column) else {
                    continue;
                };
                let some = Only(places.map(|place| place.is_some()));
                let found = model.code(&mut reader, column, some, &[0; LANES]);
                for (place, found) in places.into_iter().zip(found) {
                    if let Some(place) = place {
                        numbers[place] = low(found);
                        any |= found;
                    }
                }
            }
        }
        if any >> (width + 3) != 0 {
            return corrupt("an exponent is too wide");
        }
        reader.check()?;
        model.next_rows();
    }
    reader.finish()
}

/// A number has at most 13 bits.
#[inline(always)]
fn low(number: i32) -> u16 {
    (number & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entropy::engines;
    use crate::samples::Noise;

    fn setup(row_len: usize, level: u16, far: bool) -> Setup {
        Setup {
            row_len,
            first: row_len / 3,
            level,
            far,
        }
    }

    /// Numbers from exponents, and signs with the bits of mantissas.
    fn fields(n: usize, mut draw: impl FnMut(&mut Noise, usize) -> (u16, u16)) -> Vec<u16> {
        let noise = &mut Noise::new(11);
        let number = |(exponent, sign): (u16, u16)| exponent << 3 | sign;
        (0..n).map(|i| number(draw(noise, i))).collect()
    }

    fn read(setup: Setup, content: &[u8], n: usize, width: u32) -> Result<Vec<u16>> {
        let mut numbers = vec![0; n];
        read_numbers::<Portable>(setup, content, &mut numbers, width)?;
        Ok(numbers)
    }

    /// Every machine writes the same and reads it back; returns the length.
    fn round_trip(numbers: &[u16], setup: Setup) -> usize {
        let mut content = Vec::new();
        put_numbers(setup, numbers, &mut content);
        for engine in engines() {
            let (mut same, mut back) = (Vec::new(), vec![0; numbers.len()]);
            (engine.kernels().put_numbers)(setup, numbers, &mut same);
            assert!(same == content, "{} {setup:?}", engine.name());
            let read = (engine.kernels().read_numbers)(setup, &content, &mut back, 9);
            assert_eq!(read, Ok(()), "{} {setup:?}", engine.name());
            assert!(back == numbers, "{} {setup:?}", engine.name());
        }
        content.len()
    }

    /// Normal numbers of a scale that differs by row and column, in exponent and halves.
    fn normal(noise: &mut Noise, scale: f32) -> (u16, u16) {
        let bits = (noise.normal() * scale).to_bits();
        let low = |x: u32| u16::try_from(x).unwrap();
        (low(bits >> 22 & 511), low(bits >> 31 << 2 | bits >> 20 & 3))
    }

    /// Where rows and columns have scales, the model comes near to what a reader who knew them
    /// would need: about 2.5 bits for the exponent, 1 each for half, mantissa bits and sign.
    #[test]
    fn scales_of_rows_and_columns_are_found() {
        let scale = |i: usize| (i / 256 * 37 % 23) as f32 * 0.01 * (1 << (i % 256 * 29 % 7)) as f32;
        let n = 256 * 600;
        let both = fields(n, |noise, i| normal(noise, 0.01 + scale(i)));
        let bits = |len: usize| 8.0 * len as f64 / n as f64;
        let known = bits(round_trip(&both, setup(256, 127 << 8, false)));
        let unknown = bits(round_trip(&both, setup(255, 127 << 8, false)));
        assert!(known < 7.1, "{known}");
        assert!(known + 0.3 < unknown, "{known} {unknown}");
    }

    #[test]
    fn dead_numbers_are_cheap_where_they_are_told_apart() {
        let n = 128 * 400;
        let dead = fields(n, |noise, i| match i % 128 {
            40..60 => (0, 0),
            _ => normal(noise, 1.0),
        });
        let apart = round_trip(&dead, setup(128, 127 << 8, true));
        let mixed = round_trip(&dead, setup(128, 127 << 8, false));
        assert!(apart < mixed, "{apart} {mixed}");
    }

    #[test]
    fn any_exponents_and_levels_come_back() {
        let wild = fields(5000, |noise, _| {
            let any = noise.bits() >> 32;
            (u16::try_from(any & 511).unwrap(), u16::from(noise.below(8)))
        });
        for level in [0, 1, 127 << 8, u16::MAX] {
            for row_len in [1, 2, 63, 4999, ROW_LEN_MAX] {
                round_trip(&wild, setup(row_len, level, level % 2 == 1));
            }
        }
        for extreme in [0, 511] {
            round_trip(
                &fields(9000, |_, _| (extreme, 4)),
                setup(64, 127 << 8, true),
            );
        }
        round_trip(&[], setup(64, 0, false));
    }

    /// Neither a cut nor noise takes more time than its numbers do, and neither passes.
    #[test]
    fn damage_is_noticed() {
        let some = fields(3000, |noise, _| normal(noise, 1.0));
        let setup = setup(50, 127 << 8, true);
        let mut content = Vec::new();
        put_numbers(setup, &some, &mut content);
        for cut in (0..content.len()).step_by(37) {
            assert!(read(setup, &content[..cut], 3000, 9).is_err());
        }
        for n in [0, 2999, 3001, 100_000] {
            assert!(read(setup, &content, n, 9).is_err(), "{n}");
        }
        assert!(
            read(setup, &content, 3000, 6).is_err(),
            "exponents of 6 bits"
        );
    }

    proptest! {
        #[test]
        fn noise_is_an_error_or_numbers(
            content in prop::collection::vec(any::<u8>(), 0..300), n in 0usize..3000,
            row_len in 1usize..200, level in any::<u16>(), far in any::<bool>(),
        ) {
            let setup = setup(row_len, level, far);
            let mut content = content;
            // States above the least, so that the numbers are reached.
            content.iter_mut().take(8 * LANES).skip(7).step_by(8).for_each(|byte| *byte |= 1);
            drop(read(setup, &content, n, 9));
        }

        #[test]
        fn any_fields_come_back(
            values in prop::collection::vec((0u16..512, 0u16..8), 0..400),
            row_len in 1usize..100, level in any::<u16>(), far in any::<bool>(),
        ) {
            let numbers: Vec<u16> = values.into_iter().map(|(e, sign)| e << 3 | sign).collect();
            round_trip(&numbers, setup(row_len, level, far));
        }
    }
}
