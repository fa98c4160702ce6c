//! Packing of values of a fixed width, and single bits for tables; least significant bit first.

use crate::error::{Result, corrupt};

/// Widest value that is packed, in bits.
pub(crate) const WIDTH_MAX: u32 = 16;

/// Bytes of `n` values of `width` bits.
pub(crate) fn packed_len(n: usize, width: u32) -> usize {
    (n * width as usize).div_ceil(8)
}

/// Appends `width` bits of each value, shifted right by `shift` first.
pub(crate) fn pack(values: &[u16], shift: u32, width: u32, out: &mut Vec<u8>) {
    macro_rules! by_width {
        ($($w:literal)*) => { match width { $($w => pack_as::<$w>(values, shift, out),)* _ => {} } };
    }
    by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
}

fn pack_as<const W: usize>(values: &[u16], shift: u32, out: &mut Vec<u8>) {
    let mask = u16::MAX >> (16 - W);
    let start = out.len();
    out.resize(start + (values.len() * W).div_ceil(8), 0);
    let packed = &mut out[start..];
    let (eights, last) = values.as_chunks::<8>();
    for (eight, target) in eights.iter().zip(packed.chunks_exact_mut(W)) {
        target.copy_from_slice(&join8::<W>(eight, shift, mask).to_le_bytes()[..W]);
    }
    if !last.is_empty() {
        let mut eight = [0; 8];
        eight[..last.len()].copy_from_slice(last);
        let target = &mut packed[eights.len() * W..];
        let bytes = join8::<W>(&eight, shift, mask).to_le_bytes();
        target.copy_from_slice(&bytes[..target.len()]);
    }
}

#[inline(always)]
fn join8<const W: usize>(eight: &[u16; 8], shift: u32, mask: u16) -> u128 {
    let fours = eight.as_chunks::<4>().0;
    let lower = u128::from(join4::<W>(&fours[0], shift, mask));
    let upper = u128::from(join4::<W>(&fours[1], shift, mask));
    lower | upper << (4 * W)
}

/// Four values at once: neighbours move together, first those of 16 bits, then those of 32.
#[inline(always)]
fn join4<const W: usize>(four: &[u16; 4], shift: u32, mask: u16) -> u64 {
    let each = |value: u16| u64::from(value) * 0x0001_0001_0001_0001;
    let [a, b, c, d] = four.map(u64::from);
    let shift = shift & 15;
    // What a value's shift brings in from the next one is cut off.
    let kept = each(mask & u16::MAX >> shift);
    let x = (a | b << 16 | c << 32 | d << 48) >> shift & kept;
    let x = x & 0x0000_ffff_0000_ffff | (x >> 16 & 0x0000_ffff_0000_ffff) << W;
    x & 0xffff_ffff | x >> 32 << (2 * W)
}

/// Fills `values` from packed bits of `width`, shifted left by `shift`, with the bits of `base`
/// set. `packed` must have [`packed_len`] bytes.
pub(crate) fn unpack(packed: &[u8], shift: u32, width: u32, base: u16, values: &mut [u16]) {
    debug_assert_eq!(packed.len(), packed_len(values.len(), width));
    macro_rules! by_width {
        ($($w:literal)*) => {
            match width {
                $($w => unpack_as::<$w>(packed, shift, base, values),)*
                _ => values.fill(base),
            }
        };
    }
    by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
}

fn unpack_as<const W: usize>(packed: &[u8], shift: u32, base: u16, values: &mut [u16]) {
    let (eights, last) = values.as_chunks_mut::<8>();
    let whole = eights.len() * W;
    for (eight, source) in eights.iter_mut().zip(packed.chunks_exact(W)) {
        *eight = split8::<W>(source, shift, base);
    }
    if !last.is_empty() {
        let rest = packed.get(whole..).unwrap_or_default();
        let eight = split8::<W>(&rest[..rest.len().min(W)], shift, base);
        last.copy_from_slice(&eight[..last.len()]);
    }
}

#[inline(always)]
fn split8<const W: usize>(source: &[u8], shift: u32, base: u16) -> [u16; 8] {
    let mut bytes = [0; 16];
    bytes[..source.len()].copy_from_slice(source);
    let joined = u128::from_le_bytes(bytes);
    let halves = [low_half(joined), low_half(joined >> (4 * W))];
    let mask = u64::from(u16::MAX >> (16 - W));
    std::array::from_fn(|i| {
        let value = (halves[i / 4] >> (W * (i % 4))) & mask;
        (low_16(value) << (shift & 15)) | base
    })
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
fn low_half(x: u128) -> u64 {
    x as u64
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the value was masked to 16 bits"
)]
fn low_16(x: u64) -> u16 {
    x as u16
}

