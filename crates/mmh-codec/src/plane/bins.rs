//! Exponents with two bits of the mantissa, in bins: a symbol stands for one value, or for two or
//! four neighbours, and then bits of detail say which. Where a distribution bends, in its upper
//! octaves, bins are narrow; where it is flat they are wide, and so 32 symbols reach far.

use super::PlaneEncoder;
use super::ranked::{EXCEPTION_BITS, Ranked};
use crate::entropy::{Alphabet, SYMBOLS_MAX};
use crate::error::{Result, corrupt};
use crate::input::{Input, put_sized, put_sized_with, put_varint};
use crate::kernel::{Bins, BitSink, CODES, Codes, FIRST, Keys, LOWER, RARE, SECOND};
use crate::log2::{ONE_BIT, log2};

/// Bits of a value, and those below it in a number of binary32.
pub(crate) const WIDTH: u32 = 10;
pub(crate) const BELOW: u32 = 21;
/// Most bits of detail: the widest bin has 2^2 values.
const DETAILS_MAX: u8 = 2;
/// About what a symbol takes in the tables, as far as a sample has to pay for it, in bits.
const SYMBOL_BITS: u64 = 4;
/// Bins must save one bit of this many numbers, for what they take to decode, ...
const SAVED_SHARE: u64 = 256;
/// ... and so many bits besides, for longer tables and lengths.
const SAVED_MIN: u64 = 512;

/// The bins of a plane: they follow one another without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BinWidths {
    /// The first value, a multiple of 4 where this crate writes.
    first: u16,
    /// For each symbol, how many bits of detail its values have.
    widths: Vec<u8>,
}

impl BinWidths {
    /// The bins that code values with these counts, a sample of `n`, in the fewest bits, if these
    /// are worth it: fewer than `others`, times 2^10.
    pub(crate) fn of(counts: &[u32], others: u64, n: usize) -> Option<Self> {
        let sampled: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        let (bins, cost) = Search::new(counts)?.best()?;
        let saved = others.checked_sub(cost)?.saturating_mul(n as u64) / sampled.max(1);
        let enough = (n as u64 / SAVED_SHARE + SAVED_MIN) * ONE_BIT;
        (saved > enough).then(|| bins.extended())
    }

    /// Where there is room in the alphabet, wide bins follow that the sample lacks: they cost
    /// nothing, and exceptions do. Small numbers are commoner than large ones.
    fn extended(mut self) -> Self {
        let size = if self.widths.len() <= Alphabet::Sixteen.size() {
            Alphabet::Sixteen.size()
        } else {
            SYMBOLS_MAX
        };
        while self.widths.len() < size {
            // As wide as a bin may be from there on.
            let [width, ..] = self.end().trailing_zeros().to_le_bytes();
            let width = width.min(DETAILS_MAX);
            let above = self.end() + (1 << width) <= 1 << WIDTH;
            if self.first >= 4 && (self.widths.len() % 4 != 3 || !above) {
                self.first -= 4;
                self.widths.insert(0, DETAILS_MAX);
            } else if above {
                self.widths.push(width);
            } else {
                break;
            }
        }
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.widths.len()
    }

    /// The first value of each bin.
    pub(crate) fn starts(&self) -> Vec<u16> {
        let starts = self.widths.iter().scan(self.first, |end, &width| {
            let start = *end;
            *end += 1 << width;
            Some(start)
        });
        starts.collect()
    }

    /// The value after the last.
    fn end(&self) -> u16 {
        self.first + self.widths.iter().map(|&width| 1u16 << width).sum::<u16>()
    }

    /// What values without their lowest bits are counted from.
    pub(crate) fn base(&self) -> u16 {
        self.first >> 1
    }

    /// What each symbol means.
    pub(crate) fn meaning(&self) -> Bins {
        let mut bins = Bins {
            above: [0; SYMBOLS_MAX],
            flags: [0; SYMBOLS_MAX],
        };
        let places = bins.above.iter_mut().zip(&mut bins.flags);
        for ((above, flags), (start, &width)) in places.zip(self.starts().iter().zip(&self.widths))
        {
            [*above, _] = ((start >> 1) - self.base()).to_le_bytes();
            *flags = flags_of(width);
            if width == 0 && !start.is_multiple_of(2) {
                *flags |= LOWER;
            }
        }
        bins
    }

