//! Moving numbers by the differences that symbols and fields of bits name: the last step of a
//! delta.

/// What the symbols of a delta stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moves {
    /// The least magnitude of each symbol.
    pub(crate) least: [u32; 32],
    /// Bits of the field of each symbol, at most 34: those of the magnitude, and before them a sign.
    pub(crate) widths: [u8; 32],
    /// 1 where there are signs, else 0.
    pub(crate) signs: u32,
}

/// Bytes behind the last field that [`field`] may reach into.
pub(crate) const FIELD_REACH: usize = 8;

/// The `width` bits, at most 34, from bit `at` on; zeros where `bytes` have ended.
#[inline(always)]
pub(crate) fn field(bytes: &[u8], at: usize, width: u32) -> u64 {
    let place = bytes.get(at / 8..).and_then(<[u8]>::first_chunk);
    let bits = place.map_or(0, |bytes| u64::from_le_bytes(*bytes)) >> (at % 8);
    bits & ((1 << width) - 1)
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
            moves: &Moves,
            fields: &[u8],
            mut at: usize,
        ) -> usize {
            for (number, symbol) in numbers.iter_mut().zip(symbols) {
                let symbol = usize::from(symbol & 31);
                let width = u32::from(moves.widths[symbol]);
                let bits = field(fields, at, width);
                at += width as usize;
                let magnitude = moves.least[symbol].wrapping_add((bits >> moves.signs) as u32);
                // Negated where the sign is set.
                let sign = (bits as u32 & moves.signs).wrapping_neg();
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

    /// Widths as deltas have them, or any.
    fn some_moves(noise: &mut Noise, width_max: usize) -> Moves {
        let signs = u32::from(noise.below(2));
        let width = |noise: &mut Noise, i: usize| match i {
            0 => 0,
            _ => noise.below(width_max + 1).max(signs.to_le_bytes()[0]),
        };
        Moves {
            least: std::array::from_fn(|i| {
                if i == 0 {
                    0
                } else {
                    u32::from(noise.below(256)) << 24 >> i
                }
            }),
            widths: std::array::from_fn(|i| width(noise, i)),
            signs,
        }
    }

    fn bytes(noise: &mut Noise, n: usize) -> Vec<u8> {
        (0..n).map(|_| noise.below(256)).collect()
    }

    #[test]
    fn a_symbol_moves_a_number_up_or_down() {
        let mut widths = [0; 32];
        (widths[1], widths[2]) = (1, 3);
        let mut least = [0; 32];
        (least[1], least[2]) = (1, 4);
        let moves = Moves {
            least,
            widths,
            signs: 1,
        };
        let mut numbers = [0x3f80u16, 0x3f80, 0x3f80, 0xbf80, 0x0000].map(u16::to_le_bytes);
        // Down by one; up by 4 + 3; down by 4 + 1; up by one, which is nearer zero.
        let fields = [0b0011_1101, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let end = move_words(&mut numbers, &[1, 2, 2, 1, 0], &moves, &fields, 0);
        assert_eq!(end, 8);
        let moved = numbers.map(u16::from_le_bytes);
        assert_eq!(moved, [0x3f7f, 0x3f87, 0x3f7b, 0xbf7f, 0x0000]);
    }

    /// Every engine moves as the plain loop does, also where the fields end too early.
    #[test]
    fn all_engines_move_alike() {
        let noise = &mut Noise::new(5);
        for round in 0..300usize {
            let width_max = [2, 9, 16, 17, 33, 34][round % 6];
            let moves = some_moves(noise, width_max);
            let n = [0, 1, 31, 32, 33, 64, 100, 500][round % 8];
            let symbols: Vec<u8> = (0..n)
                .map(|_| noise.below(32).min(noise.below(32)))
                .collect();
            let fields = bytes(noise, n * [1, 2, 5][round % 3] + FIELD_REACH);
            let at = usize::from(noise.below(50));
            let raw = bytes(noise, 4 * n);
            let run = |kernels: &Kernels| {
                let (mut words, mut doubles) = (raw[..2 * n].to_vec(), raw.clone());
                let (numbers, _) = words.as_chunks_mut();
                let end = (kernels.move_words)(numbers, &symbols, &moves, &fields, at);
                let (numbers, _) = doubles.as_chunks_mut();
                let ends = (kernels.move_doubles)(numbers, &symbols, &moves, &fields, at);
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
