//! Floating point numbers as planes: the exponent with the top mantissa bit, then what is left
//! in words of 16 bits, the sign on top.

use crate::error::Result;

/// The formats that are split by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FloatFormat {
    /// bfloat16.
    Bf16,
    /// binary16.
    F16,
    /// binary32.
    F32,
    /// binary64.
    F64,
}

/// What the first plane has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The exponent and a bit of the mantissa.
    Plain,
    /// Those, and the sign above them.
    Signed,
    /// The exponent and two bits of the mantissa.
    Fine,
}

/// Names of the planes, most significant first.
const NAMES: [&str; 5] = ["exponent", "mantissa", "low", "low2", "low3"];

/// Where the planes lie in a number of one format.
#[derive(Debug, Clone, Copy)]
struct Fields {
    /// Bits below the exponent's plane.
    below: u32,
    /// Bits of the exponent and the top bit of the mantissa.
    exponent: u32,
}

impl Fields {
    /// Whole words below the plane that has the sign.
    const fn words(self) -> usize {
        (self.below / 16) as usize
    }

    /// Mantissa bits of the plane that has the sign.
    const fn upper(self) -> u32 {
        self.below % 16
    }
}

impl FloatFormat {
    /// Bytes of a number.
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    const fn fields(self) -> Fields {
        match self {
            Self::Bf16 => Fields {
                below: 6,
                exponent: 9,
            },
            Self::F16 => Fields {
                below: 9,
                exponent: 6,
            },
            Self::F32 => Fields {
                below: 22,
                exponent: 9,
            },
            Self::F64 => Fields {
                below: 51,
                exponent: 12,
            },
        }
    }

    /// Bits below the plane of the exponent, and its width.
    pub(crate) const fn exponent(self) -> (u32, u32) {
        let fields = self.fields();
        (fields.below, fields.exponent)
    }

    /// Names and widths of the planes.
    pub(crate) fn planes(self) -> impl Iterator<Item = (&'static str, u32)> {
        let fields = self.fields();
        let widths = [fields.exponent, fields.upper() + 1, 16, 16, 16];
        NAMES.into_iter().zip(widths).take(2 + fields.words())
    }

    /// The same where the sign is the top bit of the first plane.
    pub(crate) fn signed_planes(self) -> impl Iterator<Item = (&'static str, u32)> {
        let widths = [
            self.fields().exponent + 1,
            self.fields().upper(),
            16,
            16,
            16,
        ];
        self.planes().map(|(name, _)| name).zip(widths)
    }

    /// The names and widths of the planes in a form.
    pub(crate) fn planes_of(self, form: Form) -> Vec<(&'static str, u32)> {
        match form {
            Form::Plain => self.planes().collect(),
            Form::Signed => self.signed_planes().collect(),
            Form::Fine => {
                let Fields { exponent, .. } = self.fields();
                let widths = [exponent + 1, self.fields().upper(), 16, 16, 16];
                self.planes().map(|(name, _)| name).zip(widths).collect()
            }
        }
    }

    /// Moves the sign of each number from the second plane to the first.
    pub(crate) fn move_signs(self, planes: &mut [Vec<u16>]) {
        let Fields { exponent, .. } = self.fields();
        let upper = self.fields().upper();
        if let [exponents, mantissas, ..] = planes {
            for (value, mantissa) in exponents.iter_mut().zip(mantissas) {
                *value |= *mantissa >> upper << exponent;
                *mantissa &= (1 << upper) - 1;
            }
        }
    }

    /// Moves the signs back.
    pub(crate) fn return_signs(self, planes: &mut [Vec<u16>]) {
        let Fields { exponent, .. } = self.fields();
        let upper = self.fields().upper();
        if let [exponents, mantissas, ..] = planes {
            for (value, mantissa) in exponents.iter_mut().zip(mantissas) {
                *mantissa |= *value >> exponent << upper;
                *value &= (1 << exponent) - 1;
            }
        }
    }

    /// The planes of whole numbers; `raw` is a multiple of [`Self::len`] long.
    pub(crate) fn split(self, raw: &[u8]) -> Vec<Vec<u16>> {
        match self {
            Self::Bf16 | Self::F16 => split16(self.fields(), raw),
            Self::F32 => split32(self.fields(), raw),
            Self::F64 => split64(self.fields(), raw),
        }
    }

    /// Writes the numbers of the planes, as many as `raw` has room for.
    ///
    /// # Errors
    /// Corrupt when there are not as many planes as the format has.
    pub(crate) fn join(self, planes: &[Vec<u16>], raw: &mut [u8]) -> Result<()> {
        match self {
            Self::Bf16 | Self::F16 => join16(self.fields(), planes, raw),
            Self::F32 => join32(self.fields(), planes, raw),
            Self::F64 => join64(self.fields(), planes, raw),
        }
    }
}

