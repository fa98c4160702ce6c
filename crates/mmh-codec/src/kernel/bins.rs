//! Symbols that stand for bins, ranges of exponents with two bits of the mantissa, and the bits
//! that say which value of its bin a number has.

use crate::entropy::SYMBOLS_MAX;
use crate::error::{Result, corrupt};

/// In the flags of a bin: it has two or four values, so that a number has a first detail.
pub(crate) const FIRST: u8 = 1;
/// In the flags of a bin: it has four values, so that a number has a second detail.
pub(crate) const SECOND: u8 = 2;
/// Where the lower of the two mantissa bits lies among mantissas of 7 bits, and the sign among
/// those of 6.
pub(crate) const LOWER: u8 = 0x20;

/// What symbols mean: for each, what the values of its bin have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bins {
    /// How far the first value without its lowest bit is above the same of symbol 0.
    pub(crate) above: [u8; SYMBOLS_MAX],
    /// [`FIRST`], [`SECOND`], and [`LOWER`] if there is one value, whose lowest bit is 1.
    pub(crate) flags: [u8; SYMBOLS_MAX],
}

/// Codes: how far a value without its lowest bit is above the lowest one.
pub(crate) const CODES: usize = 64;

/// The symbols of codes, the opposite of [`Bins`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codes {
    /// The symbol of each; of its value with the lowest bit 0, if the other has one of its own.
    pub(crate) symbols: [u8; CODES],
    /// [`FIRST`] and [`SECOND`], as the bin has them.
    pub(crate) flags: [u8; CODES],
}

/// Bits that are read one after the other; beyond the end there are zeros.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    /// The next 64 bits.
    #[inline(always)]
    pub(super) fn ahead(&self) -> u64 {
        let rest = self.bytes.get(self.used / 8..).unwrap_or_default();
        let mut last = [0; 16];
        let next = rest.first_chunk().unwrap_or_else(|| {
            last[..rest.len()].copy_from_slice(rest);
            &last
        });
        let [low, _] = halves(u128::from_le_bytes(*next) >> (self.used % 8));
        low
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, n: u32) {
        self.used += n as usize;
    }

    /// Refuses bits that were not read, but for zeros that fill the last byte, and bits that were
    /// read beyond the end.
    pub(crate) fn expect_end(&self) -> Result<()> {
        if self.used.div_ceil(8) != self.bytes.len() {
            return corrupt("details are more or fewer than bins need");
        }
        if self.ahead() != 0 {
            return corrupt("details are not filled with zeros");
        }
        Ok(())
    }
}

/// The lower and the upper 64 bits.
#[inline(always)]
fn halves(bits: u128) -> [u64; 2] {
    let bytes = bits.to_le_bytes();
    let [low, high] = [&bytes[..8], &bytes[8..]];
    [low, high].map(|half| half.first_chunk().map_or(0, |b| u64::from_le_bytes(*b)))
}

/// Bits that are written one after the other.
#[derive(Debug, Default)]
pub(crate) struct BitSink {
    bytes: Vec<u8>,
    pending: u64,
    n: u32,
}

impl BitSink {
    /// Appends the lowest `n` bits, at most 64; those above must be 0.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, n: u32) {
        self.pending |= bits << self.n;
        let all = self.n + n;
        if all < 64 {
            self.n = all;
            return;
        }
        self.bytes.extend_from_slice(&self.pending.to_le_bytes());
        self.pending = bits >> 1 >> (63 - self.n);
        self.n = all - 64;
    }

    /// The bits in whole bytes, the last filled with zeros.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let rest = self.n.div_ceil(8) as usize;
        let pending = self.pending.to_le_bytes();
        self.bytes.extend_from_slice(&pending[..rest]);
        self.bytes
    }
}