/// Writes single bits; the last byte is filled with zeros.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    /// Writes the lowest `n` bits of `value`.
    pub(crate) fn put(&mut self, value: u32, n: u32) {
        for i in 0..n {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = u8::from(value >> i & 1 == 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= bit << (self.used % 8);
            }
            self.used += 1;
        }
    }

    /// Writes `value` as a Rice code: its upper bits in unary, its lowest `rice` bits as they are.
    pub(crate) fn put_rice(&mut self, value: u32, rice: u32) {
        for _ in 0..value >> rice {
            self.put(1, 1);
        }
        self.put(0, 1);
        self.put(value, rice);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads what a [`BitWriter`] wrote.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    /// The next `n` bits, at most 32.
    pub(crate) fn take(&mut self, n: u32) -> Result<u32> {
        let mut value = 0;
        for i in 0..n {
            let Some(byte) = self.bytes.get(self.used / 8) else {
                return corrupt("a table ends early");
            };
            value |= u32::from(byte >> (self.used % 8) & 1) << i;
            self.used += 1;
        }
        Ok(value)
    }

    /// The next Rice code, whose value may not exceed `max`.
    pub(crate) fn take_rice(&mut self, rice: u32, max: u32) -> Result<u32> {
        let mut upper = 0;
        while self.take(1)? == 1 {
            upper += 1;
            if upper > max >> rice {
                return corrupt("a table value is out of range");
            }
        }
        let value = upper << rice | self.take(rice)?;
        if value > max {
            corrupt("a table value is out of range")
        } else {
            Ok(value)
        }
    }

    /// Refuses bytes that are left, and filling bits that are not zero.
    pub(crate) fn expect_end(mut self) -> Result<()> {
        if self.used.div_ceil(8) != self.bytes.len() {
            return corrupt("a table has bytes left over");
        }
        while !self.used.is_multiple_of(8) {
            if self.take(1)? != 0 {
                return corrupt("a table is not filled with zeros");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each width, with lengths around the eight values that are handled at once.
    #[test]
    fn values_of_every_width_and_count_come_back() {
        for width in 0..=WIDTH_MAX {
            for n in [0, 1, 7, 8, 9, 64, 71] {
                for shift in [0, 16 - width] {
                    let mask = ((1u32 << width) - 1) << shift;
                    let values: Vec<u16> = (0..n)
                        .map(|i: u32| {
                            u16::try_from(i.wrapping_mul(0x9e37_79b1) >> 9 & mask & 0xffff).unwrap()
                        })
                        .collect();
                    let mut packed = Vec::new();
                    pack(&values, shift, width, &mut packed);
                    assert_eq!(packed.len(), packed_len(values.len(), width));
                    let mut back = vec![0x5555; values.len()];
                    unpack(&packed, shift, width, 0, &mut back);
                    assert_eq!(back, values, "width {width}, n {n}, shift {shift}");
                }
            }
        }
    }

    #[test]
    fn the_first_value_lies_in_the_lowest_bits() {
        let mut packed = Vec::new();
        pack(&[0b101, 0b010, 0b111], 0, 3, &mut packed);
        assert_eq!(packed, [0b1101_0101, 0b1]);
    }

    #[test]
    fn a_base_sets_the_bits_above() {
        let mut values = [0; 3];
        unpack(&[0b1101_0101, 1], 2, 3, 0x4000, &mut values);
        assert_eq!(values, [0x4014, 0x4008, 0x401c]);
    }

    #[test]
    fn rice_codes_read_back_and_respect_their_limit() {
        for rice in 0..5 {
            let mut writer = BitWriter::default();
            for value in 0..60 {
                writer.put_rice(value, rice);
            }
            writer.put(5, 3);
            let bytes = writer.finish();
            let mut reader = BitReader::new(&bytes);
            for value in 0..60 {
                assert_eq!(reader.take_rice(rice, 59), Ok(value));
            }
            assert_eq!(reader.take(3), Ok(5));
            assert_eq!(reader.expect_end(), Ok(()));
            let mut reader = BitReader::new(&bytes);
            assert!((0..60).any(|_| reader.take_rice(rice, 58).is_err()));
        }
        assert!(BitReader::new(&[0xff; 100]).take_rice(0, 50).is_err());
    }

    #[test]
    fn filling_and_leftovers_are_checked() {
        let mut reader = BitReader::new(&[0b1000_0001]);
        assert_eq!(reader.take(1), Ok(1));
        assert!(reader.expect_end().is_err());
        assert!(BitReader::new(&[0]).expect_end().is_err());
        assert!(BitReader::new(&[1]).take(9).is_err());
    }

    /// One bit at a time, with values that have bits beyond the width and with bytes before.
    #[test]
    fn packing_is_what_single_bits_say() {
        let noise = &mut crate::samples::Noise::new(9);
        for width in 1..=WIDTH_MAX {
            for n in [1, 5, 8, 13, 40] {
                let shift = u32::from(noise.below(17 - width as usize));
                let values: Vec<u16> = (0..n)
                    .map(|_| u16::try_from(noise.bits() >> 48).unwrap())
                    .collect();
                let mut bits = BitWriter::default();
                for &value in &values {
                    bits.put(u32::from(value) >> shift, width);
                }
                let mut packed = vec![0xa5];
                pack(&values, shift, width, &mut packed);
                assert_eq!(packed[0], 0xa5);
                let expected = bits.finish();
                assert_eq!(packed[1..], expected, "{width} bits of {n}");
                let mut reader = BitReader::new(&expected);
                let mut back = vec![0; n];
                unpack(&expected, 0, width, 0, &mut back);
                for value in back {
                    assert_eq!(reader.take(width), Ok(u32::from(value)));
                }
                assert_eq!(reader.expect_end(), Ok(()));
            }
        }
    }

    #[test]
    fn a_whole_word_of_bits_is_read_at_once() {
        let mut writer = BitWriter::default();
        writer.put(1, 1);
        writer.put(u32::MAX - 5, 32);
        let bytes = writer.finish();
        let mut reader = BitReader::new(&bytes);
        assert_eq!(reader.take(1), Ok(1));
        assert_eq!(reader.take(32), Ok(u32::MAX - 5));
        assert!(reader.take(8).is_err());
    }
}