/// The same loops for each width of number, so that the compiler can use vectors of that width.
macro_rules! loops {
    ($split:ident, $join:ident, $uint:ty, $len:literal) => {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "every field is masked to its width"
        )]
        #[allow(
            clippy::cast_lossless,
            reason = "the same text serves 16 bits, which need no cast"
        )]
        #[allow(trivial_numeric_casts, reason = "as above")]
        fn $split(fields: Fields, raw: &[u8]) -> Vec<Vec<u16>> {
            let numbers = || {
                raw.as_chunks::<$len>()
                    .0
                    .iter()
                    .map(|b| <$uint>::from_le_bytes(*b))
            };
            let Fields { below, exponent } = fields;
            let (upper, words) = (fields.upper(), fields.words());
            let exponent_mask: $uint = (1 << exponent) - 1;
            let upper_mask: $uint = (1 << upper) - 1;
            let mut planes = Vec::with_capacity(2 + words);
            planes.push(
                numbers()
                    .map(|x| (x >> below & exponent_mask) as u16)
                    .collect(),
            );
            let sign = |x: $uint| x >> (<$uint>::BITS - 1) << upper;
            let at = below - upper;
            planes.push(
                numbers()
                    .map(|x| (sign(x) | x >> at & upper_mask) as u16)
                    .collect(),
            );
            for word in (0..words).rev() {
                planes.push(numbers().map(|x| (x >> (16 * word)) as u16).collect());
            }
            planes
        }

        fn $join(fields: Fields, planes: &[Vec<u16>], raw: &mut [u8]) -> Result<()> {
            let Fields { below, .. } = fields;
            let (upper, words) = (fields.upper(), fields.words());
            let [exponents, uppers, lower @ ..] = planes else {
                return crate::error::corrupt("a float frame lacks planes");
            };
            let upper_mask: $uint = (1 << upper) - 1;
            let targets = raw.as_chunks_mut::<$len>().0.iter_mut();
            for ((target, &e), &u) in targets.zip(exponents).zip(uppers) {
                let (e, u) = (<$uint>::from(e), <$uint>::from(u));
                let number = u >> upper << (<$uint>::BITS - 1)
                    | e << below
                    | (u & upper_mask) << (below - upper);
                *target = number.to_le_bytes();
            }
            for (word, plane) in (0..words).rev().zip(lower) {
                let targets = raw.as_chunks_mut::<$len>().0.iter_mut();
                for (target, value) in targets.zip(plane) {
                    target[2 * word..2 * word + 2].copy_from_slice(&value.to_le_bytes());
                }
            }
            Ok(())
        }
    };
}

loops!(split16, join16, u16, 2);
loops!(split32, join32, u32, 4);
loops!(split64, join64, u64, 8);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [FloatFormat; 4] = [
        FloatFormat::Bf16,
        FloatFormat::F16,
        FloatFormat::F32,
        FloatFormat::F64,
    ];

    /// 1.5 has the biased exponent, and the top mantissa bit set; -0.0 only the sign.
    #[test]
    fn fields_are_where_the_standards_put_them() {
        let plane = |format: FloatFormat, raw: &[u8]| -> Vec<u16> {
            format.split(raw).iter().map(|plane| plane[0]).collect()
        };
        assert_eq!(
            plane(FloatFormat::Bf16, &0x3fc1u16.to_le_bytes()),
            [127 * 2 + 1, 1]
        );
        assert_eq!(
            plane(FloatFormat::Bf16, &0x8000u16.to_le_bytes()),
            [0, 1 << 6]
        );
        assert_eq!(
            plane(FloatFormat::F16, &0xbe01u16.to_le_bytes()),
            [15 * 2 + 1, 1 << 9 | 1]
        );
        assert_eq!(
            plane(FloatFormat::F32, &1.5f32.to_le_bytes()),
            [127 * 2 + 1, 0, 0]
        );
        let x = f64::from_bits((-1.5f64).to_bits() | 1 << 48 | 0x0003_0002_0001);
        assert_eq!(
            plane(FloatFormat::F64, &x.to_le_bytes()),
            [1023 * 2 + 1, 9, 3, 2, 1]
        );
    }

    #[test]
    fn planes_are_as_wide_as_they_say() {
        for format in ALL {
            let planes = format.split(&vec![0xff; 4 * format.len()]);
            assert_eq!(planes.len(), format.planes().count());
            let mut bits = 0;
            for (values, (_, width)) in planes.iter().zip(format.planes()) {
                assert!(
                    values
                        .iter()
                        .all(|&value| u32::from(value) == (1 << width) - 1)
                );
                bits += width;
            }
            assert_eq!(bits as usize, 8 * format.len());
        }
    }

    #[test]
    fn missing_planes_are_corrupt() {
        for format in ALL {
            assert!(format.join(&[vec![0]], &mut vec![0; format.len()]).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bits_come_back(raw in prop::collection::vec(any::<u8>(), 0..200)) {
            for format in ALL {
                let raw = &raw[..raw.len() / format.len() * format.len()];
                let mut back = vec![0; raw.len()];
                format.join(&format.split(raw), &mut back).unwrap();
                prop_assert_eq!(&back[..], raw);
            }
        }
    }
}
