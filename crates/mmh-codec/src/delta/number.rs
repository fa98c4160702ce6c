//! The numbers that deltas are made of, and the loops over them.

use super::replay::Replay;
use crate::kernel::{Expected, Kernels};

/// A format of floating point numbers as an integer type.
pub(super) trait Number {
    /// Bytes of a number.
    const LEN: usize;
    /// Bits of a number.
    const BITS: u32;
    /// The lowest bit of the exponent, and its bits.
    const EXPONENT: (u32, u32);
    /// Most low bits of a magnitude that stand apart.
    const SHIFT_MAX: i16;

    /// The bits of each number.
    fn bits(raw: &[u8]) -> impl Iterator<Item = u32>;

    /// Its place among all numbers in order.
    fn place(bits: u32) -> i32;

    /// The biased exponent.
    fn exponent(bits: u32) -> i32;

    /// Replaces numbers of the base by what is predicted of them.
    fn predict(numbers: &mut [u8], replay: Option<Replay>, kernels: &Kernels);

    /// Fills in classes and shifts of a part of a row.
    fn expect(
        base: &[u8],
        expected: &Expected<'_>,
        targets: (&mut [u8], &mut [u8]),
        kernels: &Kernels,
    );

    /// Moves each number of a row by the difference that its symbol and shift and the next field
    /// name; gives where the fields end that begin at bit `at`.
    fn apply(
        row: &mut [u8],
        each: (&[u8], &[u8]),
        fields: &[u8],
        at: usize,
        kernels: &Kernels,
    ) -> usize;

    /// Fills the differences of numbers from what was predicted, and the exponents of the base's.
    fn compare(
        new: &[u8],
        predicted: &[u8],
        base: &[u8],
        differences: &mut [i32],
        exponents: &mut [i32],
    );

    /// The difference of two numbers' places, as it is read back.
    fn difference(new: u32, predicted: u32) -> i32;
}

macro_rules! number {
    ($name:ident, $uint:ty, $int:ty, $exponent_at:literal, $exponent_bits:literal, [$expect:ident, $move:ident], $predict:expr) => {
        #[derive(Debug)]
        pub(super) struct $name;

        impl $name {
            /// Sign and magnitude become a number that grows with the value.
            #[inline(always)]
            fn turn(bits: $uint) -> $uint {
                let negative = bits.cast_signed() >> (<$uint>::BITS - 1);
                bits ^ (negative.cast_unsigned() >> 1)
            }
        }

        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_lossless,
            trivial_numeric_casts,
            reason = "one text serves 16 and 32 bits; places are taken modulo their width"
        )]
        impl Number for $name {
            const LEN: usize = size_of::<$uint>();
            const BITS: u32 = <$uint>::BITS;
            const SHIFT_MAX: i16 = <$uint>::BITS as i16 - 8;
            const EXPONENT: (u32, u32) = ($exponent_at, $exponent_bits);

            fn bits(raw: &[u8]) -> impl Iterator<Item = u32> {
                let numbers = raw.as_chunks::<{ size_of::<$uint>() }>().0;
                numbers.iter().map(|b| <$uint>::from_le_bytes(*b) as u32)
            }

            fn place(bits: u32) -> i32 {
                Self::turn(bits as $uint).cast_signed() as i32
            }

            fn exponent(bits: u32) -> i32 {
                (bits >> $exponent_at & ((1 << $exponent_bits) - 1)).cast_signed()
            }

            fn difference(new: u32, predicted: u32) -> i32 {
                let wrapped = Self::place(new).wrapping_sub(Self::place(predicted));
                wrapped as $int as i32
            }

            fn compare(
                new: &[u8],
                predicted: &[u8],
                base: &[u8],
                differences: &mut [i32],
                exponents: &mut [i32],
            ) {
                let numbers = |raw| <[u8]>::as_chunks::<{ size_of::<$uint>() }>(raw).0;
                let pairs = numbers(new).iter().zip(numbers(predicted));
                for ((new, predicted), difference) in pairs.zip(differences) {
                    let new = Self::turn(<$uint>::from_le_bytes(*new));
                    let predicted = Self::turn(<$uint>::from_le_bytes(*predicted));
                    *difference = new.wrapping_sub(predicted).cast_signed() as i32;
                }
                for (base, exponent) in numbers(base).iter().zip(exponents) {
                    *exponent = Self::exponent(<$uint>::from_le_bytes(*base) as u32);
                }
            }

            fn predict(numbers: &mut [u8], replay: Option<Replay>, kernels: &Kernels) {
                let predict: fn(&mut [u8], Option<Replay>, &Kernels) = $predict;
                predict(numbers, replay, kernels);
            }

            fn expect(
                base: &[u8],
                expected: &Expected<'_>,
                (classes, shifts): (&mut [u8], &mut [u8]),
                kernels: &Kernels,
            ) {
                let numbers = base.as_chunks::<{ size_of::<$uint>() }>().0;
                (kernels.$expect)(numbers, expected, classes, shifts);
            }

            fn apply(
                row: &mut [u8],
                (symbols, shifts): (&[u8], &[u8]),
                fields: &[u8],
                at: usize,
                kernels: &Kernels,
            ) -> usize {
                let numbers = row.as_chunks_mut::<{ size_of::<$uint>() }>().0;
                (kernels.$move)(numbers, symbols, shifts, fields, at)
            }
        }
    };
}

