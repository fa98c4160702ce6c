//! The symbol of a difference: its sign, as far as it is not the expected one, and its magnitude in
//! half octaves. Where large ones are expected, the lowest bits stand apart.

use crate::kernel::{BEYOND, MAGNITUDES, UNEXPECTED};

/// The half octave of a magnitude: 0 for 0, 1 for 1, and 2 k, 2 k + 1 for the halves of the
/// numbers from 2^k on.
#[inline(always)]
pub(super) fn half_octave(magnitude: u32) -> u8 {
    let octave = (magnitude | 1).ilog2();
    let upper = magnitude >> octave.max(1).wrapping_sub(1) & 1;
    (2 * octave + upper).to_le_bytes()[0]
}

/// The symbol of a magnitude of this half octave with so many low bits apart, without its sign.
#[inline(always)]
pub(super) fn kind(half: u8, low: u8) -> u8 {
    let kind = match (half, low) {
        (0, _) | (_, 0) => half,
        // Without the low bits it is 0, 1, or so many octaves smaller.
        _ if half < 2 * low => 1,
        _ if half < 2 * low + 2 => 2,
        _ => half - 2 * low + 1,
    };
    kind.min(BEYOND)
}

/// A symbol and its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coded {
    pub(super) symbol: u8,
    pub(super) field: u32,
    pub(super) width: u32,
}

/// What magnitudes of a half octave are coded as.
#[derive(Debug, Clone, Copy)]
struct Kind {
    symbol: u8,
    /// What an unexpected sign adds to the symbol.
    unexpected: u8,
    width: u8,
    least: u32,
}

/// The symbols of all half octaves for each number of low bits apart.
#[derive(Debug)]
pub(super) struct SymbolTable {
    of: Box<[[Kind; 64]; 32]>,
    bits: u32,
}

impl SymbolTable {
    /// Of differences between numbers of `bits` bits.
    pub(super) fn new(bits: u32) -> Self {
        let [bits_of_all, ..] = bits.to_le_bytes();
        let of = |half: u8, low: u8| {
            let low = low.min(bits_of_all - 8);
            let symbol = kind(half, low);
            let index = usize::from(symbol & 15) | usize::from(low > 0) << 4;
            let [width, ..] = MAGNITUDES.1[index].to_le_bytes();
            let (unexpected, width, least) = match symbol {
                0 => (0, 0, 0),
                BEYOND => (0, bits_of_all, 0),
                _ => {
                    let least = u32::from(MAGNITUDES.0[index]) << low;
                    (UNEXPECTED, width + low, least)
                }
            };
            Kind {
                symbol,
                unexpected,
                width,
                least,
            }
        };
        let byte = |i: usize| u8::try_from(i).unwrap_or(u8::MAX);
        let of_low = |low| std::array::from_fn(|half| of(byte(half), byte(low)));
        Self {
            of: Box::new(std::array::from_fn(of_low)),
            bits,
        }
    }

    /// The symbol and the field of a difference of which `shift` is expected.
    #[inline(always)]
    pub(super) fn code(&self, difference: i32, shift: u8) -> Coded {
        let magnitude = difference.unsigned_abs();
        let half = usize::from(half_octave(magnitude) & 63);
        let kind = self.of[usize::from(shift & 31)][half];
        // All bits where the sign is not the expected one; arithmetic, since it is like a coin.
        let other = (difference >> 31).to_le_bytes()[0]
            ^ shift.cast_signed().wrapping_shr(7).cast_unsigned();
        let field = if kind.symbol == BEYOND {
            difference.cast_unsigned() & (u32::MAX >> (32 - self.bits))
        } else {
            magnitude - kind.least
        };
        Coded {
            symbol: kind.symbol | kind.unexpected & other,
            field,
            width: u32::from(kind.width),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bits::BitWriter;
    use super::*;
    use crate::kernel::{Kernels, NEGATIVE};

    #[test]
    fn half_octaves_grow_with_the_magnitude() {
        let halves = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 8];
        for (magnitude, half) in (0..).zip(halves) {
            assert_eq!(half_octave(magnitude), half, "{magnitude}");
        }
        assert_eq!(half_octave(u32::MAX), 63);
        assert_eq!(half_octave(1 << 31), 62);
    }

    /// What a difference is coded as moves zero by that difference.
    #[test]
    fn every_difference_is_told_by_symbol_and_field() {
        for bits in [16, 32] {
            let table = SymbolTable::new(bits);
            let all = (0..bits).flat_map(|k| {
                let power = 1i64 << k;
                [
                    power - 1,
                    power,
                    power + 1,
                    -power,
                    1 - power,
                    3 * power / 2,
                ]
            });
            for difference in all {
                let wrapped = if bits == 16 {
                    i32::from(i16::try_from(difference).unwrap_or(i16::MIN))
                } else {
                    i32::try_from(difference).unwrap_or(i32::MIN)
                };
                for low in 0..=u8::try_from(bits - 8).unwrap() {
                    for negative in [0, NEGATIVE] {
                        let shift = low | negative;
                        let coded = table.code(wrapped, shift);
                        let mut writer = BitWriter::default();
                        writer.put(u64::from(coded.field), coded.width);
                        let fields = writer.take();
                        let symbols = [coded.symbol];
                        let (end, moved) = if bits == 16 {
                            let mut number = [[0; 2]];
                            let move_words = Kernels::PORTABLE.move_words;
                            let end = move_words(&mut number, &symbols, &[shift], &fields, 0);
                            (end, i32::from(i16::from_le_bytes(number[0])))
                        } else {
                            let mut number = [[0; 4]];
                            let move_doubles = Kernels::PORTABLE.move_doubles;
                            let end = move_doubles(&mut number, &symbols, &[shift], &fields, 0);
                            (end, i32::from_le_bytes(number[0]))
                        };
                        assert_eq!(end, coded.width as usize);
                        // Negative numbers are a sign and a magnitude.
                        let place = if moved < 0 { moved ^ i32::MAX } else { moved };
                        let place = if bits == 16 && moved < 0 {
                            i32::from(i16::try_from(moved).unwrap() ^ i16::MAX)
                        } else {
                            place
                        };
                        assert_eq!(place, wrapped, "{bits} {difference} {shift}");
                    }
                }
            }
        }
    }
}
