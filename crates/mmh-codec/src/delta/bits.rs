//! A stream of fields of up to 34 bits, the first in the lowest bits.

use crate::error::{Result, corrupt};
use crate::kernel::{FIELD_REACH, field};

/// Reads fields; beyond the end there are zeros, which [`BitReader::finish`] refuses.
#[derive(Debug)]
pub(super) struct BitReader {
    bytes: Vec<u8>,
    /// Bits that were read.
    at: usize,
    /// Bytes without the zeros behind them.
    len: usize,
}

impl BitReader {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut padded = Vec::with_capacity(bytes.len() + FIELD_REACH);
        padded.extend_from_slice(bytes);
        padded.resize(bytes.len() + FIELD_REACH, 0);
        Self {
            bytes: padded,
            at: 0,
            len: bytes.len(),
        }
    }

    /// The next `n` bits, at most 34.
    fn next(&mut self, n: u32) -> u64 {
        let value = field(&self.bytes, self.at, n);
        self.at += n as usize;
        value
    }

    /// Hands the bytes, with [`FIELD_REACH`] zeros behind them, and the number of bits read to
    /// `read`, which says how many there are afterwards.
    pub(super) fn read(&mut self, read: impl FnOnce(&[u8], usize) -> usize) {
        self.at = read(&self.bytes, self.at);
    }

    /// Checks that exactly the bytes of the stream were read, and that its last bits are zeros.
    pub(super) fn finish(mut self) -> Result<()> {
        if self.at.div_ceil(8) != self.len {
            return corrupt("a delta has other bits than its symbols ask for");
        }
        let rest = 8 * self.len - self.at;
        if self.next(u32::try_from(rest).unwrap_or(0)) != 0 {
            return corrupt("the last byte of a delta is not filled with zeros");
        }
        Ok(())
    }
}

/// Writes fields.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    last: u64,
    n: u32,
}

impl BitWriter {
    /// Appends the lowest `n` bits of `value`, at most 33; the others must be zeros.
    pub(super) fn put(&mut self, value: u64, n: u32) {
        debug_assert!(n <= 33 && value >> n == 0);
        // Fewer than 32 bits are kept from call to call, so that 33 more fit.
        self.last |= value << self.n;
        self.n += n;
        while self.n >= 32 {
            self.bytes.extend_from_slice(&self.last.to_le_bytes()[..4]);
            self.last >>= 32;
            self.n -= 32;
        }
    }

    /// The bytes; the last is filled with zeros.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = self.n.div_ceil(8) as usize;
        self.bytes
            .extend_from_slice(&self.last.to_le_bytes()[..len]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_and_must_fill_the_stream() {
        let fields: Vec<(u64, u32)> = (0..200u32)
            .map(|i| {
                let n = i % 34;
                ((u64::from(i) * 2_654_435_761) & ((1 << n) - 1), n)
            })
            .collect();
        let mut writer = BitWriter::default();
        fields.iter().for_each(|&(value, n)| writer.put(value, n));
        let bytes = writer.finish();
        let read = |bytes: &[u8], n_fields: usize| {
            let mut reader = BitReader::new(bytes);
            for &(value, n) in &fields[..n_fields] {
                if reader.next(n) != value {
                    return None;
                }
            }
            reader.finish().ok()
        };
        assert_eq!(read(&bytes, 200), Some(()));
        assert_eq!(read(&bytes, 198), None, "bytes are left");
        assert_eq!(read(&bytes[..bytes.len() - 1], 200), None, "bytes lack");
        assert_eq!(read(&[&bytes[..], &[0]].concat(), 200), None, "one more");
        assert!(BitReader::new(&[1]).finish().is_err());
        let mut reader = BitReader::new(&[0b10]);
        assert_eq!(reader.next(1), 0);
        assert!(reader.finish().is_err(), "the rest is not zero");
    }
}