    /// The code of each value without its lowest bit, and the symbol of each code.
    pub(crate) fn codes(&self) -> (Keys, Codes) {
        let mut keys = [RARE; 512];
        let mut codes = Codes {
            symbols: [0; CODES],
            flags: [0; CODES],
        };
        let starts = self.starts();
        for (symbol, (&start, &width)) in (0u8..).zip(starts.iter().zip(&self.widths)) {
            for value in start..start + (1 << width) {
                let code = (value >> 1) - self.base();
                [keys[usize::from(value >> 1)], _] = code.to_le_bytes();
                let code = usize::from(code);
                codes.flags[code] = flags_of(width);
                if value.is_multiple_of(2) {
                    codes.symbols[code] = symbol;
                }
            }
        }
        (keys, codes)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.widths.len()).expect("at most 32 symbols"));
        put_varint(out, usize::from(self.first));
        for four in self.widths.chunks(4) {
            let byte = four.iter().rev().fold(0, |byte, width| byte << 2 | width);
            out.push(byte);
        }
    }

    pub(crate) fn read(input: &mut Input<'_>) -> Result<Self> {
        let count = usize::from(input.u8()?);
        if count == 0 || count > SYMBOLS_MAX {
            return corrupt("the number of bins is out of range");
        }
        let first = input.varint()?;
        let packed = input.take(count.div_ceil(4))?;
        let width = |i: usize| packed[i / 4] >> (i % 4 * 2) & 3;
        if (count..packed.len() * 4).any(|i| width(i) != 0) {
            return corrupt("the widths of bins are not filled with zeros");
        }
        let widths: Vec<u8> = (0..count).map(width).collect();
        let mut end = first;
        for &width in &widths {
            if width > DETAILS_MAX || !end.is_multiple_of(1 << width) {
                return corrupt("a bin has an impossible width");
            }
            end += 1 << width;
        }
        match u16::try_from(first) {
            Ok(first) if end <= 1 << WIDTH => Ok(Self { first, widths }),
            _ => corrupt("a bin is out of range"),
        }
    }
}

/// The flags of a bin but for its lowest bit.
const fn flags_of(width: u8) -> u8 {
    match width {
        0 => 0,
        1 => FIRST,
        _ => FIRST | SECOND,
    }
}

/// The cheapest bins, for each number of them and each end.
struct Search<'a> {
    counts: &'a [u32],
    /// Values from the first to the last that occurs, rounded to fours.
    first: usize,
    end: usize,
    /// By value and number of bins: what the values before it cost, in bits times 2^10, and the
    /// width of the last bin.
    least: Vec<[(u64, u8); SYMBOLS_MAX + 1]>,
}

impl<'a> Search<'a> {
    fn new(counts: &'a [u32]) -> Option<Self> {
        let first = counts.iter().position(|&count| count > 0)? / 4 * 4;
        let end = counts.iter().rposition(|&count| count > 0)? + 1;
        let end = end.next_multiple_of(4).min(counts.len());
        Some(Self {
            counts,
            first,
            end,
            least: vec![[(u64::MAX, 0); SYMBOLS_MAX + 1]; end - first + 1],
        })
    }

    /// What a bin costs, by the logarithm of all counts.
    fn cost(&self, start: usize, width: u8, all: u64) -> u64 {
        let counts = &self.counts[start..start + (1 << width)];
        let count: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        let bits = all - u64::from(log2(count)) + u64::from(width) * ONE_BIT;
        count * bits + SYMBOL_BITS * ONE_BIT
    }

    fn best(mut self) -> Option<(BinWidths, u64)> {
        let total: u64 = self.counts.iter().map(|&count| u64::from(count)).sum();
        let all = u64::from(log2(total));
        let mut below = 0;
        let mut found: Option<(u64, usize, usize)> = None;
        for at in self.first..=self.end {
            let place = at - self.first;
            if at.is_multiple_of(4) {
                // Bins may begin here; what is below are exceptions.
                self.least[place][0].0 = below * EXCEPTION_BITS * ONE_BIT;
            }
            let above: u64 = self.counts[at..].iter().map(|&c| u64::from(c)).sum();
            for n in 0..=SYMBOLS_MAX {
                let (cost, _) = self.least[place][n];
                let whole = cost.saturating_add(above * EXCEPTION_BITS * ONE_BIT);
                // Both values of a code have symbols, or neither.
                let may_end = n > 0 && cost < u64::MAX && at.is_multiple_of(2);
                if may_end && found.is_none_or(|(least, ..)| whole < least) {
                    found = Some((whole, at, n));
                }
            }
            for width in (0..=DETAILS_MAX).filter(|width| at.is_multiple_of(1 << width)) {
                let next = place + (1 << width);
                if at == self.end || next >= self.least.len() {
                    continue;
                }
                let cost = self.cost(at, width, all);
                for n in 0..SYMBOLS_MAX {
                    let with = self.least[place][n].0.saturating_add(cost);
                    let before = &mut self.least[next][n + 1];
                    if with < before.0 {
                        *before = (with, width);
                    }
                }
            }
            below += self.counts.get(at).map_or(0, |&count| u64::from(count));
        }
        let (cost, at, n) = found?;
        Some((self.back_from(at, n), cost))
    }

    /// The `n` bins that end before the value `at`.
    fn back_from(&self, mut at: usize, n: usize) -> BinWidths {
        let mut widths = Vec::with_capacity(n);
        for n in (1..=n).rev() {
            let (_, width) = self.least[at - self.first][n];
            widths.push(width);
            at -= 1 << width;
        }
        widths.reverse();
        BinWidths {
            first: u16::try_from(at).expect("a value has 10 bits"),
            widths,
        }
    }
}

impl PlaneEncoder<'_> {
    /// Appends a plane whose symbols stand for bins; `details` are those of each block.
    pub(super) fn put_bins(
        &mut self,
        bins: &BinWidths,
        ranked: &Ranked<'_>,
        details: Vec<[BitSink; 2]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        bins.put(out);
        ranked.put_exceptions(self.packer, out)?;
        put_sized_with(out, |out| ranked.put_coded(self, out))?;
        for bits in details.into_iter().flatten() {
            put_sized(out, &bits.finish());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
