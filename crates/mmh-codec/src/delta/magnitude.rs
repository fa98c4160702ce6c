//! Magnitudes in half octaves: a symbol for each of 29 of them, one for what is smaller and one
//! for what is larger.

use crate::error::{Result, corrupt};
use crate::input::Input;
use crate::kernel::Moves;

/// The symbol of all magnitudes above the window.
const BEYOND: u8 = 31;

/// Which magnitudes each symbol stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Magnitudes {
    low: u8,
    /// For each symbol the least magnitude, and how many bits tell which one it is.
    of: [(u32, u32); 32],
    /// The symbols of small magnitudes.
    small: [u8; 256],
}

/// The half octave of a magnitude: 0 for 0, 1 for 1, and 2 k, 2 k + 1 for the halves of the
/// numbers from 2^k on.
pub(super) fn half_octave(magnitude: u32) -> u8 {
    match magnitude {
        0 | 1 => magnitude.to_le_bytes()[0],
        _ => {
            let octave = magnitude.ilog2();
            let upper = magnitude >> (octave - 1) & 1;
            (2 * octave + upper).to_le_bytes()[0]
        }
    }
}

/// The symbol of a half octave in the window that begins above `low`.
pub(super) fn symbol(half: u8, low: u8) -> u8 {
    match half {
        0 => 0,
        half => half.saturating_sub(low).clamp(1, BEYOND),
    }
}

impl Magnitudes {
    /// The window that begins above half octave `low`, of magnitudes of `bits` bits.
    pub(super) fn new(low: u8, bits: u32) -> Self {
        let low_octave = u32::from(low.div_ceil(2));
        let of = std::array::from_fn(|symbol| {
            let half = symbol + usize::from(low);
            match symbol {
                0 => (0, 0),
                // All from 1 up to the end of half octave `low + 1`.
                1 if low == 0 => (1, 0),
                1 => (0, low_octave + 1),
                _ if symbol == usize::from(BEYOND) => (0, bits),
                _ => {
                    let octave = u32::try_from(half / 2).unwrap_or(31).min(31);
                    let upper = u32::from(half % 2 == 1);
                    ((2 + upper) << (octave - 1), octave - 1)
                }
            }
        });
        let small = std::array::from_fn(|magnitude| {
            let magnitude = u32::try_from(magnitude).unwrap_or(0);
            symbol(half_octave(magnitude), low)
        });
        Self { low, of, small }
    }

    pub(super) fn low(&self) -> u8 {
        self.low
    }

    /// The symbol of a magnitude.
    #[inline(always)]
    pub(super) fn symbol(&self, magnitude: u32) -> u8 {
        match self.small.get(magnitude as usize) {
            Some(&symbol) => symbol,
            None => symbol(half_octave(magnitude), self.low),
        }
    }

    /// What symbols stand for, with or without signs.
    pub(super) fn moves(&self, signed: bool) -> Moves {
        let signs = u32::from(signed);
        let width = |i: usize| match self.of[i].1 + signs {
            width if i > 0 => width.to_le_bytes()[0],
            _ => 0,
        };
        Moves {
            least: self.of.map(|(least, _)| least),
            widths: std::array::from_fn(width),
            signs,
        }
    }

    pub(super) fn read(input: &mut Input<'_>, bits: u32) -> Result<Self> {
        let low = input.u8()?;
        if u32::from(low) >= 2 * bits {
            return corrupt("a delta has differences beyond all numbers");
        }
        Ok(Self::new(low, bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_octaves_grow_with_the_magnitude() {
        let halves = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 8];
        for (magnitude, half) in (0..).zip(halves) {
            assert_eq!(half_octave(magnitude), half, "{magnitude}");
        }
        assert_eq!(half_octave(u32::MAX), 63);
        assert_eq!(half_octave(1 << 31), 62);
    }

    /// Every magnitude is the least of its symbol and as much as its bits can tell.
    #[test]
    fn every_magnitude_is_told_by_symbol_and_bits() {
        for bits in [16, 32] {
            for low in 0..u8::try_from(2 * bits).unwrap() {
                let magnitudes = Magnitudes::new(low, bits);
                let all = (0..bits).flat_map(|k| [1u64 << k, (1 << k) + 1, (1 << (k + 1)) - 1]);
                for magnitude in all.chain([0]) {
                    let Some(magnitude) = u32::try_from(magnitude).ok() else {
                        continue;
                    };
                    let symbol = magnitudes.symbol(magnitude);
                    let (least, n) = magnitudes.of[usize::from(symbol)];
                    assert!(magnitude >= least, "{low}: {magnitude} by {symbol}");
                    assert!(
                        u64::from(magnitude - least) < 1 << n,
                        "{low}: {magnitude} by {symbol}"
                    );
                    assert_eq!(symbol == 0, magnitude == 0);
                }
            }
        }
    }
}
