//! Moving numbers by the differences that symbols and fields of bits name: the last step of a
//! delta.

use super::expect::NEGATIVE;

/// The symbol of a difference that no other names: its bits are the field.
pub(crate) const BEYOND: u8 = 16;
/// The bit of other symbols that says that the sign is not the expected one.
pub(crate) const UNEXPECTED: u8 = 16;
/// The bits of a shift that are the low bits apart.
const LOW: u8 = 0x1f;

/// For each symbol without its sign, and again for those whose magnitudes have low bits apart: the
/// least magnitude, and how many bits tell which one it is; both without the low bits.
pub(crate) static MAGNITUDES: ([u16; 32], [u16; 32]) = magnitudes();

const fn magnitudes() -> ([u16; 32], [u16; 32]) {
    let (mut least, mut widths) = ([0; 32], [0; 32]);
    let mut i = 1u16;
    while i < 32 {
        // Without low bits apart 1 is the least magnitude that is not 0, else all have to be named.
        let half = if i < 16 { i } else { i.saturating_sub(17) };
        (least[i as usize], widths[i as usize]) = if half < 2 {
            (half, 0)
        } else {
            ((2 + half % 2) << (half / 2 - 1), half / 2 - 1)
        };
        i += 1;
    }
    least[16] = 0;
    (least, widths)
}

/// The `width` bits, at most 34, from bit `at` on; zeros where `bytes` have ended.
#[inline(always)]
pub(crate) fn field(bytes: &[u8], at: usize, width: u32) -> u64 {
    let rest = bytes.get(at / 8..).unwrap_or(&[]);
    let window = rest.first_chunk().copied().unwrap_or_else(|| {
        let mut window = [0; 8];
        window[..rest.len()].copy_from_slice(rest);
        window
    });
    u64::from_le_bytes(window) >> (at % 8) & ((1 << width) - 1)
}

macro_rules! moves {
    ($name:ident, $uint:ty, $doc:literal) => {
        #[doc = $doc]
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_lossless,
            trivial_numeric_casts,
            reason = "one text serves 16 and 32 bits; places are taken modulo their width"
        )]
        #[inline(always)]
        pub(crate) fn $name(
            numbers: &mut [[u8; size_of::<$uint>()]],
            symbols: &[u8],
            shifts: &[u8],
            fields: &[u8],
            mut at: usize,
        ) -> usize {
            for (number, (&symbol, &shift)) in numbers.iter_mut().zip(symbols.iter().zip(shifts)) {
                let low = u32::from(shift & LOW).min(<$uint>::BITS - 8);
                let of_low = usize::from(low > 0) << 4;
                let index = usize::from(symbol & 15) | of_low;
                let (least, width) = if symbol == BEYOND {
                    (0, <$uint>::BITS)
                } else if symbol == 0 {
                    (0, 0)
                } else {
                    let (least, widths) = &MAGNITUDES;
                    (
                        u32::from(least[index]) << low,
                        u32::from(widths[index]) + low,
                    )
                };
                let magnitude = least.wrapping_add(field(fields, at, width) as u32);
                at += width as usize;
                // Negated where the sign is; the bits of a difference have their own.
                let negative = (symbol & UNEXPECTED) << 3 ^ shift & NEGATIVE;
                let negative = symbol != BEYOND && negative != 0;
                let sign = u32::from(negative).wrapping_neg();
                let difference = (magnitude ^ sign).wrapping_sub(sign) as $uint;
                // Sign and magnitude become a number that grows with the value, and back.
                let turn = |x: $uint| {
                    let negative = x.cast_signed() >> (<$uint>::BITS - 1);
                    x ^ (negative.cast_unsigned() >> 1)
                };
                let place = turn(<$uint>::from_le_bytes(*number));
                *number = turn(place.wrapping_add(difference)).to_le_bytes();
            }
            at
        }
    };
}

moves!(
    move_words,
    u16,
    "Moves numbers of 16 bits; gives where the fields end that begin at bit `at`."
);
moves!(
    move_doubles,
    u32,
    "Moves numbers of 32 bits, as [`move_words`]."
);