/// Replaces symbols by codes and mantissas of 6 bits by ones of 7, by what the symbols mean and the
/// details that follow.
#[inline(always)]
pub(super) fn refine(
    bins: &Bins,
    details: &mut [Bits<'_>; 2],
    symbols: &mut [u8],
    bytes: &mut [u8],
) {
    for (symbols, bytes) in symbols.chunks_mut(64).zip(bytes.chunks_mut(64)) {
        let mut ahead = [details[0].ahead(), details[1].ahead()];
        let mut used = [0; 2];
        for (symbol, byte) in symbols.iter_mut().zip(bytes) {
            let place = usize::from(*symbol & 31);
            let flags = bins.flags[place];
            let has = [flags & 1, flags >> 1 & 1];
            let detail = [0, 1].map(|i| ahead[i].to_le_bytes()[0] & has[i]);
            for i in [0, 1] {
                ahead[i] >>= has[i];
                used[i] += u32::from(has[i]);
            }
            *symbol = bins.above[place] + detail[1];
            let sign = (*byte & LOWER) << 1;
            *byte = *byte & (LOWER - 1) | sign | flags & LOWER | detail[0] << 5;
        }
        details[0].skip(used[0]);
        details[1].skip(used[1]);
    }
}

/// The opposite of [`refine`].
#[inline(always)]
pub(super) fn coarsen(
    codes: &Codes,
    symbols: &mut [u8],
    bytes: &mut [u8],
    details: &mut [BitSink; 2],
) {
    for (symbols, bytes) in symbols.chunks_mut(64).zip(bytes.chunks_mut(64)) {
        let (mut found, mut used) = ([0u64; 2], [0; 2]);
        for (symbol, byte) in symbols.iter_mut().zip(bytes) {
            let code = *symbol;
            let place = usize::from(code) % CODES;
            let flags = codes.flags[place];
            let has = [flags & 1, flags >> 1 & 1];
            let bit = *byte >> 5 & 1;
            found[0] |= u64::from(bit & has[0]) << used[0];
            found[1] |= u64::from(code & has[1]) << used[1];
            used[0] += u32::from(has[0]);
            used[1] += u32::from(has[1]);
            *symbol = codes.symbols[place] + (bit & !has[0]);
            *byte = *byte & (LOWER - 1) | *byte >> 1 & LOWER;
        }
        details[0].put(found[0], used[0]);
        details[1].put(found[1], used[1]);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{
        Kernels,
        tests::{LENGTHS, noise_of, others},
    };
    use super::*;
    use crate::samples::Noise;

    /// Bins of one, two and four values in turn, and their codes.
    fn bins() -> (Bins, Codes) {
        let mut bins = Bins {
            above: [0; SYMBOLS_MAX],
            flags: [0; SYMBOLS_MAX],
        };
        let mut codes = Codes {
            symbols: [0; CODES],
            flags: [0; CODES],
        };
        let mut value = 0u8;
        for (i, symbol) in (0..32u8).enumerate() {
            let (len, flags) = [(4, 3), (2, 1), (1, 0), (1, 0)][i % 4];
            bins.above[i] = value / 2;
            bins.flags[i] = flags | ((value % 2) * LOWER);
            for code in value / 2..(value + len).div_ceil(2) {
                let code = usize::from(code);
                if value.is_multiple_of(2) {
                    codes.symbols[code] = symbol;
                }
                codes.flags[code] = flags;
            }
            value += len;
        }
        (bins, codes)
    }

    /// Symbols, mantissas, and both details.
    type Coarse = (Vec<u8>, Vec<u8>, [Vec<u8>; 2]);

    /// By the definition, number by number; back again; and every form alike.
    #[test]
    fn details_tell_the_values_of_a_bin_apart() {
        let noise = &mut Noise::new(21);
        let (bins, codes) = bins();
        for n in LENGTHS {
            let raw: Vec<u8> = (0..n).map(|_| noise.below(32)).collect();
            let mantissas: Vec<u8> = noise_of(n, noise).iter().map(|b| b & 0x7f).collect();
            let mut expected: Option<Coarse> = None;
            for kernels in [vec![Kernels::PORTABLE], others()].concat() {
                let (mut symbols, mut bytes) = (raw.clone(), mantissas.clone());
                let mut sinks = <[BitSink; 2]>::default();
                let half = n / 128 * 64;
                let (now, rest) = symbols.split_at_mut(half);
                let (bytes_now, bytes_rest) = bytes.split_at_mut(half);
                (kernels.coarsen)(&codes, now, bytes_now, &mut sinks);
                (kernels.coarsen)(&codes, rest, bytes_rest, &mut sinks);
                let strings = sinks.map(BitSink::finish);
                let all = (symbols, bytes, strings);
                let expected = expected.get_or_insert_with(|| all.clone());
                assert!(*expected == all, "{n}");
                let (mut symbols, mut bytes, strings) = all;
                for (i, &symbol) in symbols.iter().enumerate() {
                    let value = 2 * raw[i] + (mantissas[i] >> 5 & 1);
                    let place = usize::from(symbol);
                    let start = 2 * bins.above[place] + bins.flags[place] / LOWER % 2;
                    let len = [1, 2, 0, 4][usize::from(bins.flags[place] & 3)];
                    assert!(start <= value && value < start + len);
                }
                let mut details = [0, 1].map(|i| Bits::new(&strings[i]));
                (kernels.refine)(&bins, &mut details, &mut symbols, &mut bytes);
                assert!(symbols == raw && bytes == mantissas);
                for bits in details {
                    bits.expect_end().unwrap();
                }
            }
        }
    }

    #[test]
    fn bits_left_over_or_lacking_are_refused() {
        let mut bits = Bits::new(&[0b1010, 0xff, 3]);
        assert_eq!(bits.ahead(), 0x0003_ff0a);
        bits.skip(17);
        assert!(bits.expect_end().is_err(), "a filling bit is 1");
        bits.skip(1);
        assert!(bits.expect_end().is_ok());
        bits.skip(7);
        assert!(bits.expect_end().is_err(), "beyond the end");
        assert_eq!(bits.ahead(), 0);
        let (bytes, mut sink) = ([0xa5; 20], BitSink::default());
        let mut bits = Bits::new(&bytes);
        for n in [1, 63, 64, 0, 30, 2] {
            let now = bits.ahead() & u64::MAX.checked_shr(64 - n).unwrap_or(0);
            sink.put(now, n);
            bits.skip(n);
        }
        assert_eq!(sink.finish(), bytes);
        assert!(Bits::default().expect_end().is_ok());
    }
}
