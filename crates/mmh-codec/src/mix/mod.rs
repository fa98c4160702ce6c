//! The densest coding of floating point numbers: each is predicted from all before it, in whole
//! numbers only, so that every machine predicts the same. FORMAT.md, "Mixed", is its text.
//!
//! What is predicted is the exponent with the top bit of the mantissa, the next two bits, and the
//! sign; the rest is noise and goes to plane records. A scale is learnt for each row and each
//! column ([`scale`]), a number's place around it has a distribution that follows what was seen
//! ([`adaptive`]), and both ways share one text of the model ([`model`]) that either records
//! choices or reads them ([`stream`]).

mod adaptive;
mod body;
mod model;
mod prior;
mod scale;
mod sign;
mod stream;

pub(crate) use body::{mixed_info, put_mixed, read_mixed};

use crate::error::{Result, corrupt};
use model::{Model, Number};
use stream::{Reader, Recorder};

/// Symbols around a prediction.
const SYMBOLS: usize = 32;
/// Parts of an octave in which predictions differ.
const PHASES: usize = 16;
/// Longest row, so that the columns take little memory.
const ROW_LEN_MAX: usize = 1 << 16;
/// Numbers decoded before it is looked whether the choices have run out.
const STRETCH: usize = 4096;

/// What a model begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setup {
    /// Columns, 1 to [`ROW_LEN_MAX`].
    row_len: usize,
    /// The first number's column.
    first: usize,
    /// The scale expected at first, in 2^-8 octaves above the least exponent.
    level: u16,
    /// Whether numbers that are far below their predictions are told apart first.
    far: bool,
}

/// The fields that are predicted, of all numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fields {
    /// Exponents, with the top bit of the mantissa as the lowest.
    exponents: Vec<u16>,
    /// The sign, then the next two bits of the mantissa.
    signs: Vec<u16>,
}

impl Fields {
    /// Appends the choices that give the fields.
    fn put(&self, setup: Setup, out: &mut Vec<u8>) {
        let mut model = Model::new(setup);
        let mut recorder = Recorder::for_numbers(self.exponents.len());
        for (&exponent, &sign) in self.exponents.iter().zip(&self.signs) {
            let number = Number {
                symbol: i32::from(exponent),
                mantissa: sign.to_le_bytes()[0] & 3,
                negative: sign >> 2 == 1,
            };
            model.code(&mut recorder, number);
        }
        recorder.put(out);
    }

    /// The fields of `n` numbers whose exponents have `width` bits.
    fn read(setup: Setup, content: &[u8], n: usize, width: u32) -> Result<Self> {
        let mut model = Model::new(setup);
        let mut reader = Reader::new(content)?;
        let mut fields = Self {
            exponents: vec![0; n],
            signs: vec![0; n],
        };
        let exponents = fields.exponents.chunks_mut(STRETCH);
        for (exponents, signs) in exponents.zip(fields.signs.chunks_mut(STRETCH)) {
            let mut any = 0;
            for (exponent, sign) in exponents.iter_mut().zip(signs) {
                let number = model.code(&mut reader, Number::default());
                any |= number.symbol;
                *exponent = u16::try_from(number.symbol).unwrap_or(u16::MAX);
                *sign = u16::from(number.negative) << 2 | u16::from(number.mantissa);
            }
            if any >> width != 0 {
                return corrupt("an exponent is too wide");
            }
            reader.check()?;
        }
        reader.finish()?;
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::Noise;

    fn setup(row_len: usize, level: u16, far: bool) -> Setup {
        Setup {
            row_len,
            first: row_len / 3,
            level,
            far,
        }
    }

    fn fields(n: usize, mut draw: impl FnMut(&mut Noise, usize) -> (u16, u16)) -> Fields {
        let noise = &mut Noise::new(11);
        let (exponents, signs) = (0..n).map(|i| draw(noise, i)).unzip();
        Fields { exponents, signs }
    }

    fn round_trip(fields: &Fields, setup: Setup) -> usize {
        let mut content = Vec::new();
        fields.put(setup, &mut content);
        let back = Fields::read(setup, &content, fields.exponents.len(), 9);
        assert!(back.as_ref() == Ok(fields), "{setup:?}");
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
        round_trip(&Fields::default(), setup(64, 0, false));
    }

    /// Neither a cut nor noise takes more time than its numbers do, and neither passes.
    #[test]
    fn damage_is_noticed() {
        let some = fields(3000, |noise, _| normal(noise, 1.0));
        let setup = setup(50, 127 << 8, true);
        let mut content = Vec::new();
        some.put(setup, &mut content);
        for cut in (0..content.len()).step_by(37) {
            assert!(Fields::read(setup, &content[..cut], 3000, 9).is_err());
        }
        for n in [0, 2999, 3001, 100_000] {
            assert!(Fields::read(setup, &content, n, 9).is_err(), "{n}");
        }
        assert!(
            Fields::read(setup, &content, 3000, 6).is_err(),
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
            content.iter_mut().take(32).skip(7).step_by(8).for_each(|byte| *byte |= 1);
            drop(Fields::read(setup, &content, n, 9));
        }

        #[test]
        fn any_fields_come_back(
            values in prop::collection::vec((0u16..512, 0u16..8), 0..400),
            row_len in 1usize..100, level in any::<u16>(), far in any::<bool>(),
        ) {
            let (exponents, signs) = values.into_iter().unzip();
            round_trip(&Fields { exponents, signs }, setup(row_len, level, far));
        }
    }
}
