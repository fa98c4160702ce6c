//! Numbers that are joined plane by plane, where no kernel joins all planes at once.

use crate::kernel::Meaning;
use crate::layout::FloatFormat;

/// Puts values into the bits of numbers from `below` on, `width` of them, and the bit `sign` of
/// each, if there is one, into the highest.
pub(super) fn replace<const LEN: usize>(
    values: impl Iterator<Item = (usize, u64)>,
    (below, width, sign): (u32, u32, Option<u32>),
    numbers: &mut [[u8; LEN]],
) {
    let top = 8 * LEN - 1;
    let mask = ((1u64 << width) - 1) << below;
    let mask = mask | u64::from(sign.is_some()) << top;
    for (at, value) in values {
        let signed = sign.map_or(0, |sign| value >> sign << top);
        let mut number = [0; 8];
        number[..LEN].copy_from_slice(&numbers[at]);
        let number = u64::from_le_bytes(number) & !mask | (value << below | signed) & mask;
        numbers[at].copy_from_slice(&number.to_le_bytes()[..LEN]);
    }
}

/// The first plane of numbers that are joined plane by plane.
#[derive(Debug, Clone, Copy)]
pub(super) enum Apart<'a> {
    Whole(&'a [u16]),
    /// Symbols from some place of the buffer on, and what they mean.
    Symbols(usize, Meaning<'a>),
}

impl Apart<'_> {
    /// The values from `start` on, with the sign as the top bit where they have it.
    pub(super) fn fill(
        self,
        symbols: &[u8],
        start: usize,
        format: FloatFormat,
        values: &mut [u16],
    ) {
        let (_, width) = format.exponent();
        match self {
            Self::Whole(all) => values.copy_from_slice(&all[start..start + values.len()]),
            Self::Symbols(from, meaning) => {
                for (place, &symbol) in values.iter_mut().zip(&symbols[from + start..]) {
                    *place = match meaning {
                        Meaning::Values(values) => values[usize::from(symbol & 31)],
                        Meaning::Above(above) => {
                            let (exponent, sign) = above.of(symbol);
                            exponent | sign >> 15 << width
                        }
                    };
                }
            }
        }
    }
}
