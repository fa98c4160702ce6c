//! FORMAT.md, "Bins".

use super::{Bytes, bit, exceptions, symbols};

/// The `n` values of a plane.
pub(super) fn read(input: &mut Bytes<'_>, n: usize) -> Option<Vec<u16>> {
    let count = usize::from(input.u8()?);
    if !(1..=32).contains(&count) {
        return None;
    }
    let mut start = input.varint()?;
    let mut widths = input.packed(count.div_ceil(4) * 4, 2)?;
    if widths.split_off(count).iter().any(|&width| width > 0) {
        return None;
    }
    let mut starts = Vec::new();
    for &width in &widths {
        if width > 2 || start % (1 << width) > 0 || start + (1 << width) > 1024 {
            return None;
        }
        starts.push(u16::try_from(start).ok()?);
        start += 1 << width;
    }
    let exceptions = exceptions(input, n)?;
    let alphabet = if count <= 16 { 16 } else { 32 };
    let mut coded = input.sized()?;
    let symbols = symbols::read(&mut coded, alphabet, n, None)?;
    coded.end()?;
    let mut values = Vec::new();
    for block in 0..((n + 131_072) / 262_144).max(1) {
        let last = (block + 2) * 262_144 - 131_072 > n;
        let end = if last { n } else { (block + 1) * 262_144 };
        let [mut first, mut second] = [Detail::read(input)?, Detail::read(input)?];
        for &symbol in &symbols[block * 262_144..end] {
            let (start, width) = (
                *starts.get(usize::from(symbol))?,
                widths[usize::from(symbol)],
            );
            let low = if width > 0 { first.next()? } else { 0 };
            let high = if width > 1 { second.next()? } else { 0 };
            values.push(start + low + 2 * high);
        }
        first.end()?;
        second.end()?;
    }
    for (at, value) in exceptions {
        *values.get_mut(at).filter(|_| value < 1024)? = value;
    }
    Some(values)
}

/// Bits one after the other.
struct Detail<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl<'a> Detail<'a> {
    fn read(input: &mut Bytes<'a>) -> Option<Self> {
        let bytes = input.sized()?.0;
        Some(Self { bytes, used: 0 })
    }

    fn next(&mut self) -> Option<u16> {
        let found = (self.used < 8 * self.bytes.len()).then(|| bit(self.bytes, self.used));
        self.used += 1;
        found
    }

    fn end(&self) -> Option<()> {
        let zeros = (self.used..8 * self.bytes.len()).all(|at| bit(self.bytes, at) == 0);
        (self.used.div_ceil(8) == self.bytes.len() && zeros).then_some(())
    }
}
