//! FORMAT.md, "Deltas", number by number.

use super::{Bytes, bit, symbols};

/// Where the fields of a number lie: bytes, lowest bit of the exponent, bits of the exponent.
const FORMATS: [(usize, u32, u32); 3] = [(2, 7, 8), (2, 10, 5), (4, 23, 8)];

/// The content of `raw_len` bytes that `body` makes of `base`.
pub(super) fn body(mut input: Bytes<'_>, raw_len: usize, base: &[u8]) -> Option<Vec<u8>> {
    let &(len, exponent_at, exponent_bits) = FORMATS.get(usize::from(input.u8()?))?;
    if base.len() != raw_len {
        return None;
    }
    let n = raw_len / len;
    let tail = input.take(raw_len - n * len)?;
    let steps = input.varint().filter(|&steps| steps <= 4096)?;
    let factor = if steps > 0 {
        Some(f32::from_bits(number(input.take(4)?))).filter(|f| f.is_finite() && *f > 0.0)?
    } else {
        1.0
    };
    let low = u32::from(input.u8()?);
    let (first, row_len) = (input.varint()?, input.varint()?);
    let bits = 8 * u32::try_from(len).ok()?;
    if low >= 2 * bits || first == 0 || first > row_len || !(64..=65_536).contains(&row_len) {
        return None;
    }
    let row_of = |i: usize| {
        if i < first {
            0
        } else {
            1 + (i - first) / row_len
        }
    };
    let sizes = input.list(n.checked_sub(1).map_or(0, |last| row_of(last) + 1))?;
    let offset = i64::from(input.u16()?.cast_signed());
    let form = input.u8()?;
    let (halvings, signs) = (form & 0xf7, usize::from(form & 8 == 0));
    if halvings > 5 {
        return None;
    }
    let changed: Vec<usize> = (0..n).filter(|&i| sizes[row_of(i)] > 0).collect();
    let class = |&i: &usize| {
        let old = number(&base[i * len..][..len]);
        let exponent = old >> exponent_at & ((1 << exponent_bits) - 1);
        let expected = offset + i64::from(sizes[row_of(i)]) - 2 * i64::from(exponent);
        u16::try_from(expected.clamp(0, 31) >> halvings).ok()
    };
    let classes: Vec<u16> = changed.iter().map(class).collect::<Option<_>>()?;
    let mut coded = vec![];
    if !changed.is_empty() {
        let mut content = input.sized()?;
        coded = symbols::read(&mut content, 32, changed.len(), Some(&classes))?;
        content.end()?;
    }
    let mut fields = Fields {
        bytes: input.0,
        at: 0,
    };
    let mut places: Vec<u32> = (0..n)
        .map(|i| {
            place(
                predicted(number(&base[i * len..][..len]), len, factor, steps),
                bits,
            )
        })
        .collect();
    for (i, symbol) in changed.into_iter().zip(coded) {
        let difference = difference(u32::from(symbol), low, bits, signs, &mut fields)?;
        places[i] = places[i].wrapping_add(difference);
    }
    fields.end()?;
    let content = places
        .into_iter()
        .flat_map(|p| place(p, bits).to_le_bytes()[..len].to_vec());
    Some(content.chain(tail.to_vec()).collect())
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |all, &byte| all << 8 | u32::from(byte))
}

/// What becomes of an old number, bit by bit.
fn predicted(old: u32, len: usize, factor: f32, steps: usize) -> u32 {
    if len < 4 || f32::from_bits(old).is_nan() {
        return old;
    }
    (0..steps)
        .fold(f32::from_bits(old), |x, _| x * factor)
        .to_bits()
}

/// The place of a number among all, or the number at a place: of negative ones all other bits change.
fn place(number: u32, bits: u32) -> u32 {
    let number = if bits == 32 { number } else { number & 0xffff };
    let negative = number >> (bits - 1) & 1 == 1;
    if negative {
        number ^ ((1 << (bits - 1)) - 1)
    } else {
        number
    }
}

fn difference(
    symbol: u32,
    low: u32,
    bits: u32,
    signs: usize,
    fields: &mut Fields<'_>,
) -> Option<u32> {
    let (least, n) = match symbol {
        0 => return Some(0),
        1 if low == 0 => (1, 0),
        1 => (0, low.div_ceil(2) + 1),
        31 => (0, bits),
        _ => {
            let half = symbol + low;
            let octave = (half / 2).min(31);
            ((2 + u64::from(half % 2)) << octave >> 1, octave - 1)
        }
    };
    let negative = fields.take(signs)? == 1;
    let magnitude = u32::try_from((least + fields.take(n as usize)?) & 0xffff_ffff).ok()?;
    Some(if negative {
        magnitude.wrapping_neg()
    } else {
        magnitude
    })
}

/// Bits one after the other.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take(&mut self, n: usize) -> Option<u64> {
        let here = self.at..self.at + n;
        self.at = here.end;
        let inside = self.at <= 8 * self.bytes.len();
        inside.then(|| {
            here.rev()
                .fold(0, |all, at| 2 * all + u64::from(bit(self.bytes, at)))
        })
    }

    /// Fewer than 8 bits are left, all zeros.
    fn end(&self) -> Option<()> {
        let mut left = self.at..8 * self.bytes.len();
        (left.len() < 8 && left.all(|at| bit(self.bytes, at) == 0)).then_some(())
    }
}