/// Multiplies binary32 numbers `steps` times by `factor`, each time rounded; what is no number
/// stays as it is.
#[inline(always)]
pub(crate) fn decay(numbers: &mut [[u8; 4]], factor: f32, steps: u16) {
    const BLOCK: usize = 128;
    let mut values = [0f32; BLOCK];
    for block in numbers.chunks_mut(BLOCK) {
        for (value, bytes) in values.iter_mut().zip(&*block) {
            *value = f32::from_le_bytes(*bytes);
        }
        for _ in 0..steps {
            values.iter_mut().for_each(|value| *value *= factor);
        }
        for (bytes, value) in block.iter_mut().zip(&values) {
            let old = f32::from_le_bytes(*bytes);
            *bytes = if old.is_nan() {
                *bytes
            } else {
                value.to_le_bytes()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kernels;
    use super::super::tests::others;
    use super::*;
    use crate::samples::Noise;

    fn bytes(noise: &mut Noise, n: usize) -> Vec<u8> {
        (0..n).map(|_| noise.below(256)).collect()
    }

    #[test]
    fn magnitudes_follow_each_other_without_a_gap() {
        let (least, widths) = &MAGNITUDES;
        for first in [1, 17] {
            for i in first..first + 14 {
                assert_eq!(least[i] + (1 << widths[i]), least[i + 1], "{i}");
            }
        }
        assert_eq!((least[1], least[15], widths[15]), (1, 192, 6));
        assert_eq!((least[17], least[31], widths[31]), (0, 128, 6));
    }

    #[test]
    fn fields_end_in_zeros() {
        assert_eq!(field(&[0xff; 3], 4, 34), 0xf_ffff);
        assert_eq!(field(&[0xff; 9], 8, 34), (1 << 34) - 1);
        assert_eq!(field(&[0xff; 9], 80, 9), 0);
    }

    #[test]
    fn a_symbol_moves_a_number_up_or_down() {
        let mut numbers = [0x3f80u16, 0x3f80, 0x3f80, 0xbf80, 0x0000, 0x0010].map(u16::to_le_bytes);
        // Down by one; up by 4 + 1; down as is expected by (4 + 1) * 4 + 3; up by one, which is
        // nearer zero; not at all; by any, here to the place 0xf810.
        let symbols = [1 | UNEXPECTED, 4, 5, 1, 0, BEYOND];
        let shifts = [0, 0, NEGATIVE | 2, 0, NEGATIVE | 2, 2];
        let fields = [0b1111, 0b1000_0000, 0xff, 0b111];
        let end = move_words(&mut numbers, &symbols, &shifts, &fields, 0);
        assert_eq!(end, 1 + 3 + 16);
        let moved = numbers.map(u16::from_le_bytes);
        assert_eq!(moved, [0x3f7f, 0x3f85, 0x3f80 - 23, 0xbf7f, 0, 0x87ef]);
    }

    /// Every engine moves as the plain loop does, also where the fields end too early.
    #[test]
    fn all_engines_move_alike() {
        let noise = &mut Noise::new(5);
        for round in 0..300usize {
            let n = [0, 1, 31, 32, 33, 64, 100, 500][round % 8];
            let highest = [2, 5, 16, 32][round % 4];
            let low_max = [1, 4, 9, 32][round / 4 % 4];
            let symbols: Vec<u8> = (0..n)
                .map(|_| noise.below(highest).min(noise.below(32)) | noise.below(2) << 4)
                .map(|symbol| {
                    if round % 3 == 0 && symbol == BEYOND {
                        0
                    } else {
                        symbol
                    }
                })
                .collect();
            let shifts: Vec<u8> = (0..n)
                .map(|_| noise.below(low_max) | noise.below(2) << 7)
                .collect();
            let fields = bytes(noise, n * [1, 2, 5][round % 3]);
            let at = usize::from(noise.below(50));
            let raw = bytes(noise, 4 * n);
            let run = |kernels: &Kernels| {
                let (mut words, mut doubles) = (raw[..2 * n].to_vec(), raw.clone());
                let (numbers, _) = words.as_chunks_mut();
                let end = (kernels.move_words)(numbers, &symbols, &shifts, &fields, at);
                let (numbers, _) = doubles.as_chunks_mut();
                let ends = (kernels.move_doubles)(numbers, &symbols, &shifts, &fields, at);
                (end, ends, words, doubles)
            };
            let plain = run(&Kernels::PORTABLE);
            for kernels in others() {
                assert!(run(&kernels) == plain, "round {round}");
            }
        }
    }

    #[test]
    fn all_engines_multiply_alike() {
        let noise = &mut Noise::new(6);
        for (n, factor, steps) in [(0, 0.5, 1), (1, 0.999, 20), (128, 0.98, 300), (777, 1.5, 2)] {
            let raw = bytes(noise, 4 * n);
            let run = |kernels: &Kernels| {
                let mut raw = raw.clone();
                (kernels.decay)(raw.as_chunks_mut().0, factor, steps);
                raw
            };
            let one_by_one = raw.as_chunks().0.iter().flat_map(|bytes| {
                let value = f32::from_le_bytes(*bytes);
                let times = (0..steps).fold(value, |value, _| value * factor);
                if value.is_nan() {
                    *bytes
                } else {
                    times.to_le_bytes()
                }
            });
            let expected: Vec<u8> = one_by_one.collect();
            for kernels in [vec![Kernels::PORTABLE], others()].concat() {
                assert!(run(&kernels) == expected, "{n} {factor} {steps}");
            }
        }
    }
}