/// Prediction is the base itself: these formats are not what optimisers multiply.
fn same(_: &mut [u8], _: Option<Replay>, _: &Kernels) {}

fn replayed(numbers: &mut [u8], replay: Option<Replay>, kernels: &Kernels) {
    if let Some(replay) = replay {
        replay.predict_all(numbers.as_chunks_mut().0, kernels);
    }
}

number!(Bf16, u16, i16, 7, 8, [expect_words, move_words], same);
number!(F16, u16, i16, 10, 5, [expect_words, move_words], same);
number!(
    F32,
    u32,
    i32,
    23,
    8,
    [expect_doubles, move_doubles],
    replayed
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_the_numbers() {
        let ascending = [
            f32::NEG_INFINITY,
            -2.5,
            -1.0,
            -1e-40,
            -0.0,
            0.0,
            1e-40,
            1.0,
            7.0,
        ];
        let places = ascending.map(|x| F32::place(x.to_bits()));
        assert!(places.is_sorted() && places.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(
            F32::difference(0, 0x8000_0000),
            1,
            "the zeros are next to each other"
        );
        let halves = [0xff80, 0xbf80, 0x8000, 0x0000, 0x3f80, 0x7f80];
        let places = halves.map(Bf16::place);
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn exponents_are_where_the_format_has_them() {
        assert_eq!(Bf16::exponent(0xbf80), 127);
        assert_eq!(F16::exponent(0x3c00), 15);
        assert_eq!(F32::exponent((-4.0f32).to_bits()), 129);
        assert_eq!(
            (Bf16::EXPONENT, F16::EXPONENT, F32::EXPONENT),
            ((7, 8), (10, 5), (23, 8))
        );
        assert_eq!(
            (Bf16::SHIFT_MAX, F16::SHIFT_MAX, F32::SHIFT_MAX),
            (8, 8, 24)
        );
    }

    #[test]
    fn differences_wrap_like_the_numbers() {
        assert_eq!(Bf16::difference(0x0001, 0x8000), 2);
        assert_eq!(Bf16::difference(0x7fff, 0xffff), -1, "around the end");
        let (mut differences, mut exponents) = ([0; 3], [0; 3]);
        let numbers = |numbers: [u16; 3]| numbers.map(u16::to_le_bytes).concat();
        let new = numbers([0x3f81, 0xbf81, 0x0000]);
        let base = numbers([0x3f80, 0xbf80, 0x0005]);
        Bf16::compare(&new, &base, &base, &mut differences, &mut exponents);
        assert_eq!((differences, exponents), ([1, -1, -5], [127, 127, 0]));
    }
}
